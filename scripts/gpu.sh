#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: the tests marked `cuda`, the crop, a step
# of ViT-B/16 beside those of other libraries, and how much of its planned speedup a short
# EfficientTrain run on images in memory realises. Results go to runs/gpu/*.json, with device,
# versions, date and command.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
source .venv/bin/activate
python -m pip install --quiet lightly  # to compare with; no test needs it
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
  echo "error: torch $(python -c 'import torch; print(torch.__version__)') finds no CUDA device" >&2
  exit 2
}
export HF_HUB_OFFLINE=1
out=runs/gpu
mkdir -p $out

step() {
  python scripts/bench_step.py --device cuda --precision bf16 --encoder vit_base_patch16_224 \
    --decoder 512x8x16 --sizes 224 160 96 --batch 128 "$@"
}

echo "1/4 Tests"
failed=0
python -m pytest -m cuda -n 0 || failed=$?  # measure even so: the GPU may be rented
echo "2/4 Crop"
python scripts/bench_crop.py --device cuda --out $out/crop.json
echo "3/4 Training step, without and with torch.compile"
step --out $out/step.json
step --compile --out $out/step_compiled.json
echo "4/4 Whole runs"
python scripts/bench_pretrain.py --out $out/pretrain --config et_vit_b_16 --minutes 3 --rounds 1 \
  --compile -- --data.path python:in_memory:images --data.num_workers "$(nproc)" \
  --optim.batch_size 1024 --optim.micro_batch_size 256 --optim.epochs 100 --optim.warmup_epochs 0 \
  --run.mixed_precision bf16 --run.log_every 10
cp $out/pretrain/results.json $out/pretrain.json
exit "$failed"
