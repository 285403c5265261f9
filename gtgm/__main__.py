"""Entry point of ``gtgm``: the doctor also where the other commands cannot start."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] == ["doctor"]:  # its imports are few: it must run where others are missing
        from gtgm.cli_doctor import main as doctor

        return doctor(sys.argv[2:])
    from gtgm.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
