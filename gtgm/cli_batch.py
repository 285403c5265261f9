"""The commands about a whole reproduction: ``gtgm reproduce`` and ``gtgm status``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtgm import paths

if TYPE_CHECKING:
    from gtgm.batch.units import Unit


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add both commands to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence, an example, and a
            function that adds the options.
    """
    command(
        "reproduce",
        _reproduce,
        "run every experiment and write the report; continues where it stopped",
        "gtgm reproduce --data data --tables mri\n"
        "  gtgm reproduce --profile hippocampus --data data --where 'fold=0 and fraction<=10%'",
        _reproduce_options,
    )
    command(
        "status",
        _status,
        "what of a reproduction is done, running or failed, and how long the rest takes",
        "gtgm status --profile hippocampus --where 'method in (random, gtgm)'",
        _common_options,
    )


def _reproduce_options(parser: argparse.ArgumentParser) -> None:
    from gtgm.batch.manifest import TABLES
    from gtgm.settings import BACKBONES, PROTOCOLS

    _common_options(parser)
    parser.add_argument("--tables", default=",".join(TABLES), help="of ct,mri,em (default: all)")
    parser.add_argument("--backbone", choices=BACKBONES, default=None, help="on real data")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="corrected")
    parser.add_argument("--folds", type=_numbers, default=None, help="held out, such as 0,1")
    parser.add_argument(
        "--cluster",
        default="local",
        help="local, slurm, kubernetes, or a folder with a Snakemake profile (default: local)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would run")


def _common_options(parser: argparse.ArgumentParser) -> None:
    from gtgm.batch.manifest import REPRODUCTIONS

    parser.add_argument(
        "--profile",
        choices=REPRODUCTIONS,
        default="demo",
        help="demo: phantoms, and real data with small sizes; hippocampus: all methods on real "
        "MRI; ablations: variants of GTGM on it; paper: the paper's sizes (default: demo)",
    )
    parser.add_argument("--data", default=None, help="folder of real datasets; others are phantoms")
    parser.add_argument("--runs", default=None, help="run folder (default: runs/<profile>)")
    parser.add_argument(
        "--where",
        default="",
        metavar="CONDITION",
        help="some of the runs, such as 'dataset=Task04_Hippocampus and fraction<=10%%'",
    )
    parser.add_argument("--jobs", type=int, default=2, help="notebooks side by side (default: 2)")


def _numbers(text: str) -> list[int]:
    """``0,1`` → ``[0, 1]``."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of folds such as 0,1") from None


def _folder(options: argparse.Namespace) -> Path:
    return Path(options.runs or paths.runs_dir() / options.profile)


def _plan(options: argparse.Namespace, elsewhere: bool = False, **more: Any) -> list[Unit]:
    """The units of a reproduction, with those that need a GPU where there is one, or may be.

    Args:
        options: of the command line.
        elsewhere: they are executed on other machines.
        more: further arguments of :func:`gtgm.batch.plan.plan`.
    """
    from gtgm.batch.plan import plan
    from gtgm.provenance import has_gpu

    make = partial(
        plan,
        options.profile,
        data=options.data,
        folder=_folder(options),
        where=options.where,
        **more,
    )
    units = make(gpu=True)
    if options.profile != "hippocampus" or elsewhere or has_gpu():
        return units
    left_out = sum(len(unit.runs) for unit in units if unit.gpus)
    if left_out:
        print(
            f"{left_out} runs at the paper's sizes need a GPU, which this computer has not: they "
            "are left out of the plan. They are in it where there is one, and with --cluster."
        )
    return make()


def _reproduce(options: argparse.Namespace) -> int:
    from gtgm.batch.snake import run_batch

    folder = _folder(options)
    units = _plan(
        options,
        elsewhere=options.cluster != "local",
        tables=[name.strip() for name in options.tables.split(",") if name.strip()],
        backbone=options.backbone,
        protocol=options.protocol,
        folds=options.folds,
    )
    report = run_batch(
        units, folder, options.jobs, dry_run=options.dry_run, cluster=options.cluster
    )
    if options.dry_run:
        return report.code
    from gtgm.report import build_report
    from gtgm.results import load_results

    page = build_report(folder, load_results([folder]), folder / "report" / "index.html")
    print(f"report: {page}")
    return report.code


def _status(options: argparse.Namespace) -> int:
    from gtgm.batch.overview import status_table
    from gtgm.batch.units import BATCH, read_manifest
    from gtgm.batch.where import restrict

    folder = _folder(options)
    manifest = folder / BATCH / "manifest.json"
    if manifest.is_file():
        units = restrict(list(read_manifest(manifest).values()), options.where)
    else:
        units = _plan(options)
        print(f"Nothing has been started in {folder}; this is the plan.")
    print(status_table(units, folder, options.jobs))
    return 0
