"""Companion of *Generative Text-Guided 3D Vision-Language Pretraining* (arXiv 2306.04811)."""

from gtgm.surroundings import name_user

__version__ = "0.1.0"

name_user()
