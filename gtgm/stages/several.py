"""Several runs in one execution of a notebook: which ones, and one that fails stops no other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

from gtgm.errors import GTGMError, SettingsError

R = TypeVar("R")


class RunsFailed(GTGMError):
    """Some of several runs failed; the others are finished."""


def label_draws(
    fractions: Sequence[float], draws: Sequence[int | Sequence[int]]
) -> list[tuple[float, int]]:
    """Every label fraction with each of its draws.

    Args:
        fractions: shares of the training labels.
        draws: for each fraction how many draws, or the numbers of the draws.

    Raises:
        SettingsError: the two have different lengths.
    """
    if len(fractions) != len(draws):
        raise SettingsError(
            f"has {len(draws)} entries", where="draws", expected=f"{len(fractions)}, as fractions"
        )
    return [
        (fraction, number)
        for fraction, wanted in zip(fractions, draws, strict=True)
        for number in (range(wanted) if isinstance(wanted, int) else wanted)
    ]


def run_all(
    run: Callable[[str, float, int], R],
    methods: Sequence[str],
    wanted: Sequence[tuple[float, int]],
) -> list[R]:
    """Call ``run(method, fraction, draw)`` for every method at every fraction and draw.

    A run that fails does not stop those after it; what went wrong is printed at once, and raised
    when all have been tried.

    Returns:
        What the calls return, draw by draw, each with the methods in their order.

    Raises:
        RunsFailed: some failed; the message names each, with its error.
    """
    done, failed = [], []
    for fraction, draw in wanted:
        for method in methods:
            try:
                done.append(run(method, fraction, draw))
            except Exception as error:
                traceback.print_exc()
                failed.append((f"{method} at {fraction:g}, draw {draw}", error))
    if failed:
        total = len(done) + len(failed)
        listed = "; ".join(f"{name} ({type(e).__name__}: {e})".rstrip(".") for name, e in failed)
        raise RunsFailed(f"{len(failed)} of {total} runs failed: {listed}") from failed[0][1]
    return done
