"""The command line."""

from __future__ import annotations

import argparse

import pytest

from gtgm.cli import _changes, main, make_parser
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
        (["finetune", "Task04_Hippocampus", "--set", "finetune.stpes=3"], ["stpes", "steps"]),
        (["finetune", "Task04_Hippocampus", "--set", "finetune"], ["STAGE.NAME=VALUE"]),
        (["finetune", "Task04_Hippocampus", "--fold", "7"], ["fold 7"]),
        (["segment", "a.nii.gz", "b.nii.gz", "--weights", "nowhere"], ["nowhere"]),
        (["reproduce", "--tables", "pet"], ["pet", "ct, mri, em"]),
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


def test_changes_are_literals():
    assert _changes(["pretrain.lr=1e-4", "text.captioner=describe", "pretrain.gather=false"]) == {
        "pretrain": {"lr": 1e-4, "gather": False},
        "text": {"captioner": "describe"},
    }
    with pytest.raises(SettingsError):
        _changes(["lr=1"])


def test_data_list_names_all_datasets(capsys):
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 14
    assert sum("phantom" in line for line in lines) == 14


def test_verify_and_segment_real_data(shared_data, capsys):
    assert main(["data", "verify", "FIB25", "--data", str(shared_data)]) == 0
    assert "no problem" in capsys.readouterr().out
