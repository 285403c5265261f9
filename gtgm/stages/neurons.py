"""Stage 3 for electron microscopy: affinities, agglomeration, VOI."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from gtgm import loop, paths
from gtgm.device import accelerator as make_accelerator
from gtgm.device import safe_precision
from gtgm.errors import SettingsError
from gtgm.hashing import to_dict
from gtgm.models.encoder import DIVISOR
from gtgm.models.segmenter import build_segmenter, save_segmenter
from gtgm.neurons.agglomeration import choose_threshold
from gtgm.neurons.fragments import is_anisotropic, watershed_fragments
from gtgm.neurons.segment import evaluate_neurons, predict_affinities, segment_neurons
from gtgm.neurons.training import train_affinities
from gtgm.results import Result, load_result, measure
from gtgm.settings import METHODS, check_choice
from gtgm.stages.pretraining import encoder_identity, pretrain
from gtgm.stages.record import record
from gtgm.stages.study import EM_FRACTION, Study

VOLUMES = "test_sections.safetensors"


@dataclass(frozen=True)
class NeuronRun:
    """A finished run: its folder and its result."""

    folder: Path
    result: Result

    def volumes(self) -> dict[str, np.ndarray]:
        """Arrays of the test sections: ``raw``, ``affinities`` (C, D, H, W), ``fragments``,
        ``segmentation`` and ``truth``."""
        return load_file(self.folder / VOLUMES)


def run_neurons(
    study: Study, dataset: str, method: str = "gtgm", fraction: float = EM_FRACTION, draw: int = 0
) -> NeuronRun:
    """Train an affinity network on the labelled sections, segment the test sections, score them.

    The agglomeration threshold is chosen on the validation sections.

    Args:
        study: pool, profile, protocol and backbone.
        dataset: an EM dataset.
        method: ``random`` initialisation, or ``gtgm`` for the study's pretrained encoder.
        fraction: 0.1 or 0.75 of the sections, as the paper counts them.
        draw: number of the repetition; each has its own seed.
    """
    check_choice("method", method, METHODS)
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
        encoder_identity(study, method),
    )
    done = folder / "result.json"
    if done.exists():
        return NeuronRun(folder, load_result(done))
    volume, ranges = study.em_volume(dataset), study.sections(dataset, fraction)
    encoder = pretrain(study).folder if method == "gtgm" else None
    wanted = "bf16" if settings.bf16 else "no"
    bf16 = safe_precision(wanted, settings.patch, DIVISOR[study.backbone]) == "bf16"
    settings = dataclasses.replace(settings, seed=study.seed + 1000 * draw, bf16=bf16)
    device = make_accelerator("no").device
    torch.manual_seed(settings.seed)
    with measure() as used:
        network = build_segmenter(
            study.backbone,
            1,
            len(settings.offsets),
            encoder,
            **({} if encoder else study.settings("pretrain").sizes),
        )
        multiple = (DIVISOR[study.backbone],) * 3
        train = slice(*ranges.train)
        curves = train_affinities(
            network,
            volume.raw[train],
            volume.labels[train],
            settings,
            device,
            folder,
            multiple,
        )
        flat = is_anisotropic(volume.resolution)

        def parts(sections: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            part = slice(*sections)
            affinities = predict_affinities(
                network,
                volume.raw[part],
                settings.patch,
                device=device,
                bf16=settings.bf16,
                multiple=multiple,
            )
            return affinities, watershed_fragments(affinities, flat), volume.labels[part]

        threshold, search = choose_threshold(*parts(ranges.validation))
        affinities, fragments, truth = parts(ranges.test)
        segmentation = segment_neurons(affinities, threshold, flat, fragments)
        rows = evaluate_neurons(segmentation, truth, dataset)
    save_segmenter(network, folder, dataset=dataset, threshold=threshold)
    loop.remove_checkpoint(folder)
    with paths.atomic(folder / VOLUMES) as temporary:
        arrays = {
            "raw": volume.raw[slice(*ranges.test)],
            "affinities": affinities.astype(np.float16),
            "fragments": fragments.astype(np.uint32),
            "segmentation": segmentation.astype(np.uint32),
            "truth": truth.astype(np.uint64),
        }
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
    result = record(
        done,
        study,
        "neurons",
        dataset,
        used,
        to_dict(settings) | {"threshold": threshold, "sections": to_dict(ranges)},
        study.hashes(dataset, opened.ids),
        f"finetune {dataset} --method {method} --fraction {fraction:g} --draw {draw}",
        method=method,
        fraction=fraction,
        draw=draw,
        n_train=ranges.train[1] - ranges.train[0],
        n_test=ranges.test[1] - ranges.test[0],
        metrics=rows,
        summary={row["metric"]: row["value"] for row in rows},
        curves={
            **curves,
            "validation_voi": [[row["threshold"], row["voi_sum"]] for row in search],
        },
    )
    return NeuronRun(folder, result)
