"""Precision: bf16 where it is faster, and there with the same gradients every time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from gtgm.models.encoder import DIVISOR, build_encoder
from gtgm.models.segmenter import build_segmenter
from gtgm.paths import ROOT
from gtgm.precision import bf16_ratio, has_bf16, training_precision, used_precision


def gradients(shape: tuple[int, ...], flat: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = build_segmenter("unet", 1, 3, anisotropic=flat)
    network.to(memory_format=torch.channels_last_3d)
    volume = torch.randn(2, 1, *shape).to(memory_format=torch.channels_last_3d)
    # Freed memory is reused: what reads memory that it never wrote now meets NaN.
    rubbish = [torch.full((n,), torch.nan) for n in (1_000, 20_000, 131_072, 1_000_003)]
    del rubbish
    with torch.autocast("cpu", torch.bfloat16):
        scores = network(volume)
    scores.float().square().mean().backward()
    return [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((40, 56, 40), False),
        ((24, 28, 28), False),
        ((32, 96, 96), False),
        ((16, 48, 48), True),
        ((24, 64, 64), True),
    ],
)
def test_allowed_shapes_have_stable_gradients_in_bf16(shape, flat):
    if torch.cuda.is_available():
        pytest.skip("the rule is about CPUs")
    if not has_bf16():
        pytest.skip("this processor has no instructions for bf16")
    divisor = build_encoder("unet", 1, anisotropic=flat).divisor
    assert training_precision("bf16", shape, divisor) == "bf16"
    first = gradients(shape, flat)
    for _ in range(3):
        for a, b in zip(first, gradients(shape, flat), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("wanted", ["auto", "no"])
def test_thin_patches_fall_back_to_fp32(wanted):
    if torch.cuda.is_available():
        pytest.skip("the rule is about CPUs")
    assert training_precision(wanted, (16, 64, 64), DIVISOR["unet"]) == "no"
    assert training_precision(wanted, (32, 160, 160), DIVISOR["swin"]) == "no"


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_bf16_is_not_used_on_processors_without_instructions_for_it(instructions):
    """oneDNN keeps to the instructions that it is told, so that any processor can stand for one."""
    code = (
        "from gtgm.precision import has_bf16, training_precision, used_precision\n"
        "from gtgm.errors import SettingsError\n"
        "print(has_bf16(), used_precision('auto'), used_precision('bf16'))\n"
        "try: training_precision('bf16', (40, 56, 40), 8)\n"
        "except SettingsError as error: print(error)\n"
    )
    limits = {"ONEDNN_MAX_CPU_ISA": instructions, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **limits},
    )
    said, refusal = done.stdout.splitlines()
    assert said == "False no no" and "no instructions" in refusal


def test_precision_that_is_used():
    assert used_precision("auto") == used_precision("bf16") == ("bf16" if has_bf16() else "no")
    assert used_precision("fp16") == "fp16" and used_precision("no") == "no"
    threads = torch.get_num_threads()
    assert bf16_ratio() > 0 and torch.get_num_threads() == threads
