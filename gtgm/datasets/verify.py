"""Check a dataset before anything is trained on it: every file is read, every problem reported."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from gtgm.datasets import em, geometry, msd, registry
from gtgm.datasets.dataset import Case, Dataset, em_case, find
from gtgm.datasets.em_array import AbsentBlocks
from gtgm.datasets.registry import DatasetInfo
from gtgm.datasets.splits import em_training_range
from gtgm.errors import DataError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, what was expected and what to do."""

    where: str
    what: str
    expected: str
    fix: str

    def __str__(self) -> str:
        tail = f" Expected: {self.expected}." if self.expected else ""
        tail += f" What to do: {self.fix}." if self.fix else ""
        return f"{self.where}: {self.what}.{tail}"


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
    for case in tqdm(found.cases, desc=info.name, unit="case", disable=not progress):
        _verify_case(case, info, problems)
    return problems


def _verify_em(case: Case, info: DatasetInfo, problems: list[Problem]) -> None:
    # Grey values alone first: their problems are reported also where the labels have others.
    for labels in (False, True):
        with warnings.catch_warnings(record=True) as caught, _collect(problems):
            warnings.simplefilter("always", UserWarning)
            volume = em.read_case(case, info, labels=labels)
            if labels and not volume.labels.any():
                raise DataError("no voxel is labelled", where=case.label, expected="ids above 0")
            if labels:
                em_training_range(info.name, volume.n_sections)
        for warning in caught:
            if issubclass(warning.category, AbsentBlocks):
                what = str(warning.message).removeprefix(f"{case.image}: ")
                fix = "copy or download it again"
                problems.append(Problem(str(case.image), what, "all blocks", fix))


def _verify_case(case: Case, info: DatasetInfo, problems: list[Problem]) -> None:
    # Absent files are in the scan's problems already.
    image = _check(case.image, geometry.check_image, info, problems)
    label = _check(case.label, geometry.check_label, info, problems)
    if image is not None and label is not None:
        with _collect(problems):
            geometry.check_pair(image, label, case)


def _check(
    path: Path | None, check: Callable[..., Any], info: DatasetInfo, problems: list[Problem]
) -> Any | None:
    """The nibabel image of a readable file, after its voxels were checked."""
    file = None
    if path is not None and path.is_file():
        with _collect(problems):
            file, voxels = geometry.read_nifti(path)
            check(voxels, info, path)
    return file


@contextmanager
def _collect(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        problems.append(_problem(error))


def _problem(error: DataError) -> Problem:
    return Problem(str(error.where or ""), error.what, error.expected or "", error.fix or "")
