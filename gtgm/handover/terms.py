"""What data a network was trained on, and what that means for its weights."""

from __future__ import annotations

import itertools
import shlex

import gtgm
from gtgm import methods
from gtgm.datasets import registry
from gtgm.datasets.registry import DatasetInfo
from gtgm.results import Result

#: What the Hub calls the licences of the registry; every other one is :data:`OTHER`, in words.
HUB_LICENCES = {"CC-BY-SA 4.0": "cc-by-sa-4.0"}
#: Licence of this package, and so of what it makes without any dataset.
OWN_LICENCE = "Apache-2.0"
LICENCE_FILE = "LICENSE"
OTHER = "other"


def pool_of(result: Result) -> list[str]:
    """Datasets of the pretraining: those that the recorded command names."""
    words = shlex.split(result.command or "")
    if "--pool" not in words:
        return result.datasets
    rest = words[words.index("--pool") + 1 :]
    return list(itertools.takewhile(lambda word: not word.startswith("--"), rest))


def datasets_of(result: Result) -> list[DatasetInfo]:
    """Every dataset whose images trained the network, the pool of its pretraining included."""
    names = list(result.datasets)
    if methods.get(result.method).pretrains:
        names += pool_of(result)
    return [registry.get(name) for name in dict.fromkeys(names)]


def saw_only_phantoms(result: Result) -> bool:
    """Whether no real image can have trained the network, by what the result says.

    A result names the source of its own datasets; those of a pool beside them may have been real.
    """
    pool_is_known = {info.name for info in datasets_of(result)} <= set(result.datasets)
    real = "--data" in shlex.split(result.command or "")
    return result.source == "phantom" and pool_is_known and not real


def licence_note(result: Result) -> str:
    """What may be done with the weights, in words: they are bound to the terms of their data."""
    if saw_only_phantoms(result):
        return (
            f"These weights were trained on phantoms that gtgm {gtgm.__version__} computed, and "
            f"on no real image. They come under the licence of gtgm: {OWN_LICENCE}.\n"
        )
    lines = [
        "These weights were trained on the data below. Whoever uses or hands on the weights "
        "keeps to its terms as well.",
        "",
    ]
    for info in datasets_of(result):
        lines += [f"{info.title}", f"  licence: {info.licence}", f"  source: {info.attribution}",
                  f"  citation: {info.citation}", ""]  # fmt: skip
    return "\n".join([*lines, f"gtgm, the code that opens them: {OWN_LICENCE}.", ""])


def hub_licence(result: Result) -> str:
    """The Hub's name of the licence of the weights; :data:`OTHER` if datasets differ in theirs."""
    if saw_only_phantoms(result):
        return OWN_LICENCE.lower()
    licences = {HUB_LICENCES.get(info.licence, OTHER) for info in datasets_of(result)}
    return licences.pop() if len(licences) == 1 else OTHER
