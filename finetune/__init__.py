"""Supervised fine-tuning of a pretrained encoder, or training of the same network from scratch."""
