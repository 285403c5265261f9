"""Exported weights: the same network, readable by this package alone, with what one must know."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shlex

import nibabel as nib
import numpy as np
import pytest
import torch
from handover_runs import finetuned, neurons, pretrained
from huggingface_hub import ModelCard

from gtgm.cli import main
from gtgm.errors import ResultError, SettingsError, WeightsError
from gtgm.handover.folder import SUMS
from gtgm.handover.weights import export_weights
from gtgm.inference import segment_file
from gtgm.models.encoder import from_pretrained
from gtgm.models.segmenter import load_segmenter
from gtgm.results import absolute_paths, load_result
from gtgm.stages import Study, finetune
from gtgm.stages.finetuning import run_folder

RUNS = {"finetune": finetuned, "neurons": neurons, "pretrain": pretrained}
HIPPOCAMPUS = "Task04_Hippocampus"


@pytest.fixture
def scan(tmp_path):
    values = np.random.default_rng(0).normal(100, 20, (20, 18, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([1, 1, 2, 1])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def checked(folder) -> set[str]:
    """Files that SHA256SUMS names; each has the sum that stands there."""
    names = set()
    for line in (folder / SUMS).read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
        names.add(name)
    assert names | {SUMS} == {
        f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()
    }
    return names


@pytest.mark.parametrize("stage", RUNS)
def test_a_folder_holds_all_that_is_needed_and_no_image(tmp_path, stage):
    run = RUNS[stage](tmp_path / "run")
    folder = export_weights(run, tmp_path / "new" / "weights")
    kind = "encoder" if stage == "pretrain" else "segmenter"
    assert checked(folder) == {
        "README.md",
        "LICENSE",
        "config.json",
        "result.json",
        f"{kind}.safetensors",
    }
    assert load_result(folder / "result.json") == load_result(run / "result.json")
    assert (folder / "README.md").stat().st_mode & 0o777 == (run / "config.json").stat().st_mode & (
        0o777
    )
    assert [p.name for p in folder.parent.iterdir()] == ["weights"]  # nothing half-written
    assert not any(absolute_paths(f.read_text()) for f in folder.glob("*.json"))


def test_the_loaders_of_the_package_read_the_folder(tmp_path):
    run = finetuned(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["schema_version"]  # as an older version wrote it
    (run / "config.json").write_text(json.dumps(config))
    folder = export_weights(run, tmp_path / "weights")
    assert json.loads((folder / "config.json").read_text())["schema_version"] == 1
    (old, about), (new, again) = load_segmenter(run), load_segmenter(folder)
    assert about == again
    assert all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    encoder = export_weights(pretrained(tmp_path / "pretraining"), tmp_path / "encoder")
    assert from_pretrained(encoder, in_channels=2).config["in_channels"] == 2


def code(folder, language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", (folder / "README.md").read_text(), re.S).group(1)


def run_python(folder, tmp_path) -> dict:
    """Names that the card's Python defines."""
    (tmp_path / "card.py").write_text(code(folder, "python"))
    return runpy.run_path(str(tmp_path / "card.py"))


def test_the_commands_and_the_code_of_the_card_work_in_the_folder(tmp_path, scan, monkeypatch):
    run = finetuned(tmp_path / "run", {"tta_axes": "W"})
    segment_file(scan, tmp_path / "expected.nii.gz", run)
    folder = export_weights(run, tmp_path / "weights")
    monkeypatch.chdir(folder)
    scan.rename("scan.nii.gz")
    assert main(shlex.split(code(folder, "bash"))[1:]) == 0
    assert np.array_equal(voxels("labels.nii.gz"), voxels(tmp_path / "expected.nii.gz"))
    (folder / "labels.nii.gz").unlink()
    given = run_python(folder, tmp_path)
    assert set(given["millilitres"]) == {"anterior", "posterior"}
    assert np.array_equal(voxels("labels.nii.gz"), voxels(tmp_path / "expected.nii.gz"))


def test_the_code_of_an_encoders_card_works(tmp_path, monkeypatch):
    folder = export_weights(pretrained(tmp_path / "run"), tmp_path / "weights")
    monkeypatch.chdir(folder)
    given = run_python(folder, tmp_path)
    assert given["segmenter"](torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_a_run_of_the_stages_is_handed_on(tmp_path, capsys):
    changes = {"finetune": {"steps": 2, "precision": "no"}}
    study = Study((HIPPOCAMPUS,), runs=str(tmp_path / "runs"), changes=changes)
    result = finetune(study, HIPPOCAMPUS, "random")
    run = run_folder(study, HIPPOCAMPUS, "random", 1.0, 0)
    folder = tmp_path / "weights"
    assert main(["export", "weights", str(run), "--to", str(folder)]) == 0
    assert f"hf upload ORGANISATION/NAME {folder}" in capsys.readouterr().out
    assert not list(folder.rglob("*.nii.gz"))
    card = ModelCard.load(folder / "README.md")
    found = {e.metric_name: e.metric_value for e in card.data.eval_results}
    assert found == {
        k: v for k, v in result.summary.items() if v is not None and k != "hd95_missed"
    }
    for row in (r for r in card.text.splitlines() if r.startswith("| anterior")):
        assert float(row.split("|")[2]) == pytest.approx(result.summary["dice/anterior"], rel=1e-3)
    case = study.split(HIPPOCAMPUS).test(0)[0]
    segment_file(study.open(HIPPOCAMPUS).case(case).image, tmp_path / "labels.nii.gz", folder)
    assert np.array_equal(
        voxels(tmp_path / "labels.nii.gz"), voxels(run / "predictions" / f"{case}.nii.gz")
    )


def test_what_is_there_is_never_replaced(tmp_path):
    run = finetuned(tmp_path / "run")
    (tmp_path / "weights").mkdir()
    export_weights(run, tmp_path / "weights")  # an empty folder is as good as none
    before = (tmp_path / "weights" / "README.md").read_bytes()
    with pytest.raises(SettingsError, match="name another folder, or delete this one"):
        export_weights(run, tmp_path / "weights")
    assert (tmp_path / "weights" / "README.md").read_bytes() == before
    with pytest.raises(SettingsError, match="is a file"):
        export_weights(run, tmp_path / "weights" / "README.md")


def test_a_run_that_cannot_be_used_is_refused_and_leaves_nothing(tmp_path):
    run, target = finetuned(tmp_path / "run"), tmp_path / "weights"
    weights = run / "segmenter.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="segmenter.safetensors"):
        export_weights(run, target)
    weights.write_bytes(whole)
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace("anterior", "/home/me/anterior"))
    with pytest.raises(ResultError, match="names a path of one machine"):
        export_weights(run, target)
    (run / "config.json").unlink()
    with pytest.raises(WeightsError, match="config.json"):
        export_weights(run, target)
    text = pretrained(tmp_path / "text", stage="text")
    with pytest.raises(ResultError, match="gtgm export results"):
        export_weights(text, target)
    with pytest.raises(ResultError, match="result.json"):
        export_weights(tmp_path / "nowhere", target)
    assert not target.exists()
