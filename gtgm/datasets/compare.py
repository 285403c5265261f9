"""What is suspicious about the cases of a dataset, seen beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gtgm.datasets.msd import Case, case_id

FAR = 10  # times the median of the dataset
RARE = 0.2  # share of labels; more of them without any structure are meant to be so
THICK = 2  # longest by shortest side of a voxel that counts as thick


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


@dataclass
class Facts:
    """What the comparison needs of a case; None where it is not known.

    Attributes:
        case: id and files.
        spacing: mm (z, y, x).
        content, label: hashes of the intensities and of the labels, in the model's axes.
        classes: values in the label.
    """

    case: Case
    spacing: tuple[float, float, float] | None = None
    content: str | None = None
    label: str | None = None
    classes: set[int] | None = None


def compare_cases(facts: Sequence[Facts]) -> list[Problem]:
    """Files that stand twice or under another case's name, labels without structure or absent, and
    voxels of an unusual size."""
    checks = (_twice, _names, _unlabelled, _spacings, _empty)
    return [problem for check in checks for problem in check(facts)]


def _twice(facts: Sequence[Facts]) -> Iterator[Problem]:
    """Images whose voxels are those of an earlier case: a case in training that is also tested.

    And labels, where the images differ: one of the two is not the label of its image.
    """
    images: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for each in facts:
        image = label = None
        if each.content is not None:
            image = images.setdefault(each.content, each.case.image)
        if each.label is not None and len(each.classes) > 1:  # crops may well be of one class
            label = labels.setdefault(each.label, each.case.label)
        if each.content is not None and each.content == each.label:
            yield Problem(
                str(each.case.image),
                "its voxels are those of its label",
                "an image",
                "get the image again",
            )
        elif image not in (None, each.case.image):
            yield Problem(
                str(each.case.image),
                f"its voxels are those of {image.name}",
                "an image of its own for each case",
                "leave one of the two out, or get the right file",
            )
        elif label not in (None, each.case.label):
            yield Problem(
                str(each.case.label),
                f"its voxels are those of {label.name}",
                "a label of its own for each case",
                "see which image it belongs to, and get the other label, unless both images are of "
                "one patient",
            )


def _names(facts: Sequence[Facts]) -> Iterator[Problem]:
    """Labels whose file has the name of another case."""
    ids = {each.case.id for each in facts}
    for each in facts:
        name = case_id(each.case.label) if each.case.label else each.case.id
        if name != each.case.id and name in ids:
            yield Problem(
                str(each.case.label),
                f"it is given as the label of {each.case.id}",
                f"by its name, the label of {name}",
                "correct dataset.json, or rename the file",
            )


def _unlabelled(facts: Sequence[Facts]) -> Iterator[Problem]:
    """Cases without a label; they serve pretraining alone."""
    names = [each.case.id for each in facts if each.case.label is None]
    if names:
        yield Problem(
            str(facts[0].case.image.parent.parent),
            f"{len(names)} of the {len(facts)} cases have no label: "
            + ", ".join(names[:5])
            + (", …" if len(names) > 5 else ""),
            '{"image": path, "label": path} for each of them in dataset.json',
            "name the labels, or leave these cases out",
        )


def _spacings(facts: Sequence[Facts]) -> Iterator[Problem]:
    """Images whose voxels are of another magnitude, or thick along another axis, than of most."""
    known = [each for each in facts if each.spacing is not None]
    if not known:
        return
    median = np.median([each.spacing for each in known], axis=0)
    shown = " × ".join(f"{size:g}" for size in median)
    for each in known:
        spacing = np.array(each.spacing)
        far = np.abs(np.log(spacing / median)).max() > np.log(FAR)
        thick = [sizes.max() / sizes.min() > THICK for sizes in (spacing, median)]
        if far or (all(thick) and spacing.argmax() != median.argmax()):
            yield Problem(
                str(each.case.image),
                f"its spacing is {' × '.join(f'{size:g}' for size in spacing)} mm (z, y, x)",
                f"about {shown} mm, the median of the dataset",
                "check unit and orientation in its header",
            )


def _empty(facts: Sequence[Facts]) -> Iterator[Problem]:
    """Labels of background alone, where nearly all others hold a structure."""
    known = [each for each in facts if each.classes is not None]
    empty = [each for each in known if each.classes == {0}]
    for each in empty if len(empty) < RARE * len(known) else []:
        yield Problem(
            str(each.case.label),
            "it holds background alone",
            f"a structure, as in {len(known) - len(empty)} of the {len(known)} readable labels",
            "see if it is the label of this image",
        )
