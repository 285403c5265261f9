"""A batch: Snakemake executes the units that are not finished, in the order of their needs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from gtgm import paths, progress
from gtgm.batch.cluster import Profile, find_profile
from gtgm.batch.lock import environment, held_since
from gtgm.batch.overview import check_jobs, plan_table
from gtgm.batch.running import still_running
from gtgm.batch.status import DONE, FAILED, TO_RUN, failure, missing_outputs, states
from gtgm.batch.units import BATCH, EXECUTED, Unit, lock_path, ordered, write_manifest
from gtgm.errors import SettingsError
from gtgm.lock import PATIENCE, take
from gtgm.provenance import cores
from gtgm.surroundings import home_below, threads

#: Seconds that a stopped unit may take to end its kernel.
LATE = 15
#: Lines of Snakemake's that an error shows.
LAST = 20


@dataclass(frozen=True)
class BatchReport:
    """How a batch ended.

    Attributes:
        states: ``done``, ``running``, ``failed`` or ``to run`` of every unit, by name.
        executed: names of the units that this batch executed, or would execute.
        seconds: wall time.
        code: exit code for the command line; 0 if every unit is done, or in a dry run.
    """

    states: dict[str, str]
    executed: tuple[str, ...]
    seconds: float
    code: int

    @property
    def failed(self) -> list[str]:
        """Names of the units that failed."""
        return [name for name, state in self.states.items() if state == FAILED]


def run_batch(
    units: Sequence[Unit],
    folder: str | Path,
    jobs: int = 1,
    keep_going: bool = True,
    dry_run: bool = False,
    cluster: str | Path = "local",
) -> BatchReport:
    """Execute units, each once.

    A unit whose executed notebook and outputs are there is not run again, unless its parameters,
    its notebook or a unit that it needs has changed. A killed batch continues when it is called
    again with the same folder.

    Args:
        units: in any order.
        folder: run folder; executed notebooks go to ``executed/``, logs to ``batch/logs/``.
        jobs: units side by side. On one machine each gets its share of the cores, unless
            ``$OMP_NUM_THREADS`` is set.
        keep_going: go on with units that do not need a failed one.
        dry_run: only print what would run and how long it may take; changes nothing.
        cluster: where: ``local``, ``slurm`` or ``kubernetes``, or a folder with a Snakemake profile
            like those of ``workflow/profiles``.

    Raises:
        SettingsError: units that contradict each other, an unknown or unusable cluster, or a batch
            already at work in the folder.
        KeyboardInterrupt: it was stopped, by Ctrl-C, SIGTERM or a closed terminal; units at work
            were ended.
    """
    units, folder, start = ordered(units), Path(folder).resolve(), time.perf_counter()
    check_jobs(jobs)
    profile = find_profile(cluster)
    if dry_run:
        with tempfile.TemporaryDirectory() as temporary:
            there = folder if folder.is_dir() else Path(temporary)
            command = _command(units, Path(temporary), there, jobs, keep_going, profile)
            with environment(home_below(temporary)):
                names = _would_run(command)
        now = states(units, folder)
        print(plan_table(units, now, names, jobs))
        return BatchReport(now, tuple(names), time.perf_counter() - start, 0)

    folder.mkdir(parents=True, exist_ok=True)
    with _only_batch(folder) as lock, environment(home_below(folder)):
        command = _command(units, folder / BATCH, folder, jobs, keep_going, profile)
        names = _would_run(command, folder / BATCH / "snakemake.log")
        code, stopped = 0, False
        if names:
            # No other batch holds our lock, so a lock of Snakemake's is left from a killed one.
            if any((folder / ".snakemake" / "locks").glob("*")):
                _call([*command, "--unlock"])
            try:
                tell = partial(_tell_running, units, folder)
                code = _execute([*command, "--quiet", "all"], lock, profile.local, tell)
            except KeyboardInterrupt:
                stopped = True
    now = states(units, folder)
    seconds = time.perf_counter() - start
    names = [name for name in names if now[name] != TO_RUN]
    if stopped:
        with contextlib.suppress(OSError):  # where the terminal is gone, too
            _tell(units, folder, now, len(names), seconds)
        raise KeyboardInterrupt
    failed = _tell(units, folder, now, len(names), seconds)
    if code and not failed:
        print(f"Snakemake ended with {code}, see {folder / '.snakemake' / 'log'}")
    done = all(state == DONE for state in now.values())
    return BatchReport(now, tuple(names), seconds, 0 if done and not code else 1)


def _tell(
    units: Sequence[Unit], folder: Path, now: dict[str, str], executed: int, seconds: float
) -> list[Unit]:
    """Print how a batch ended; the units that failed."""
    done = sum(state == DONE for state in now.values())
    print(f"{done} of {len(units)} units done, {executed} executed now, {seconds:.0f} s")
    failed = [u for u in units if now[u.name] == FAILED]
    for unit in failed:
        print(f"failed: {unit.name}: {failure(unit, folder)}, see {unit.failed(folder)}")
    waiting = [name for name, state in now.items() if state == TO_RUN]
    if waiting:
        print(f"not run: {', '.join(waiting)}")
    return failed


def _command(
    units: Sequence[Unit],
    batch: Path,
    folder: Path,
    jobs: int,
    keep_going: bool,
    profile: Profile,
) -> list[str]:
    """Write manifest and Snakefile into ``batch``, and give the call that executes them.

    The Snakefile is a copy: where there is no shared file system, Snakemake hands on only what lies
    below the folder that it works in.
    """
    manifest = write_manifest(units, batch / "manifest.json")
    snakefile = paths.write_text(
        batch / "Snakefile", (paths.WORKFLOW / "Snakefile").read_text(encoding="utf-8")
    )
    each = threads() or max(1, cores() // jobs)
    values = {"manifest": str(manifest), "folder": str(folder), "threads": each}
    limits = ["--jobs", str(jobs)]
    if profile.local:
        memory = psutil.virtual_memory().total // 1_000_000
        values["mem_mb"] = memory
        limits = ["--cores", str(jobs * each), "--resources", f"mem_mb={memory}", "gpu=1"]
    config = paths.write_json(batch / "config.json", values)  # --config would read it as YAML
    command = [
        sys.executable, "-m", "snakemake",
        "--snakefile", str(snakefile),
        "--directory", str(folder),
        "--workflow-profile", str(profile.folder),
        "--default-storage-prefix", str(folder),
        "--configfile", str(config),
        *limits,
    ]  # fmt: skip
    if keep_going:
        command.append("--keep-going")
    # Snakemake knows the executed notebooks only; results may have been deleted.
    lost = [u for u in units if u.executed(folder).is_file() and missing_outputs(u, folder)]
    if lost:
        command += ["--forcerun", *(f"{EXECUTED}/{u.name}.ipynb" for u in lost)]
    return command


def _would_run(command: list[str], log: Path | None = None) -> list[str]:
    """Names of the units that Snakemake would execute, in its order."""
    shown = _call([*command, "--dry-run", "--printshellcmds", "--nolock"], log)
    return list(dict.fromkeys(re.findall(r"gtgm\.batch\.execute --unit (\S+)", shown)))


def _call(command: list[str], log: Path | None = None) -> str:
    """What Snakemake prints; if it fails, that is the error, of which a log holds the whole."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**_environment(), "PYTHONIOENCODING": "utf-8"},
    )
    if done.returncode:
        said = done.stdout.strip().splitlines()
        if log:
            paths.write_text(log, done.stdout)
            said = [*said[-LAST:], f"All that it says: {log}"]
        raise SettingsError("\n".join(["Snakemake refuses the batch:", *said]))
    return done.stdout


def _tell_running(units: Sequence[Unit], folder: Path) -> None:
    """Print which units are at work, and since when, where a terminal does not show it."""
    if progress.is_terminal():
        return
    since = {unit.name: held_since(lock_path(folder, unit.name)) for unit in units}
    now, done = time.time(), sum(unit.executed(folder).is_file() for unit in units)
    at_work = [
        f"{name} for {progress.time_text(now - begun)}"
        for name, begun in since.items()
        if begun is not None
    ]
    with contextlib.suppress(OSError):
        print(
            f"running   {', '.join(at_work) or 'no unit'}; {done} of {len(units)} done", flush=True
        )


def _execute(command: list[str], lock: int, local: bool, tell: Callable[[], None]) -> int:
    """Run Snakemake to its end, or until we are stopped: then no process of it stays.

    Meanwhile ``tell`` is called every :data:`gtgm.progress.EVERY` seconds.

    Snakemake would answer Ctrl-C with pages of traces and wait for its units, so that here it does
    not hear of it. On a cluster it is told once, as it has jobs to cancel.
    """
    hears = signal.SIG_IGN if local else signal.SIG_DFL  # whatever our own caller has set
    process = subprocess.Popen(
        command,
        env=_environment(),
        pass_fds=(lock,),
        preexec_fn=partial(signal.signal, signal.SIGINT, hears),
        process_group=None if local else 0,
    )

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        with _answered((signal.SIGTERM, signal.SIGHUP), interrupt):
            while True:
                try:
                    return process.wait(progress.EVERY)
                except subprocess.TimeoutExpired:
                    tell()
    except KeyboardInterrupt:
        # A second one would leave behind what is being ended.
        with _answered((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
            if local:
                _stop(process)
            else:
                process.send_signal(signal.SIGINT)
                process.wait()
        raise


def _stop(process: subprocess.Popen) -> None:
    """Kill Snakemake before it starts other units, and let those at work end in order."""
    below: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):  # a closed terminal ends it and its units
        process.send_signal(signal.SIGSTOP)
        below = set(psutil.Process(process.pid).children(recursive=True))
    process.kill()
    process.wait()
    end = time.monotonic() + LATE
    while below and time.monotonic() < end:
        for each in list(below):
            with contextlib.suppress(psutil.Error):
                below.update(each.children())  # of a shell that had not started its unit
                if "gtgm.batch.execute" in each.cmdline():
                    each.send_signal(signal.SIGINT)  # again: it is deaf while it imports
        below = set(still_running(below, 0.5))
    for late in below:
        with contextlib.suppress(psutil.Error):
            late.kill()


@contextlib.contextmanager
def _answered(signals: Iterable[signal.Signals], answer: Any) -> Iterator[None]:
    """Handle signals in this way inside the block, except those that are ignored here."""
    before = {number: signal.getsignal(number) for number in signals}
    deaf = threading.current_thread() is not threading.main_thread()
    mine = {} if deaf else {n: h for n, h in before.items() if h not in (signal.SIG_IGN, None)}
    for number in mine:
        signal.signal(number, answer)
    try:
        yield
    finally:
        for number, handler in mine.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    # The units must import this very package, also where it is not installed.
    path = os.pathsep.join(p for p in (str(paths.ROOT), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def _only_batch(folder: Path) -> Iterator[int]:
    """Hold the folder's lock; Snakemake inherits it, so it lasts as long as either lives."""
    path = folder / BATCH / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        # A batch that was just killed may need a moment to end.
        if not take(file.fileno(), (*PATIENCE, 1, 2)):
            raise SettingsError(
                "another batch is at work in this folder", where=folder, fix="wait until it ends"
            )
        yield file.fileno()
