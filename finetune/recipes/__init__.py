"""Recipes for fine-tuning and supervised training: YAML files with headers."""
