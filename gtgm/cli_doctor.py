"""``gtgm doctor``: the first thing to paste into a report of a problem.

``python -m gtgm.cli_doctor`` does the same without the packages that ``gtgm`` itself needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence and an example.
    """
    _options(
        command(
            "doctor",
            _doctor,
            "say what of this machine matters to the project, with advice; exit code 1 if "
            "`make reproduce` would fail",
            "gtgm doctor --data data\n"
            "  python -m gtgm.cli_doctor --data data   # also where packages are missing",
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``python -m gtgm.cli_doctor``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m gtgm.cli_doctor", allow_abbrev=False)
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


if __name__ == "__main__":
    sys.exit(main())
