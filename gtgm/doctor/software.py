"""Python, packages and variables of the environment."""

from __future__ import annotations

import codecs
import dataclasses
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gtgm import __version__, paths
from gtgm.doctor.line import Line, note, ok, problem
from gtgm.errors import SettingsError
from gtgm.surroundings import home_is_writable, nameless, threads

#: Variables that change what happens here, beside GTGM_*.
VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "HF_HOME", "PYTHONPATH")
SECRETS = ("HF_TOKEN",)
_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD", re.I)


def environment() -> Iterator[Line]:
    """Python, its environment and this package."""
    yield ok(f"Python {platform.python_version()}, {platform.platform()}")
    if sys.prefix != sys.base_prefix or Path(sys.prefix, "conda-meta").is_dir():
        yield ok(f"virtual environment {sys.prefix}")
    else:
        yield note(
            f"no virtual environment: {sys.prefix}",
            "packages of other projects may get in the way; `make` makes an environment",
        )
    from gtgm import provenance

    commit = provenance.commit(paths.ROOT)
    yield ok(f"gtgm {__version__}, commit {commit or 'unknown: not in a git checkout'}")


def kernel() -> Iterator[Line]:
    """JupyterLab, and the Python that notebooks get."""
    from gtgm import versions

    try:
        from jupyter_core.paths import jupyter_path  # jupyter_client takes long to import
    except ImportError:
        yield problem("Jupyter is missing", "install what `packages` lists below")
        return
    specs = (Path(folder, "python3", "kernel.json") for folder in jupyter_path("kernels"))
    spec = next((file for file in specs if file.is_file()), None)
    if spec is None and versions.installed("ipykernel") is None:
        yield problem("Jupyter has no kernel python3", "install ipykernel here, as `make` does")
        return
    # ipykernel alone is a kernel of the Python that runs Jupyter.
    command = paths.read_json(spec)["argv"][0] if spec else "python"
    # Jupyter replaces a bare name by the Python that runs it.
    if os.sep not in command or Path(command).parent == Path(sys.executable).parent:
        yield ok(f"JupyterLab {versions.installed('jupyterlab')}; kernel python3 is this Python")
    else:
        yield note(
            f"the kernel python3 is another Python: {command}",
            "notebooks will miss packages; remove that kernel (`jupyter kernelspec list`)",
        )


def surroundings() -> Iterator[Line]:
    """User, home folder, text and threads: what containers and clusters may lack."""
    here = []
    if nameless():
        here.append(
            note(
                f"no user has the number {os.getuid()}, under which this runs",
                "gtgm names one for what it starts; for other programs, set USER",
            )
        )
    if not home_is_writable():
        here.append(
            note(
                "the home folder cannot be written",
                "gtgm keeps caches in the working folder; for Jupyter and others, set HOME",
            )
        )
    encodings = {sys.getfilesystemencoding(), getattr(sys.stdout, "encoding", None) or "utf-8"}
    other = sorted(name for name in encodings if codecs.lookup(name).name != "utf-8")
    if other:
        here.append(
            note(
                f"text is {' and '.join(other)}, not UTF-8: signs that it lacks are shown as \\x..",
                "set LC_ALL=C.UTF-8 or PYTHONUTF8=1, and unset PYTHONIOENCODING",
            )
        )
    try:
        first = threads()
    except SettingsError as error:
        here.append(problem(f"OMP_NUM_THREADS {error.what}", f"{error.fix}: {error.expected}"))
    else:
        value = os.environ.get("OMP_NUM_THREADS", "")
        if "," in value:
            here.append(
                note(
                    f"OMP_NUM_THREADS={value}, numbers for nested levels: {first} is used",
                    f"for programs that cannot read several, set OMP_NUM_THREADS={first}",
                )
            )
    yield from here or [ok("user, home folder, text and threads are in order")]


def packages() -> Iterator[Line]:
    """What is missing, outside of the required range or not as locked."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from gtgm import versions

    lock = versions.locked(paths.ROOT / "requirements.lock")
    if lock and all(versions.as_locked(name, lock) for name in lock):
        names = {Requirement(text).name for text in versions.declared(paths.ROOT)}
        if all(canonicalize_name(name) in lock for name in names):
            yield ok(f"{len(lock)} of {len(lock)} packages as locked")
            return
    advice = "`make` installs what the lock names" if lock else f"reinstall {versions.PROJECT}"
    bad: dict[str, Line] = {}
    seen = set()
    for by, need in versions.required(versions.declared(paths.ROOT)):
        name = canonicalize_name(need.name)
        version = versions.installed(name)
        seen.add(name)
        locked = f"; locked: {lock[name]}" if name in lock else ""
        if version is None:
            line = problem(f"{name} is missing; {by} needs {need}{locked}", advice)
        elif versions.fits(need, version):
            continue
        else:
            line = problem(f"{name} {version}; {by} needs {need}{locked}", advice)
            if by != versions.PROJECT:  # that may work all the same
                line = dataclasses.replace(line, state="note", stops=False)
        if name not in bad or line.stops > bad[name].stops:
            bad[name] = line
    yield from bad.values()
    as_locked, missing = 0, []
    for name in sorted(lock.keys() - bad.keys()):
        version = versions.installed(name)
        if version is None:  # only tests need it, or what is missing itself
            missing.append(f"{name} {lock[name]}")
        elif not versions.as_locked(name, lock):
            yield note(f"{name} {version}; locked: {lock[name]}", advice)
        else:
            as_locked += 1
    if missing:
        yield note(f"also missing, as locked: {', '.join(missing)}", advice)
    if lock:
        yield ok(f"{as_locked} of {len(lock)} packages as locked")
    elif not bad:
        yield ok(f"no lock here; all {len(seen)} packages are within the required ranges")


def variables() -> Iterator[Line]:
    """Variables that change what happens, without secrets."""
    names = sorted(name for name in os.environ if name.startswith("GTGM_"))
    unset = [name for name in (*VARIABLES, *SECRETS) if name not in os.environ]
    for name in [*names, *VARIABLES, *SECRETS]:
        if name in os.environ:
            hidden = name in SECRETS or _SECRET.search(name)
            yield ok(f"{name}: set, not shown" if hidden else f"{name}={os.environ[name]}")
    if unset:
        yield ok(f"not set: {', '.join(unset)}")
