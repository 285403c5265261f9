"""Variants of a study: what the ablations compare, and how variants are run and compared.

A variant is a small change. Sizes are factors of what the study itself has, so that one list of
variants serves a laptop and the paper's settings. The released code's are in
:mod:`gtgm.deviations`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from gtgm.methods import METHODS
from gtgm.methods.gtgm import GTGM
from gtgm.models.encoder import BACKBONES
from gtgm.setting_checks import check_choice
from gtgm.settings import EMBEDDED, JOINED
from gtgm.stages import Study, finetune
from gtgm.stages.study import pooled_cases
from gtgm.statistics import Comparison, dice
from gtgm.words import in_words, listed

CASES, TEXT_LAYERS = "captioned cases", "layers of the text encoder"
#: Layers of the embedded text encoder, and of BERT base, which BioBERT is.
EMBEDDED_LAYERS, BERT_LAYERS = 2, 12
_STAGES = ("text", "pretrain", "finetune")

Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Scaled:
    """A setting that follows the study.

    Attributes:
        factor: of what the study has.
        of: a setting, such as ``pretrain.batch``; or :data:`CASES` (of its largest dataset) or
            :data:`TEXT_LAYERS`.
        least: whole numbers do not fall below it.
    """

    factor: float
    of: str
    least: int = 1

    def value(self, study: Study) -> Any:
        """The number, or for a setting of several numbers the list."""
        if self.of == CASES:
            base: Any = _most_cases(study)
        elif self.of == TEXT_LAYERS:
            embedded = study.settings("text").encoder == EMBEDDED
            base = EMBEDDED_LAYERS if embedded else BERT_LAYERS
        else:
            stage, name = self.of.split(".")
            base = getattr(study.settings(stage), name)
        return [self._times(b) for b in base] if isinstance(base, tuple) else self._times(base)

    def _times(self, base: float) -> float:
        if isinstance(base, int):
            return max(self.least, round(self.factor * base))
        return float(f"{self.factor * base:.6g}")


@dataclass(frozen=True)
class Variant:
    """One side of a comparison.

    Attributes:
        label: in tables and figures.
        method: of :data:`gtgm.methods.METHODS`.
        backbone, protocol: None leaves those of the study.
        changes: settings per stage, over those of the study; values may be :class:`Scaled`.
        note: what a reader must know to judge it.
    """

    label: str
    method: str = "gtgm"
    backbone: str | None = None
    protocol: str | None = None
    changes: Changes = field(default_factory=dict)
    note: str = ""

    def named(self, study: Study) -> Variant:
        """The same with its label filled in: ``{backbone}``, ``{cases}`` (captioned, of the largest
        dataset) and settings such as ``{pretrain.batch}``."""
        changed = self.of(study)
        values = {stage: changed.settings(stage) for stage in _STAGES}
        values |= {"backbone": changed.backbone, "cases": _most_cases(changed)}
        return replace(self, label=self.label.format_map(values))

    def values(self, study: Study) -> dict[str, dict[str, Any]]:
        """The changed settings per stage, as they are for this study."""
        return {
            stage: {n: v.value(study) if isinstance(v, Scaled) else v for n, v in changed.items()}
            for stage, changed in self.changes.items()
        }

    def of(self, study: Study) -> Study:
        """The study with this variant's method, backbone, protocol and settings.

        Raises:
            SettingsError: they do not go together, see :class:`gtgm.stages.Study`.
        """
        values = self.values(study)
        changes = {
            stage: {**study.changes.get(stage, {}), **values.get(stage, {})}
            for stage in {**study.changes, **values}
        }
        return study.of(
            self.method,
            backbone=self.backbone or study.backbone,
            protocol=self.protocol or study.protocol,
            changes=changes,
        )


#: What every comparison may have beside it: the same network without pretraining.
RANDOM = Variant(METHODS["random"].label, method="random")


def _scaled(
    setting: str, label: str, *factors: float, of: str = "", least: int = 1
) -> tuple[Variant, ...]:
    """The study as it is, then a variant per factor, in which ``stage.name`` is so many times what
    it is, or of something else."""
    stage, name = setting.split(".")
    changes = [{stage: {name: Scaled(factor, of or setting, least)}} for factor in factors]
    return Variant(label), *(Variant(label, changes=change) for change in changes)


_GRID = _scaled(
    "text.grid_step",
    "grid step {text.grid_step[0]} × {text.grid_step[1]} × {text.grid_step[2]}",
    0.25,
    1.0,
    of="pretrain.patch",
)

#: What each ablation compares; the first variant is the study as it is. Labels are templates, see
#: :meth:`Variant.named`. ``text_source`` has every method that is GTGM with other text and needs no
#: model from a hub; ``backbone`` has random weights too, which GTGM has to beat with each of them.
ABLATIONS: dict[str, tuple[Variant, ...]] = {
    "text_source": (
        Variant(METHODS["gtgm"].label),
        *(
            Variant(method.label, name)
            for name, method in METHODS.items()
            if method.objective is GTGM and method.offline and name != "gtgm"
        ),
    ),
    "text_encoder": _scaled(
        "pretrain.text_layers",
        "trained layers of the text encoder: {pretrain.text_layers}",
        0.0,
        0.5,
        1.0,
        of=TEXT_LAYERS,
        least=0,
    ),
    "weight_vr": (
        *_scaled("pretrain.weight_vr", "weight {pretrain.weight_vr:g} of L_VR", 0.1, 10.0),
        Variant("weight 0: L_VLP alone", "vlp"),
        Variant("L_VR alone", "barlow", note="reads no text"),
    ),
    "temperature": _scaled(
        "pretrain.temperature", "temperature {pretrain.temperature:g}", 0.25, 4.0
    ),
    "batch": _scaled("pretrain.batch", "batch {pretrain.batch}", 0.5, 2.0, least=JOINED),
    "backbone": (
        Variant("{backbone}, " + METHODS["gtgm"].label),
        *(
            Variant(f"{backbone}, {METHODS[method].label}", method, backbone)
            for backbone in BACKBONES
            for method in ("gtgm", "random")
        ),
    ),
    "cases": _scaled("text.cases", "{cases} cases", 0.5, 0.125, of=CASES, least=2),
    "caption_grid": (Variant("grid of the protocol"), *_GRID[1:]),
    "length": _scaled("pretrain.steps", "{pretrain.steps} steps of pretraining", 0.25, 4.0),
    "views": (
        Variant("changes of a view: {pretrain.operations}"),
        *(
            Variant("changes of a view: {pretrain.operations}", changes={"pretrain": change})
            for change in ({"operations": 0}, {"operations": 3})
        ),
    ),
    "transfer": (
        Variant("encoder trained like the decoder"),
        Variant("encoder learns at a tenth", changes={"finetune": {"encoder_lr": 0.1}}),
        Variant("decoder first, a quarter", changes={"finetune": {"decoder_first": 0.25}}),
        Variant(
            "both",
            changes={"finetune": {"encoder_lr": 0.1, "decoder_first": 0.25}},
        ),
        Variant(
            "encoder stays as it is",
            changes={"finetune": {"encoder_lr": 0.0}},
        ),
    ),
}


def variants_of(study: Study, name: str) -> list[Variant]:
    """The variants of an ablation that differ under this study, named, the default first.

    Raises:
        SettingsError: there is no such ablation.
    """
    check_choice("ablation", name, ABLATIONS)
    first, *others = (v.named(study) for v in distinct(study, ABLATIONS[name]))
    return [replace(first, label=f"{first.label} (default)"), *others]


def distinct(study: Study, variants: Iterable[Variant]) -> list[Variant]:
    """Without variants that are the same as an earlier one under this study.

    Half of a batch of two is two again, and one of the backbones is the default.
    """
    kept: dict[Any, Variant] = {}
    for variant in variants:
        changed = variant.of(study)
        identity = (
            METHODS[changed.method].objective,
            changed.backbone,
            changed.protocol,
            *(repr(changed.settings(stage)) for stage in _STAGES),
        )
        kept.setdefault(identity, variant)
    return list(kept.values())


def variants_frame(study: Study, variants: Iterable[Variant]) -> pd.DataFrame:
    """What each variant changes in this study: ``variant``, ``method``, ``backbone``, ``changes``
    (settings with their values) and ``note``."""
    rows = [
        {
            "variant": variant.label,
            "method": METHODS[variant.method].label,
            "backbone": variant.backbone or study.backbone,
            "changes": ", ".join(
                f"{stage}.{name} = {f'{value:g}' if isinstance(value, float) else value}"
                for stage, changed in variant.values(study).items()
                for name, value in changed.items()
            ),
            "note": variant.note,
        }
        for variant in variants
    ]
    return pd.DataFrame(rows)


def run_variants(
    study: Study,
    dataset: str,
    variants: Sequence[Variant],
    fraction: float = 1.0,
    draws: Iterable[int] = (0,),
) -> pd.DataFrame:
    """Pretrain, fine-tune and score every variant on every draw; finished runs are read.

    A stopped call continues with the same arguments. The draws come one after the other, so that
    the first of them can already be compared.

    Args:
        study: what all variants have in common.
        dataset: a CT or MRI dataset.
        variants: the first is what the others are compared with.
        fraction: share of the training cases that keep their labels, in (0, 1].
        draws: numbers of the label draws.

    Returns:
        A row per draw and variant: ``label``, ``against`` (label of the first), ``fold``, ``draw``,
        ``dice`` (share, foreground mean over the test cases; NaN if undefined), ``difference`` to
        the first variant on the same draw, and ``seconds`` of fine-tuning and scoring.

    Raises:
        SettingsError, DataError: as :func:`gtgm.stages.finetune`.
    """
    rows = []
    for draw in draws:
        scores = []
        for variant in variants:
            run = finetune(variant.of(study), dataset, variant.method, fraction, draw)
            scores.append(math.nan if dice(run) is None else dice(run))
            rows.append(
                {
                    "label": variant.label,
                    "against": variants[0].label,
                    "fold": study.fold,
                    "draw": draw,
                    "dice": scores[-1],
                    "difference": scores[-1] - scores[0],
                    "seconds": run.wall_seconds,
                }
            )
    return pd.DataFrame(rows)


def comparisons(frame: pd.DataFrame) -> list[Comparison]:
    """Paired differences over the draws of every variant that is compared with another one.

    Args:
        frame: of :func:`run_variants`.
    """
    compared = frame[(frame["label"] != frame["against"]) & frame["difference"].notna()]
    return [
        Comparison(
            method=label,
            baseline=against,
            units=tuple(zip(rows["fold"], rows["draw"], strict=True)),
            scores=tuple(zip(rows["dice"] - rows["difference"], rows["dice"], strict=True)),
            left_out=0,
            p=None,
        )
        for (label, against), rows in compared.groupby(["label", "against"], sort=False)
    ]


def conclusions(frame: pd.DataFrame) -> list[str]:
    """What may be said of the differences, a sentence per variant and one on all of them.

    Args:
        frame: of :func:`run_variants`.
    """
    found = comparisons(frame)
    sentences = [f"{c.method}: {in_words(c, unit=f'points against {c.baseline}')}." for c in found]
    measured = [c for c in found if c.low is not None]
    if not measured:
        return [*sentences, "One draw has no spread: each difference may be the draw's own."]
    clear = [c.method for c in measured if c.low > 0 or c.high < 0]
    named = f": {listed(clear)}" if clear else ""
    return [
        *sentences,
        f"{len(clear)} of {len(measured)} intervals leave out zero{named}. They are not corrected "
        "for their number, and one encoder was pretrained per variant.",
    ]


def _most_cases(study: Study) -> int:
    return max(map(len, pooled_cases(study).values()))
