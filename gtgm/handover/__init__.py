"""Handing on: weights with a model card, MONAI bundles, and archives of results."""
