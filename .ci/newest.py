#!/usr/bin/env python3
"""Try the project with the newest releases of its packages, and say what fails: ``make newest``.

Makes ``.venv-newest`` with the newest release of every declared package, runs tests that touch each
of them, and writes ``runs/newest.md``. It never fails: it reports. A cap of pyproject.toml is kept
where another package's newest release needs it. torch stays at the version of the lock, because
an index does not say whether a newer one is a build for CPUs; ``TORCH=2.14.1`` tries that one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gtgm import paths
from gtgm.versions import fits, holding, locked

ROOT = paths.ROOT
VENV = ROOT / ".venv-newest"
PYTHON = VENV / "bin" / "python"
REPORT, LOG = ROOT / "runs" / "newest.md", ROOT / "runs" / "newest.log"
SECONDS = 15 * 60
#: Tests that together use every main package, in less than four minutes on two cores; long first.
TESTS = (
    "tests/test_batch.py",
    "notebooks/00_quickstart.ipynb",
    "tests/test_report.py",
    "tests/test_cluster.py",
    "tests/test_neurons_agglomeration.py",
    "tests/test_training.py",
    "tests/test_text_blip.py",
    "tests/test_models.py",
    "tests/test_tables.py",
    "tests/test_viewer.py",
    "tests/test_viewer_itk.py",
    "tests/test_viewer_niivue.py",
    "tests/test_viewer_page.py",
    "tests/test_viewer_scene.py",
    "tests/test_viewer_still.py",
    "tests/test_em_store.py",
    "tests/test_em_tiff.py",
    "tests/test_embedding.py",
    "tests/test_inference.py",
    "tests/test_msd.py",
    "tests/test_neurons_metrics.py",
    "tests/test_neurons_multicut.py",
    "tests/test_packages.py",
)

Requirements = dict[str, Requirement]


def declared(project: dict[str, Any]) -> Requirements:
    """What ``[project]`` of pyproject.toml asks for, with the extra ``dev``, by canonical name."""
    extras = project["optional-dependencies"]
    found: Requirements = {}
    waiting = [*project["dependencies"], *extras["dev"]]
    while waiting:
        requirement = Requirement(waiting.pop(0))
        name = canonicalize_name(requirement.name)
        if name == canonicalize_name(project["name"]):  # an extra that takes another one in
            waiting += [text for extra in requirement.extras for text in extras[extra]]
        else:
            found[name] = requirement
    return found


def without_cap(requirement: Requirement) -> Requirement:
    """The requirement without an upper limit: ``>=1,<2`` and ``==1`` become ``>=1``."""
    open_ = Requirement(str(requirement))
    kept = []
    for part in requirement.specifier:
        if part.operator in ("==", "===", "~="):
            kept.append(f">={part.version.removesuffix('.*')}")
        elif part.operator not in ("<", "<="):
            kept.append(str(part))
    open_.specifier = SpecifierSet(",".join(kept))
    return open_


def choose(
    wanted: Requirements, offer: Callable[[Iterable[Requirement]], dict[str, dict[str, Any]]]
) -> tuple[Requirements, dict[str, str], dict[str, str]]:
    """Take away every cap but those that another package's newest release makes necessary.

    Args:
        wanted: the declared requirements by canonical name.
        offer: gives for requirements the newest release of each, without what it depends on, as
            core metadata in JSON form by canonical name.

    Returns:
        The requirements to install, why a cap was kept by name, and the newest version of each.
    """
    chosen = {name: without_cap(requirement) for name, requirement in wanted.items()}
    kept: dict[str, str] = {}
    offered = offer(chosen.values())
    newest = {name: release["version"] for name, release in offered.items()}
    while again := _conflicts(wanted, chosen, offered):
        for name, why in again.items():
            chosen[name], kept[name] = wanted[name], why
        offered = offer(chosen.values())
    return chosen, kept, newest


def _conflicts(
    wanted: Requirements, chosen: Requirements, offered: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Packages whose cap must come back, each with the reason."""
    found = {}
    for by, release in offered.items():
        for need in holding(release.get("requires_dist", []), wanted[by].extras):
            name = canonicalize_name(need.name)
            version = offered.get(name, {}).get("version")
            if version is None or fits(need, version):
                continue
            for candidate in (name, by):  # the one that is refused, else the one that refuses
                if str(chosen[candidate]) != str(wanted[candidate]):
                    found[candidate] = f"{by} {release['version']} needs {need}"
                    break
    return found


def outcome(junit: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Numbers of tests passed, failed and skipped, and each failed test with its error.

    Args:
        junit: what ``pytest --junitxml`` wrote.
    """
    numbers = {"passed": 0, "failed": 0, "skipped": 0}
    failed = []
    for case in ET.fromstring(junit).iter("testcase"):
        bad = next(
            (case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None
        )
        state = "failed" if bad is not None else "passed"
        numbers["skipped" if case.find("skipped") is not None else state] += 1
        if bad is not None:
            message = bad.get("message") or ""
            if message in ("", "collection failure"):  # the reason is the last line marked E
                message = next(iter(re.findall(r"^E\s+(.*)", bad.text or "", re.M)[::-1]), message)
            error = next((line.strip() for line in message.splitlines() if line.strip()), "")
            name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
            failed.append((name, error))
    return numbers, failed


def table(
    wanted: Requirements,
    lock: dict[str, str],
    newest: dict[str, str],
    tried: dict[str, str],
    kept: dict[str, str],
) -> str:
    """Markdown: of every declared package what is locked, newest and was tried."""
    lines = ["| package | locked | newest | tried | remark |", "| --- | --- | --- | --- | --- |"]
    for name, requirement in wanted.items():
        here, remark = tried.get(name), ""
        if name in kept:
            remark = f"cap kept ({requirement.specifier}): {kept[name]}"
        elif here and here != newest.get(name, here):
            remark = "held back by another package"
        elif here and here.partition("+")[0] != lock.get(name):
            remark = "newer than the lock"
        cells = (name, lock.get(name), newest.get(name), here, remark)
        lines.append(f"| {' | '.join('–' if cell is None else cell for cell in cells)} |")
    return "\n".join(lines)


class Check:
    """One try, with its time limit and its log."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.start = time.monotonic()
        self.end = self.start + seconds

    def run(self, command: Sequence[str | Path], **environment: str) -> str | None:
        """Run a command to its end or to that of the time, with its output in the log.

        Returns:
            ``None`` if it succeeded, else why not.
        """
        with LOG.open("a", encoding="utf-8") as log:
            print(f"\n$ {' '.join(map(str, command))}", file=log, flush=True)
            process = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment},
                start_new_session=True,  # with what it starts, it can be ended as one
            )
            try:
                code = process.wait(max(1.0, self.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return "out of time"
        lines = [line for line in LOG.read_text(encoding="utf-8").splitlines() if line.strip()]
        return None if code == 0 else f"exit code {code}: {lines[-1]}"

    def pip(self, *words: str | Path, python: Path = PYTHON) -> None:
        """Call pip; ``Stopped`` if it fails."""
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        if problem := self.run([*pip, *words]):
            raise Stopped(problem)

    def offer(self, requirements: Iterable[Requirement]) -> dict[str, dict[str, Any]]:
        """The newest release of each package that its requirement alone allows."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            self.pip(
                "install", "--dry-run", "--ignore-installed", "--no-deps", "--report", report,
                *map(str, requirements), python=Path(sys.executable),
            )  # fmt: skip
            releases = [i["metadata"] for i in json.loads(report.read_text())["install"]]
        return {canonicalize_name(release["name"]): release for release in releases}

    def install(self, torch: str, requirements: Iterable[Requirement]) -> dict[str, str]:
        """Make the environment anew; gives the version of every package in it."""
        shutil.rmtree(VENV, ignore_errors=True)
        if problem := self.run([sys.executable, "-m", "venv", VENV]):
            raise Stopped(problem)
        self.pip("install", f"torch=={torch}")
        with tempfile.TemporaryDirectory() as folder:
            constraint = Path(folder) / "constraints.txt"  # nothing may replace this torch
            constraint.write_text(f"torch=={self.versions()['torch']}\n")
            self.pip("install", "--constraint", constraint, *map(str, requirements))
        return self.versions()

    def versions(self) -> dict[str, str]:
        """Packages of the environment with their versions."""
        pip = [PYTHON, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        done = subprocess.run(pip, capture_output=True, text=True, check=True, timeout=120)
        return {canonicalize_name(row["name"]): row["version"] for row in json.loads(done.stdout)}

    def test(self) -> str:
        """Run the tests in the environment; gives their part of the report."""
        with tempfile.TemporaryDirectory() as folder:
            junit = Path(folder) / "junit.xml"
            problem = self.run(
                [PYTHON, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-q",
                 "-p", "no:cacheprovider", "--continue-on-collection-errors",
                 f"--junitxml={junit}", *TESTS],
                PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1",
            )  # fmt: skip
            if not junit.is_file():
                return f"The tests did not come to their end: {problem}."
            numbers, failed = outcome(junit.read_text(encoding="utf-8"))
        counts = ", ".join(f"{number} {state}" for state, number in numbers.items())
        lines = [f"Tests: **{counts}**.", ""]
        lines += [f"- `{name}`: `{error.replace('`', chr(39))}`" for name, error in failed]
        return "\n".join(lines)


class Stopped(Exception):
    """A step failed; the message says why."""


def check() -> str:
    """Everything; gives the report in Markdown."""
    run = Check()
    wanted = declared(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])
    lock = locked(ROOT / "requirements.lock")
    torch = os.environ.get("TORCH") or lock["torch"]
    others = {name: requirement for name, requirement in wanted.items() if name != "torch"}
    parts = ["# The newest releases", f"Python {platform.python_version()}, torch {torch} (fixed)."]
    newest: dict[str, str] = {}
    kept: dict[str, str] = {}
    try:
        chosen, kept, newest = choose(others, run.offer)
        try:
            tried = run.install(torch, chosen.values())
        except Stopped as stop:
            parts.append(f"Without caps the packages cannot be installed together ({stop}); so all "
                         "caps were kept.")  # fmt: skip
            kept = {n: "not installable without" for n, r in others.items() if chosen[n] != r}
            tried = run.install(torch, others.values())
    except Stopped as stop:
        parts.append(f"The installation failed, so nothing was tested: {stop}.")
        parts += [table(others, lock, newest, {}, kept)] if newest else []
    else:
        installed = time.monotonic()
        parts.append(run.test())
        parts.append(table(wanted, lock, newest, tried, kept))
        parts.append(f"Installing took {installed - run.start:.0f} s, "
                     f"the tests {time.monotonic() - installed:.0f} s.")  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Entry point; the exit code is always 0."""
    REPORT.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    try:
        report = check()
    except Exception:
        report = f"# The newest releases\n\nThe check itself failed:\n\n{traceback.format_exc()}"
    paths.write_text(REPORT, report)
    print(report)
    print(f"written to {REPORT.relative_to(ROOT)}; the whole output is in {LOG.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
