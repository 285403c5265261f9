"""Datasets: what they are, where they lie, how they are read, split, checked and downloaded."""
