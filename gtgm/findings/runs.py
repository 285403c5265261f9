"""What was run, and what its certainty covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gtgm.datasets import registry
from gtgm.findings.study import DATASET
from gtgm.markup import markdown_table
from gtgm.methods import METHODS
from gtgm.provenance import machine_name
from gtgm.results import Result
from gtgm.statistics import CHOOSING, CONFIRMING, STUDY
from gtgm.words import listed, percent


def run_lines(runs: Sequence[Result]) -> list[str]:
    """Cases, draws and methods, then data, settings, time, hardware and commits.

    Args:
        runs: those that count, see :func:`gtgm.statistics.select`.
    """
    title = registry.get(DATASET).title
    if not runs:
        return [f"Nothing on {title}."]
    rows = []
    for fraction, fold in sorted({(r.fraction, r.fold) for r in runs}):
        here = [r for r in runs if (r.fraction, r.fold) == (fraction, fold)]
        names = [name for name in METHODS if any(r.method == name for r in here)]
        rows.append(
            [
                percent(fraction),
                str(fold),
                f"{_range(r.n_train for r in here)} / {_range(r.n_test for r in here)}",
                _range(sum(r.method == name for r in here) for name in names),
                ", ".join(f"`{name}`" for name in names),
            ]
        )
    header = ["labels", "fold", "cases train / test", "runs per method", "methods"]
    differ = [
        key
        for key in sorted({key for r in runs for key in r.settings})
        if len({repr(r.settings.get(key)) for r in runs}) > 1
    ]
    settings = f"not the same for all: {', '.join(differ)}" if differ else "the same for all runs"
    hours = sum(r.wall_seconds or 0 for r in runs) / 3600
    machines = listed(sorted({machine_name(r.hardware) for r in runs if r.hardware}))
    return [
        markdown_table(header, rows, groups=1),
        "",
        f"- {title}, {STUDY.source} data; backbone {STUDY.backbone}, protocol {STUDY.protocol}, "
        f"settings `{STUDY.profile}`; fine-tuning settings are {settings}.",
        f"- {len(runs)} fine-tuning runs, {hours:.1f} hours of computing, on {machines}.",
        f"- Commits: {listed(sorted({_short(r.commit) for r in runs if r.commit}))}.",
    ]


def certainty_lines(runs: Sequence[Result]) -> list[str]:
    """What the intervals cover, and what they do not."""
    lines = [
        "- The unit is the label draw within a fold, not the test case. Intervals cover the choice "
        "of the labelled cases and the chance of fine-tuning.",
        "- They do not cover the chance of pretraining: there is one encoder per method and fold, "
        "and all draws of the fold share it. Nor do they cover other test cases or other datasets. "
        "The draws of a fold share their test cases and, at large fractions, most training cases. "
        "So the intervals are rather too narrow than too wide.",
        f"- Settings were chosen on fold {CHOOSING}, whose numbers are therefore rather too good; "
        f"fold {CONFIRMING} confirms.",
        f"- At {percent(1)} of the labels nothing is drawn: all runs of a fold have the same "
        "labels.",
    ]
    if not any(r.method == "gtgm-blip" for r in runs):
        lines.append(
            "- Unless a method's name says otherwise, the text is that of the embedded captioner "
            "and encoder, learned from measured facts of each patch. Nothing here is about the "
            "published BLIP and BioBERT."
        )
    return lines


def _range(counts: Iterable[int | None]) -> str:
    known = sorted({count for count in counts if count is not None})
    return "–".join(map(str, dict.fromkeys((known[0], known[-1])))) if known else "unknown"


def _short(commit: str) -> str:
    digest, _, dirty = commit.partition("-")
    return f"`{digest[:10]}`" + (" with changes" if dirty else "")
