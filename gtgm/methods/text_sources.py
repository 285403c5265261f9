"""GTGM with other text than the captions of the embedded model: controls and alternatives.

On a single dataset whose images have one channel, ``gtgm-metadata`` has one caption for all
patches, as ``gtgm-none`` has everywhere. L_VLP then has no gradient
(:class:`gtgm.methods.vision_language.VisionLanguage`), and both train the same encoder: they are
one arm of a comparison, GTGM by L_VR alone, and not two.
"""

from __future__ import annotations

from functools import partial

from gtgm.methods.gtgm import GTGM
from gtgm.methods.method import TEXTLESS, Method

_method = partial(Method, objective=GTGM, uses_text=True)

NONE = _method("gtgm-none", "GTGM, the same text everywhere", "#999933", changes=TEXTLESS)
#: The words are the same, but belong to other patches: shows whether it matters what they say.
SHUFFLED = _method(
    "gtgm-shuffled",
    "GTGM, shuffled captions",
    "#882255",
    changes={"pretrain": {"shuffle_captions": True}},
)
DESCRIBE = _method(
    "gtgm-describe",
    "GTGM, measured descriptions",
    "#117733",
    changes={"text": {"captioner": "describe"}},
)
#: On a single dataset this is NONE again: its metadata are one text for all patches.
METADATA = _method(
    "gtgm-metadata",
    "GTGM, metadata only",
    "#AA4499",
    changes={"text": {"captioner": "metadata"}},
)
BLIP = _method(
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
)
METHODS = (NONE, SHUFFLED, DESCRIBE, METADATA, BLIP)
