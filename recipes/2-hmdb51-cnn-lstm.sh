#!/usr/bin/env bash
# HMDB51: 16 frames equally spaced over each video, 224x224; ResNet-18 and an LSTM (1 layer, 100 hidden, dropout 0.1);
# flip and 10 % translation; Adam 3e-5, halved when the validation loss stands still for 5 epochs, going back to the
# best weights; 20 epochs. Then one video in, its labels out.
. "$(dirname "$0")/common.sh" 2-hmdb51-cnn-lstm hmdb51
small[preprocess]="--size 32"
small[train]="--size 32 --weights none --epochs 2"

# Without SPLITS a random tenth of each class, as the tutorial has it: clips of one film are on both sides of it.
lists=(--layout folders)
if [[ -n ${SPLITS-} ]]; then lists=(--layout hmdb51 --splits-dir "$SPLITS"); fi
run index "$VIDEOS" "${lists[@]}" --val-fraction 0.1 --output "$OUT/manifest.parquet"

run preprocess "$OUT/manifest.parquet" --output "$OUT/clips" \
    --sampling uniform --num-frames 16 --size 224 --resize squash

run train "$OUT/clips" --output "$OUT/train" \
    --model cnn_rnn --backbone resnet18 --weights default \
    --rnn lstm --rnn-layers 1 --rnn-hidden 100 --dropout 0.1 \
    --flip 0.5 --translate 0.1 \
    --optimizer adam --learning-rate 3e-5 --batch-size 16 --epochs 20 --best-by loss \
    --schedule plateau --plateau-factor 0.5 --plateau-patience 5 --plateau-best

run predict "${VIDEO:-$(unseen_video)}" --checkpoint "$OUT/train"
