"""A run: one network that is fine-tuned and scored, as the manifest lists it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gtgm.datasets import registry


@dataclass(frozen=True)
class Run:
    """One network that is fine-tuned and scored.

    Attributes:
        dataset: name of the registry.
        method: how its encoder is started, of :data:`gtgm.methods.METHODS`.
        fraction: share of the training labels, in (0, 1].
        draw: number of the label draw; in EM, whose labelled sections are fixed, of the repetition.
        fold: held-out fold.
        seed: of weights and draws; each draw has a training seed of its own.
        backbone, protocol, profile: see :class:`gtgm.stages.Study`; the profile is that of the
            settings, not the name of a reproduction.
        pool: datasets of the pretraining.
        changes: settings per stage that differ from the preset.
    """

    dataset: str
    method: str
    fraction: float
    draw: int = 0
    fold: int = 0
    seed: int = 0
    backbone: str = "unet"
    protocol: str = "corrected"
    profile: str = "demo"
    pool: tuple[str, ...] = ()
    changes: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def table(self) -> str:
        """The table it belongs to: ``ct``, ``mri`` or ``em``."""
        return registry.get(self.dataset).modality.lower()

    @property
    def stage(self) -> str:
        """``neurons`` for EM, else ``finetune``."""
        return "neurons" if self.table == "em" else "finetune"
