#!/usr/bin/env python
"""Precision, layout in memory and threads, on this processor and as one without bf16 instructions.

The second is this processor, too, told to keep to AVX2. Times are the least of several steps, in
one process per kind of processor; what counts is the ratio within a kind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Run as a file, Python knows the folder of the file, not the project that it is a part of.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gtgm.models.encoder import build_encoder
from gtgm.models.segmenter import build_segmenter
from gtgm.paths import write_json, write_text
from gtgm.precision import has_bf16
from gtgm.provenance import machine_name, provenance

EPILOG = "example:\n  python benchmarks/processors.py --out results/benchmarks/processors.json"
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
PLAIN, LAST, HALF = "fp32", "fp32, channels last", "bf16, channels last"
#: What is timed: voxels and number of patches, and whether a gradient is computed.
STEPS: dict[str, tuple[tuple[int, ...], int, bool]] = {
    "3×3×3 convolution of 16 channels": ((32, 32, 32), 2, True),
    "U-Net, fine-tuning": ((40, 56, 40), 2, True),
    "U-Net encoder, pretraining": ((24, 28, 28), 32, True),
    "U-Net, four windows": ((40, 56, 40), 4, False),
    "U-Net, one window": ((40, 56, 40), 1, False),
    "U-Net, the same window twice": ((40, 56, 40), 2, False),
}


def network(step: str) -> torch.nn.Module:
    """What a step runs."""
    torch.manual_seed(0)
    if "convolution" in step:
        return torch.nn.Conv3d(16, 16, 3, padding=1)
    return build_encoder("unet", 1) if "encoder" in step else build_segmenter("unet", 1, 3)


def seconds(step: str, way: str, threads: int, times: int) -> float:
    """The least time of a step."""
    patch, batch, train = STEPS[step]
    layout = torch.contiguous_format if way == PLAIN else torch.channels_last_3d
    model = network(step).to(memory_format=layout)
    channels = 16 if "convolution" in step else 1
    images = torch.randn(batch, channels, *patch).to(memory_format=layout)
    torch.set_num_threads(threads)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=way == HALF):
            found = model(images)
        last = found[-1] if isinstance(found, list | tuple) else found
        if train:
            last.float().square().mean().backward()

    with torch.set_grad_enabled(train):
        return min(clocked(run) for _ in range(times + 1))


def clocked(run: Callable[[], None]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def measure(times: int) -> dict[str, Any]:
    """Rows of this process."""
    rows = []
    for step in STEPS:
        for threads in (1, torch.get_num_threads()):
            for way in (PLAIN, LAST, HALF):
                slow = way == HALF and not has_bf16()
                found = seconds(step, way, threads, 1 if slow else times)
                rows.append({"step": step, "way": way, "threads": threads, "seconds": found})
    return {"bf16": has_bf16(), "rows": rows}


def as_markdown(report: dict[str, Any]) -> str:
    """A table: milliseconds of fp32 with channels last, and the others as multiples of it."""
    lines = [
        f"Least of {report['times']} steps on {machine_name(report['hardware'])}; multiples of "
        "*fp32, channels last* of the same row. `benchmarks/processors.py`",
        "",
        f"| processor | step | threads | {LAST} | {PLAIN} | {HALF} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, found in report["processors"].items():
        times = {(r["step"], r["threads"], r["way"]): r["seconds"] for r in found["rows"]}
        for step, threads in dict.fromkeys((s, t) for s, t, _ in times):
            base = times[step, threads, LAST]
            plain, half = (times[step, threads, way] / base for way in (PLAIN, HALF))
            lines.append(
                f"| {kind} | {step} | {threads} | {1000 * base:.0f} ms | {plain:.2f} | {half:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both kinds, each in a process of its own, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON; the table is beside it")
    parser.add_argument("--times", type=int, default=5, help="steps of each row (default: 5)")
    parser.add_argument("--this", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.this:
        options.out.write_text(json.dumps(measure(options.times)), encoding="utf-8")
        return
    report: dict[str, Any] = {"times": options.times, **provenance(), "processors": {}}
    for kind, limits in {"as it is": {}, "AVX2 alone": AVX2}.items():
        part = options.out.with_suffix(".part")
        command = [sys.executable, __file__, "--out", str(part), "--times", str(options.times)]
        subprocess.run([*command, "--this"], check=True, env={**os.environ, **limits})
        report["processors"][kind] = json.loads(part.read_text(encoding="utf-8"))
        part.unlink()
    write_json(options.out, report)
    write_text(options.out.with_suffix(".md"), as_markdown(report))
    print(as_markdown(report))


if __name__ == "__main__":
    main()
