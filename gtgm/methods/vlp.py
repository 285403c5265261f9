"""Image–text alignment alone, as CLIP does it."""

from __future__ import annotations

from gtgm.methods.vision_language import VisionLanguage


class VLP(VisionLanguage):
    """L_VLP alone, over both views (Radford et al. 2021, figure 3)."""

    decorrelates = False
