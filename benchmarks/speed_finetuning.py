"""A fine-tuning step of SwinUNETR and of the default U-Net: the plain way, and this package's."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import SwinUNETR

from benchmarks.measure import timed
from gtgm.models.chunks import in_chunks
from gtgm.models.encoder import save_memory
from gtgm.models.graphs import record
from gtgm.models.segmenter import build_segmenter

NAME, UNIT = "fine-tuning step", "s"
SWIN, UNET = "SwinUNETR, stock, fp32", "U-Net, plain, fp32"
FAST = {"backbone": "swin", "last": True}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    SWIN: ("", {"backbone": "stock"}),
    "SwinUNETR, attention that keeps no scores": (SWIN, {"backbone": "swin"}),
    "SwinUNETR, + channels last (gtgm)": (SWIN, FAST),
    "SwinUNETR, gtgm, checkpointing": (SWIN, FAST | {"checkpointing": True}),
    "SwinUNETR, gtgm, chunks of one patch": (SWIN, FAST | {"chunk": 1}),
    "SwinUNETR, stock, bf16": ("", {"backbone": "stock", "bf16": True, "gpu": True}),
    "SwinUNETR, gtgm, bf16": ("SwinUNETR, stock, bf16", FAST | {"bf16": True, "gpu": True}),
    "SwinUNETR, gtgm, bf16, CUDA graphs": (
        "SwinUNETR, stock, bf16",
        FAST | {"bf16": True, "gpu": True, "graphs": True},
    ),
    UNET: ("", {"backbone": "unet"}),
    "U-Net, channels last": (UNET, {"backbone": "unet", "last": True}),
    "U-Net, + bf16 (gtgm)": (UNET, {"backbone": "unet", "last": True, "bf16": True}),
    "U-Net, gtgm, bf16, CUDA graphs": (
        UNET,
        {"backbone": "unet", "last": True, "bf16": True, "gpu": True, "graphs": True},
    ),
}
#: Voxels of a patch on a CPU and on a GPU.
PATCHES = {"swin": ((64, 64, 64), (96, 96, 96)), "unet": ((40, 56, 40), (96, 96, 96))}


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds, peak memory and the first loss of a row."""
    row = ROWS[name][1]
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    torch.manual_seed(0)
    backbone = row["backbone"]
    if backbone == "stock":
        network = SwinUNETR(1, 3, depths=(2, 4, 2, 2), feature_size=48)
    else:
        network = build_segmenter(backbone, 1, 3)
        save_memory(network.encoder, row.get("chunk", 0), row.get("checkpointing", False))
        if backbone == "swin":
            # Also on a GPU, where the package itself may not take it.
            network.encoder.swinViT.lean = True
    layout = torch.channels_last_3d if row.get("last") else torch.contiguous_format
    network = network.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    patch = PATCHES["unet" if backbone == "unet" else "swin"][gpu]
    images = torch.randn(2, 1, *patch).to(device, memory_format=layout)
    labels = torch.randint(3, (2, 1, *patch), device=device)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)

    if row.get("graphs"):
        record(network, images, "bf16", "graphs")

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=row.get("bf16", False)):
            scores = in_chunks(network, images, row.get("chunk", 0))
        loss = criterion(scores.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return timed(step, options.repeats, 2)


def describe(options: Any) -> str:
    """The sizes, for a reader."""
    sizes = [PATCHES[name][torch.cuda.is_available()] for name in ("swin", "unet")]
    swin, unet = ("×".join(map(str, size)) for size in sizes)
    return f"batches of 2, SwinUNETR {swin}, U-Net {unet}"
