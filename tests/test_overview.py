"""What a batch shows of itself: plan, progress, failures and the rest."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from gtgm.batch.lock import alone
from gtgm.batch.overview import plan_table, progress, status_table, time_text, wall_seconds
from gtgm.batch.run import Run
from gtgm.batch.status import failure, seconds_taken, state
from gtgm.batch.units import Unit, lock_path
from gtgm.results import save_result

DATASET = "Task04_Hippocampus"


def runs(method: str, draws: int) -> tuple[Run, ...]:
    return tuple(Run(DATASET, method, 0.01, d, profile="cpu", pool=(DATASET,))
                 for d in range(draws))  # fmt: skip


def leaf(method: str, *needs: str, draws: int = 5, seconds: float = 1000.0) -> Unit:
    return Unit(f"tune-{method}", "03_finetuning.ipynb", {"profile": "cpu"}, needs,
                seconds, runs=runs(method, draws))  # fmt: skip


@pytest.fixture
def units() -> list[Unit]:
    return [
        Unit("text", "01_text_generation.ipynb", {"profile": "cpu"}, (), 100.0),
        Unit("train", "02_pretraining.ipynb", {"profile": "cpu"}, ("text",), 200.0),
        leaf("random"),
        leaf("gtgm", "train"),
        leaf("byol"),
        Unit("table_mri", "table_mri.ipynb", {}, ("tune-random", "tune-gtgm", "tune-byol"), 15.0),
    ]


def executed(unit: Unit, folder: Path, seconds: float) -> None:
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"duration": seconds}})
    unit.executed(folder).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, unit.executed(folder))


def failed(unit: Unit, folder: Path, *errors: tuple[str, str]) -> None:
    outputs = [nbformat.v4.new_output("stream", text="so far")]
    outputs += [nbformat.v4.new_output("error", ename=n, evalue=v) for n, v in errors]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    unit.failed(folder).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, unit.failed(folder))


def scored(run: Run, folder: Path, seconds: float, unit: str, memory: float = 1.5) -> None:
    identity = {name: getattr(run, name) for name in (
        "dataset", "method", "fraction", "draw", "fold", "seed", "backbone", "protocol", "profile"
    )}  # fmt: skip
    save_result(
        folder / "cpu" / "finetune" / f"{run.method}-{run.draw}-{run.fold}" / "result.json",
        id=f"{run.method}-{run.draw}-{run.fold}",
        stage="finetune",
        source="real",
        summary={"dice": 0.8},
        wall_seconds=seconds,
        peak_memory_gb=memory,
        notebook=f"executed/{unit}.ipynb",
        settings={"changes": run.changes} if run.changes else {},
        **identity,
    )


def test_the_rest_follows_what_was_measured_of_the_same_kind(units, tmp_path):
    text, train, random, gtgm, byol, table = units
    executed(text, tmp_path, 300.0)  # three times the estimate
    executed(random, tmp_path, 20.0)  # it only read results when it was executed last
    for run in random.runs:
        scored(run, tmp_path, 400.0, random.name)  # twice the estimate of 200 s a run
    for run in gtgm.runs[:2]:
        scored(run, tmp_path, 400.0, gtgm.name, memory=2.5)
    known = progress(units, tmp_path)
    assert [known[u.name].state for u in units] == ["done", "to run", "done", *["to run"] * 3]
    assert [known[u.name].done for u in units] == [0, 0, 5, 2, 0, 0]
    assert known["text"].left == known["tune-random"].left == 0
    assert known["tune-byol"].left == pytest.approx(2000)
    assert known["tune-gtgm"].left == pytest.approx(2000 * 3 / 5)
    overall = (300 + 7 * 400) / (100 + 7 * 200)
    assert known["train"].left == pytest.approx(200 * overall)
    assert known["table_mri"].left == pytest.approx(15 * overall)
    assert known["tune-gtgm"].memory_gb == 2.5 and known["tune-byol"].memory_gb is None
    assert known["text"].seconds == 300.0


def test_results_of_other_runs_do_not_count(units, tmp_path):
    other_fold = Run(DATASET, "random", 0.01, 0, fold=1, profile="cpu", pool=(DATASET,))
    other_size = Run(DATASET, "random", 0.01, 1, profile="tiny", pool=(DATASET,))
    changed = replace(units[2].runs[0], changes={"finetune": {"lr": 0.1}})
    for run in (other_fold, other_size, changed):
        scored(run, tmp_path, 1.0, "elsewhere")
    known = progress(units, tmp_path)
    assert all(at.done == 0 for at in known.values())
    assert known["tune-random"].left == 1000.0


def test_a_changed_run_of_the_plan_is_not_its_baseline(units, tmp_path):
    base = units[2]
    changed = replace(base.runs[0], changes={"finetune": {"steps": 50, "lr": 0.1}})
    variant = replace(base, name="variant", runs=(changed,))
    scored(replace(changed, changes={"finetune": {"lr": 0.1, "steps": 50}}), tmp_path, 1.0, "v")
    known = progress([base, variant], tmp_path)
    assert [known[unit.name].done for unit in (base, variant)] == [0, 1]


def test_a_unit_whose_lock_is_held_is_running(units, tmp_path):
    text, byol = units[0], units[4]
    failed(byol, tmp_path, ("ValueError", "old"))
    for run in byol.runs[:4]:
        scored(run, tmp_path, 200.0, byol.name)
    with alone(lock_path(tmp_path, "text")), alone(lock_path(tmp_path, byol.name)):
        past = time.time() - 60
        os.utime(lock_path(tmp_path, "text"), (past, past))
        assert state(text, tmp_path) == state(byol, tmp_path) == "running"
        known = progress(units, tmp_path)
        assert 60 <= known["text"].seconds < 600
        assert known["text"].left == pytest.approx(max(0, 100 - known["text"].seconds), abs=1)
        assert known[byol.name].left == pytest.approx(1000 / 5)
        shown = status_table(units, tmp_path, 2)
        assert "so far" in shown and "2 running" in shown and "old" not in shown
    assert state(text, tmp_path) == "to run" and state(byol, tmp_path) == "failed"


def test_a_person_sees_every_unit_each_failure_and_the_total(units, tmp_path):
    executed(units[0], tmp_path, 100.0)
    for run in units[2].runs:
        scored(run, tmp_path, 200.0, units[2].name)
    executed(units[2], tmp_path, 1000.0)
    failed(units[3], tmp_path, ("ValueError", "no organ\nin sight"))
    lines = status_table(units, tmp_path, 2).splitlines()
    assert lines[0].split() == ["unit", "state", "runs", "took", "left", "memory"]
    # Every unit before those that need it.
    assert [line.split()[0] for line in lines[1:7]] == [
        "text", "tune-random", "tune-byol", "train", "tune-gtgm", "table_mri",
    ]  # fmt: skip
    assert lines[2].split()[1:] == ["done", "5/5", "17", "min", "1.5", "GB"]
    assert lines[3].split()[1:] == ["to", "run", "0/5", "17", "min", "≤", "3", "GB"]
    assert lines[7] == "failed: tune-gtgm: ValueError: no organ in sight"
    assert lines[8].endswith(str(units[3].failed(tmp_path)))
    share = (100 + 1000) / (100 + 200 + 3000 + 15)
    assert f"{share:.0%}  2 of 6 units, 5 of 15 runs done, 1 failed" in lines[-1]
    # train → tune-gtgm → table is longer than half of all that is left.
    assert lines[-1].endswith(f"about {time_text(200 + 1000 + 15)} left with 2 jobs")


def test_a_finished_batch_has_nothing_left(units, tmp_path):
    for unit in units:
        executed(unit, tmp_path, unit.seconds)
        for run in unit.runs:
            scored(run, tmp_path, 200.0, unit.name)
    last = status_table(units, tmp_path, 2).splitlines()[-1]
    assert last.endswith("100%  6 of 6 units, 15 of 15 runs done, nothing left")


def test_nothing_has_happened_in_a_folder_that_is_not_there(units, tmp_path):
    absent = tmp_path / "absent"
    assert {at.state for at in progress(units, absent).values()} == {"to run"}
    assert "0%  0 of 6 units, 0 of 15 runs done" in status_table(units, absent)
    assert not absent.exists()


def test_why_a_unit_failed_is_found_in_its_notebook_or_beside_it(units, tmp_path):
    unit = Unit("u", "01_text_generation.ipynb", outputs=("a.json",))
    assert "cannot be read" in failure(unit, tmp_path)
    failed(unit, tmp_path, ("KeyError", "'first'"), ("ValueError", "last"))
    assert failure(unit, tmp_path) == "ValueError: last"
    failed(unit, tmp_path)
    assert failure(unit, tmp_path) == "ended without writing a.json"
    (tmp_path / "a.json").touch()
    assert failure(unit, tmp_path).endswith(str(tmp_path / "batch" / "logs" / "u.log"))


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"metadata": {}, "cells": []})])
def test_a_notebook_that_does_not_say_how_long_it_took(content, units, tmp_path):
    units[0].executed(tmp_path).parent.mkdir()
    units[0].executed(tmp_path).write_text(content)
    assert seconds_taken(units[0], tmp_path) is None
    assert progress(units, tmp_path)["text"].state == "done"


def test_side_by_side_work_is_shared_and_chains_are_not():
    chain = [Unit("a", "x"), Unit("b", "x", needs=("a",)), Unit("c", "x", needs=("b",))]
    seconds = {"a": 10.0, "b": 20.0, "c": 30.0}
    assert wall_seconds(chain, seconds, 1) == wall_seconds(chain, seconds, 4) == 60.0
    free = [Unit(name, "x") for name in "abc"]
    assert wall_seconds(free, seconds, 1) == 60.0
    assert wall_seconds(free, seconds, 2) == 30.0
    assert wall_seconds(free, seconds, 3) == 30.0
    assert wall_seconds(chain, {"c": 30.0}, 2) == 30.0
    assert wall_seconds([], {}, 2) == 0.0


def test_a_dry_run_adds_up_what_would_run(units):
    now = {unit.name: "to run" for unit in units} | {"text": "done", "train": "failed"}
    names = [unit.name for unit in units[1:]]
    shown = plan_table(units, now, names, 2)
    assert "to run, failed before" in shown and "15 training runs" in shown
    assert "5 of 6 units to run" in shown
    assert f"about {time_text(3215)} of work, at least {time_text(1607.5)} with 2 jobs" in shown
    assert "with 1 jobs" not in plan_table(units, now, names, 1)


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (99, "99 s"), (150, "2 min"),
                                               (5990, "100 min"), (7200, "2.0 h")])  # fmt: skip
def test_times_are_short(seconds, text):
    assert time_text(seconds) == text
