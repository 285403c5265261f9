"""Stage 3 for electron microscopy: affinities, post-processing, VOI."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from gtgm import methods, paths
from gtgm.at_work import RESULT, once
from gtgm.device import accelerator as make_accelerator
from gtgm.device import process_state
from gtgm.errors import SettingsError
from gtgm.hashing import to_dict
from gtgm.models.segmenter import build_segmenter, save_segmenter
from gtgm.neurons import postprocess
from gtgm.neurons.fragments import is_anisotropic, watershed_fragments
from gtgm.neurons.metrics import with_border_mask, without_borders
from gtgm.neurons.segment import predict_affinities
from gtgm.neurons.settings import NeuronSettings
from gtgm.neurons.training import patch_for, train_affinities
from gtgm.precision import training_precision
from gtgm.progress import tqdm
from gtgm.results import Result, load_result, measure
from gtgm.stages.disjoint import check_sections
from gtgm.stages.examples import keep_example
from gtgm.stages.pretraining import encoder_identity, pretrain
from gtgm.stages.record import record
from gtgm.stages.study import EM_FRACTION, Study

VOLUMES = "test_sections.safetensors"
#: Scores of a validation curve.
PARTS = ("voi_sum", "voi_split", "voi_merge")


@dataclass(frozen=True)
class NeuronRun:
    """A finished run: its folder and its result."""

    folder: Path
    result: Result

    def volumes(self) -> dict[str, np.ndarray]:
        """Arrays of the test sections: ``raw``, ``affinities`` (C, D, H, W), ``fragments``,
        ``truth``, and one segmentation by the name of each post-processing."""
        return load_file(self.folder / VOLUMES)

    def search(self) -> dict[str, list[dict[str, float]]]:
        """For each post-processing the rows ``parameter``, ``voi_sum``, ``voi_split``,
        ``voi_merge`` on the validation sections."""
        curves = self.result.curves
        return {
            name: [
                {"parameter": value}
                | {part: curves[f"validation/{name}/{part}"][i][1] for part in PARTS}
                for i, (value, _) in enumerate(curves[f"validation/{name}/{PARTS[0]}"])
            ]
            for name in self.result.settings["postprocessing"]
        }


def run_neurons(
    study: Study, dataset: str, method: str = "gtgm", fraction: float = EM_FRACTION, draw: int = 0
) -> NeuronRun:
    """Train an affinity network on the labelled sections, segment the test sections, score them.

    The one free parameter of each post-processing is chosen on the validation sections. Affinities
    are predicted with the grey values of neighbouring sections around; fragments and neurons are
    made within the sections that are scored.

    Args:
        study: pool, profile, protocol and backbone.
        dataset: an EM dataset.
        method: of :data:`gtgm.methods.METHODS`: how the encoder is started.
        fraction: share of sections with labels, see :func:`gtgm.datasets.splits.em_ranges`.
        draw: number of the repetition; each has its own seed.
    """
    study = study.of(method)
    opened = study.open(dataset)
    if opened.info.format != "cremi":
        raise SettingsError(
            f"{dataset} has classes, not neurons",
            where="dataset",
            expected="an EM dataset",
            fix="use finetune (notebook 03_finetuning)",
        )
    settings = study.settings("neurons", dataset)
    folder = study.folder(
        "neurons",
        f"{dataset}-{method}-{fraction:g}-draw{draw}",
        study.data_key(dataset),
        settings,
        encoder_identity(study),
    )
    once(folder, partial(_run_neurons, study, folder, settings, dataset, method, fraction, draw))
    return NeuronRun(folder, load_result(folder / RESULT))


def _run_neurons(
    study: Study,
    folder: Path,
    settings: NeuronSettings,
    dataset: str,
    method: str,
    fraction: float,
    draw: int,
) -> None:
    if process_state().num_processes > 1:
        raise SettingsError(
            "neurons are trained by one process",
            where="accelerate launch",
            fix="pretrain with several, then call this without it",
        )
    volume, ranges = study.em_volume(dataset), study.sections(dataset, fraction)
    disjoint = check_sections(study, dataset, ranges)
    encoder = pretrain(study).folder if methods.get(method).pretrains else None
    device = make_accelerator("no").device
    settings = dataclasses.replace(settings, seed=study.seed + 1000 * draw)
    torch.manual_seed(settings.seed)
    sizes = {} if encoder else study.settings("pretrain").sizes
    flat = is_anisotropic(volume.resolution)
    with measure() as used:
        network = build_segmenter(study.backbone, 1, len(settings.offsets), encoder, **sizes)
        multiple = network.encoder.divisor
        train = slice(*ranges.train)
        patch = patch_for(volume.raw[train].shape, settings.patch, multiple)
        wanted = "bf16" if settings.bf16 else "no"
        bf16 = training_precision(wanted, patch, multiple) == "bf16"
        settings = dataclasses.replace(settings, bf16=bf16)
        with measure() as training:
            curves = train_affinities(
                network,
                volume.raw[train],
                volume.labels[train],
                settings,
                device,
                folder,
                multiple,
                flat,
            )

        def parts(sections: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            """Affinities, fragments and truth; the network also sees half a patch on both sides."""
            first, last = sections
            start = max(0, first - settings.patch[0] // 2)
            affinities = predict_affinities(
                network,
                volume.raw[start : last + settings.patch[0] // 2],
                settings.patch,
                device=device,
                bf16=settings.bf16,
                multiple=multiple,
            )[:, first - start : last - start]
            return affinities, watershed_fragments(affinities, flat), volume.labels[first:last]

        affinities, fragments, truth = parts(ranges.validation)
        found = {
            name: postprocess.choose(name, affinities, settings.offsets, fragments, truth)
            for name in tqdm(settings.postprocessing, desc="parameters", leave=False)
        }
        affinities, fragments, truth = parts(ranges.test)
        segmentations = {
            name: postprocess.segment(name, affinities, settings.offsets, fragments, value)
            for name, (value, _) in found.items()
        }
    rows, summary = [], {}
    unsure = without_borders(truth, volume.resolution)
    for name, segmentation in segmentations.items():
        scores = with_border_mask(segmentation, truth, unsure)
        rows += [
            {"case": dataset, "class": name, "metric": metric, "value": value}
            for metric, value in scores.items()
        ]
        # The first post-processing is the one that tables of one score per run show.
        prefix = "" if name == settings.postprocessing[0] else f"{name}/"
        summary |= {prefix + metric: value for metric, value in scores.items()}
    chosen = {name: value for name, (value, _) in found.items()}
    save_segmenter(
        network,
        folder,
        dataset=dataset,
        task="neurons",
        settings=to_dict(settings),
        resolution=list(volume.resolution),
        chosen=chosen,
    )
    with paths.atomic(folder / VOLUMES) as temporary:
        arrays = {
            "raw": volume.raw[slice(*ranges.test)],
            "affinities": affinities.astype(np.float16),
            "fragments": fragments.astype(np.uint32),
            "truth": truth.astype(np.uint64),
        }
        arrays |= {name: labels.astype(np.uint32) for name, labels in segmentations.items()}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
    record(
        folder / RESULT,
        study,
        "neurons",
        dataset,
        used,
        to_dict(settings)
        | {
            "chosen": chosen,
            "sections": to_dict(ranges),
            "training_seconds": round(training.wall_seconds, 1),
        },
        study.hashes(dataset, study.open(dataset).ids),
        f"finetune {dataset} --method {method} --fraction {fraction:g} --draw {draw}",
        method=method,
        fraction=fraction,
        draw=draw,
        n_train=ranges.train[1] - ranges.train[0],
        n_test=ranges.test[1] - ranges.test[0],
        disjoint=disjoint,
        labels=study.label_hashes(dataset, study.open(dataset).ids),
        metrics=rows,
        summary=summary,
        curves={
            **curves,
            **{
                f"validation/{name}/{part}": [[row["parameter"], row[part]] for row in search]
                for name, (_, search) in found.items()
                for part in PARTS
            },
        },
        # One picture per method and fraction is enough.
        first=partial(_keep_example, study, folder) if draw == 0 else None,
    )


def _keep_example(study: Study, folder: Path, result: Result) -> None:
    keep_example_of(study, NeuronRun(folder, result))


def keep_example_of(study: Study, run: NeuronRun) -> Path:
    """Keep the middle test section by the first post-processing (:mod:`gtgm.stages.examples`)."""
    shown, name = run.volumes(), run.result.settings["postprocessing"][0]
    spacing = study.em_volume(run.result.dataset).resolution
    return keep_example(
        study, run.result, run.folder, shown["raw"], shown["truth"], shown[name],
        f"test sections, {name}", spacing,
    )  # fmt: skip
