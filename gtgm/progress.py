"""How far long work is: a bar for who looks, and lines in a file."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import auto

#: Seconds between two lines.
EVERY = 30.0


class tqdm(auto.tqdm):  # noqa: N801
    """tqdm's bar on a terminal or in a notebook; elsewhere, such as in the log of a batch, a line
    like ``pretrain: 120 of 350 (34 %), 2 min left`` on stdout every :data:`EVERY` seconds.

    A line comes after a step, so that one that takes longer delays it. Work that is done before
    the first line is due prints none; other work ends with one.

    Args:
        args, disable, options: as of tqdm; ``disable`` is for the lines, too.
    """

    def __init__(self, *args: Any, disable: bool = False, **options: Any) -> None:
        self._lines = not disable and not _is_watched()
        self._label = options.get("desc") or "done"
        self._unit = options.get("unit", "") if options.get("unit_scale") else ""
        self._begun = self._told = time.monotonic()
        self._shown: float | None = None  # what the last line said
        super().__init__(*args, disable=disable or self._lines, **options)
        self._first = self.n

    def __iter__(self) -> Iterator:
        if not self._lines:
            yield from super().__iter__()
            return
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more."""
        if not self._lines:
            return super().update(n)
        self.n += n
        if time.monotonic() - self._told >= EVERY:
            self._tell()
        return None

    def close(self) -> None:
        """End it, with a last line if there was one."""
        if self._lines and self._shown not in (None, self.n):
            self._tell()
        self._lines = False
        super().close()

    def _tell(self) -> None:
        self._told, self._shown = time.monotonic(), self.n
        line = f"{self._label}: {self._count(self.n)}"
        if self.total:
            line += f" of {self._count(self.total)} ({self.n / self.total:.0%})".replace("%", " %")
            done, took = self.n - self._first, self._told - self._begun
            if done > 0 and self.n < self.total:
                line += f", {time_text((self.total - self.n) * took / done)} left"
        with contextlib.suppress(OSError):  # a full disk, or a reader who is gone, ends no work
            print(line, flush=True)

    def _count(self, n: float) -> str:
        return f"{self.format_sizeof(n)}{self._unit}" if self._unit else f"{n}"


@contextlib.contextmanager
def counted(function: Callable, label: str) -> Iterator[Callable]:
    """A function of batches that shows how many it has had."""
    with tqdm(desc=label, leave=False) as bar:

        def call(batch: Any) -> Any:
            result = function(batch)
            bar.update(len(batch))
            return result

        yield call


def time_text(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.1 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def is_terminal() -> bool:
    """Whether what is printed can be seen as it comes."""
    return all(stream and stream.isatty() for stream in (sys.stdout, sys.stderr))


def _is_watched() -> bool:
    if os.environ.get("TQDM_DISABLE"):  # as a batch sets it for its notebooks
        return False
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None or is_terminal()
