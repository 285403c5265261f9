"""Archives of results: complete, checked, the same bytes again, and without images or paths."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tomllib

import pandas as pd
import pytest
import yaml
from handover_runs import COMMON, HIPPOCAMPUS, finetuned, neurons, pretrained

from gtgm import paths
from gtgm.cli import main
from gtgm.datasets.splits import from_json
from gtgm.errors import DataError, ResultError, SettingsError
from gtgm.handover.archive import CHECKOUT, TOP, export_results
from gtgm.results import absolute_paths, load_result, load_results, save_result, to_frame
from gtgm.text.store import CaptionStore

ROW = {"origin": [0, 0, 0], "size": [8, 8, 8], "slice": 4, "channel": 0, "raw": "an MRI",
       "text": "an MRI | of the head", "captioner": "describe[DH]"}  # fmt: skip


def captioned(folder, captioner="describe[DH]"):
    """A run of captions of two cases, with embeddings and a text encoder beside them."""
    store = CaptionStore(folder / "captions" / HIPPOCAMPUS)
    for case in ("a", "b"):
        store.write(case, [{**ROW, "captioner": captioner}])
    (folder / "embeddings.safetensors").write_bytes(b"numbers")
    fields = {**COMMON, "method": None, "data": {"cases": {f"{HIPPOCAMPUS}/a": "a" * 64}}}
    save_result(folder / "result.json", id="text-1", stage="text", dataset=[HIPPOCAMPUS], **fields)
    return folder


@pytest.fixture
def runs(tmp_path):
    """A folder of runs of every stage, with images that nobody may hand on."""
    folder = tmp_path / "runs"
    captioned(folder / "text" / "1")
    finetuned(folder / "finetune" / "1", profile="cpu")
    (folder / "finetune" / "1" / "predictions").mkdir()
    (folder / "finetune" / "1" / "predictions" / "a.nii.gz").write_bytes(b"image")
    neurons(folder / "neurons" / "1", source="phantom")
    pretrained(folder / "pretrain" / "1")
    (folder / "text" / "unfinished" / "captions").mkdir(parents=True)
    return folder


def unpacked(archive, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / TOP


def read(path) -> list[dict]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_every_file_has_the_sum_that_is_written(runs, tmp_path):
    folder = unpacked(export_results(runs, tmp_path / "results.tar.gz"), tmp_path / "out")
    files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    sums = dict(
        line.split("  ", 1)[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    assert set(files) - {"SHA256SUMS"} == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    program = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert program.returncode == 0
    (folder / "metrics.csv").write_text("changed")
    program = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert program.returncode == 1 and b"metrics.csv: FAILED" in program.stdout


def test_what_is_inside(runs, tmp_path):
    folder = unpacked(export_results(runs, tmp_path / "results.tar.gz"), tmp_path / "out")
    files = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    results = load_results([runs])
    assert files == {
        *CHECKOUT,
        "README.md",
        "SHA256SUMS",
        "metrics.csv",
        "settings.csv",
        "cases.csv",
        "environment.csv",
        *(f"results/{result.id}.json" for result in results),
        f"splits/{HIPPOCAMPUS}.json",
        f"captions/text-1/{HIPPOCAMPUS}/a.jsonl",
        f"captions/text-1/{HIPPOCAMPUS}/b.jsonl",
        *(f"tables/{name}.{kind}" for name in ("mri", "em") for kind in ("md", "csv", "tex")),
    } - {f"tables/em.{kind}" for kind in ("md", "csv", "tex")}  # its run is one of `tiny`
    for result in results:
        assert load_result(folder / "results" / f"{result.id}.json") == result
    from_json(json.loads((folder / "splits" / f"{HIPPOCAMPUS}.json").read_text()))
    store = CaptionStore(folder / "captions" / "text-1" / HIPPOCAMPUS)
    assert store.unique_texts() == [ROW["text"]]
    assert "1 of them are of phantom data" in (folder / "README.md").read_text()
    assert "CC-BY-SA 4.0" in (folder / "README.md").read_text()


def test_the_tables_hold_what_the_results_say(runs, tmp_path):
    folder = unpacked(export_results(runs, tmp_path / "results.tar.gz"), tmp_path / "out")
    results = sorted(load_results([runs]), key=lambda result: result.id)
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "metrics.csv"),
        pd.read_csv(io.StringIO(to_frame(results).to_csv(index=False))),
    )
    rows = read(folder / "settings.csv")
    settings = {(row["id"], row["setting"]): json.loads(row["value"]) for row in rows}
    assert settings == {(r.id, k): v for r in results for k, v in r.settings.items()}
    cases = read(folder / "cases.csv")
    parts = {(r["stage"], r["dataset"], r["case"], r["part"]): r["sections"] for r in cases}
    assert parts == {
        **{("finetune", HIPPOCAMPUS, case, "test"): "" for case in "ab"},
        **{("finetune", HIPPOCAMPUS, case, "train"): "" for case in "cd"},
        ("neurons", "CREMI_A", "CREMI_A", "train"): "0:45",
        ("neurons", "CREMI_A", "CREMI_A", "validation"): "45:48",
        ("neurons", "CREMI_A", "CREMI_A", "test"): "48:60",
        ("pretrain", HIPPOCAMPUS, "a", "pretraining"): "",
        ("text", HIPPOCAMPUS, "a", "captioned"): "",
    }
    assert {r["sha256"][0] for r in cases if r["stage"] == "finetune"} == set("abcd")
    environment = {r["id"]: r for r in read(folder / "environment.csv")}
    for result in results:
        assert environment[result.id]["torch"] == result.versions["torch"]


def test_the_same_input_gives_the_same_bytes(runs, tmp_path):
    first = export_results(runs, tmp_path / "first.tar.gz").read_bytes()
    for file in runs.rglob("*"):
        os.utime(file, (1, 1))
    (runs / "finetune").rename(runs / "zz")  # found in another order
    again = export_results(str(runs), tmp_path / "of another name.tar.gz").read_bytes()
    assert first == again
    with tarfile.open(tmp_path / "first.tar.gz") as tar:
        entries = tar.getmembers()
    assert [e.name for e in entries] == sorted(e.name for e in entries)
    assert {(e.mtime, e.uid, e.gid, e.uname, e.mode) for e in entries} == {(0, 0, 0, "", 0o644)}
    assert all(e.isfile() and e.name.startswith(f"{TOP}/") for e in entries)


def test_published_results_are_archived_without_captions(tmp_path, capsys):
    measured = sorted(paths.MEASURED.glob("*draw0-unet-corrected-fold0*.json"))[:3]
    archive = tmp_path / "measured.tar.gz"
    assert main(["export", "results", *map(str, measured), "--to", str(archive)]) == 0
    assert f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}" in capsys.readouterr().out
    folder = unpacked(archive, tmp_path / "out")
    for file in measured:
        kept = json.loads((folder / "results" / file.name).read_text())
        assert {k: kept[k] for k in json.loads(file.read_text())} == json.loads(file.read_text())
    assert not (folder / "captions").exists() and (folder / "tables" / "mri.md").is_file()
    assert "All are of real data." in (folder / "README.md").read_text()
    texts = [f.read_text() for f in folder.rglob("*.*") if f.name != "README.md"]
    assert not [p for text in texts for p in absolute_paths(text) if "http" not in p]


def test_a_run_is_named_by_its_id_too(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("GTGM_RUNS", str(runs))
    archive = export_results("neurons-CREMI_A", tmp_path / "one.tar.gz")
    folder = unpacked(archive, tmp_path / "out")
    assert [f.name for f in (folder / "results").iterdir()] == ["neurons-CREMI_A.json"]
    assert not (folder / "captions").exists() and not (folder / "splits").exists()


def test_paths_of_a_machine_and_other_names_are_refused(runs, tmp_path):
    archive = tmp_path / "results.tar.gz"
    with pytest.raises(SettingsError, match=r"NAME\.tar\.gz"):
        export_results(runs, tmp_path / "results.zip")
    with pytest.raises(ResultError, match="holds no result"):
        export_results(runs / "text" / "unfinished", archive)
    captioned(runs / "text" / "1", captioner="/home/me/blip")
    with pytest.raises(DataError, match=r"a\.jsonl: names a path of one machine: '/home/me/blip'"):
        export_results(runs, archive)
    captioned(runs / "text" / "1")
    result = runs / "finetune" / "1" / "result.json"
    result.write_text(result.read_text().replace('"gtgm finetune', '"/home/me/gtgm finetune'))
    with pytest.raises(ResultError, match="names a path of one machine"):
        export_results(runs, archive)
    assert not archive.exists()


def test_the_citation_file_is_valid_and_of_this_version():
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert all("name" in a or "family-names" in a for a in citation["authors"])
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["identifiers"][0]["value"] == "10.48550/arXiv.2306.04811"
    assert paper["identifiers"][0]["type"] in ("doi", "url", "swh", "other")
