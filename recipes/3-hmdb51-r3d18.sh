#!/usr/bin/env bash
# HMDB51 as in recipe 2, with the 3D-CNN r3d_18 from Kinetics: 16 frames of 112x112, Kinetics mean and deviation,
# 8 videos a batch.
. "$(dirname "$0")/common.sh" 3-hmdb51-r3d18 hmdb51
small[preprocess]="--size 32"
small[train]="--size 32 --weights none --epochs 2"

# Without SPLITS a random tenth of each class, as the tutorial has it: clips of one film are on both sides of it.
lists=(--layout folders)
if [[ -n ${SPLITS-} ]]; then lists=(--layout hmdb51 --splits-dir "$SPLITS"); fi
run index "$VIDEOS" "${lists[@]}" --val-fraction 0.1 --output "$OUT/manifest.parquet"

run preprocess "$OUT/manifest.parquet" --output "$OUT/clips" \
    --sampling uniform --num-frames 16 --size 112 --resize squash

run train "$OUT/clips" --output "$OUT/train" \
    --model conv3d --backbone r3d_18 --weights default \
    --flip 0.5 --translate 0.1 \
    --optimizer adam --learning-rate 3e-5 --batch-size 8 --epochs 20 --best-by loss \
    --schedule plateau --plateau-factor 0.5 --plateau-patience 5 --plateau-best

run predict "${VIDEO:-$(unseen_video)}" --checkpoint "$OUT/train"
