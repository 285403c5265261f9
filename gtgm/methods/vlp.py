"""Image–text alignment alone, as CLIP does it."""

from __future__ import annotations

from gtgm.methods.method import Method
from gtgm.methods.vision_language import VisionLanguage


class VLP(VisionLanguage):
    """L_VLP alone, over both views (Radford et al. 2021, figure 3)."""

    decorrelates = False


METHOD = Method("vlp", "CLIP (L_VLP)", "#56B4E9", VLP, uses_text=True)
