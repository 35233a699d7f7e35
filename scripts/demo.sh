#!/usr/bin/env bash
# The main job on real images, in a few minutes on two CPU cores: pretrain a small ViT through the
# EfficientTrain stages, fine-tune its encoder on 100 labels per class, train the same network from
# scratch, and compare. Writes runs/demo (which it replaces): results.json and reconstructions.png.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
source .venv/bin/activate

launch() {
  accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    -m "$@"
}

rm -rf runs/demo
echo "1/4 Pretraining on 10,000 images without labels"
launch mae_et pretrain --config demo --run.output_dir runs/demo/pretrain
echo "2/4 Fine-tuning the encoder on 1,000 labels"
launch finetune --config demo --checkpoint runs/demo/pretrain/encoder \
  --run.output_dir runs/demo/finetuned
echo "3/4 Training the same network from scratch on the same labels"
launch finetune --config demo --checkpoint none --run.output_dir runs/demo/scratch
echo "4/4 Results"
python -m mae_et reconstruct --checkpoint runs/demo/pretrain --num_images 4 \
  --out runs/demo/reconstructions.png
python scripts/demo_results.py runs/demo
