"""Check a dataset before anything is trained on it: every file is read, every problem reported."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gtgm.datasets import em, geometry, msd, registry
from gtgm.datasets.compare import Facts, Problem, compare_cases
from gtgm.datasets.dataset import Case, Dataset, em_case, find
from gtgm.datasets.em_array import AbsentBlocks
from gtgm.datasets.nifti import header_problems
from gtgm.datasets.registry import DatasetInfo
from gtgm.datasets.splits import em_training_range
from gtgm.errors import DataError, GTGMError
from gtgm.progress import tqdm


def incomplete(name: str, data: str | Path | None = None) -> str:
    """What a folder has less or more than the published MSD dataset, or than its own list; else
    empty.

    Args:
        name: of the registry.
        data: a folder that holds datasets.
    """
    info, path = registry.get(name), find(name, data)
    if path is None or info.format != "msd":
        return ""
    found = msd.scan(path)
    named = ""
    if not os.path.lexists(path / "dataset.json"):
        named = "; there is no dataset.json, so that names are guessed"
    declared = found.manifest.get("numTraining", len(found.cases))
    if declared != len(found.cases):
        named += f"; dataset.json says {declared}"
    listed = {os.path.abspath(case.image) for case in found.cases}
    others = [p for p in msd.volumes(path / "imagesTr") if os.path.abspath(p) not in listed]
    if found.cases and others:
        named += f"; dataset.json does not list {len(others)} of imagesTr: {others[0].name}"
        named += ", …" if len(others) > 1 else ""
    if len(found.cases) == info.cases and not named:
        return ""
    return f"{len(found.cases)} of the {info.cases} cases of {info.title} are here{named}"


def verify(
    dataset: str | Dataset, data: str | Path | None = None, progress: bool = True
) -> list[Problem]:
    """All problems of a dataset, in the order of its cases; an empty list if it is sound.

    Args:
        dataset: a name of the registry, looked for in ``data`` and ``$GTGM_DATA``, or an opened
            dataset (which may be a phantom).
        data: a folder that holds datasets.
        progress: show a progress bar.

    Raises:
        SettingsError: unknown name.
        DataError: the dataset was not found.
    """
    if isinstance(dataset, Dataset):
        info = dataset.info
        path = dataset.root
    else:
        info = registry.get(dataset)
        path = find(dataset, data)
        if path is None:
            raise DataError(
                f"{dataset} is in none of the data folders",
                where=data,
                expected=" or ".join(info.files),
                fix=f"name the folder that holds it, or run `gtgm data get {dataset}`",
            )
    problems: list[Problem] = []
    if info.format == "cremi":
        case = dataset.cases[0] if isinstance(dataset, Dataset) else em_case(info, path)
        _verify_em(case, info, problems)
        return list(dict.fromkeys(problems))
    found = msd.scan(path)
    problems += [_problem(error) for error in found.problems]
    declared = {k: found.manifest[k] for k in ("classes", "channels") if k in found.manifest}
    info = dataclasses.replace(info, **declared)
    facts = []
    for case in tqdm(found.cases, desc=info.name, unit="case", disable=not progress):
        facts.append(_verify_case(case, info, problems))
    return [*problems, *compare_cases(facts), *_absent_classes(facts, info, path)]


def _verify_em(case: Case, info: DatasetInfo, problems: list[Problem]) -> None:
    # Grey values alone first: their problems are reported also where the labels have others.
    for labels in (False, True):
        with warnings.catch_warnings(record=True) as caught, _collect(problems, case.image):
            warnings.simplefilter("always", UserWarning)
            volume = em.read_case(case, info, labels=labels)
            if labels and not volume.labels.any():
                raise DataError("no voxel is labelled", where=case.label, expected="ids above 0")
            if labels:
                em_training_range(info.name, volume.n_sections)
        for warning in caught:
            if issubclass(warning.category, AbsentBlocks):
                what = str(warning.message).removeprefix(f"{case.label}: ")
                fix = "copy or download it again, if there are labels missing"
                problems.append(Problem(str(case.label), what, "all blocks", fix))


def _verify_case(case: Case, info: DatasetInfo, problems: list[Problem]) -> Facts:
    # Absent files are in the scan's problems already.
    facts = Facts(case)
    image = label = None
    said: list[tuple[str, str, str]] = []
    if os.path.isfile(case.image):
        with _collect(problems, case.image):
            image, voxels = geometry.read_nifti(case.image)
            facts.spacing = geometry.model_spacing(image.affine)
            said = header_problems(image)
            problems += [Problem(str(case.image), *each) for each in said]
            voxels = geometry.check_image(voxels, info, case.image)
            facts.content = geometry.content_hash(geometry.in_model_axes(voxels, image.affine))
    if case.label is not None and os.path.isfile(case.label):
        with _collect(problems, case.label):
            label, voxels = geometry.read_nifti(case.label)
            more = [each for each in header_problems(label) if each not in said]
            problems += [Problem(str(case.label), *each) for each in more]
            voxels = geometry.check_label(voxels, info, case.label)
            facts.classes = set(np.unique(voxels).tolist())
            facts.label = geometry.content_hash(geometry.in_model_axes(voxels[None], label.affine))
    if image is not None and label is not None and min(image.ndim, label.ndim) > 2:
        with _collect(problems, case.label):
            geometry.check_pair(image, label, case)
    return facts


def _absent_classes(facts: list[Facts], info: DatasetInfo, path: Path) -> Iterator[Problem]:
    """Classes in no label of the dataset; a single case may well lack one."""
    labels = [each.classes for each in facts if each.classes is not None]
    for number, name in enumerate(info.classes, 1):
        if labels and not any(number in classes for classes in labels):
            yield Problem(
                str(path),
                f"the class {number} {name} occurs in none of the {len(labels)} readable labels",
                "each declared class in at least one case",
                "check the labels of dataset.json, and that this is the whole dataset",
            )


@contextmanager
def _collect(problems: list[Problem], where: Path) -> Iterator[None]:
    """Make a problem of an error; one that nobody thought of must not end the verification."""
    try:
        yield
    except GTGMError as error:
        problems.append(_problem(error))
    except Exception as error:
        what = f"it could not be checked ({type(error).__name__}: {error})"
        fix = "report this as a fault of the program, with the file"
        problems.append(Problem(str(where), what, "a file that can be checked", fix))


def _problem(error: GTGMError) -> Problem:
    return Problem(str(error.where or ""), error.what, error.expected or "", error.fix or "")
