"""GTGM: alignment of images and generated text, and redundancy reduction between views."""

from __future__ import annotations

from gtgm.methods.method import Method
from gtgm.methods.vision_language import VisionLanguage


class GTGM(VisionLanguage):
    """L_VLP + weight · L_VR (arXiv 2306.04811; `method.md`)."""


METHOD = Method("gtgm", "GTGM", "#0072B2", GTGM, reported="GTGM", uses_text=True)
