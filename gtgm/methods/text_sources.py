"""GTGM with other text than the captions of the embedded model: controls and alternatives."""

from __future__ import annotations

from gtgm.methods.gtgm import GTGM
from gtgm.methods.method import TEXTLESS, Method

NONE = Method(
    "gtgm-none", "GTGM, the same text everywhere", "#999933", GTGM, uses_text=True, changes=TEXTLESS
)
#: The words are the same, but belong to other patches: shows whether it matters what they say.
SHUFFLED = Method(
    "gtgm-shuffled",
    "GTGM, shuffled captions",
    "#882255",
    GTGM,
    uses_text=True,
    changes={"pretrain": {"shuffle_captions": True}},
)
DESCRIBE = Method(
    "gtgm-describe",
    "GTGM, measured descriptions",
    "#117733",
    GTGM,
    uses_text=True,
    changes={"text": {"captioner": "describe"}},
)
METADATA = Method(
    "gtgm-metadata",
    "GTGM, metadata only",
    "#AA4499",
    GTGM,
    uses_text=True,
    changes={"text": {"captioner": "metadata"}},
)
BLIP = Method(
    "gtgm-blip",
    "GTGM, BLIP and BioBERT",
    "#332288",
    GTGM,
    uses_text=True,
    changes={
        "text": {
            "captioner": "Salesforce/blip-image-captioning-base",
            "encoder": "dmis-lab/biobert-v1.1",
            "image_size": 384,
        }
    },
    offline=False,
)
