"""What of this machine matters to the project, and what to do about it: ``gtgm doctor``.

Every check says what it found line by line; one that fails becomes a line itself. Nothing personal
is shown: the home folder is ``~``, and secrets are only said to be set.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from gtgm import paths
from gtgm.doctor.hardware import devices, memory
from gtgm.doctor.line import Line
from gtgm.doctor.network import servers
from gtgm.doctor.places import data_folders, working_folder
from gtgm.doctor.software import environment, kernel, packages, surroundings, variables


def examine(
    data: str | Path | None = None, runs: str | Path | None = None, network: bool = True
) -> list[Line]:
    """Look at everything.

    Args:
        data: a folder of real datasets, beside $GTGM_DATA.
        runs: working folder (default: see :func:`gtgm.paths.runs_dir`).
        network: ask the servers of datasets and the hub, too.
    """
    folder = Path(runs or paths.runs_dir())
    checks: list[tuple[str, Callable[[], Iterable[Line]]]] = [
        ("environment", environment),
        ("environment", kernel),
        ("environment", surroundings),
        ("packages", packages),
        ("devices", devices),
        ("memory", memory),
        ("working folder", partial(working_folder, folder)),
        ("data", partial(data_folders, data)),
        ("variables", variables),
    ]
    if network:
        checks.append(("network", servers))
    return [line for section, check in checks for line in _run(section, check)]


def as_text(lines: Iterable[Line]) -> str:
    """The lines by section, aligned, with advice below what is not in order.

    Advice that holds for several lines in a row stands below the last of them.
    """
    lines = list(lines)
    shown, section = [], ""
    for line, after in zip(lines, [*lines[1:], Line("ok", "")], strict=True):
        if line.section != section:
            section = line.section
            shown.append(section)
        shown.append(f"  {line.state:<8} {line.what}")
        if line.advice and line.advice != after.advice:
            shown.append(f"{'':<11}-> {line.advice}")
    states, stops = Counter(line.state for line in lines), sum(line.stops for line in lines)
    shown += [
        "",
        f"problems: {states['problem']}, of which {stops} would stop `make reproduce`; "
        f"notes: {states['note']}",
    ]
    return "\n".join(shown)


def as_json(lines: Iterable[Line]) -> str:
    """The same lines as a JSON list, for scripts."""
    return json.dumps([dataclasses.asdict(line) for line in lines], indent=2)


def _run(section: str, check: Callable[[], Iterable[Line]]) -> Iterator[Line]:
    try:
        for line in check():
            yield dataclasses.replace(
                line, section=section, what=_public(line.what), advice=_public(line.advice)
            )
    except Exception as error:
        what = _public(f"this check failed ({type(error).__name__}: {error})")
        yield Line("problem", what, "read the lines above; else report it", section=section)


def _public(text: str) -> str:
    """One line without the home folder and without names and passwords in addresses."""
    text = re.sub(r"//[^/@\s]+@", "//...@", " ".join(text.split()))
    home = os.path.expanduser("~").rstrip("/~")  # Path.home() may raise
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w-]|\.\w)", "~", text) if home else text
