"""No test case is trained on: checked in every run, by content, and noted in its result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gtgm import methods
from gtgm.at_work import RESULT
from gtgm.datasets.splits import EMRanges
from gtgm.errors import DataError
from gtgm.hashing import to_dict
from gtgm.results import load_result
from gtgm.stages.study import Study, pooled_cases, text_folder

#: Settings that let test cases in; nothing else does.
PRETRAINED_ON_TEST = "pretrain.include_test"
SELECTED_ON_TEST = "finetune.select_on_test"
VALIDATED_ON_TEST = "protocol=as_released"
BY = "SHA-256 of the intensities"


def check_pool(study: Study) -> dict[str, Any]:
    """Refuse to caption, and to pretrain on, what the fold tests.

    Args:
        study: names the pool.

    Returns:
        As :func:`check_cases`, with ``pretrained`` alone.

    Raises:
        DataError: a test case is in the pool, and no setting says so.
    """
    tested: dict[str, str] = {}
    for name in study.datasets:
        if study.open(name).info.format == "cremi":
            found = study.section_contents(name, study.sections(name).test)
        else:
            found = study.contents(name, study.split(name).test(study.fold))
        tested |= {f"{name}/{case}": content for case, content in found.items()}
    return _compared(study, study.name, tested, {}, _pooled(study), [])


def check_cases(
    study: Study, dataset: str, labelled: Iterable[str], test: Iterable[str]
) -> dict[str, Any]:
    """Refuse to go on if a test case is, by its intensities, among those that are trained on.

    A copy under another name, in another orientation or compression is the same case.

    Args:
        study: gives the volumes, and the pool if its method pretrains.
        dataset: CT or MRI.
        labelled, test: ids.

    Returns:
        What the result says: ``by``, how many cases were compared (``test``, ``labelled``,
        ``pretrained``), how many of the test cases are ``shared``, and ``leaks``, the settings
        that allow it.

    Raises:
        DataError: a test case is trained on, and no setting says so.
    """
    leaks = [SELECTED_ON_TEST] if study.settings("finetune", dataset).select_on_test else []
    tested, known = study.contents(dataset, test), study.contents(dataset, labelled)
    return _compared(study, dataset, tested, known, _pretrained(study), leaks)


def check_sections(study: Study, dataset: str, ranges: EMRanges) -> dict[str, Any]:
    """The same for neurons, whose cases are sections.

    Args:
        study: as above.
        dataset: EM.
        ranges: of the sections; disjoint, as :func:`gtgm.datasets.splits.em_ranges` asserts.

    Returns:
        As :func:`check_cases`, and the ranges under ``sections``.

    Raises:
        DataError: a test section is trained on, under whatever name, and no setting says so.
    """
    leaks = [VALIDATED_ON_TEST] if ranges.validation == ranges.test else []
    tested = study.section_contents(dataset, ranges.test)
    known = study.section_contents(dataset, ranges.train)
    noted = _compared(study, dataset, tested, known, _pretrained(study), leaks)
    return {**noted, "sections": to_dict(ranges)}


def _pretrained(study: Study) -> dict[str, str] | None:
    """Contents of the pool by case; None without pretraining."""
    return _pooled(study) if methods.get(study.method).pretrains else None


def _pooled(study: Study) -> dict[str, str]:
    """Contents of the pool by case, as captioning noted them."""
    done = text_folder(study) / RESULT
    noted = load_result(done).data.get("contents") if done.exists() else None
    return noted or study.pool_contents(pooled_cases(study))


def _compared(
    study: Study,
    where: str,
    tested: Mapping[str, str],
    labelled: Mapping[str, str],
    pretrained: Mapping[str, str] | None,
    leaks: list[str],
) -> dict[str, Any]:
    if pretrained is not None and study.settings("pretrain").include_test:
        leaks = [PRETRAINED_ON_TEST, *leaks]
    shared: set[str] = set()
    for verb, contents in (("pretrained on", pretrained or {}), ("trained on", labelled)):
        known = {content: case for case, content in contents.items()}
        both = {case: known[content] for case, content in tested.items() if content in known}
        shared |= both.keys()
        allowed = contents is pretrained and PRETRAINED_ON_TEST in leaks
        if both and not allowed:
            pairs = ", ".join(f"{a} = {b}" for a, b in list(both.items())[:3])
            naming = f", or allow it: --set {PRETRAINED_ON_TEST}=true" * (contents is pretrained)
            raise DataError(
                f"{len(both)} of what fold {study.fold} tests is {verb}: {pairs}",
                where=where,
                expected="test cases that no training reads, whatever their names",
                fix=f"remove the duplicates{naming}",
            )
    counts = {"labelled": len(labelled), "pretrained": len(pretrained or {})}
    return {"by": BY, "test": len(tested), **counts, "shared": len(shared), "leaks": leaks}
