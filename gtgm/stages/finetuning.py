"""Stage 3: fine-tune a segmenter on few labels, predict the held-out fold, score it."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

from gtgm import finetune as training
from gtgm import methods, metrics, paths
from gtgm.at_work import RESULT, once
from gtgm.crop import with_places
from gtgm.datasets import registry
from gtgm.datasets.compare import Facts, compare_cases
from gtgm.datasets.geometry import Volume, content_hash
from gtgm.datasets.nifti import box_sizes, read_nifti
from gtgm.datasets.registry import DatasetInfo
from gtgm.device import process_state
from gtgm.errors import DataError, SettingsError
from gtgm.hashing import to_dict
from gtgm.inference import segment_volume
from gtgm.intensity import normalise
from gtgm.models.segmenter import divisible_patch, load_segmenter, save_segmenter
from gtgm.progress import tqdm
from gtgm.results import Result, load_result, measure
from gtgm.settings import FinetuneSettings
from gtgm.stages.disjoint import check_cases
from gtgm.stages.examples import keep_example
from gtgm.stages.pretraining import encoder_identity, pretrain
from gtgm.stages.record import record
from gtgm.stages.study import Study
from gtgm.stages.volumes import items


def finetune(
    study: Study, dataset: str, method: str = "gtgm", fraction: float = 1.0, draw: int = 0
) -> Result:
    """Fine-tune and evaluate one run; a finished one is read from its folder.

    Args:
        study: pool, profile, protocol, backbone and fold.
        dataset: a CT or MRI dataset.
        method: of :data:`gtgm.methods.METHODS`: how the encoder is started.
        fraction: share of the training cases that keep their labels, in (0, 1].
        draw: number of the label draw.

    Returns:
        Scores per case and class on the fold's test cases, and what produced them. The segmenter
        and the predictions lie in the run's folder (:func:`run_folder`).

    Raises:
        SettingsError: unknown method, an EM dataset, or a fraction out of range.
        DataError: a case cannot be used, or a test case was pretrained on.
    """
    study = study.of(method)
    folder = run_folder(study, dataset, method, fraction, draw)
    work = partial(_finetune, study, folder, dataset, method, fraction, draw)
    once(folder, work, together=True)
    return load_result(folder / RESULT)


def _finetune(
    study: Study, folder: Path, dataset: str, method: str, fraction: float, draw: int
) -> None:
    opened, split = study.open(dataset), study.split(dataset)
    info, settings = opened.info, study.settings("finetune", dataset)
    labelled = split.labelled(study.fold, fraction, draw)
    test = split.test(study.fold)
    _read_everything(study, dataset, labelled, test)
    disjoint = check_cases(study, dataset, labelled, test)
    pretrained = pretrain(study) if methods.get(method).pretrains else None
    with measure() as used:
        patch = working_patch(study, dataset)
        about = describe_model(study, info, settings, patch)

        read = items(
            study,
            [(dataset, case) for case in labelled],
            lambda key: with_places(training_item(study, *key, settings), patch),
            [about["spacing"], settings.released_window, list(patch)],
            settings.volumes,
            settings.workers,
        )

        def score(network: nn.Module) -> float | None:
            rows = evaluate(study, dataset, network, about, test)
            return metrics.summarise(rows)["dice_with_background"]

        trained = training.finetune(
            settings,
            study.backbone,
            info.classes,
            len(info.channels),
            labelled,
            lambda case: read((dataset, case)),
            patch,
            folder,
            pretrained and pretrained.folder,
            study.seed + 1000 * draw,
            score,
            study.settings("pretrain").sizes,
        )
        state = process_state()
        if not state.is_main_process:
            return state.wait_for_everyone()
        rows = evaluate(study, dataset, trained.network, about, test, folder / "predictions")
    summary = metrics.summarise(rows)
    save_segmenter(trained.network, folder, **about, summary=summary)
    record(
        folder / RESULT,
        study,
        "finetune",
        dataset,
        used,
        to_dict(settings)
        | {
            "precision": trained.precision,
            "inference_precision": about["precision"],
            "patch": list(patch),
            "surface_tolerance_mm": metrics.SURFACE_TOLERANCE_MM,
        },
        study.hashes(dataset, labelled + test),
        f"finetune {dataset} --method {method} --fraction {fraction:g} --draw {draw}",
        method=method,
        fraction=fraction,
        draw=draw,
        n_train=len(labelled),
        n_test=len(test),
        disjoint=disjoint,
        labels=study.label_hashes(dataset, labelled + test),
        metrics=rows,
        summary=summary,
        curves=trained.curves,
        # One picture per method and fraction is enough.
        first=partial(keep_example_of, study) if draw == 0 else None,
    )
    state.wait_for_everyone()


def keep_example_of(study: Study, result: Result) -> Path:
    """Keep a section of the fold's first test case, see :mod:`gtgm.stages.examples`."""
    dataset, case = result.dataset, study.split(result.dataset).test(study.fold)[0]
    run = (dataset, result.method, result.fraction, result.draw)
    network, about = trained_network(study, *run)
    volume = study.volume(dataset, case, tuple(about["spacing"]) or None)
    prediction, _ = segment_volume(network, volume, about)
    return keep_example(
        study,
        result,
        run_folder(study, *run),
        volume.image[0].numpy(),
        volume.label.numpy(),
        prediction.numpy(),
        case,
        volume.spacing,
    )


def run_folder(study: Study, dataset: str, method: str, fraction: float, draw: int) -> Path:
    """Folder of one run."""
    study = study.of(method)
    opened = study.open(dataset)
    if opened.info.format == "cremi":
        raise SettingsError(
            f"{dataset} has neurons, not classes",
            where="dataset",
            expected="a CT or MRI dataset",
            fix="use run_neurons (notebook 04_neuron_segmentation)",
        )
    study.split(dataset).labelled(study.fold, fraction, draw)
    return study.folder(
        "finetune",
        f"{dataset}-{method}-{fraction:g}-draw{draw}",
        study.data_key(dataset),
        study.settings("finetune", dataset),
        encoder_identity(study),
        *_other_names(opened.info),
    )


def _other_names(info: DatasetInfo) -> list[list[str]]:
    """Classes that dataset.json names otherwise than the registry: they stand in results."""
    known = [name.casefold() for name in registry.get(info.name).classes]
    return [] if [name.casefold() for name in info.classes] == known else [list(info.classes)]


def describe_model(
    study: Study, info: DatasetInfo, settings: FinetuneSettings, patch: tuple[int, ...]
) -> dict:
    """What inference needs to know about a segmenter; saved beside its weights."""
    return {
        "fold": study.fold,
        "dataset": info.name,
        "modality": info.modality,
        "channels": list(info.channels),
        "classes": list(info.classes),
        "patch": list(patch),
        "spacing": list(working_spacing(study, info.name) or ()),
        "overlap": settings.overlap,
        "tta_axes": settings.tta_axes,
        "precision": settings.precision,
        "windows": settings.windows,
        "released_window": settings.released_window,
    }


def working_patch(study: Study, dataset: str) -> tuple[int, ...]:
    """Patch of a run: the settings', else the dataset's, rounded up to what the backbone needs.

    Outside the paper's profile it is no larger than the first training cases; smaller volumes are
    padded.
    """
    info = study.open(dataset).info
    settings = study.settings("finetune", dataset)
    wanted = settings.patch or info.patch
    if study.profile == "paper":
        return divisible_patch(tuple(wanted), study.backbone)
    cases = study.split(dataset).train(study.fold)[:8]
    spacing = working_spacing(study, dataset)
    shapes = [study.volume(dataset, case, spacing).image.shape[1:] for case in cases]
    largest = [max(sides) for sides in zip(*shapes, strict=True)]
    return divisible_patch(
        tuple(min(w, s) for w, s in zip(wanted, largest, strict=True)), study.backbone
    )


def working_spacing(study: Study, dataset: str) -> tuple[float, ...] | None:
    """Voxel size of a run in mm (z, y, x): the settings', in the paper's profile the dataset's.

    None keeps each file's own.
    """
    settings = study.settings("finetune", dataset)
    return settings.spacing or (
        study.open(dataset).info.spacing if study.profile == "paper" else None
    )


def training_item(
    study: Study, dataset: str, case: str, settings: FinetuneSettings
) -> dict[str, torch.Tensor]:
    """MONAI dictionary of a training case: ``image`` (C, D, H, W), ``label`` (1, D, H, W)."""
    volume = study.volume(dataset, case, working_spacing(study, dataset))
    image = normalise(volume.image, volume.info.modality, dataset, settings.released_window)
    return {"image": image, "label": volume.label[None]}


def evaluate(
    study: Study,
    dataset: str,
    network: nn.Module,
    about: dict,
    cases: list[str],
    keep: Path | None = None,
) -> list[dict]:
    """Predict cases and score them on their files' own grids.

    Args:
        study: where the cases are.
        dataset: name of the registry.
        network: trained segmenter.
        about: see :func:`describe_model`.
        cases: ids.
        keep: folder for the predictions as NIfTI; None keeps none.

    Returns:
        Rows of :func:`gtgm.metrics.score_case`.

    Raises:
        DataError: a case has no label, or axes that are not at right angles.
    """
    info = study.open(dataset).info
    rows = []
    for case in tqdm(cases, desc="evaluate", leave=False):
        volume = _labelled(study, dataset, case, tuple(about["spacing"]) or None)
        _, predicted = segment_volume(network, volume, about)
        sizes = box_sizes(predicted.affine, volume.case.image)
        truth = read_nifti(volume.case.label)[1].reshape(predicted.shape)
        rows += metrics.score_case(
            np.asarray(predicted.dataobj),
            np.rint(truth).astype(np.int16),
            sizes,
            info.classes,
            case,
        )
        if keep is not None:
            with paths.atomic(keep / f"{case}.nii.gz") as temporary:
                nib.save(predicted, temporary)
    return rows


def trained_network(
    study: Study, dataset: str, method: str, fraction: float = 1.0, draw: int = 0
) -> tuple[nn.Module, dict]:
    """The segmenter of a finished run and what it was trained with."""
    return load_segmenter(run_folder(study, dataset, method, fraction, draw))


def predict_case(
    study: Study, dataset: str, method: str, case: str, fraction: float = 1.0, draw: int = 0
) -> torch.Tensor:
    """Labels of a case (D, H, W) in the model's axes, from a finished run's segmenter."""
    network, about = trained_network(study, dataset, method, fraction, draw)
    volume = study.volume(dataset, case, tuple(about["spacing"]) or None)
    return segment_volume(network, volume, about)[0]


def _read_everything(study: Study, dataset: str, labelled: list[str], test: list[str]) -> None:
    """Read every case once: a broken file is found before training, not hours into it.

    Raises:
        DataError: also of a case without label, and if there is nothing to learn, as no labelled
            case holds a structure.
    """
    spacing, facts = working_spacing(study, dataset), []
    numbers = range(len(study.open(dataset).info.classes) + 1)
    for case in tqdm([*labelled, *test], desc=f"read {dataset}", leave=False):
        volume = _labelled(study, dataset, case, spacing)
        if case in test:
            box_sizes(volume.meta.affine, volume.case.image)
        facts.append(
            Facts(
                volume.case,
                volume.spacing,
                study.contents(dataset, [case])[case],
                content_hash(volume.label[None].numpy()),
                {number for number in numbers if (volume.label == number).any()},
            )
        )
    for problem in compare_cases(facts):
        warnings.warn(str(problem), stacklevel=2)
    if all(each.classes == {0} for each in facts[: len(labelled)]):
        raise DataError(
            f"the labels of {', '.join(labelled[:3])}{', …' if len(labelled) > 3 else ''} hold "
            "background alone",
            where=dataset,
            expected="a structure in at least one labelled case",
            fix=f"see what `gtgm data verify {dataset}` says, or take another draw or fraction",
        )
    for number, name in enumerate(study.open(dataset).info.classes, 1):
        if not any(number in each.classes for each in facts[: len(labelled)]):
            warnings.warn(
                f"{dataset}: none of the {len(labelled)} labelled cases holds the class {number} "
                f"{name}: it cannot be learned, and its Dice will be 0 where test cases hold it",
                stacklevel=2,
            )


def _labelled(study: Study, dataset: str, case: str, spacing: tuple[float, ...] | None) -> Volume:
    volume = study.volume(dataset, case, spacing)
    if volume.label is None:
        raise DataError(
            "it has no label",
            where=volume.case.image,
            expected="a label of each case that is trained on or tested",
            fix=f"see what `gtgm data verify {dataset}` says",
        )
    return volume
