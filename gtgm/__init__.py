"""Companion of *Generative Text-Guided 3D Vision-Language Pretraining* (arXiv 2306.04811)."""

__version__ = "0.1.0"
