#!/usr/bin/env python
"""The plan for 64 GPUs and 100,000 volumes, worked out from what was measured.

Every number of the page is read from results/benchmarks, or is an assumption that is named there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

# Run as a file, Python knows the folder of the file, not the project that it is a part of.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gtgm.models.encoder import build_encoder
from gtgm.models.heads import ImageTower, ProjectionHead
from gtgm.paths import RESULTS
from gtgm.provenance import machine_name
from gtgm.settings import preset
from gtgm.text.grid import caption_grid
from gtgm.volume_store import CHUNK

TEMPLATE = Path(__file__).with_name("scaling.template.md")
GPUS, VOLUMES, SIZE = 64, 100_000, (400, 512, 512)
#: Bytes per second and GPU between machines, and from a shared file system to all of them.
LINK, FILES = 25e9, 20e9
TEXT_WIDTH = 768
GPU_ROW, STORE_ROW = "gtgm, bf16", "store on disk (gtgm)"
EPILOG = """example:
  python benchmarks/scaling.py --out docs/scaling.md
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    options = parser.parse_args(arguments)
    options.out.write_text(page(RESULTS / "benchmarks"), encoding="utf-8")
    return 0


def page(folder: Path) -> str:
    """The page, from the benchmark files of a folder."""
    cpu = json.loads((folder / "speed.json").read_text(encoding="utf-8"))
    gpu = json.loads((folder / "speed_gpu.json").read_text(encoding="utf-8"))
    return TEMPLATE.read_text(encoding="utf-8").format(**plan(cpu, gpu))


def plan(cpu: dict[str, Any], gpu: dict[str, Any]) -> dict[str, str]:
    """Every value of the page, in words."""
    settings = preset("pretrain", "paper", batch=2)
    step = _row(gpu["pretraining"], GPU_ROW)["seconds"]
    store = _row(cpu["loading"], STORE_ROW)
    batch = GPUS * settings.batch
    patches = batch / step
    touched = prod(1 + (p - 1) / c for p, c in zip(settings.patch, CHUNK, strict=True))
    read = touched * prod(CHUNK) * 4
    encoder = build_encoder("swin")
    weights = ImageTower(encoder, settings.width, settings.embedding)
    head = ProjectionHead(TEXT_WIDTH, settings.width, settings.embedding)
    gradients = 4 * sum(p.numel() for m in (weights, head) for p in m.parameters())
    ring = 2 * (GPUS - 1) / GPUS * gradients
    gathered = 4 * batch * (2 * settings.width + TEXT_WIDTH)
    volume = 4 * prod(SIZE)
    positions = VOLUMES * len(caption_grid(SIZE, settings.patch, (10, 80, 80)))
    caption = _row(gpu["captions"], "BLIP-base size, gtgm")["seconds"]
    return {
        "gpus": str(GPUS),
        "volumes": f"{VOLUMES:,}",
        "size": "×".join(map(str, SIZE)),
        "patch": "×".join(map(str, settings.patch)),
        "batch": str(settings.batch),
        "joined": str(batch),
        "gpu": machine_name(gpu["pretraining"]["hardware"]),
        "cpu": machine_name(cpu["loading"]["hardware"]),
        "step_ms": f"{step * 1e3:.0f}",
        "patches": f"{patches:,.0f}",
        "steps": f"{settings.steps:,}",
        "hours": f"{settings.steps * step / 3600:.1f}",
        "seen": f"{settings.steps * batch / VOLUMES:.0f}",
        "read_mb": f"{read / 1e6:.0f}",
        "read_gb": f"{patches * read / 1e9:.0f}",
        "files_gb": f"{FILES / 1e9:.0f}",
        "files_share": f"{patches * read / FILES:.0%}",
        "patch_ms": f"{store['seconds'] * 1e3:.0f}",
        "need_ms": f"{step / settings.batch * 1e3:.0f}",
        "workers": f"{max(1, round(2 * store['seconds'] * settings.batch / step)):.0f}",
        "volume_mb": f"{volume / 1e6:.0f}",
        "store_tb": f"{VOLUMES * volume / 1e12:.0f}",
        "convert_s": f"{store['convert_seconds']:.1f}",
        "convert_h": f"{VOLUMES * store['convert_seconds'] / GPUS / 3600:.1f}",
        "gradients_mb": f"{gradients / 1e6:.0f}",
        "ring_ms": f"{ring / LINK * 1e3:.0f}",
        "link_gb": f"{LINK / 1e9:.0f}",
        "gathered_mb": f"{gathered / 1e6:.1f}",
        "positions": f"{positions / 1e6:.0f}",
        "caption_ms": f"{caption * 1e3:.0f}",
        "caption_h": f"{positions * caption / GPUS / 3600:.0f}",
        "texts_gb": f"{positions * TEXT_WIDTH * 4 / 1e9:.0f}",
        "every": f"{settings.checkpoint_every:,}",
        "lost_s": f"{settings.checkpoint_every * step:.0f}",
    }


def _row(part: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in part["rows"] if row["name"] == name)


if __name__ == "__main__":
    sys.exit(main())
