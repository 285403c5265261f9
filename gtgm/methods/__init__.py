"""The methods of the comparison, in the order of tables and figures.

A method is one file of this package, with its objective, and one entry here. The file is imported
when the objective is asked for: names, labels and settings do not wait for torch.
"""

from __future__ import annotations

from functools import partial

from gtgm.errors import SettingsError
from gtgm.methods.method import TEXTLESS, Method

__all__ = ["METHODS", "Method", "get"]

_gtgm = partial(Method, trains="gtgm.GTGM", uses_text=True)
_ALL = (
    Method("random", "random initialisation", "#7F7F7F", "", reported="Random Init"),
    Method("byol", "BYOL", "#D55E00", "byol.BYOL", reported="BYOL", changes=TEXTLESS),
    Method("simsiam", "SimSiam", "#CC79A7", "simsiam.SimSiam", changes=TEXTLESS),
    Method("barlow", "Barlow Twins (L_VR)", "#009E73", "barlow.Barlow", changes=TEXTLESS),
    Method("vlp", "CLIP (L_VLP)", "#56B4E9", "vlp.VLP", uses_text=True),
    Method("pcrlv2", "PCRLv2", "#E69F00", "pcrlv2.PCRLv2", reported="PCRLv2", changes=TEXTLESS),
    _gtgm("gtgm", "GTGM", "#0072B2", reported="GTGM"),
    # GTGM with other text than the captions of the embedded model: controls and alternatives.
    _gtgm("gtgm-none", "GTGM, the same text everywhere", "#999933", changes=TEXTLESS),
    # The words are the same, but belong to other patches: shows whether it matters what they say.
    _gtgm(
        "gtgm-shuffled",
        "GTGM, shuffled captions",
        "#882255",
        changes={"pretrain": {"shuffle_captions": True}},
    ),
    _gtgm(
        "gtgm-describe",
        "GTGM, measured descriptions",
        "#117733",
        changes={"text": {"captioner": "describe"}},
    ),
    # On a single dataset whose images have one channel, its metadata are one caption everywhere,
    # as `gtgm-none` has: L_VLP then has no gradient, and both are one arm and not two.
    _gtgm(
        "gtgm-metadata",
        "GTGM, metadata only",
        "#AA4499",
        changes={"text": {"captioner": "metadata"}},
    ),
    _gtgm(
        "gtgm-blip",
        "GTGM, BLIP and BioBERT",
        "#332288",
        changes={
            "text": {
                "captioner": "Salesforce/blip-image-captioning-base",
                "encoder": "dmis-lab/biobert-v1.1",
                "image_size": 384,
            }
        },
        offline=False,
    ),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get(name: str) -> Method:
    """The method of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}", expected=f"one of {', '.join(METHODS)}")
    return METHODS[name]
