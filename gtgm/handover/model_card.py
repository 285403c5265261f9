"""Model cards: what a network is, where it comes from, how good it is and what it is not for.

A card is Markdown with the metadata that the Hugging Face Hub reads; every number in it comes from
the run's result.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

import gtgm
from gtgm import methods
from gtgm.datasets import registry
from gtgm.datasets.registry import DatasetInfo
from gtgm.datasets.splits import FOLDS
from gtgm.handover.terms import (
    LICENCE_FILE,
    OTHER,
    datasets_of,
    hub_licence,
    pool_of,
    saw_only_phantoms,
)
from gtgm.markup import NOTHING, markdown_table
from gtgm.provenance import machine_name
from gtgm.results import Result, to_frame
from gtgm.settings import EMBEDDED
from gtgm.stages import Study
from gtgm.text.captioners import CHAT, NONE

PAPER = (
    "Chen, Y. et al. Generative Text-Guided 3D Vision-Language Pretraining for Unified Medical "
    "Image Segmentation. arXiv:2306.04811 (2023)."
)
_COUNTS = ("patches", "captions", "hd95_missed")
_TRAINING = (
    "steps", "steps_per_case", "batch", "lr", "learning_rate", "weight_decay", "patch", "spacing",
    "schedule", "optimiser", "augmentation", "precision", "ema",
)  # fmt: skip
_TEXTS = {
    EMBEDDED: "captions by a small BLIP that this package trained on measured facts, by no "
    "published model",
    "describe": "sentences that rules write from measured facts, without a language model",
    "metadata": "modality and anatomy only, without a look at the image",
    NONE: "the same words for every patch",
}


#: Settings that let test cases in, in words.
_LEAKS = {
    "pretrain.include_test": "the pretraining also read the test cases",
    "finetune.select_on_test": "the checkpoint was chosen on the test cases",
    "protocol=as_released": "parameters were chosen on the test sections",
}


def model_card(result: Result, config: dict[str, Any], usage: str, library: str) -> ModelCard:
    """The card of a trained network.

    Args:
        result: of the run that trained it: ``pretrain``, ``finetune`` or ``neurons``.
        config: of the weights, see :func:`gtgm.models.encoder.read_config`.
        usage: Markdown that says how to use the folder that the card lies in.
        library: that opens the folder, for the metadata.

    Returns:
        The card; ``save`` writes it, and what it writes is read again by ``ModelCard.load``.
    """
    study, infos = _study(result), datasets_of(result)
    sections = {
        "": _summary(result, config),
        "How to use it": usage,
        "Data": _data(result, infos),
        "Training": _training(result, study),
        "Metrics": _metrics(result),
        "Intended use and limits": _limits(result, study),
        "Citation": "\n".join(f"- {text}" for text in _citations(result, infos)),
    }
    body = "\n\n".join(f"## {title}\n\n{text.strip()}" if title else text
                       for title, text in sections.items())  # fmt: skip
    data = _metadata(result, infos, library)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n")


def scores(result: Result) -> dict[str, float]:
    """The result's summary without counts, undefined values and those before training."""
    return {
        name: float(value)
        for name, value in result.summary.items()
        if value is not None and name not in _COUNTS and not name.endswith("/before")
    }


def _metadata(result: Result, infos: list[DatasetInfo], library: str) -> ModelCardData:
    phantom, encoder = result.source == "phantom", result.stage == "pretrain"
    licence = hub_licence(result)
    terms = {}
    if licence == OTHER:
        terms = {"license_name": "terms-of-the-datasets", "license_link": LICENCE_FILE}
    task = "image-feature-extraction" if encoder else "image-segmentation"
    found = scores(result)
    # Dice has its classes behind the name, neurons have their post-processing before it.
    kinds = {name: name.split("/")[-1 if result.stage == "neurons" else 0] for name in found}
    measured = [registry.get(name) for name in result.datasets]
    return ModelCardData(
        license=licence,
        **terms,
        library_name=library,
        pipeline_tag=task,
        tags=[
            "gtgm", "3d", "medical-imaging", *(info.modality.lower() for info in infos),
            result.method, result.backbone, *(["phantom-data"] if phantom else []),
        ],
        datasets=None if saw_only_phantoms(result) else [info.name for info in infos],
        metrics=list(dict.fromkeys(kinds.values())),
        model_name=result.id,
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=("phantom-" if phantom else "") + "+".join(result.datasets),
                dataset_name=_title(result, measured),
                dataset_split=_split(result),
                metric_type=kinds[name],
                metric_name=name,
                metric_value=value,
            )
            for name, value in found.items()
        ],
    )  # fmt: skip


def _summary(result: Result, config: dict[str, Any]) -> str:
    method = methods.get(result.method)
    measured = [registry.get(name) for name in result.datasets]
    what = {
        "pretrain": "Image encoder",
        "finetune": "Segmentation network",
        "neurons": "Affinity network for neurons",
    }[result.stage]
    lines = [f"# {what}: {_title(result, measured)}, {method.label}"]
    if result.source == "phantom":
        saw = "Whether its pretraining saw real images, its result does not say; the terms below"
        saw += " are those that hold if it did."
        if saw_only_phantoms(result):
            saw = "The network has seen no real image, and is of use only to try the software."
        lines.append(
            "> **Phantom data.** Measured on computed phantoms: the numbers say nothing about real "
            f"images. {saw}"
        )
    classes = config.get("about", {}).get("classes")
    facts = {
        "backbone": f"{result.backbone}, {config['in_channels']} channel(s)",
        "classes": ", ".join(["background", *classes]) if classes else None,
        "pretraining": method.label,
        "protocol, profile": f"{result.protocol}, {result.profile}",
        "weights": "safetensors, without pickled objects",
        "run": f"`{result.id}`",
    }
    lines.append(_list(facts))
    lines.append(
        "From the [GTGM](https://arxiv.org/abs/2306.04811) companion, an independent "
        "implementation; not by the authors of the paper."
    )
    return "\n\n".join(lines)


def _data(result: Result, infos: list[DatasetInfo]) -> str:
    header = ["dataset", "modality", "used for"]
    rows = [[info.title, info.modality, _used_for(result, info)] for info in infos]
    if saw_only_phantoms(result):
        rows = [[f"{title} (phantom in its format)", *rest] for title, *rest in rows]
    else:
        header += ["licence", "attribution"]
        rows = [[*row, i.licence, i.attribution] for row, i in zip(rows, infos, strict=True)]
    cases = result.data.get("cases", {})
    facts = {
        "training": f"{result.n_train} {_unit(result)}",
        "label fraction": f"{result.fraction:g}, draw {result.draw}" if result.fraction else None,
        "held out": f"{result.n_test} {_unit(result)}: {_split(result)}",
        "identity": f"SHA-256 of {len(cases)} file(s) that were read, in `result.json`",
    }
    table = markdown_table(header, rows)
    return f"{table}\n\n{_list(facts)}\n\nWhat follows for the weights: see `{LICENCE_FILE}`."


def _used_for(result: Result, info: DatasetInfo) -> str:
    pretraining = methods.get(result.method).pretrains and info.name in pool_of(result)
    own = result.stage != "pretrain" and info.name in result.datasets
    used = ["pretraining"] * pretraining + ["training and test with labels"] * own
    return ", ".join(used)


def _training(result: Result, study: Study) -> str:
    settings = {
        name: f"`{result.settings[name]}`"
        for name in _TRAINING
        if isinstance(result.settings.get(name), str | int | float | list)
        and result.settings[name] not in ("", [])
    }
    facts = {
        **settings,
        "seed": str(result.seed),
        "text of the pretraining": _text(result, study),
        "time": f"{result.wall_seconds:.0f} s" if result.wall_seconds else None,
        "peak memory": f"{result.peak_memory_gb} GB" if result.peak_memory_gb else None,
        "hardware": machine_name(result.hardware) if result.hardware else None,
        "versions": ", ".join(f"{k} {v}" for k, v in result.versions.items()) or None,
        "commit": f"`{result.commit}`" if result.commit else None,
    }
    repeat = f"Again, from a checkout of that commit:\n\n```bash\n{result.command}\n```"
    note = "All settings are in `result.json`."
    return "\n\n".join([_list(facts), note, *([repeat] if result.command else [])])


def _metrics(result: Result) -> str:
    phantom = "**On phantoms.** " if result.source == "phantom" else ""
    if result.stage == "pretrain":
        before = {name: result.summary.get(f"{name}/before") for name in scores(result)}
        rows = [[name, _number(before[name]), _number(v)] for name, v in scores(result).items()]
        table = markdown_table(["metric", "before training", "after"], rows)
        note = "On training cases that were held out."
        if methods.get(result.method).uses_text:
            note += (
                " `r@k` is the share of patches whose own caption is among the k nearest, `chance` "
                "that of a guess, `most_common` that of the commonest caption."
            )
        return f"{phantom}{note}\n\n{table}"
    frame = to_frame([result])
    means = frame.pivot_table("value", "class", "metric", sort=False)
    rows = [[name, *(_number(v) for v in row)] for name, row in means.iterrows()]
    if result.stage == "finetune":
        own = [_number(result.summary.get(metric)) for metric in means.columns]
        rows.append(["mean of the foreground", *own])
        note = (
            f"Means over the {result.n_test} cases of the held-out fold, on each file's own grid. "
            "`dice` and `nsd` are shares, higher is better; `hd95` is in mm, lower is better."
        )
    else:
        note = "`voi` in bits; lower is better in every column. One row for each post-processing."
    first = "class" if result.stage == "finetune" else "post-processing"
    table = markdown_table([first, *means.columns], rows)
    return f"{phantom}{note} Per case: `result.json`.\n\n{table}"


def _limits(result: Result, study: Study) -> str:
    points = [
        "For research on methods: comparing starts of an encoder, repeating the numbers above, "
        "starting other trainings.",
        "**Not a medical device.** Not for diagnosis, treatment, or any decision about a patient.",
        "Measured on one dataset and one split. Other scanners, protocols, populations and "
        "diseases were not tried; expect worse results there.",
    ]
    if result.fraction is not None and result.fraction < 1:
        points.append(
            f"Trained with {result.n_train} labelled {_unit(result)} to study few labels; it is "
            "not the best network that these data can give."
        )
    text = _text(result, study)
    if text:
        points.append(
            f"The text of the pretraining: {text}. What it shows holds for that text alone."
        )
    for leak in _leaks(result, study):
        points.append(f"**Leak:** {leak}. The metrics above are too good for that reason.")
    return "\n".join(f"- {point}" for point in points)


def _leaks(result: Result, study: Study) -> Iterable[str]:
    noted = list(result.leaks)
    # A fine-tuning of before it was noted does not know how its encoder was pretrained.
    if methods.get(result.method).pretrains and study.settings("pretrain").include_test:
        noted.append("pretrain.include_test")
    for name in dict.fromkeys(noted):
        yield f"{_LEAKS.get(name, 'test cases were used before scoring')} (`{name}`)"


def _text(result: Result, study: Study) -> str | None:
    """The captions of the pretraining in words; None if no text was read."""
    if not methods.get(result.method).uses_text:
        return None
    settings = study.settings("text")
    shown = _TEXTS.get(settings.captioner)
    if shown is None:
        kind = "chat model" if settings.captioner.startswith(CHAT) else "captioner"
        shown = f"captions by the {kind} `{settings.captioner.removeprefix(CHAT)}`"
    if study.settings("pretrain").shuffle_captions:
        shown += ", each given to another patch"
    encoder = "a small BERT trained here"
    if settings.encoder != EMBEDDED:
        encoder = f"`{settings.encoder}`"
    return f"{shown}; embedded by {encoder}"


def _citations(result: Result, infos: list[DatasetInfo]) -> list[str]:
    software = f"GTGM companion contributors. GTGM companion, version {gtgm.__version__}."
    data = [] if saw_only_phantoms(result) else [info.citation for info in infos]
    return [PAPER, software, *dict.fromkeys(data)]


def _study(result: Result) -> Study:
    """The study of a result, for its settings; it opens no data."""
    return Study(
        tuple(pool_of(result)),
        result.profile,
        result.protocol,
        result.backbone,
        result.fold,
        result.seed,
        changes=result.settings.get("changes", {}),
        method=result.method,
    )


def _title(result: Result, infos: list[DatasetInfo]) -> str:
    names = " + ".join(info.title for info in infos)
    return f"{names} (phantom)" if result.source == "phantom" else names


def _split(result: Result) -> str:
    if result.stage == "neurons":
        first, last = result.settings["sections"]["test"]
        return f"test sections {first} to {last - 1}"
    if result.stage == "finetune":
        return f"fold {result.fold} of {FOLDS}, see gtgm.datasets.splits"
    return "training cases, for these metrics alone"


def _unit(result: Result) -> str:
    return "sections" if result.stage == "neurons" else "case(s)"


def _number(value: float | None) -> str:
    return NOTHING if value is None or value != value else f"{value:.4g}"


def _list(facts: dict[str, str | None]) -> str:
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)
