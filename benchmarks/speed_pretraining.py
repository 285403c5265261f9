"""A pretraining step of the paper's sizes: the stock way, and what each optimisation gives.

Stock is MONAI's SwinUNETR as it is called for features, its skip blocks included, for each view by
itself, and a frozen BERT of 12 layers on 128 padded tokens in every step. All rows have the same
weights, patches, captions, heads, losses and optimiser; ``loss`` of the first step shows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from torch import nn
from transformers import BertConfig, BertModel

from benchmarks.measure import timed
from gtgm.methods.gtgm import GTGM
from gtgm.models.encoder import build_encoder, save_memory
from gtgm.settings import preset
from gtgm.text.tower import FrozenText

NAME, UNIT = "pretraining step", "s"
STOCK = {"skips": True, "bert": True, "joint": False, "fast": False}
NEEDED = STOCK | {"skips": False}
CACHED = NEEDED | {"bert": False}
JOINT = CACHED | {"joint": True}
FAST = JOINT | {"fast": True}
#: Name of each row, what it is compared with, and how it differs.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "stock, fp32": ("", STOCK),
    "+ only the layers that the loss needs": ("stock, fp32", NEEDED),
    "+ text embeddings computed once": ("stock, fp32", CACHED),
    "+ both views in one batch": ("stock, fp32", JOINT),
    "+ attention that keeps no scores (gtgm)": ("stock, fp32", FAST),
    "gtgm, CUDA graphs": ("stock, fp32", FAST | {"graphs": True, "gpu": True}),
    "gtgm, checkpointing": ("stock, fp32", FAST | {"checkpointing": True}),
    "gtgm, chunks of one patch": ("stock, fp32", FAST | {"chunk": 1}),
    "stock, bf16": ("", STOCK | {"bf16": True}),
    "gtgm, bf16": ("stock, bf16", FAST | {"bf16": True}),
    "gtgm, bf16, CUDA graphs": (
        "stock, bf16",
        FAST | {"bf16": True, "graphs": True, "gpu": True},
    ),
    "gtgm, bf16, chunks of one patch": ("stock, bf16", FAST | {"bf16": True, "chunk": 1}),
}


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds, peak memory and the first loss of a row."""
    row = ROWS[name][1]
    settings = dataclasses.replace(
        preset("pretrain", "paper", batch=2), patch=tuple(options.patch), chunk=row.get("chunk", 0)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    encoder = build_encoder("swin") if row["fast"] else StockEncoder(row["skips"])
    if row["fast"]:
        save_memory(encoder, settings.chunk, row.get("checkpointing", False))
        encoder.swinViT.lean = True  # also on a GPU, where the package itself may not take it
    torch.manual_seed(1)
    text: nn.Module = PaddedBert()
    if not row["bert"]:
        with torch.no_grad():
            text = FrozenText(text(torch.arange(settings.batch)))
    torch.manual_seed(2)
    model = (GTGM if row["joint"] else ViewByView)(encoder, settings, text).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=0.05)
    patches = torch.randn(settings.batch, 1, *settings.patch)
    views = [(patches + 0.1 * torch.randn_like(patches)).to(device) for _ in range(2)]
    captions = torch.arange(settings.batch, device=device)
    losses = []
    if row.get("graphs"):
        precision = "bf16" if row.get("bf16") else "no"
        model.tower.record(torch.cat(views), precision, "graphs")

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=row.get("bf16", False)):
            loss = model(views, captions)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    return timed(step, options.repeats) | {"loss": losses[0]}


def describe(options: Any) -> str:
    """The sizes, for a reader."""
    return f"2 patches of {'×'.join(map(str, options.patch))}, two views of each"


class StockEncoder(nn.Module):
    """MONAI's network up to its decoder, with or without the skip blocks that only it needs."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.net = SwinUNETR(1, 1, depths=(2, 4, 2, 2), feature_size=48)
        self.skips, self.channels = skips, (48, 96, 192, 384, 768)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, 1, D, H, W) → feature maps."""
        net = self.net
        maps = net.swinViT(x, net.normalize)
        if self.skips:
            blocks = (net.encoder1, net.encoder2, net.encoder3, net.encoder4, net.encoder10)
            for block, features in zip(blocks, (x, *maps[:3], maps[4]), strict=True):
                block(features)
        return maps


class PaddedBert(nn.Module):
    """A frozen BERT-base that embeds every caption in every step, padded to 128 tokens."""

    dim = 768

    def __init__(self, captions: int = 8, tokens: int = 40) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig()).eval().requires_grad_(False)
        ids = torch.randint(1000, 20000, (captions, 128))
        mask = torch.arange(128)[None].repeat(captions, 1) < tokens
        self.register_buffer("ids", ids * mask, persistent=False)
        self.register_buffer("mask", mask.long(), persistent=False)

    @torch.no_grad()
    def forward(self, captions: torch.Tensor) -> torch.Tensor:
        """Caption indices (B,) → embeddings (B, 768)."""
        found = self.bert(input_ids=self.ids[captions], attention_mask=self.mask[captions])
        return found.last_hidden_state[:, 0].float()


class ViewByView(GTGM):
    """GTGM with one call of the encoder per view."""

    def features(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [self.tower.features(view) for view in views]
