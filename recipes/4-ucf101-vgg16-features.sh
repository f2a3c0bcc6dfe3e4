#!/usr/bin/env bash
# UCF101, official split 1: one frame a second at 224x224 through a frozen VGG-16, once: its features are kept in
# OUT/train/features. A perceptron of 1024, 512, 256 and 128 with dropout 0.5 learns on them, up to 200 epochs of
# batches of 128, best by validation loss. A video has the label that most of its frames have.
. "$(dirname "$0")/common.sh" 4-ucf101-vgg16-features ucf101
small[preprocess]="--size 32"
small[train]="--size 32 --weights none --epochs 5 --batch-size 64"

run index "$VIDEOS" --layout ucf101 --splits-dir "${SPLITS:-${generated_lists:?give SPLITS, the folder of the lists}}" \
    --val-fraction 0.2 --output "$OUT/manifest.parquet"

run preprocess "$OUT/manifest.parquet" --output "$OUT/clips" \
    --sampling fps --rate-fps 1 --size 224 --resize squash

run train "$OUT/clips" --output "$OUT/train" \
    --model frame_vote --backbone vgg16 --weights default --freeze-backbone \
    --head mlp --mlp-sizes 1024 512 256 128 --dropout 0.5 \
    --optimizer adam --learning-rate 1e-3 --schedule constant --batch-size 128 --epochs 200 --best-by loss \
    --views.join vote
