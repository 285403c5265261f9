"""How objects show themselves in a notebook: a title, facts, and a picture if there is one."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from gtgm.style import PALETTE

if TYPE_CHECKING:
    from gtgm.datasets.splits import Split

#: Height of a small picture, in pixels.
HEIGHT = 128


def facts_html(title: str, facts: Mapping[str, str], below: str = "") -> str:
    """A block with a title and a table of names and values; everything but ``below`` is escaped."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<div><b>{html.escape(title)}</b><table>{rows}</table>{below}</div>"


def picture_html(grey: np.ndarray, alt: str, height: int = HEIGHT) -> str:
    """An image (H, W) of grey values, from its darkest to its brightest, as an ``img``."""
    low, high = np.percentile(grey, [0.5, 99.5])
    scaled = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray(scaled.astype(np.uint8)).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<img alt='{html.escape(alt)}' style='height:{height}px;image-rendering:pixelated' "
        f"src='data:image/png;base64,{data}'>"
    )


def pairs_html(pairs: Sequence[tuple[np.ndarray, str]]) -> str:
    """Pictures (H, W) side by side, each with its text below."""
    cells = "".join(
        f"<td style='vertical-align:top;text-align:left;max-width:12em'>"
        f"{picture_html(grey, text)}<br>{html.escape(text)}</td>"
        for grey, text in pairs
    )
    return f"<table><tr>{cells}</tr></table>"


def split_html(split: Split) -> str:
    """Numbers of cases, and which of them each fold tests: a row per fold, a column per case."""
    from gtgm.datasets.splits import SEED

    counts = [len(split.labelled(0, fraction)) for fraction in (0.01, 0.1, 1.0)]
    facts = {
        "cases": str(len(split.ids)),
        "folds": f"{len(split.tests)}, each case is tested once (KFold, random state {SEED})",
        "labelled in fold 0": "{} cases at 1 %, {} at 10 %, {} at 100 %".format(*counts),
        "source": "file in the package" if split.committed else "the rule, at run time",
    }
    place = {id: i for i, id in enumerate(split.ids)}
    bars = "".join(
        f"<rect x='{place[id]}' y='{10 * fold}' width='1' height='8' fill='{PALETTE[1]}'/>"
        for fold, tested in enumerate(split.tests)
        for id in tested
    )
    rows = "".join(
        f"<rect y='{10 * fold}' width='{len(place)}' height='8' fill='{PALETTE[5]}' "
        "fill-opacity='.35'/>"
        for fold in range(len(split.tests))
    )
    picture = (
        f"<svg viewBox='0 0 {len(place)} {10 * len(split.tests)}' preserveAspectRatio='none' "
        f"style='width:32em;height:{1.2 * len(split.tests):g}em' role='img' "
        f"aria-label='Test cases of each fold'>{rows}{bars}</svg><br>"
        "<small>a row per fold, a column per case; orange: tested, blue: trained on</small>"
    )
    return facts_html(f"Split of {split.dataset}", facts, picture)


def encoder_html(config: Mapping[str, Any], parameters: int, title: str = "Encoder") -> str:
    """Sizes of an encoder, how long it was trained, and its scores on held-out patches.

    Args:
        config: see :func:`gtgm.models.encoder.read_config`.
        parameters: number of weights.
        title: above the table.
    """
    about = dict(config.get("about", {}))
    held_out = about.pop("held_out", {})
    sizes = {k: v for k, v in config.items() if k not in ("about", "backbone")}
    facts = {
        "backbone": f"{config['backbone']}, {parameters / 1e6:.2f} million weights",
        "sizes": ", ".join(f"{name} {value}" for name, value in sizes.items()),
        **{name: str(value) for name, value in about.items()},
        "held-out patches": ", ".join(f"{name} {value:.3f}" for name, value in held_out.items()),
    }
    return facts_html(title, {name: value for name, value in facts.items() if value})
