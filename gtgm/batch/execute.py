"""Execution of one notebook with parameters, through papermill."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from gtgm.batch.lock import alone, environment
from gtgm.batch.status import missing_outputs
from gtgm.batch.units import failed_path, lock_path, log_path, read_manifest
from gtgm.errors import GTGMError, SettingsError
from gtgm.faults import AGAIN
from gtgm.surroundings import home_below, write_anything

KERNEL = "python3"
#: Lines of a log that an error shows.
LAST = 5


class ExecutionError(GTGMError):
    """A notebook was executed and stopped with an error."""


def execute_notebook(
    notebook: str | Path,
    output: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    unit: str = "",
    log: str | Path | None = None,
) -> Path:
    """Execute ``notebook`` in its own folder and write it, with its outputs, to ``output``.

    ``output`` appears only if every cell succeeds. Until then the notebook grows as
    ``.<stem>.running.ipynb`` beside it; one that fails is kept as ``<stem>.failed.ipynb``.

    Args:
        notebook: with a cell tagged ``parameters``.
        output: executed notebook.
        parameters: values that replace those of the parameters cell.
        unit: name of the unit, visible to the notebook as ``$GTGM_UNIT``.
        log: file that receives what the cells print.

    Raises:
        SettingsError: a parameter that the notebook does not have; found before it runs.
        ExecutionError: a cell failed.
    """
    notebook, output = Path(notebook), Path(output)
    parameters = dict(parameters or {})
    check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    running = output.with_name(f".{output.stem}.running.ipynb")
    failed = failed_path(output)
    failed.unlink(missing_ok=True)
    # A bar that nobody watches would stay in the executed notebook as it was when it ended.
    told = environment({"TQDM_DISABLE": "1", "GTGM_UNIT": unit})
    with _logged_to(log), told:
        try:
            papermill.execute_notebook(
                _literal(notebook),
                _literal(running),
                parameters,
                kernel_name=KERNEL,
                cwd=notebook.resolve().parent,
                progress_bar=sys.stderr.isatty(),
                log_output=True,
            )
        except Exception as error:  # the kernel may also die or not start
            if running.exists():
                running.replace(failed)
            see = f"open {failed}" + (f", or read {log}" if log else "")
            if isinstance(error, DeadKernelError):
                see = f"if memory was short, run fewer side by side (--jobs 1); {AGAIN}; or {see}"
            if log and not isinstance(error, PapermillExecutionError):  # no cell holds its cause
                last = Path(log).read_text("utf-8", "replace").splitlines()[-LAST:]
                see = "\n  ".join([f"{see}, which ends in:", *last])
            raise ExecutionError(_short(error), where=unit or notebook.name, fix=see) from error
    running.replace(output)
    return output


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Raise a SettingsError if the notebook lacks a parameter or cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = papermill.inspect_notebook(_literal(notebook))
    except FileNotFoundError:
        raise SettingsError("there is no such notebook", where=notebook) from None
    except Exception as error:
        raise SettingsError(
            f"cannot be read as a notebook ({type(error).__name__}: {error})",
            where=notebook,
            expected="a notebook of format 4 with a kernel specification",
        ) from None
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise SettingsError(
            f"has no parameter {', '.join(map(repr, unknown))}",
            where=notebook.name,
            expected=f"one of {', '.join(known)}" if known else "no parameters at all",
        )


def _literal(path: Path) -> str:
    """A path for papermill, which takes ``{a}`` in it for a parameter."""
    return str(path.absolute()).replace("{", "{{").replace("}", "}}")


def run_unit(manifest: str | Path, name: str, folder: str | Path) -> Path:
    """Execute one unit of a manifest; its outputs must be there afterwards.

    Raises:
        SettingsError: no such unit, or a parameter that its notebook does not have.
        ExecutionError: a cell failed, or a declared output was not written.
    """
    units = read_manifest(manifest)
    if name not in units:
        raise SettingsError(f"no unit is called {name!r}", where=manifest)
    unit, folder = units[name], Path(folder)
    with alone(lock_path(folder, name)):
        executed = execute_notebook(
            unit.source,
            unit.executed(folder),
            unit.parameters,
            unit=name,
            log=log_path(folder, name),
        )
        missing = missing_outputs(unit, folder)
        if missing:
            executed.replace(unit.failed(folder))
            raise ExecutionError(
                f"ended without writing {', '.join(missing)}",
                where=name,
                fix=f"open {unit.failed(folder)}",
            )
    return executed


def main(arguments: list[str] | None = None) -> int:
    """What Snakemake calls for every unit."""
    parser = argparse.ArgumentParser(prog="gtgm.batch.execute", description=main.__doc__)
    parser.add_argument("--manifest", required=True, help="file that lists the units")
    parser.add_argument("--unit", required=True, help="name of the unit to execute")
    parser.add_argument("--folder", required=True, help="run folder that receives the results")
    parser.add_argument("--output", help="file that also receives the executed notebook")
    options = parser.parse_args(arguments)
    write_anything()
    with _stopped_once(), environment(home_below(options.folder)):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    print(f"started   {options.unit}", flush=True)
    start = time.perf_counter()
    try:
        with _own_messages(log_path(options.folder, options.unit)):
            executed = run_unit(options.manifest, options.unit, options.folder)
    except GTGMError as error:
        print(f"FAILED    {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # who reads may have been stopped, too
            print(f"stopped   {options.unit}", flush=True)
        return 130
    if options.output and Path(options.output).resolve() != executed.resolve():
        # Without a shared file system, Snakemake wants it in its own storage.
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(executed, options.output)
    print(f"finished  {options.unit}  {time.perf_counter() - start:.0f} s", flush=True)
    return 0


@contextlib.contextmanager
def _stopped_once() -> Iterator[None]:
    """Ctrl-C ends the block, also where the caller ignores it; a second one changes nothing."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _short(error: Exception) -> str:
    if isinstance(error, PapermillExecutionError):
        return f"cell {error.exec_count} stopped with {error.ename}: {error.evalue}".rstrip(".")
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}".rstrip(".")


@contextlib.contextmanager
def _logged_to(path: str | Path | None) -> Iterator[None]:
    """papermill's log, which holds what the cells print, in a file and nowhere else."""
    logger = logging.getLogger("papermill")
    handler: logging.Handler = logging.NullHandler()
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
        handler.close()


@contextlib.contextmanager
def _own_messages(log: Path) -> Iterator[None]:
    """Send what the kernel's process writes to stderr to a new log, and keep ours on the screen."""
    log.parent.mkdir(parents=True, exist_ok=True)
    screen, before = os.dup(2), sys.stderr
    lacking = {"errors": "backslashreplace"}
    log.unlink(missing_ok=True)  # appended to, as papermill writes it, too
    with log.open("ab") as file, os.fdopen(screen, "w", buffering=1, **lacking) as stream:
        os.dup2(file.fileno(), 2)
        sys.stderr = stream
        try:
            yield
        finally:
            os.dup2(screen, 2)
            sys.stderr = before


if __name__ == "__main__":
    sys.exit(main())
