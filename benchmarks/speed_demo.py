"""The whole demo, ``gtgm reproduce`` on phantoms, and the same at another commit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gtgm.errors import GTGMError
from gtgm.paths import ROOT

NAME, UNIT = "demo", "s"
BEFORE, NOW = "gtgm reproduce, before", "gtgm reproduce"
#: The second stands beside the first, which is left out where no commit is named.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {BEFORE: ("", {"before": True}), NOW: (BEFORE, {})}


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds of one demo from an empty folder, its environment already there."""
    if not ROWS[name][1]:
        return _demo(ROOT)
    if not options.against:
        raise GTGMError("the demo has nothing to be compared with", fix="name a commit: --against")
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "before"
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(checkout), options.against],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        try:
            return _demo(checkout)
        finally:
            subprocess.run(
                ["git", "worktree", "remove", "--force", str(checkout)], cwd=ROOT, check=True
            )


def describe(options: Any) -> str:
    """What is compared, for a reader."""
    before = f"; before: {options.against}" if options.against else ""
    return f"phantoms of 13 datasets{before}"


def _demo(checkout: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | {"PYTHONPATH": str(checkout), "GTGM_RUNS": runs}
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "gtgm.cli", "reproduce"],
            cwd=checkout,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return {"seconds": time.perf_counter() - begin}
