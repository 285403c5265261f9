"""What was published once and is withdrawn, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.words import listed

#: Methods whose results were withdrawn; they are in `measured` again once they are run again.
WITHDRAWN = ("gtgm-none", "gtgm-metadata")
SINCE = "2026-11-30"
NOT_AGAIN = "withdrawn, not yet run again"


def withdrawn_lines(results: Sequence[Result]) -> list[str]:
    """A list of withdrawn results and sentences, each with its reason.

    Args:
        results: those that are published now, which say whether a method was run again.
    """
    named = listed(f"{METHODS[name].label} (`{name}`)" for name in WITHDRAWN)
    again = {r.method for r in results if r.method in WITHDRAWN and (r.started or "") >= SINCE}
    released = any(r.protocol == "as_released" and (r.started or "") >= SINCE for r in results)
    return [
        f"Withdrawn on {SINCE}; the files and pages of before are in the history of the "
        "repository.",
        "",
        f"- **All results of {named}**, of pretraining and of fine-tuning. All captions of a batch "
        "are the same text there. The batch norms of the two heads turn equal rows into rounding "
        "noise of about 1e-5, which the scaling to unit length then blew up, so L_VLP trained the "
        "encoder on noise: it ended at 4.57 to 4.78, where ln 64 = 4.16 with no gradient is right. "
        "They were no controls. On a single dataset the two are one arm, since the metadata of all "
        f"its patches are one text. Run again since: {', '.join(sorted(again)) or 'none'}.",
        "- **That networks of this project have a lower VOI than the published flood-filling "
        "segmentation.** It named the one score that says so. All four stand under the "
        "[table](../README.md#reported-and-measured).",
        "- **All results of the protocol `as_released`.** Its checkpoints were chosen by the "
        "foreground mean, where the released code averages the background in; its learning rate in "
        "fine-tuning was 500 times the released one; and its warm restarts had a period of one "
        "step, which is a constant rate. The checkpoints of row 5 were chosen by the foreground "
        "mean, too. Row 5 stays, as a choice by the score that is reported. "
        f"Run again since: {'yes' if released else 'no'}.",
        "- **The Dice of `as_released` beside the reported one, as if they were near each other.** "
        "It was the foreground mean; the released code averages the background in.",
        "- **That `as_released` is every departure of the released code at once, or what that code "
        "really does.** Some departures are options here, and they were run with this project's "
        "networks, sizes and lengths.",
        "- **The verdict *a hint*, also *of the opposite*.** One of two criteria is met by chance "
        "alone among several questions; the two controls, one arm trained twice, differed by about "
        "as much on a fold.",
    ]
