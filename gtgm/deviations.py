"""The released code's departures from the paper that are options here, and what each of them does.

Rows and numbers are those of `deviations.md`. Those that change a Dice are switched on one at a
time in the ``corrected`` protocol; rows 15 and 17 are about counts, which are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from gtgm.datasets import registry
from gtgm.datasets.splits import em_ranges, make_split
from gtgm.errors import SettingsError
from gtgm.reported import released_cases
from gtgm.settings import PROTOCOLS
from gtgm.stages import Study
from gtgm.variants import Changes, Variant, run_variants, variants_frame

#: Sections of a CREMI volume, and the label fractions that the authors name.
SECTIONS, EM_FRACTIONS = 125, (0.1, 0.75)
FRACTIONS = (0.01, 0.1, 1.0)

DEFAULT = Variant("default")
#: The whole protocol, which also changes schedules, augmentation and the alignment target.
AS_RELEASED = Variant(
    "protocol as_released",
    protocol="as_released",
    note="the rows that are options together, with schedules, augmentation and alignment target "
    "of its own; network, sizes and lengths are those of the profile",
)


@dataclass(frozen=True)
class Deviation:
    """A row of `deviations.md` that is an option here.

    Attributes:
        row: its number.
        title: what the released code does.
        changes: what switches it on in the ``corrected`` protocol.
        against: what it is compared with; another than the default where switching it on changes
            something else as well.
        runs: whether one process on CT or MRI can show its effect on the Dice.
        note: what a reader must know to judge it, or why it is not run.
    """

    row: int
    title: str
    changes: Changes = field(default_factory=dict)
    against: Variant = DEFAULT
    runs: bool = True
    note: str = ""

    @property
    def variant(self) -> Variant:
        """The default with the row switched on."""
        return Variant(f"row {self.row}: {self.title}", changes=self.changes, note=self.note)


DEVIATIONS: tuple[Deviation, ...] = (
    Deviation(
        2,
        "sigmoid before the softmax loss",
        {"finetune": {"sigmoid_output": True}},
    ),
    Deviation(
        3,
        "CT window for every modality",
        {"finetune": {"released_window": True}},
        note="on CT nothing changes",
    ),
    Deviation(
        5,
        "best checkpoint on the test cases",
        {"finetune": {"select_on_test": True, "ema": 0.0}},
        against=Variant("last weights, not averaged", changes={"finetune": {"ema": 0.0}}),
        note="chosen among single checkpoints, so compared with the last of them",
    ),
    Deviation(
        6,
        "file name before each caption",
        {"text": {"prefix_file_name": True}},
    ),
    Deviation(
        7,
        "L_VR on raw features, not standardised",
        {"pretrain": {"projected_vr": False}},
        note="its weight stays that of the profile",
    ),
    Deviation(
        8,
        "negatives from one GPU alone",
        {"pretrain": {"gather": False}},
        runs=False,
        note="one process has no others to gather from, so only several under `accelerate launch` "
        "can show it; the ablation `batch` shows what fewer negatives do",
    ),
    Deviation(
        10,
        "pretraining reads the test images",
        {"pretrain": {"include_test": True}},
        note="a leak; `text.cases` limits it with the pool",
    ),
    Deviation(
        14,
        "intensities / 255, each view scaled to 0…1",
        {"pretrain": {"released_scale": True, "view_min_max": True}},
        note="in pretraining",
    ),
    Deviation(
        17,
        "EM sections that are no 75 %",
        runs=False,
        note="sections of neurons, not a Dice: see the table of sections",
    ),
)


def deviations(rows: Iterable[int]) -> list[Deviation]:
    """The deviations of these rows, in the order of :data:`DEVIATIONS`.

    Raises:
        SettingsError: a row is no option.
    """
    wanted = set(rows)
    known = [deviation.row for deviation in DEVIATIONS]
    unknown = sorted(wanted - set(known))
    if unknown:
        raise SettingsError(
            f"{', '.join(map(str, unknown))}: no option of deviations.md has this number",
            where="rows",
            expected=f"some of {', '.join(map(str, known))}",
        )
    return [deviation for deviation in DEVIATIONS if deviation.row in wanted]


def run_deviations(
    study: Study,
    dataset: str,
    chosen: Iterable[Deviation],
    fraction: float = 1.0,
    draws: Sequence[int] = (0,),
    last: Iterable[Variant] = (),
) -> pd.DataFrame:
    """The default, then each deviation alone; finished runs are read.

    Deviations that do not run are left out. What a deviation is compared with, where this is not
    the default, comes before it and is itself compared with the default.

    Args:
        study: of the ``corrected`` protocol.
        dataset, fraction, draws: as for :func:`gtgm.variants.run_variants`.
        chosen: see :func:`deviations`.
        last: further variants, compared with the default.

    Returns:
        Rows as of :func:`gtgm.variants.run_variants`.

    Raises:
        SettingsError: in the protocol of the study the rows are switched on already.
    """
    if study.protocol != "corrected":
        raise SettingsError(
            f"is {study.protocol}, which has the rows switched on already",
            where="protocol",
            expected="corrected",
        )
    frames = [run_variants(study, dataset, (DEFAULT,), fraction, draws)]
    for against, variant in compared_pairs(chosen, last):
        frame = run_variants(study, dataset, (against, variant), fraction, draws)
        frames.append(frame[frame["label"] == variant.label])
    return pd.concat(frames, ignore_index=True)


def compared_pairs(
    chosen: Iterable[Deviation], last: Iterable[Variant] = ()
) -> list[tuple[Variant, Variant]]:
    """What is compared, and with what before it, in the order of :func:`run_deviations`."""
    pairs = [p for d in chosen if d.runs for p in ((DEFAULT, d.against), (d.against, d.variant))]
    pairs += [(DEFAULT, variant) for variant in last]
    return [(against, variant) for against, variant in pairs if against != variant]


def deviations_frame(study: Study, chosen: Iterable[Deviation]) -> pd.DataFrame:
    """What each deviation changes: ``row``, ``what the release does``, ``settings``, ``compared
    with`` and ``note``."""
    chosen = list(chosen)
    changes = variants_frame(study, [d.variant for d in chosen])["changes"]
    rows = [
        {
            "row": d.row,
            "what the release does": d.title,
            "settings": changed,
            "compared with": d.against.label if d.runs else "not run",
            "note": d.note,
        }
        for d, changed in zip(chosen, changes, strict=True)
    ]
    return pd.DataFrame(rows)


def label_counts(fractions: Iterable[float] = FRACTIONS) -> pd.DataFrame:
    """Labelled training cases of each MSD dataset, as released and here (row 15).

    The release takes the first ``int(N · 0.9 · fraction)`` of N cases; here it is a share of the
    training cases of a fold, and at least one.

    Returns:
        A row per dataset of the paper and fraction: ``dataset``, ``cases``, ``fraction``,
        ``released`` and ``here``.
    """
    rows = []
    for name in registry.names(in_paper=True):
        info = registry.get(name)
        if info.format != "msd":
            continue
        split = make_split(name, [f"{number:04}" for number in range(info.cases)])
        for fraction in fractions:
            rows.append(
                {
                    "dataset": info.title,
                    "cases": info.cases,
                    "fraction": fraction,
                    "released": released_cases(info.cases, fraction),
                    "here": len(split.labelled(0, fraction)),
                }
            )
    return pd.DataFrame(rows)


def section_ranges(name: str = "CREMI_A") -> pd.DataFrame:
    """Sections that train, validate and test at the authors' label fractions (row 17).

    Returns:
        A row per protocol and fraction: ``protocol``, ``fraction``, ``train``, ``validation``,
        ``test`` (first–last section), ``trained`` (share of all sections), and ``shared``
        (sections that both validate and test).
    """
    rows = []
    for protocol in PROTOCOLS:
        for fraction in EM_FRACTIONS:
            ranges = em_ranges(name, fraction, SECTIONS, protocol)
            parts = {
                part: range(*getattr(ranges, part)) for part in ("train", "validation", "test")
            }
            rows.append(
                {
                    "protocol": protocol,
                    "fraction": fraction,
                    **{part: f"{r[0]}–{r[-1]}" for part, r in parts.items()},
                    "trained": len(parts["train"]) / SECTIONS,
                    "shared": len({*parts["validation"]} & {*parts["test"]}),
                }
            )
    return pd.DataFrame(rows)
