"""Recipes of fine-tuning and supervised training: YAML files with headers."""
