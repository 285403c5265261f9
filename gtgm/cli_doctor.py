"""``gtgm doctor``: what of this machine matters to the project.

It needs few packages, so that it can say which others are missing (:mod:`gtgm.__main__`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

ABOUT = (
    "say what of this machine matters to the project, with advice; exit code 1 if "
    "`make reproduce` would fail"
)
EXAMPLE = "gtgm doctor --data data"


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence and an example.
    """
    _options(command("doctor", _doctor, ABOUT, EXAMPLE))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it without the rest of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="gtgm doctor",
        description=ABOUT,
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _options(parser)
    return _doctor(parser.parse_args(arguments))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="folder of real datasets, beside $GTGM_DATA")
    parser.add_argument("--runs", help="working folder (default: runs)")
    parser.add_argument("--no-network", action="store_true", help="ask no server")
    parser.add_argument("--json", action="store_true", help="the same, for scripts")


def _doctor(options: argparse.Namespace) -> int:
    from gtgm import doctor

    lines = doctor.examine(options.data, options.runs, not options.no_network)
    print(doctor.as_json(lines) if options.json else doctor.as_text(lines))
    return 1 if any(line.stops for line in lines) else 0
