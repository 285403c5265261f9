"""A method of the comparison: its name, its objective, and what it changes in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtgm.methods.objective import Objective

#: Settings of methods that read no text: the same patches, and captions that cost nothing.
TEXTLESS: Mapping[str, Mapping[str, Any]] = {"text": {"captioner": "none"}}


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        name: in commands, file names and results.
        label: in tables and legends.
        color: hex, in figures.
        trains: file and class of the objective, such as ``byol.BYOL``; empty starts the downstream
            network at random.
        reported: its name in ``results/reported/reported.csv``; empty if the authors report none.
        uses_text: captions enter the loss.
        changes: settings per stage that make it what it is; those of a study come on top.
        offline: runs without a model from a hub.
    """

    name: str
    label: str
    color: str
    trains: str
    reported: str = ""
    uses_text: bool = False
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    offline: bool = True

    @property
    def pretrains(self) -> bool:
        """Whether there is a pretrained encoder to start from."""
        return bool(self.trains)

    @property
    def objective(self) -> type[Objective] | None:
        """What is trained, imported now; None for random initialisation."""
        if not self.trains:
            return None
        file, _, name = self.trains.partition(".")
        return getattr(import_module(f"gtgm.methods.{file}"), name)
