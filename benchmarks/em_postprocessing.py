#!/usr/bin/env python
"""Time and memory of the steps from affinities to neurons.

Each fragmentation and each post-processing method runs in a process of its own, so that its peak
memory is its own. Measured are voxels per second, the peak of resident memory above what the
process held with its input loaded, and the speed relative to waterz in the same run. The numbers
say nothing about quality; for that see gtgm.neurons.postprocess.choose.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy import ndimage
from skimage.measure import label
from tqdm import tqdm

# Run as a file, Python knows the folder of the file, not the project that it is a part of.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import forget_peak, in_own_process, resident_peak
from gtgm.datasets.phantoms import em
from gtgm.errors import DataError, GTGMError
from gtgm.neurons.affinities import NEAREST, affinities, check_offsets
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.postprocess import METHODS, segment
from gtgm.neurons.settings import usable
from gtgm.provenance import provenance

EPILOG = """examples:
  python benchmarks/em_postprocessing.py --size 30 250 250 --out results/em_postprocessing.json
  python benchmarks/em_postprocessing.py --methods waterz multicut --repeats 5 --out speed.json
  python benchmarks/em_postprocessing.py --volumes RUN/test_sections.safetensors --out speed.json

The Markdown table is written beside the JSON file, with the suffix .md.
"""
LONG_RANGE = ((-4, 0, 0), (0, -9, 0), (0, 0, -9))
FRAGMENTS = {"fragments 2D": True, "fragments 3D": False}
TYPICAL = {
    "waterz": 0.5,
    "waterz_quantile": 0.5,
    "multicut": 0.4,
    "lifted_multicut": 0.4,
    "mutex": 0.0,
}
LIBRARIES = ("waterz", "python-elf", "bioimage-cpp", "scikit-image")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        report = measure_all(options)
    except GTGMError as error:
        print(f"em_postprocessing: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    text = markdown(report)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        metavar=("D", "H", "W"),
        help="voxels; default 30 250 250, or all of --volumes, of which it takes the first corner",
    )
    parser.add_argument("--volumes", type=Path, help="file of a neurons run, instead of a phantom")
    parser.add_argument(
        "--offsets",
        type=json.loads,
        help='offsets of the channels in --volumes as JSON, e.g. "[[-1,0,0], …]"; default nearest',
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, help="default: all that the channels allow"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--seed", type=int, default=0, help="of the phantom")
    return parser


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every step; the report holds the rows, the input, hardware and versions."""
    if options.repeats < 1 or (options.size and min(options.size) < 2):
        raise DataError("sizes from 2 and repeats from 1 are needed", where="--size, --repeats")
    if options.volumes:
        affs, fragments, offsets = _from_run(options.volumes, options.size, options.offsets)
    else:
        affs, fragments, offsets = phantom(options.size, options.seed)
    methods = dict.fromkeys(["waterz", *(options.methods or usable(offsets))])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "affinities.npy", affs)
        np.save(Path(folder) / "fragments.npy", fragments)
        for step in tqdm([*FRAGMENTS, *methods], desc="steps", unit="step"):
            rows.append(in_own_process(_measure, step, folder, offsets, options.repeats))
    speed = next(row["voxels_per_second"] for row in rows if row["step"] == "waterz")
    for row in rows:
        row["speed_to_waterz"] = row["voxels_per_second"] / speed
    here = provenance()
    versions = here["versions"] | {name: metadata.version(name) for name in LIBRARIES}
    return {
        "rows": rows,
        "input": {
            "source": "affinities of a run" if options.volumes else "FIB25 phantom",
            "size": list(fragments.shape),
            "offsets": [list(o) for o in offsets],
            "fragments": int(np.unique(fragments).size),
            "repeats": options.repeats,
        },
        "hardware": here["hardware"],
        "versions": versions,
        "commit": here["commit"],
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a table, with input and hardware below."""
    lines = [
        "| step | parameter | seconds | voxels/s | peak memory (MB above start) | speed / waterz |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        parameter = "–" if row["value"] is None else f"{row['parameter']} {row['value']:g}"
        lines.append(
            f"| {row['step']} | {parameter} | {row['seconds']:.2f} |"
            f" {row['voxels_per_second']:,.0f} | {row['peak_mb']:.0f} |"
            f" {row['speed_to_waterz']:.2f} |"
        )
    given, hardware = report["input"], report["hardware"]
    size = " × ".join(str(n) for n in given["size"])
    lines += [
        "",
        f"{given['source']}, {size} voxels, {len(given['offsets'])} channels, {given['fragments']}"
        f" fragments; median of {given['repeats']}. {hardware['cpu']}, {hardware['cores']} cores,"
        f" {hardware['ram_gb']} GB memory.",
        "",
    ]
    return "\n".join(lines)


def phantom(
    size: Sequence[int] | None, seed: int
) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Affinities that a network might predict for a phantom's neurons, fragments and offsets."""
    size = tuple(size or (30, 250, 250))
    rng = np.random.default_rng(seed)
    labels = em.volume("FIB25", rng)[1]
    # Mirrored copies fill the size; their objects become neurons of their own.
    around = [(0, max(0, n - m)) for n, m in zip(size, labels.shape, strict=True)]
    labels = np.pad(labels, around, mode="symmetric")[tuple(slice(n) for n in size)]
    labels = label(labels.astype(np.int64), connectivity=1)
    offsets = (*NEAREST, *LONG_RANGE)
    target, known = affinities(labels, offsets)
    affs = np.where(known, target, 1).astype(np.float32)
    for channel in affs:
        blurred = ndimage.gaussian_filter(channel, 0.7)
        noise = ndimage.gaussian_filter(rng.standard_normal(size, np.float32), 1.5)
        channel[:] = np.clip(0.05 + 0.9 * blurred + 0.15 * noise / noise.std(), 0, 1)
    return affs, watershed_fragments(affs), offsets


def _from_run(
    path: Path, size: Sequence[int] | None, offsets: Sequence[Sequence[int]] | None
) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Affinities and fragments that a neurons run left behind, and the channels' offsets."""
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot be read ({error})", where=path) from error
    if not {"affinities", "fragments"} <= set(arrays):
        raise DataError(
            f"holds {', '.join(sorted(arrays))}", where=path, expected="affinities and fragments"
        )
    offsets = tuple(tuple(o) for o in offsets or NEAREST)
    check_offsets(offsets)
    affs, fragments = arrays["affinities"], arrays["fragments"]
    if len(affs) != len(offsets):
        raise DataError(
            f"has {len(affs)} channels for {len(offsets)} offsets",
            where=path,
            fix="name the offsets of all channels in --offsets",
        )
    corner = tuple(slice(n) for n in size or fragments.shape)
    affs = np.ascontiguousarray(affs[(slice(None), *corner)], dtype=np.float32)
    return affs, np.ascontiguousarray(fragments[corner]).astype(np.uint64), offsets


def _measure(
    step: str, folder: str, offsets: tuple[tuple[int, int, int], ...], repeats: int
) -> dict[str, Any]:
    affs = np.load(Path(folder) / "affinities.npy")
    fragments = np.load(Path(folder) / "fragments.npy")
    value = TYPICAL.get(step)
    forget_peak()
    start = psutil.Process().memory_info().rss
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        if step in FRAGMENTS:
            watershed_fragments(affs, FRAGMENTS[step])
        else:
            segment(step, affs, offsets, fragments, value)
        seconds.append(time.perf_counter() - begin)
    typical = statistics.median(seconds)
    return {
        "step": step,
        "parameter": METHODS[step].parameter if step in METHODS else None,
        "value": value,
        "seconds": typical,
        "all_seconds": seconds,
        "voxels_per_second": fragments.size / typical,
        "peak_mb": max(0, resident_peak() - start) / 1e6,
    }


if __name__ == "__main__":
    sys.exit(main())
