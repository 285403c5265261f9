"""Barlow Twins: the visual loss of GTGM alone."""

from __future__ import annotations

from gtgm.methods.method import TEXTLESS, Method
from gtgm.methods.vision_language import VisionLanguage


class Barlow(VisionLanguage):
    """L_VR alone (Zbontar et al. 2021, equation 1)."""

    aligns = False


METHOD = Method("barlow", "Barlow Twins (L_VR)", "#009E73", Barlow, changes=TEXTLESS)
