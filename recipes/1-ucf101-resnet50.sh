#!/usr/bin/env bash
# UCF101, class folders: each video as gray frames of one size, one a second; ResNet-50 with a new last layer on each
# frame; cross-entropy, Adam 1e-3, 32 frames a batch; accuracy on the validation videos after each epoch.
. "$(dirname "$0")/common.sh" 1-ucf101-resnet50 ucf101
small[preprocess]="--size 32"
small[train]="--size 32 --weights none --epochs 2"

# Without SPLITS a random fifth of each class, as the tutorial has it: clips of one scene are on both sides of it.
lists=(--layout folders)
if [[ -n ${SPLITS-} ]]; then lists=(--layout ucf101 --splits-dir "$SPLITS"); fi
run index "$VIDEOS" "${lists[@]}" --val-fraction 0.2 --output "$OUT/manifest.parquet"

run preprocess "$OUT/manifest.parquet" --output "$OUT/clips" \
    --sampling fps --rate-fps 1 --size 224 --resize squash --color gray

run train "$OUT/clips" --output "$OUT/train" \
    --model frame_vote --backbone resnet50 --weights default \
    --optimizer adam --learning-rate 1e-3 --schedule constant --batch-size 32 --epochs 10 --best-by top1
