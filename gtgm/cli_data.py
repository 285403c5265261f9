"""``gtgm data``: list, download and verify datasets."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_command(
    command: Callable[..., argparse.ArgumentParser],
    action: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the command and its actions to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence and an example.
        action: the same for an action, with the group of actions before the name.
    """
    data = command("data", None, "list, download or verify datasets", "gtgm data list")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = action(
        actions, "list", _data_list, "the registry, and what is found here", "gtgm data list"
    )
    listing.add_argument("--data", default=None, help="folder of real datasets")
    get = action(
        actions,
        "get",
        _data_get,
        "download a dataset, check its checksum and unpack it; continues what was interrupted",
        "gtgm data get Task04_Hippocampus --to data",
    )
    get.add_argument("name")
    get.add_argument("--to", type=Path, default=Path("data"), help="folder (default: data)")
    get.add_argument("--url", help="another address, in place of the registry's")
    get.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="URL",
        help="a further address, asked if those before fail; may be repeated",
    )
    get.add_argument("--checksum", help="md5:… or sha256:… in place of the registry's")
    get.add_argument("--allow-unverified", action="store_true", help="accept a missing checksum")
    get.add_argument(
        "--attempts",
        type=int,
        default=5,
        help="attempts in a row without progress, at each address (default: 5)",
    )
    get.add_argument(
        "--quota",
        type=float,
        metavar="GB",
        help="most that an archive may unpack to (default: 20 times the archive, at least 1 GB)",
    )
    check = action(
        actions,
        "verify",
        _data_verify,
        "read every file of a dataset and report all problems",
        "gtgm data verify Task04_Hippocampus --data data",
    )
    check.add_argument("name")
    check.add_argument("--data", default=None, help="folder of real datasets")


def _data_list(options: argparse.Namespace) -> int:
    from gtgm.datasets import registry

    print(f"{'name':<21} {'modality':<8} {'cases':>5}  {'here':<10} licence")
    for name in registry.names():
        info = registry.get(name)
        here = _here(name, options.data)
        print(f"{name:<21} {info.modality:<8} {info.cases:>5}  {here:<10} {info.licence}")
    return 0


def _here(name: str, data: str | None) -> str:
    """Whether a dataset is here, with the number of its cases if that is not the registry's."""
    from gtgm.datasets import msd, registry
    from gtgm.datasets.dataset import find

    info, place = registry.get(name), find(name, data)
    if place is None:
        return "phantom"
    cases = len(msd.scan(place).cases) if info.format == "msd" else info.cases
    return f"real, {cases}" if cases != info.cases else "real"


def _data_get(options: argparse.Namespace) -> int:
    from gtgm.datasets.download import get

    path = get(
        options.name,
        options.to,
        options.url,
        options.checksum,
        options.allow_unverified,
        mirrors=options.mirror,
        quota=options.quota,
        attempts=options.attempts,
    )
    print(f"{options.name} is in {path}; use it with --data {options.to}")
    return 0


def _data_verify(options: argparse.Namespace) -> int:
    from gtgm.datasets.verify import incomplete, verify

    problems = verify(options.name, options.data)
    for problem in problems:
        print(problem)
    note = incomplete(options.name, options.data)
    if note:
        print(f"note: {note}")
    print(f"{options.name}: {len(problems) or 'no'} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0
