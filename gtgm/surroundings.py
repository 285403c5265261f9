"""What the user, the home folder, the threads and the terminal lack, and what stands in for it.

Containers run programs under a number that no user has, with a home that cannot be written.
Nothing is imported here that takes time: it comes before everything else.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

from gtgm.errors import SettingsError

#: What programs that a batch starts write into the home folder, by the variable that moves it.
_HOMES = {
    "XDG_CACHE_HOME": ".cache",
    "IPYTHONDIR": ".",  # IPython wants its parent to be there
    "JUPYTER_RUNTIME_DIR": "jupyter",
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_HOME": ".",
}


def nameless() -> bool:
    """Whether no user has the number under which this process runs."""
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except KeyError:
        return True
    except ImportError:  # Windows
        pass
    return False


def name_user() -> None:
    """Set ``$USER`` and ``$HOME`` where no user has our number: MONAI, torch and Snakemake ask."""
    if nameless():
        os.environ.setdefault("HOME", "/")  # as Docker does
        if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            os.environ["USER"] = f"user{os.getuid()}"


def home_is_writable() -> bool:
    """Whether files can be made in the home folder."""
    try:
        with tempfile.TemporaryFile(dir=os.path.expanduser("~")):
            return True
    except OSError:
        return False


def home_below(folder: str | Path) -> dict[str, str]:
    """Variables by which programs write below ``folder`` what they would write into the home.

    Empty where the home can be written. What the user has set stays, and so does a store of models
    that can be read.
    """
    if home_is_writable():
        return {}
    home = Path(folder).absolute() / "home"
    values = {name: str(home / place) for name, place in _HOMES.items()}
    store = os.path.expanduser("~/.cache/huggingface")
    if "XDG_CACHE_HOME" not in os.environ and os.path.isdir(store):
        values["HF_HOME"] = store
    return {name: value for name, value in values.items() if not os.environ.get(name)}


def threads() -> int | None:
    """Threads that ``$OMP_NUM_THREADS`` grants; of ``2,1``, one number per level, the first.

    Raises:
        SettingsError: it is no such number.
    """
    value = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not value:
        return None
    first = value.split(",")[0].strip()
    if not re.fullmatch("[0-9]{1,6}", first) or int(first) == 0:
        raise SettingsError(
            f"is {value!r}",
            where="$OMP_NUM_THREADS",
            expected="a number of threads from 1, such as 2",
            fix="correct it, or unset it",
        )
    return int(first)


def write_anything() -> None:
    """Let stdout and stderr escape what their encoding lacks, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # there is none, or it is not a file
            stream.reconfigure(errors="backslashreplace")
