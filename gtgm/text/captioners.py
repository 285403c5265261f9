"""The one interface of all text generators, and how a setting names one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gtgm.errors import SettingsError
from gtgm.setting_checks import check_axes
from gtgm.text.describe import Facts

CHAT, NONE = "chat:", "none"


class Captioner(Protocol):
    """Gives one caption per slice.

    Attributes:
        name: written beside each caption; it changes when the captions may change.
    """

    name: str

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        """Captions of grey-value slices, uint8 (H, W), and of the patches that they come from.

        Models see the slice; ``facts`` serves the rule-based captioners and the placeholders of a
        prompt.
        """


class DescribeCaptioner:
    """States the measured facts of the whole patch; see :mod:`gtgm.text.describe`.

    Args:
        axes: axes along which a side or position may be named.
    """

    def __init__(self, axes: str = "DH") -> None:
        check_axes("axes", axes)
        self.axes = axes
        self.name = f"describe[{axes}]"

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        return [f.sentence(self.axes) for f in facts]


class MetadataCaptioner:
    """Modality and anatomy only, such as "MRI of the hippocampus": text without the image."""

    name = "metadata"

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        return [f.subject for f in facts]


class NoCaptioner:
    """The same words for every patch: what methods get that read no text, and a control."""

    name = "none"

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        return ["an image"] * len(slices)


def load_captioner(spec: str | Path, prompt: str | None = None, axes: str = "DH") -> Captioner:
    """The captioner that a setting names.

    Args:
        spec: ``describe``, ``metadata``, ``none``, the folder or hub id of a BLIP, or ``chat:`` and
            the folder or id of an image-text-to-text model.
        prompt: template for chat models; their own default if None or empty.
        axes: for ``describe``.

    Raises:
        SettingsError: a prompt for a captioner that takes none, a wrong template, or an unknown
            name.
        DataError: the model cannot be loaded.
    """
    text = str(spec)
    if prompt and not text.startswith(CHAT):
        raise SettingsError(
            "only chat models take a prompt", where=text, fix=f"name a model as '{CHAT}<id>'"
        )
    if text == "describe":
        return DescribeCaptioner(axes)
    if text == "metadata":
        return MetadataCaptioner()
    if text == NONE:
        return NoCaptioner()
    model = text.removeprefix(CHAT)
    if "/" not in model and not Path(model).exists():
        raise SettingsError(
            f"unknown captioner {text!r}",
            where="text.captioner",
            expected="embedded, describe, metadata, none, the folder of a model, or its id on the "
            "hub, which is ORGANISATION/NAME; either behind chat: if it takes a prompt",
        )
    # transformers takes seconds to import; the rule-based captioners do without it.
    if text.startswith(CHAT):
        from gtgm.text.chat import DEFAULT_PROMPT, ChatCaptioner

        return ChatCaptioner.from_pretrained(model, prompt or DEFAULT_PROMPT)
    from gtgm.text.blip import BlipCaptioner

    return BlipCaptioner.from_pretrained(spec)
