"""GTGM: alignment of images and generated text, and redundancy reduction between views."""

from __future__ import annotations

from gtgm.methods.vision_language import VisionLanguage


class GTGM(VisionLanguage):
    """L_VLP + weight · L_VR (arXiv 2306.04811; `method.md`)."""
