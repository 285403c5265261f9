#!/usr/bin/env python
"""Time and memory of every step beside the stock way of doing it, with public libraries.

Each row runs in a process of its own, on a GPU with torch's count of memory started anew; ratios
are within one run of this program. Rows that begin with + add one optimisation to those above them.
The stock rows of pretraining take 18 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

# Run as a file, Python knows the folder of the file, not the project that it is a part of.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import alone
from gtgm.errors import DataError, GTGMError
from gtgm.markup import between
from gtgm.provenance import provenance

PARTS = ("pretraining", "captions", "loading", "finetuning", "inference", "postprocessing", "demo")
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
EPILOG = """examples:
  python benchmarks/speed.py --out runs/speed.json                        # everything, an hour
  python benchmarks/speed.py --parts captions inference --out runs/speed.json
  python benchmarks/speed.py --parts loading --volumes 100 --size 400 512 512 --out runs/speed.json
  python benchmarks/speed.py --parts demo --against HEAD~1 --out runs/speed.json
  python benchmarks/speed.py --parts --out results/benchmarks/speed.json --readme README.md

Parts that are not named keep their rows of an earlier run in the same file. The table is written
beside the JSON file, with the suffix .md.
"""


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and the default of every option."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    report = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        try:
            report[name] = measure_part(name, options)
        except GTGMError as error:
            print(f"speed: {name}: {error}", file=sys.stderr)
            return 1
        # After every part: a later one that fails loses nothing.
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(markdown(report), encoding="utf-8")
    if options.readme:
        text = options.readme.read_text(encoding="utf-8")
        options.readme.write_text(with_table(text, report), encoding="utf-8")
    print(markdown(report))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=_Help)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--readme", type=Path, help="page whose performance table is replaced")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--repeats", type=int, default=3, help="steps that count (median)")
    parser.add_argument("--data", help="folder of real datasets, for captions")
    sizes = ("D", "H", "W")
    parser.add_argument(
        "--patch", type=int, nargs=3, default=[32, 160, 160], metavar=sizes, help="pretraining"
    )
    parser.add_argument(
        "--volume", type=int, nargs=3, default=[64, 160, 160], metavar=sizes, help="inference"
    )
    parser.add_argument(
        "--captioner-steps", type=int, default=300, help="training of the captioner"
    )
    parser.add_argument("--volumes", type=int, default=6, help="loading: how many")
    parser.add_argument(
        "--size", type=int, nargs=3, default=[200, 256, 256], metavar=sizes, help="loading: of each"
    )
    parser.add_argument("--patches", type=int, default=300, help="loading: patches to read")
    parser.add_argument("--against", help="demo: commit to compare with; none times it alone")
    parser.add_argument("--work", default="", help="folder of working files, else a temporary one")
    return parser


def measure_part(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All rows of a part, where they were measured, and the sizes."""
    part = import_module(f"benchmarks.speed_{name}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        options = argparse.Namespace(**{**vars(options), "work": options.work or folder})
        wanted = [n for n, (_, row) in part.ROWS.items() if not row.get("gpu") or _gpu()]
        if name == "demo" and not options.against:
            wanted = wanted[1:]
        for row in tqdm(wanted, desc=name, unit="row"):
            found = alone(part.measure, row, options)
            beside = part.ROWS[row][0] if part.ROWS[row][0] in wanted else None
            rows.append({"name": row, "beside": beside, **found})
        sizes = part.describe(options)
    here = provenance()
    return {
        "name": part.NAME,
        "unit": part.UNIT,
        "sizes": sizes,
        "rows": [row | _ratios(row, rows) for row in rows],
        "hardware": here["hardware"],
        "versions": here["versions"],
        "commit": here["commit"],
    }


def markdown(report: dict[str, Any]) -> str:
    """All parts as one table, with sizes and hardware below."""
    lines = [
        "| step | way | time | faster | memory (GB) | of the memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    notes = []
    for name in PARTS:
        if name not in report:
            continue
        part = report[name]
        for number, row in enumerate(part["rows"]):
            step = part["name"] if number == 0 else ""
            faster = f"{row['faster']:.1f}×" if row["beside"] else "–"
            share = f"{row['memory']:.0%}" if row["beside"] and row.get("memory") else "–"
            memory = f"{row['peak_gb']:.1f}" if row.get("peak_gb") else "–"
            lines.append(
                f"| {step} | {row['name']} | {_time(row['seconds'])} | {faster} | {memory} |"
                f" {share} |"
            )
        hardware = part["hardware"]
        device = hardware.get("gpu") or f"{hardware['cpu']}, {hardware['cores']} cores"
        counts = {len(r["all_seconds"]) for r in part["rows"] if r.get("all_seconds")}
        remark = f" Timed {_times(counts)}." if counts else ""
        remark += f" {part['remark']}" if "remark" in part else ""
        notes.append(f"- {part['name']} ({part['unit']}): {part['sizes']}. {device}.{remark}")
    return "\n".join([*lines, "", *notes, ""])


def _times(counts: set[int]) -> str:
    if counts == {1}:
        return "once"
    least, most = min(counts), max(counts)
    return f"{most} times, median" if least == most else f"{least} to {most} times, median"


def with_table(page: str, report: dict[str, Any]) -> str:
    """A page with the report between its two marks.

    Raises:
        DataError: the page has no marks.
    """
    changed = between(page, BEGIN, END, markdown(report))
    if changed is None:
        raise DataError("has no performance table", where="--readme", expected=f"{BEGIN} … {END}")
    return changed


def _ratios(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times faster than the row that it stands beside, and its share of the memory."""
    if row["beside"] is None:
        return {}
    stock = next(other for other in rows if other["name"] == row["beside"])
    found = {"faster": stock["seconds"] / row["seconds"]}
    if row.get("peak_gb") and stock.get("peak_gb"):
        found["memory"] = row["peak_gb"] / stock["peak_gb"]
    return found


def _time(seconds: float) -> str:
    value, unit = (seconds, "s") if seconds >= 1 else (seconds * 1e3, "ms")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def _gpu() -> bool:
    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
