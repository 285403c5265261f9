"""Folders of runs for the tests of what is handed on: real files, random weights, no training."""

from __future__ import annotations

from pathlib import Path

import torch

from gtgm.models.encoder import build_encoder, save_pretrained
from gtgm.models.segmenter import build_segmenter, save_segmenter
from gtgm.results import save_result

SIZES = {"features": [4, 8], "strides": [[2, 2, 2], [2, 2, 2]]}
HIPPOCAMPUS, PROSTATE, CREMI = "Task04_Hippocampus", "Task05_Prostate", "CREMI_A"
ABOUT = {
    "fold": 0,
    "dataset": HIPPOCAMPUS,
    "modality": "MRI",
    "channels": ["MRI"],
    "classes": ["anterior", "posterior"],
    "patch": [16, 16, 16],
    "spacing": [],
    "overlap": 0.5,
    "tta_axes": "",
    "precision": "no",
    "windows": 4,
    "released_window": False,
}
COMMON = {
    "source": "real",
    "method": "gtgm",
    "backbone": "unet",
    "protocol": "corrected",
    "profile": "tiny",
    "fold": 0,
    "seed": 0,
    "n_train": 2,
    "n_test": 2,
    "wall_seconds": 12.0,
}


def finetuned(folder: Path, about: dict | None = None, **fields) -> Path:
    """A run of ``finetune`` with two test cases."""
    about = {**ABOUT, **(about or {})}
    torch.manual_seed(0)
    network = build_segmenter("unet", len(about["channels"]), len(about["classes"]) + 1, **SIZES)
    save_segmenter(network, folder, **about)
    dice = {"a": [0.25, 0.5], "b": [0.75, None]}
    rows = [
        {"case": case, "class": name, "metric": "dice", "value": value}
        for case, values in dice.items()
        for name, value in zip(about["classes"], values, strict=False)
    ]
    given = {
        "id": f"finetune-{about['dataset']}",
        "stage": "finetune",
        "dataset": about["dataset"],
        "fraction": 0.5,
        "draw": 0,
        "metrics": rows,
        "summary": {"dice": 0.5, "hd95": None, "hd95_missed": 1, "dice/anterior": 0.5},
        "settings": {"steps": 7, "patch": about["patch"]},
        "data": {"root": "data", "cases": {case: case * 64 for case in "abcd"}},
        "command": f"gtgm finetune {about['dataset']} --method gtgm --profile tiny --data DIR",
    }
    save_result(folder / "result.json", **{**COMMON, **given, **fields})
    return folder


def pretrained(folder: Path, **fields) -> Path:
    """A run of ``pretrain``."""
    save_pretrained(build_encoder("unet", 1, **SIZES), folder, steps=3)
    given = {
        "id": "pretrain-pool",
        "stage": "pretrain",
        "dataset": [HIPPOCAMPUS, PROSTATE],
        "summary": {"r@1/before": 0.125, "r@1": 0.25, "chance": 0.0625, "patches": 16},
        "settings": {"steps": 3, "changes": {"text": {"captioner": "describe"}}},
        "data": {"root": "data", "cases": {f"{HIPPOCAMPUS}/a": "a" * 64}},
        "command": f"gtgm pretrain {HIPPOCAMPUS} {PROSTATE} --profile tiny --data DIR",
    }
    save_result(folder / "result.json", **{**COMMON, **given, **fields})
    return folder


def neurons(folder: Path, **fields) -> Path:
    """A run of ``neurons``, with arrays of its test sections, which nobody may hand on."""
    network = build_segmenter("unet", 1, 3, **SIZES)
    about = {
        "dataset": CREMI,
        "task": "neurons",
        "settings": {"patch": [8, 16, 16], "bf16": False},
        "resolution": [40.0, 4.0, 4.0],
        "chosen": {"waterz": 0.5},
    }
    save_segmenter(network, folder, **about)
    (folder / "test_sections.safetensors").write_bytes(b"images")
    rows = [{"case": CREMI, "class": "waterz", "metric": "voi_sum", "value": 1.5}]
    given = {
        "id": "neurons-CREMI_A",
        "stage": "neurons",
        "dataset": CREMI,
        "fraction": 0.75,
        "draw": 0,
        "metrics": rows,
        "summary": {"voi_sum": 1.5, "multicut/voi_sum": 2.5},
        "settings": {
            "steps": 3,
            "sections": {"train": [0, 45], "validation": [45, 48], "test": [48, 60]},
        },
        "data": {"root": "data", "cases": {CREMI: "c" * 64}},
        "command": f"gtgm finetune {CREMI} --method gtgm --profile tiny --data DIR",
    }
    save_result(folder / "result.json", **{**COMMON, **given, **fields})
    return folder
