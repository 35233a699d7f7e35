"""Recipes of pretraining: YAML files whose headers say command, expected cost and source."""
