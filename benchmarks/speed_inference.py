"""Sliding-window inference of a SwinUNETR: MONAI's call, and this package's."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import SwinUNETR

from benchmarks.measure import timed
from gtgm.inference import predict_scores
from gtgm.models.segmenter import build_segmenter

NAME, UNIT = "sliding window", "s"
STOCK = "stock, fp32"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    STOCK: ("", {"stock": True}),
    "gtgm, fp32": (STOCK, {}),
    "gtgm, fp32, overlap 0.25": (STOCK, {"overlap": 0.25}),
    "gtgm, fp32, flips of one axis": (STOCK, {"flips": "W"}),
    "stock, bf16": ("", {"stock": True, "bf16": True}),
    "gtgm, bf16": ("stock, bf16", {"bf16": True}),
}
WINDOW, CLASSES = (64, 64, 64), 3


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds and peak memory of a volume."""
    row = ROWS[name][1]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    image = torch.randn(1, *options.volume)
    torch.manual_seed(0)
    overlap = row.get("overlap", 0.5)
    if row.get("stock"):
        network = SwinUNETR(1, CLASSES, depths=(2, 4, 2, 2), feature_size=48).to(device).eval()

        @torch.no_grad()
        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=row.get("bf16", False)):
                scores = sliding_window_inference(
                    image[None].to(device), WINDOW, 4, network, overlap, "gaussian"
                )
            scores.softmax(1).cpu()
    else:
        network = build_segmenter("swin", 1, CLASSES)
        precision = "bf16" if row.get("bf16") else "no"

        def step() -> None:
            predict_scores(network, image, WINDOW, overlap, row.get("flips", ""), precision)

    return timed(step, max(1, options.repeats // 2))


def describe(options: Any) -> str:
    """The sizes, for a reader."""
    return f"a volume of {'×'.join(map(str, options.volume))} in windows of 64×64×64, half over"
