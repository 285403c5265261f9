"""Entry point of ``gtgm``: the doctor also where the other commands cannot start."""

from __future__ import annotations

import contextlib
import os
import sys

from gtgm.surroundings import write_anything


def main() -> int:
    """Run the command line; returns the exit code."""
    write_anything()
    if not sys.stderr.isatty():  # bars in a log hide what stands on their lines
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        return _run()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # a closed terminal
            print("gtgm: stopped; the same command continues from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough: gtgm data list | head
        return 1
    finally:
        _flush()


def _flush() -> None:
    """Write what is left to write, if anybody reads it."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> int:
    if sys.argv[1:2] == ["doctor"]:  # its imports are few: it must run where others are missing
        from gtgm.cli_doctor import main as doctor

        return doctor(sys.argv[2:])
    from gtgm.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
