"""The command line."""

from __future__ import annotations

import argparse
import os

import pytest
from small_files import hippocampus

from gtgm.batch.plan import plan
from gtgm.batch.snake import BatchReport
from gtgm.batch.units import write_manifest
from gtgm.cli import _changes, _study, main, make_parser
from gtgm.errors import SettingsError


def parsers(parser: argparse.ArgumentParser, path: str = "gtgm"):
    yield path, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, f"{path} {name}")


@pytest.mark.parametrize(("path", "parser"), list(parsers(make_parser())))
def test_every_command_has_help_with_an_example(path, parser):
    text = parser.format_help()
    assert "example" in text
    assert "gtgm " in text.split("example", 1)[1]
    assert parser.description


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["finetune", "Task04_Hippocampus", "--fractoin", "0.1"],
        ["finetune", "Task04_Hippocampus", "--method", "clip"],
        ["reproduce", "--profile", "huge"],
        ["reproduce", "--prof", "demo"],
        ["reproduce", "--folds", "0;1"],
        ["status", "--tables", "mri"],
        ["finetune", "Task04_Hippocampus", "--fraction", "some"],
        ["evaluate", "Task04_Hippocampus", "--weights", "w", "--set", "finetune.steps=3"],
    ],
)
def test_unknown_words_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "verify", "Task99_Elbow"], ["Task99_Elbow"]),
        (["data", "verify", "Task04_Hippocampus", "--data", "absent"], ["absent", "data folder"]),
        (["finetune", "Task04_Hippocampus", "--fraction", "1.5"], ["1.5", "(0, 1]"]),
        (["finetune", "Task04_Hippocampus", "--fraction", "0"], ["fraction"]),
        (["finetune", "Task04_Hippocampus", "--fraction", "150%"], ["1.5", "(0, 1]"]),
        (
            ["pretrain", "Task04_Hippocampus", "--set", "finetune.steps=3"],
            ["finetune.steps would change nothing", "of text, pretrain"],
        ),
        (["pretrain", "Task04_Hippocampus", "--set", "finetune.stpes=3"], ["stpes", "steps"]),
        (["finetune", "CREMI_A", "--set", "finetune.steps=3"], ["nothing", "pretrain, neurons"]),
        (["finetune", "CREMI_A", "--set", "neurons.patch=5"], ["neurons.patch", "like (24, 96"]),
        (["finetune", "Task04_Hippocampus", "--set", "finetune.patch=5"], ["a list, such as"]),
        (["finetune", "Task04_Hippocampus", "--set", "finetune.graphs=maybe"], ["true or false"]),
        (["finetune", "Task04_Hippocampus", "--set", "finetune.stpes=3"], ["stpes", "steps"]),
        (["finetune", "Task04_Hippocampus", "--set", "finetune"], ["STAGE.NAME=VALUE"]),
        (["finetune", "Task04_Hippocampus", "--fold", "7"], ["fold 7"]),
        (["finetune", "Task04_Hippocampus", "--seed", "-5"], ["seed", "-5", "from 0"]),
        (["pretrain", "Task04_Hippocampus", "--seed", str(10**22)], ["seed", "2³²"]),
        (["segment", "a.nii.gz", "b.nii.gz", "--weights", "nowhere"], ["nowhere"]),
        (["reproduce", "--tables", "pet"], ["pet", "ct, mri, em"]),
        (["reproduce", "--where", "metod=gtgm"], ["metod", "character 1 ", "method"]),
        (["reproduce", "--where", "fold=3"], ["selects none", "fold: 0"]),
        (["reproduce", "--folds", "0,9"], ["fold 9", "0 to 4"]),
        (["reproduce", "--cluster", "moon"], ["moon", "kubernetes, local, slurm"]),
        (["reproduce", "--profile", "hippocampus"], ["gtgm data get Task04_Hippocampus", "--data"]),
        (["status", "--where", "dataset=Task04"], ["Task04", "did you mean"]),
        (["status", "--jobs", "0"], ["jobs is 0"]),
        (["publish", "nothing-like-this"], ["nothing-like-this"]),
    ],
)
def test_mistakes_get_one_clear_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir(exist_ok=True)
    assert main(arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("gtgm: ")
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("given", "used"), [("2,1", "2"), (" 4 ", "4"), ("", ""), ("two", None), ("0", None)]
)
def test_of_threads_per_level_the_first_number_counts(given, used, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert main(["data", "list"]) == (used is None)
    if used is None:
        assert f"$OMP_NUM_THREADS: is {given!r}. Expected: a number" in capsys.readouterr().err
    else:
        assert os.environ["OMP_NUM_THREADS"] == used


def test_changes_are_literals():
    assert _changes(["pretrain.lr=1e-4", "text.captioner=describe", "pretrain.gather=false"]) == {
        "pretrain": {"lr": 1e-4, "gather": False},
        "text": {"captioner": "describe"},
    }
    with pytest.raises(SettingsError):
        _changes(["lr=1"])


def test_a_phantom_in_place_of_named_data_is_said(tmp_path, capsys):
    hippocampus(tmp_path / "Task04_Hippocampus")
    command = ["finetune", "Task04_Hippocampus", "--pool", "Task04_Hippocampus", "Task05_Prostate"]
    for data, names in (([], []), (["--data", str(tmp_path)], ["Task05_Prostate"])):
        options = make_parser().parse_args([*command, *data])
        _study(options, options.pool, "finetune")
        lines = capsys.readouterr().err.splitlines()
        assert lines == [f"note: {name} is not in {tmp_path}; a phantom is used" for name in names]


def test_data_list_names_all_datasets(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 14
    assert sum("phantom" in line for line in lines) == 14


def test_verify_and_segment_real_data(shared_data, capsys):
    assert main(["data", "verify", "FIB25", "--data", str(shared_data)]) == 0
    assert "no problem" in capsys.readouterr().out


def test_status_shows_the_plan_before_and_the_batch_after_its_start(tmp_path, capsys):
    assert main(["status", "--runs", str(tmp_path), "--where", "dataset=Task02_Heart"]) == 0
    out = capsys.readouterr().out
    assert "Nothing has been started" in out
    assert "0 of 4 units, 0 of 2 runs done" in out.splitlines()[-1]

    units = plan("demo", ["mri"], folder=tmp_path)
    write_manifest(units, tmp_path / "batch" / "manifest.json")
    assert main(["status", "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(unit.name in out for unit in units)
    assert f"0 of {len(units)} units" in out.splitlines()[-1]
    assert main(["status", "--runs", str(tmp_path), "--where", "dataset=Task02_Heart"]) == 0
    assert "0 of 4 units, 0 of 2 runs done" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["", "backbone=unet and fold=0"])
def test_runs_that_need_a_gpu_are_planned_where_there_is_one_and_never_silently_left_out(
    where, tmp_path, monkeypatch, capsys
):
    (tmp_path / "data" / "Task04_Hippocampus").mkdir(parents=True)
    command = ["--profile", "hippocampus", "--data", str(tmp_path / "data")]
    command += ["--runs", str(tmp_path / "runs"), "--where", where]
    monkeypatch.setattr("gtgm.provenance.has_gpu", lambda: False)
    assert main(["status", *command]) == 0
    out = capsys.readouterr().out
    assert ("40 runs at the paper's sizes need a GPU" in out) == (not where)
    assert "swin" not in out and "unet" in out

    planned = []
    nothing = BatchReport({}, (), 0.0, 0)
    monkeypatch.setattr(
        "gtgm.batch.snake.run_batch", lambda units, *_, **__: planned.append(units) or nothing
    )
    assert main(["reproduce", "--dry-run", "--cluster", "slurm", *command]) == 0
    monkeypatch.setattr("gtgm.provenance.has_gpu", lambda: True)
    assert main(["reproduce", "--dry-run", *command]) == 0
    assert "need a GPU" not in capsys.readouterr().out
    for units in planned:
        large = sum(len(unit.runs) for unit in units if unit.gpus)
        assert large == (0 if where else 40)


def test_a_plan_that_cannot_be_made_is_not_announced(tmp_path, capsys):
    assert main(["status", "--profile", "hippocampus", "--runs", str(tmp_path)]) == 1
    out, error = capsys.readouterr()
    assert out == "" and "gtgm data get Task04_Hippocampus" in error
