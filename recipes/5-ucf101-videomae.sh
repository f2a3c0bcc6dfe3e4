#!/usr/bin/env bash
# A subset of UCF101 in train/, val/ and test/ that keep groups apart: VideoMAE fine-tuned on 16 frames at stride 4;
# random short side of 256 to 320, random crop of 224, flip; learning rate 5e-5, warm-up over a tenth of the steps,
# 4 epochs, best by top-1; evaluated on 5 clips x 3 crops. Then the five likeliest labels of one video, and a folder
# that is ready for the hub.
. "$(dirname "$0")/common.sh" 5-ucf101-videomae ucf101
small[preprocess]="--size 72x96 --num-clips 2"
small[train]="--weights none --backbone videomae --short-side 64 80 --epochs 2 --model-config image_size=64
    hidden_size=64 intermediate_size=128 num_hidden_layers=2 num_attention_heads=2"
small[train]=${small[train]//$'\n'/}

# With SPLITS (all of UCF101) the official split, and a tenth of its training groups for validation.
lists=(--layout folders)
if [[ -n ${SPLITS-${generated_lists-}} ]]; then
    lists=(--layout ucf101 --splits-dir "${SPLITS-$generated_lists}" --val-fraction 0.1)
fi
run index "$VIDEOS" "${lists[@]}" --output "$OUT/manifest.parquet"

run preprocess "$OUT/manifest.parquet" --output "$OUT/clips" \
    --sampling dense --num-frames 16 --frame-stride 4 --num-clips 5 --size 256x340

run train "$OUT/clips" --output "$OUT/train" \
    --model transformer --backbone MCG-NJU/videomae-base --weights default \
    --crop random --short-side 256 320 --flip 0.5 \
    --optimizer adamw --learning-rate 5e-5 --warmup 0.1 --batch-size 8 --epochs 4 --best-by top1 \
    --views.crops 3

run predict "${VIDEO:-$(unseen_video)}" --checkpoint "$OUT/train" --top 5
echo "the hub    hf upload YOUR_NAME/videomae-ucf101 $OUT/train/best"
