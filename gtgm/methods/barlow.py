"""Barlow Twins: the visual loss of GTGM alone."""

from __future__ import annotations

from gtgm.methods.vision_language import VisionLanguage


class Barlow(VisionLanguage):
    """L_VR alone (Zbontar et al. 2021, equation 1)."""

    aligns = False
