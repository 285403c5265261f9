"""Results of runs as one archive that can be deposited, cited and checked without this package."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gtgm
from gtgm import paths
from gtgm.at_work import RESULT
from gtgm.changed import is_changed
from gtgm.datasets import registry
from gtgm.datasets.splits import FOLDER as SPLITS
from gtgm.errors import DataError, SettingsError
from gtgm.handover.folder import copy, files_below, write_sums
from gtgm.markup import markdown_table
from gtgm.results import Result, load_result, load_results, publish, refuse_paths, to_frame
from gtgm.tables import FRACTIONS, build_table
from gtgm.text.store import CaptionStore

#: The one folder of the archive, whatever the archive's own name.
TOP = "gtgm-results"
SUFFIX = ".tar.gz"
#: Files of the checkout that belong to any citable copy of its results.
CHECKOUT = ("CITATION.cff", "LICENSE", "requirements.lock", "environment.yml")
_README = """\
# Results of the GTGM companion

{count} run(s) of gtgm {version}, an independent companion of arXiv:2306.04811. {phantom}

| file | content |
| --- | --- |
| `results/ID.json` | one run each: metrics per case, settings, versions, commit, data hashes, \
hardware, command |
| `metrics.csv` | the metrics of all runs, a row per run, case, class and metric |
| `settings.csv` | the settings of all runs, a row per run and setting (JSON values) |
| `cases.csv` | the splits that were used: which case trained or tested which run, with SHA-256 |
| `splits/` | the folds and label draws of the datasets, as committed |
| `captions/ID/` | captions, one JSON object per line and patch, where their runs were given |
| `tables/` | measured beside reported, where runs belong into these tables |
| `environment.csv` | versions, commit and hardware of all runs |
| `requirements.lock`, `environment.yml` | the software environment of gtgm {version} |
| `CITATION.cff`, `LICENSE` | how to cite, and the licence of the software |
| `SHA256SUMS` | checksum of every other file |

Check it with `sha256sum -c SHA256SUMS`. Run one again with the `command` of its result, in a \
checkout of its `commit`. No image, label or network is inside.

## Data

{data}

Cite the data as well as the software (`CITATION.cff`) and the paper that it names.
"""


def export_results(chosen: str | Path | Sequence[str | Path], archive: str | Path) -> Path:
    """Write results, settings, splits, metrics, captions and environment as one archive.

    The same input gives the same bytes, on any day and under any name.

    Args:
        chosen: run folders, result files or ids, as :func:`gtgm.results.publish` takes them.
            Captions come from the folders among them.
        archive: name that ends in ``.tar.gz``; an older one is replaced.

    Raises:
        SettingsError: another name, or no checkout with the files of :data:`CHECKOUT`.
        ResultError: no result, or one that names a path of this machine.
        DataError: captions are damaged, or name a path of this machine.
    """
    archive = Path(archive)
    if not archive.name.endswith(SUFFIX):
        raise SettingsError("is no name for an archive", where=archive, expected=f"NAME{SUFFIX}")
    missing = [name for name in CHECKOUT if not (paths.ROOT / name).is_file()]
    if missing:
        raise SettingsError(
            f"lacks {', '.join(missing)}", where=paths.ROOT, fix="run this from a checkout of gtgm"
        )
    items = [chosen] if isinstance(chosen, str | Path) else list(chosen)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / TOP
        publish(items, destination=folder / "results")
        results = sorted(load_results([folder / "results"]), key=lambda result: result.id)
        _write_rows(folder, results)
        _copy_splits(folder / "splits", results)
        for item in map(Path, items):
            _copy_captions(folder / "captions", item)
        _write_tables(folder / "tables", results)
        for name in CHECKOUT:
            copy(paths.ROOT / name, folder / name)
        paths.write_text(folder / "README.md", _readme(results))
        write_sums(folder)
        with paths.atomic(archive) as writing:
            _pack(folder, writing)
    return archive


def _write_rows(folder: Path, results: list[Result]) -> None:
    metrics = to_frame(results).to_csv(index=False, lineterminator="\n")
    paths.write_text(folder / "metrics.csv", metrics)
    settings = [
        [result.id, name, json.dumps(value, sort_keys=True)]
        for result in results
        for name, value in result.settings.items()
    ]
    _write_csv(folder / "settings.csv", ["id", "setting", "value"], settings)
    header = ["id", "stage", "dataset", "fold", "draw", "case", "part", "sections", "sha256"]
    _write_csv(folder / "cases.csv", header, (row for r in results for row in _cases(r)))
    about = [{"id": r.id, **r.versions, "commit": r.commit, **r.hardware} for r in results]
    columns = list(dict.fromkeys(name for row in about for name in row))
    _write_csv(folder / "environment.csv", columns, ([r.get(c) for c in columns] for r in about))


def _cases(result: Result) -> Iterable[list[Any]]:
    """Rows of ``cases.csv``: which case of which dataset the run used, and for what."""
    tested = {row["case"] for row in result.metrics}
    for case, digest in result.data.get("cases", {}).items():
        # Stages of a pool say `dataset/case`.
        dataset, _, name = case.rpartition("/")
        who = [result.id, result.stage, dataset or result.datasets[0], result.fold, result.draw]
        sections = result.settings.get("sections")
        if result.stage == "neurons" and sections:
            parts = sections if isinstance(sections, dict) else {"test": sections}
            for part, (first, stop) in parts.items():
                yield [*who, name, part, f"{first}:{stop}", digest]
        else:
            trains = {"text": "captioned", "pretrain": "pretraining"}.get(result.stage, "train")
            part = "test" if result.stage == "finetune" and name in tested else trains
            yield [*who, name, part, "", digest]


def _copy_splits(folder: Path, results: list[Result]) -> None:
    for name in {name for result in results if result.source == "real" for name in result.datasets}:
        committed = SPLITS / f"{name}.json"
        if committed.is_file():
            copy(committed, folder / committed.name)


def _copy_captions(folder: Path, item: Path) -> None:
    """Captions of every finished run of captions in a folder, by the id of the run."""
    for done in sorted(item.rglob(RESULT)):
        run = done.parent
        if not (run / "captions").is_dir():
            continue
        id = load_result(done).id
        for dataset in sorted((run / "captions").iterdir()):
            store = CaptionStore(dataset)
            for case in store.cases():
                file = store.path(case)
                refuse_paths(
                    [row["captioner"] for row in store.rows(case)],
                    file,
                    "replace it by the captioner's name in every line",
                    "the name of a captioner",
                    DataError,
                )
                copy(file, folder / id / dataset.name / file.name)


def _write_tables(folder: Path, results: list[Result]) -> None:
    """The tables of the paper that have a measured row."""
    default = [result for result in results if not is_changed(result)]
    for modality in FRACTIONS:
        table = build_table(modality, default)
        if table.frame["measured"].notna().any():
            table.write(folder / modality.lower())


def _readme(results: list[Result]) -> str:
    phantoms = sum(result.source == "phantom" for result in results)
    phantom = (
        f"**{phantoms} of them are of phantom data: their numbers say nothing about real images.**"
        if phantoms
        else "All are of real data."
    )
    names = sorted({name for result in results for name in result.datasets})
    infos = [registry.get(name) for name in names]
    data = markdown_table(
        ["dataset", "licence", "attribution", "citation"],
        [[i.title, i.licence, i.attribution, i.citation] for i in infos],
    )
    return _README.format(count=len(results), version=gtgm.__version__, phantom=phantom, data=data)


def _write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    paths.write_text(path, text.getvalue())


def _pack(folder: Path, archive: Path) -> None:
    """Pack a folder so that the bytes depend on names and contents alone."""
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files_below(folder):
            entry = tarfile.TarInfo(file.relative_to(folder.parent).as_posix())
            entry.size, entry.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)
