"""Supervised fine-tuning of a pretrained encoder, or training of any network from scratch."""
