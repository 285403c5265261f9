#!/usr/bin/env python
"""Peak memory of a GPU in a step of the paper's sizes, for each way of saving memory.

What it finds is what the memory presets of gtgm/presets.toml are chosen by.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.losses import DiceCELoss
from tqdm import tqdm

# Run as a file, Python knows the folder of the file, not the project that it is a part of.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import alone, timed
from gtgm.inference import predict_scores
from gtgm.methods.gtgm import GTGM
from gtgm.models.chunks import in_chunks
from gtgm.models.encoder import build_encoder, save_memory
from gtgm.models.segmenter import build_segmenter
from gtgm.provenance import provenance
from gtgm.settings import preset
from gtgm.text.tower import FrozenText

EPILOG = """example:
  python benchmarks/memory.py --out runs/memory.json
"""
#: The largest patch of the paper's datasets by voxels, of sides that Swin can have.
PATCH = (96, 192, 160)
GROUP = {"norm": "group"}
WAYS = (
    {},
    {"chunk": 1},
    {"chunk": 1, "checkpointing": True},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--patch",
        type=int,
        nargs=3,
        default=PATCH,
        metavar=("D", "H", "W"),
        help=f"voxels in fine-tuning and inference (default: {' '.join(map(str, PATCH))})",
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("memory: there is no GPU, whose memory this measures", file=sys.stderr)
        return 1
    rows: list[dict[str, Any]] = []
    for backbone in ("swin", "resnet50"):
        for way in WAYS:
            if backbone == "resnet50" and way.get("checkpointing"):
                continue
            sizes = GROUP if backbone == "resnet50" and way else {}
            for stage in ("pretrain", "finetune"):
                rows.append({"stage": stage, "backbone": backbone, "sizes": sizes, **way})
        for windows in (1, 4):
            rows.append({"stage": "inference", "backbone": backbone, "windows": windows})
    here = provenance()
    report: dict[str, Any] = {"rows": [], "patch": list(options.patch), "precision": "bf16"}
    report |= {name: here[name] for name in ("hardware", "versions", "commit")}
    for row in tqdm(rows, unit="row"):
        report["rows"].append(row | alone(measure, row, tuple(options.patch)))
        # After every row: a run that is stopped loses nothing.
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(row: dict[str, Any], patch: tuple[int, int, int]) -> dict[str, Any]:
    """Seconds and peak memory of one step, or of a volume of three windows."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    step = _STEPS[row["stage"]](row, patch, device)
    try:
        found = timed(step, 2)
    except torch.OutOfMemoryError:
        return {"peak_gb": None}
    return {"seconds": found["seconds"], "peak_gb": found["peak_gb"]}


def _pretrain(row: dict[str, Any], patch: tuple[int, int, int], device: torch.device) -> Any:
    settings = dataclasses.replace(preset("pretrain", "paper", batch=2), chunk=row.get("chunk", 0))
    encoder = build_encoder(row["backbone"], **row["sizes"])
    save_memory(encoder, row.get("chunk", 0), row.get("checkpointing", False))
    model = GTGM(encoder, settings, FrozenText(torch.randn(2, 768))).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr)
    views = [torch.randn(2, 1, *settings.patch, device=device) for _ in range(2)]
    captions = torch.arange(2, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(views, captions)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _finetune(row: dict[str, Any], patch: tuple[int, int, int], device: torch.device) -> Any:
    network = build_segmenter(row["backbone"], 1, 3, **row["sizes"])
    save_memory(network.encoder, row.get("chunk", 0), row.get("checkpointing", False))
    network = network.to(device, memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    images = torch.randn(2, 1, *patch, device=device)
    images = images.to(memory_format=torch.channels_last_3d)
    labels = torch.randint(3, (2, 1, *patch), device=device)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            scores = in_chunks(network, images, row.get("chunk", 0))
        optimizer.zero_grad(set_to_none=True)
        criterion(scores.float(), labels).backward()
        optimizer.step()

    return step


def _inference(row: dict[str, Any], patch: tuple[int, int, int], device: torch.device) -> Any:
    network = build_segmenter(row["backbone"], 1, 3)
    image = torch.randn(1, *(2 * side for side in patch[:1]), *patch[1:])
    return lambda: predict_scores(network, image, patch, 0.5, "", "bf16", row["windows"])


_STEPS = {"pretrain": _pretrain, "finetune": _finetune, "inference": _inference}


if __name__ == "__main__":
    sys.exit(main())
