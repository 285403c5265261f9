#!/usr/bin/env python
"""Time and memory of segmenting an EM volume block by block.

The volume is a phantom without seams that repeats every 25 × 250 × 250 voxels, so that making it
costs no memory. Each step runs in a process of its own, and its peak of resident memory is its
own. With --compare the volume is segmented unblocked as well, and the variation of information
between both is reported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from scipy.ndimage import gaussian_filter, minimum_filter
from scipy.spatial import cKDTree

from gtgm.errors import GTGMError, SettingsError
from gtgm.models.segmenter import build_segmenter, load_segmenter
from gtgm.neurons.agglomeration import agglomerate
from gtgm.neurons.blockwise import BLOCK, HALO, segment_blockwise
from gtgm.neurons.blockwise_prediction import TILE, predict_blockwise
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.metrics import voi
from gtgm.neurons.settings import NeuronSettings
from gtgm.provenance import provenance

EPILOG = """examples:
  python benchmarks/em_blockwise.py --skip-prediction --out results/em_blockwise.json
  python benchmarks/em_blockwise.py --size 50 500 500 --skip-prediction --compare --out small.json
  python benchmarks/em_blockwise.py --weights RUN --out results/em_blockwise.json

Set OMP_NUM_THREADS for the number of threads. Without --weights the network has random weights,
which costs the same time; its affinities are measured but not segmented.
"""
SIZE = (125, 1250, 1250)
TILE_SHAPE = (25, 250, 250)
NEURITES = 400  # in a tile
THICKNESS = 10.0  # of a section, in pixels
FEATURES = (16, 32, 64, 128)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        report = measure_all(options)
    except GTGMError as error:
        print(f"em_blockwise: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = {"type": int, "nargs": 3, "metavar": ("D", "H", "W")}
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--size", **sizes, default=SIZE, help="voxels of the volume")
    parser.add_argument("--block", **sizes, default=BLOCK, help="voxels of a block")
    parser.add_argument("--halo", **sizes, default=HALO, help="voxels around a block")
    parser.add_argument("--three-d", action="store_true", help="cut fragments in 3D, not in 2D")
    parser.add_argument("--threshold", type=float, default=0.5, help="of the agglomeration")
    parser.add_argument("--skip-prediction", action="store_true", help="segment only")
    parser.add_argument("--weights", type=Path, help="folder of a trained affinity network")
    parser.add_argument(
        "--patch", **sizes, default=NeuronSettings().patch, help="voxels of a patch"
    )
    parser.add_argument("--compare", action="store_true", help="segment unblocked as well")
    parser.add_argument("--seed", type=int, default=0, help="of the phantom")
    parser.add_argument(
        "--folder", type=Path, help="where arrays go; default a temporary folder that is removed"
    )
    return parser


def measure_all(options: argparse.Namespace) -> dict[str, Any]:
    """Run the steps one after the other; the report holds their rows, settings and hardware."""
    if options.compare and not (options.skip_prediction or options.weights):
        raise SettingsError(
            "random weights give nothing to compare",
            where="--compare",
            fix="add --skip-prediction or --weights",
        )
    rows, extra = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not options.skip_prediction:
            rows.append(_in_own_process(_predict, options, folder))
        rows.append(_in_own_process(_segment, options, folder))
        if options.compare:
            rows.append(_in_own_process(_segment_unblocked, options, folder))
            blocked = zarr.open_array(str(folder / _name(options)), mode="r")[:]
            difference = voi(blocked, np.load(folder / "unblocked.npy"))
            extra = {"voi_to_unblocked": difference._asdict() | {"sum": difference.sum}}
    here = provenance()
    settings = {
        name: getattr(options, name)
        for name in ("size", "block", "halo", "three_d", "threshold", "patch", "seed")
    }
    network = "none" if options.skip_prediction else "trained" if options.weights else "random"
    return {
        "rows": rows,
        **extra,
        "settings": settings | {"network": network},
        "threads": torch.get_num_threads(),
        "hardware": here["hardware"],
        "versions": here["versions"],
        "commit": here["commit"],
    }


class Tiled:
    """A volume (…, D, H, W) that repeats a tile, made where it is sliced.

    Args:
        tile: (…, d, h, w).
        size: (D, H, W).
    """

    def __init__(self, tile: np.ndarray, size: Sequence[int]) -> None:
        self._tile = tile
        self.shape = (*tile.shape[:-3], *size)
        self.dtype = tile.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        key = (*key, *(slice(None),) * (len(self.shape) - len(key)))
        index, dropped = [], []
        for axis, (part, size, period) in enumerate(
            zip(key, self.shape, self._tile.shape, strict=True)
        ):
            if not isinstance(part, slice):
                dropped.append(axis)
                part = slice(part, part + 1)
            index.append(np.arange(size)[part] % period)
        return self._tile[np.ix_(*index)].squeeze(tuple(dropped))


def phantom(size: Sequence[int], seed: int) -> tuple[Tiled, Tiled]:
    """Grey values (D, H, W) and affinities (3, D, H, W) of neurites in thick sections.

    The neurites of a tile are the Voronoi cells of points on a torus, so that copies fit together.
    """
    rng = np.random.default_rng(seed)
    scale = np.array([THICKNESS, 1.0, 1.0])
    box = scale * TILE_SHAPE
    points = rng.random((NEURITES, 3)) * box
    voxels = np.stack(np.indices(TILE_SHAPE), axis=-1).reshape(-1, 3) * scale
    labels = cKDTree(points, boxsize=box).query(voxels)[1].reshape(TILE_SHAPE)
    same = np.stack([labels == np.roll(labels, 1, axis) for axis in range(3)]).astype(np.float32)
    blur = {"mode": "wrap"}
    # Membranes are some pixels wide, as networks predict them.
    inside = minimum_filter(same[1:].min(0), (1, 3, 3), **blur)
    bonds = np.minimum(same, inside)
    noise = gaussian_filter(rng.standard_normal(same.shape), (0, 0.5, 2, 2), **blur)
    affinities = gaussian_filter(bonds, (0, 0, 1, 1), **blur) + 0.1 * noise / noise.std()
    affinities = np.clip(affinities, 0, 1).astype(np.float32)
    membrane = gaussian_filter(inside, (0, 1, 1), **blur)
    grey = 60 + 120 * membrane + 15 * rng.standard_normal(TILE_SHAPE)
    return Tiled(np.clip(grey, 0, 255).astype(np.uint8), size), Tiled(affinities, size)


def _predict(options: argparse.Namespace, folder: Path) -> None:
    network, multiple = _network(options)
    raw, _ = phantom(options.size, options.seed)
    predict_blockwise(network, raw, folder, tuple(options.patch), multiple=multiple, tile=TILE)


def _network(options: argparse.Namespace) -> tuple[torch.nn.Module, tuple[int, ...]]:
    if options.weights:
        network, _ = load_segmenter(options.weights)
    else:
        torch.manual_seed(options.seed)
        network = build_segmenter("unet", 1, 3, features=FEATURES)
    return network, network.encoder.divisor


def _segment(options: argparse.Namespace, folder: Path) -> None:
    segment_blockwise(
        _affinities(options, folder),
        folder,
        options.threshold,
        not options.three_d,
        tuple(options.block),
        tuple(options.halo),
    )


def _segment_unblocked(options: argparse.Namespace, folder: Path) -> None:
    affinities = _affinities(options, folder)[:]
    fragments = watershed_fragments(affinities, not options.three_d)
    ((_, segmentation),) = agglomerate(affinities, fragments, (options.threshold,))
    np.save(folder / "unblocked.npy", segmentation)


def _affinities(options: argparse.Namespace, folder: Path) -> Any:
    """Those of the trained network, else the phantom's."""
    if options.weights and not options.skip_prediction:
        return zarr.open_array(str(folder / "affinities.zarr"), mode="r")
    return phantom(options.size, options.seed)[1]


def _name(options: argparse.Namespace) -> str:
    return f"segmentation-{options.threshold}.zarr"


def _in_own_process(
    step: Callable[[argparse.Namespace, Path], None], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        seconds, peak = pool.submit(_measure, step, options, folder).result()
    return {
        "step": step.__name__.removeprefix("_"),
        "seconds": seconds,
        "voxels_per_second": float(np.prod(options.size)) / seconds,
        "peak_memory_gb": peak / 1e9,
    }


def _measure(
    step: Callable[[argparse.Namespace, Path], None], options: argparse.Namespace, folder: Path
) -> tuple[float, int]:
    start = time.perf_counter()
    step(options, folder)
    return time.perf_counter() - start, _peak()


def _peak() -> int:
    """Highest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage counts what the parent held before the start
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
