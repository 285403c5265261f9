"""No test case is trained on: checked in every run, by content, and noted in its result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gtgm import methods
from gtgm.datasets.splits import EMRanges
from gtgm.errors import DataError
from gtgm.hashing import to_dict
from gtgm.stages.pretraining import PretrainRun
from gtgm.stages.study import Study

#: Settings that let test cases in, by name; nothing else does.
PRETRAINED_ON_TEST = "pretrain.include_test"
SELECTED_ON_TEST = "finetune.select_on_test"


def check_cases(
    study: Study,
    dataset: str,
    labelled: Iterable[str],
    test: Iterable[str],
    pretrained: PretrainRun | None,
) -> dict[str, Any]:
    """Refuse to go on if a test case is, by its intensities, among those that are trained on.

    A copy under another name, in another orientation or compression is the same case.

    Args:
        study: gives the volumes.
        dataset: CT or MRI.
        labelled, test: ids.
        pretrained: the run that the encoder comes from; None starts at random.

    Returns:
        What the result says: ``by``, how many cases were compared (``test``, ``labelled``,
        ``pretrained``), how many of the test cases are ``shared``, and ``leaks``, the settings
        that allow it.

    Raises:
        DataError: a test case is trained on, and no setting says so.
    """
    tested = study.contents(dataset, test)
    trained = {"labelled": study.contents(dataset, labelled)}
    if pretrained:
        trained["pretrained"] = _read_by(study, pretrained)
    leaks = _leaks(study, pretrained is not None)
    if study.settings("finetune", dataset).select_on_test:
        leaks.append(SELECTED_ON_TEST)
    shared = set()
    for what, contents in trained.items():
        known = {content: case for case, content in contents.items()}
        both = {case: known[content] for case, content in tested.items() if content in known}
        shared |= set(both)
        if both and not (what == "pretrained" and PRETRAINED_ON_TEST in leaks):
            pairs = ", ".join(f"{a} = {b}" for a, b in list(both.items())[:3])
            verb = "pretrained on" if what == "pretrained" else "trained on under another name"
            raise DataError(
                f"{len(both)} test case(s) of fold {study.fold} are {verb}: {pairs}",
                where=dataset,
                expected="test cases that no training reads, whatever their names",
                fix="remove the duplicates"
                + (f", or name the leak: {PRETRAINED_ON_TEST}=true" * (what == "pretrained")),
            )
    counts = {what: len(contents) for what, contents in trained.items()}
    return {
        "by": "SHA-256 of the intensities",
        "test": len(tested),
        **counts,
        "shared": len(shared),
        "leaks": leaks,
    }


def check_sections(study: Study, ranges: EMRanges, pretrained: PretrainRun | None) -> dict:
    """The same for neurons, whose cases are sections of one volume.

    Args:
        study: gives protocol and pretraining.
        ranges: disjoint, as :func:`gtgm.datasets.splits.em_ranges` asserts.
        pretrained: the run that the encoder comes from; None starts at random.
    """
    leaks = _leaks(study, pretrained is not None)
    if ranges.validation == ranges.test:
        leaks.append("protocol=as_released")
    return {"by": "sections", **to_dict(ranges), "leaks": leaks}


def _read_by(study: Study, run: PretrainRun) -> dict[str, str]:
    if "contents" in run.result.data:
        return run.result.data["contents"]
    pool: dict[str, list[str]] = {}  # a result of before they were noted
    for name, _, case in (key.partition("/") for key in run.result.data["cases"]):
        pool.setdefault(name, []).append(case)
    return study.pool_contents(pool)


def _leaks(study: Study, pretrained: bool) -> list[str]:
    reads = pretrained and methods.get(study.method).pretrains
    return [PRETRAINED_ON_TEST] if reads and study.settings("pretrain").include_test else []
