"""Results: round trip, refusal of damaged files, publishing, provenance."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import time
from pathlib import Path

import pytest

from gtgm import paths
from gtgm.errors import ResultError
from gtgm.provenance import commit
from gtgm.results import (
    Result,
    load_result,
    load_results,
    measure,
    provenance,
    publish,
    save_result,
    to_frame,
)

FIELDS = {
    "id": "hippocampus-random-f0.1-d0",
    "stage": "finetune",
    "dataset": "Task04_Hippocampus",
    "source": "real",
    "method": "random",
    "fraction": 0.1,
    "draw": 0,
    "n_train": 21,
    "n_test": 52,
    "summary": {"dice": 0.85},
    "metrics": [
        {"case": "a", "class": "anterior", "metric": "dice", "value": 0.9},
        {"case": "a", "class": "posterior", "metric": "hd95", "value": None},
    ],
    "curves": {"loss": [[0, 1.5], [10, 0.5]]},
}


def test_a_saved_result_is_read_back_equal_with_its_provenance(tmp_path: Path) -> None:
    saved = save_result(tmp_path / "run" / "result.json", **FIELDS)
    read = load_result(tmp_path / "run" / "result.json")
    assert read == saved
    assert read.summary == {"dice": 0.85} and read.curves["loss"][1] == [10, 0.5]
    assert {"python", "torch", "monai", "transformers", "numpy", "gtgm"} <= set(read.versions)
    assert read.hardware["cores"] >= 1 and read.hardware["ram_gb"] > 0 and read.hardware["cpu"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "update gtgm"),
        ({"schema_version": 0}, "run the unit again"),
        ({"schema_version": None}, "schema version None"),
        ({"invented": 1}, "unknown fields invented"),
        ({"stage": "dream"}, "stage 'dream'"),
        ({"source": "guess"}, "source 'guess'"),
        ({"fraction": 0}, r"\(0, 1\]"),
        ({"id": "../../escape"}, "has the id"),
        ({"metrics": [{"case": "a"}]}, "case, class and metric as texts, value"),
        ({"summary": {"dice": "high"}}, "finite number"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, change: dict, message: str) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"schema_version": 1, **FIELDS, **change}))
    with pytest.raises(ResultError, match=message) as caught:
        load_results([tmp_path])
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ['{"schema_version": 1', "", "[1, 2]", "{}", "\x00"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ResultError, match=r"result\.json"):
        load_results(tmp_path)


def test_nan_is_refused_when_written_and_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    save_result(file, **FIELDS)
    with pytest.raises(ResultError, match="finite"):
        save_result(file, **{**FIELDS, "summary": {"dice": math.nan}})
    assert load_result(file).summary == {"dice": 0.85}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_results_are_found_at_any_depth_and_stray_json_is_not_skipped(tmp_path: Path) -> None:
    save_result(tmp_path / "a" / "b" / "result.json", **{**FIELDS, "id": "deep"})
    save_result(tmp_path / "flat.json", **{**FIELDS, "id": "flat"})
    (tmp_path / "a" / "settings.json").write_text("{}")  # beside a run, not a result
    assert sorted(r.id for r in load_results([tmp_path])) == ["deep", "flat"]
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(ResultError, match=r"notes\.json"):
        load_results([tmp_path])
    with pytest.raises(ResultError, match="no such folder"):
        load_results([tmp_path / "absent"])


def test_the_same_id_twice_counts_once_and_a_difference_is_said(tmp_path: Path) -> None:
    save_result(tmp_path / "a" / "result.json", **FIELDS)
    save_result(tmp_path / "b" / "result.json", **FIELDS)
    assert len(load_results([tmp_path])) == 1
    save_result(tmp_path / "b" / "result.json", **{**FIELDS, "summary": {"dice": 0.1}})
    with pytest.warns(UserWarning, match="differs"):
        results = load_results([tmp_path / "b", tmp_path / "a"])
    assert [r.summary["dice"] for r in results] == [0.1]


def test_long_frame_has_one_row_per_metric(tmp_path: Path) -> None:
    pool = {**FIELDS, "id": "pool", "dataset": ["A", "B"]}
    frame = to_frame(
        [save_result(tmp_path / "1.json", **FIELDS), save_result(tmp_path / "2.json", **pool)]
    )
    assert len(frame) == 4 and frame["value"].isna().sum() == 2
    assert set(frame["dataset"]) == {"Task04_Hippocampus", "A+B"}
    assert list(to_frame([]).columns) == list(frame.columns)


def test_paths_of_the_machine_are_shortened_when_saved(tmp_path: Path) -> None:
    result = save_result(
        tmp_path / "result.json",
        **{
            **FIELDS,
            "command": f"gtgm finetune --data {tmp_path}/sets/msd --fraction=0.1",
            "notebook": str(paths.ROOT / "notebooks" / "03_finetuning.ipynb"),
            "settings": {"encoder": Path("/models/bert"), "hub": "dmis-lab/biobert-v1.1",
                         "url": "https://example.org/a/b", "home": "~/x/y", "win": "C:\\a\\b"},
        },
    )  # fmt: skip
    assert result.command == "gtgm finetune --data …/msd --fraction=0.1"
    assert result.notebook == "notebooks/03_finetuning.ipynb"
    assert result.settings == {
        "encoder": "…/bert", "hub": "dmis-lab/biobert-v1.1", "url": "https://example.org/a/b",
        "home": "…/y", "win": "…/b",
    }  # fmt: skip


def test_publish_copies_unchanged_and_refuses_paths_of_one_machine(tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "measured"
    save_result(runs / "x" / "result.json", **FIELDS)
    save_result(runs / "y" / "result.json", **{**FIELDS, "id": "other"})
    (written,) = publish(FIELDS["id"], runs=runs, destination=out)
    assert written == out / f"{FIELDS['id']}.json"
    assert written.read_bytes() == (runs / "x" / "result.json").read_bytes()
    assert len(publish(runs, destination=out)) == 2
    with pytest.raises(ResultError, match="did you mean hippocampus-random-f0.1-d0"):
        publish("hippocampus-random-f0.1-d1", runs=runs, destination=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="holds no result"):
        publish(tmp_path / "empty", destination=out)

    leaky = json.loads(written.read_text())
    leaky["settings"] = {"weights": ["run --from /home/someone/weights"]}
    leaky["id"] = "leaky"
    paths.write_json(runs / "z" / "result.json", leaky)
    with pytest.raises(ResultError, match="/home/someone/weights"):
        publish([runs / "x", runs / "z"], destination=tmp_path / "none")
    assert not (tmp_path / "none").exists()  # nothing is published if one is refused


def test_published_results_of_this_project_are_portable() -> None:
    results = load_results([paths.MEASURED])
    publishable = [r for r in results if r.commit and r.versions and r.command]
    assert publishable == results


def test_commit_marks_changed_code_only(tmp_path: Path) -> None:
    def git(*command: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip

    assert commit(tmp_path) is None
    git("init")
    (tmp_path / "gtgm").mkdir()
    (tmp_path / "gtgm" / "a.py").write_text("x = 1\n")
    (tmp_path / "README.md").write_text("a\n")
    git("add", ".")
    git("commit", "-m", "first")
    clean = commit(tmp_path)
    assert clean and len(clean) == 40
    (tmp_path / "README.md").write_text("b\n")
    assert commit(tmp_path) == clean
    (tmp_path / "gtgm" / "b.py").write_text("y = 2\n")
    assert commit(tmp_path) == f"{clean}-dirty"
    assert commit(tmp_path / "gtgm") is None  # a folder inside somebody's repository


def test_measure_sees_memory_that_was_held_only_inside_the_block() -> None:
    with measure() as before:
        time.sleep(0.05)
    with measure() as during:
        block = bytearray(300_000_000)
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.4)
        limit = time.monotonic() + 30
        while during.peak_memory_gb - before.peak_memory_gb < 0.2 and time.monotonic() < limit:
            time.sleep(0.1)
        del block
    assert during.peak_memory_gb - before.peak_memory_gb > 0.2
    assert during.wall_seconds >= 0.4
    assert during.wall_seconds == during.wall_seconds  # stands still after the block


def test_short_html_is_escaped() -> None:
    result = Result(id="x", stage="text", dataset="<b>", source="real", summary={"r@1": 0.5})
    html = result._repr_html_()
    assert "&lt;b&gt;" in html and ">0.5</td>" in html


def test_provenance_is_json() -> None:
    json.dumps(provenance(), allow_nan=False)
    assert {f.name for f in dataclasses.fields(Result)} >= set(provenance())
