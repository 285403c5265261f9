"""The units of a reproduction."""

from __future__ import annotations

import json

import pytest

from gtgm.batch.costs import COSTS, START
from gtgm.batch.execute import check_parameters
from gtgm.batch.manifest import HIPPOCAMPUS, REPRODUCTIONS, Share, list_runs
from gtgm.batch.overview import wall_seconds
from gtgm.batch.plan import FIGURES, plan
from gtgm.batch.units import ordered, write_manifest
from gtgm.datasets import registry
from gtgm.errors import DataError, SettingsError
from gtgm.methods import METHODS
from gtgm.stages.several import label_draws


@pytest.fixture
def data(tmp_path):
    """A data folder in which datasets of three modalities are found; they are not read here."""
    for name in (HIPPOCAMPUS, "Task02_Heart", "Task09_Spleen"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / "sample_A_20160501.hdf").touch()
    return tmp_path / "data"


def trained(units) -> list[tuple]:
    """What the notebooks of the units are told to train."""
    return [
        (
            p["dataset"], method, fraction, draw, p["fold"], p["backbone"], p["protocol"],
            p["profile"], tuple(p["pool"]), str(p.get("changes", {})),
        )
        for p in (unit.parameters for unit in units if unit.runs)
        for method in p["methods"]
        for fraction, draw in label_draws(p["fractions"], p["draws"])
    ]  # fmt: skip


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_the_notebooks_train_the_manifest_each_run_once(name, data, tmp_path):
    units = plan(name, data=data, folder=tmp_path / "run")
    listed = list_runs(name, data=data)
    assert sorted(trained(units)) == sorted(
        (r.dataset, r.method, r.fraction, r.draw, r.fold, r.backbone, r.protocol, r.profile,
         r.pool, str(r.changes)) for r in listed
    )  # fmt: skip
    assert sorted(map(str, (run for unit in units for run in unit.runs))) == sorted(
        map(str, listed)
    )


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_parameters_are_literals_that_the_notebooks_have(name, data, tmp_path):
    units = plan(name, data=data, folder=tmp_path / "run")
    write_manifest(units, tmp_path / "manifest.json")
    checked = {}
    for unit in units:
        assert json.loads(json.dumps(unit.parameters)) == unit.parameters
        checked[unit.source, *unit.parameters] = unit
    for unit in checked.values():
        check_parameters(unit.source, unit.parameters)


def test_demo_covers_all_thirteen_datasets_with_phantoms(tmp_path):
    units = plan("demo", folder=tmp_path)
    trained = {u.parameters["dataset"] for u in units if u.runs}
    assert trained == set(registry.names(in_paper=True))
    assert len(trained) == 13
    assert {u.name for u in units} >= {"00_quickstart", "table_ct", "table_mri", "table_em"}
    assert all(u.parameters.get("data", "") == "" for u in units)
    assert ordered(units)


def test_what_trains_from_text_waits_for_it_and_nothing_else_does(data, tmp_path):
    units = {u.name: u for u in plan("hippocampus", data=data, folder=tmp_path)}
    texts = [name for name in units if name.startswith("01_text")]
    assert len(texts) == 2  # one of each fold, whatever the method
    for unit in units.values():
        if unit.rule == "pretrain":
            method = METHODS[unit.parameters["method"]]
            embedded = method.uses_text and not method.changes.get("text")
            fold = unit.parameters["fold"]
            assert unit.needs == (tuple(t for t in texts if t.endswith(f"fold{fold}"))
                                  if embedded else ())  # fmt: skip
        if unit.rule == "finetune":
            needed = [units[name].parameters["method"] for name in unit.needs]
            assert needed == [m for m in unit.parameters["methods"] if m != "random"]
            assert all(units[n].parameters["fold"] == unit.parameters["fold"] for n in unit.needs)


def test_a_method_with_a_captioner_from_a_hub_gets_its_own_text(data, tmp_path, monkeypatch):
    monkeypatch.setattr("gtgm.batch.manifest.STUDY", (Share(0.01, 2, ("gtgm", "gtgm-blip")),))
    units = {u.name: u for u in plan("hippocampus", data=data, folder=tmp_path, folds=[0])}
    texts = [u.parameters.get("method") for u in units.values() if u.rule == "text"]
    assert texts == [None, "gtgm-blip"]
    (blip,) = [u for u in units.values() if u.parameters.get("method") == "gtgm-blip"
               and u.rule == "pretrain"]  # fmt: skip
    assert [units[name].parameters["method"] for name in blip.needs] == ["gtgm-blip"]


def test_in_the_demo_the_pretraining_of_one_dataset_is_part_of_its_runs(tmp_path):
    units = {u.name: u for u in plan("demo", ["mri"], folder=tmp_path)}
    pretrained = [u.parameters["method"] for u in units.values() if u.rule == "pretrain"]
    assert pretrained == ["gtgm"]  # which all four datasets start from
    for unit in units.values():
        if len(unit.parameters.get("methods", ())) < 3:
            continue
        methods = [METHODS[name] for name in unit.parameters["methods"]]
        inside = [m for m in methods if m.objective is not None and m.name != "gtgm"]
        cost = COSTS["demo"]
        assert unit.seconds == START + len(methods) * cost.finetune + len(inside) * cost.pretrain
        from_text = any(m.uses_text and not m.changes.get("text") for m in inside)
        expected = {"text"} if from_text else set()
        expected |= {"pretrain"} if "gtgm" in unit.parameters["methods"] else set()
        assert {units[name].rule for name in unit.needs} == expected
    assert sum(len(u.runs) for u in units.values()) == 3 * 2 + sum(
        m.offline for m in METHODS.values()
    )


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_executions_take_minutes_and_are_no_more_than_needed(name, data, tmp_path):
    for unit in plan(name, data=data, folder=tmp_path):
        if not unit.runs:
            continue
        cost = COSTS[unit.parameters["profile"]]
        assert unit.seconds <= START + cost.piece or len(unit.runs) == 1
        assert (unit.gpus, unit.memory_gb) == (cost.gpus, cost.memory_gb)
    units = [u for u in plan(name, data=data, folder=tmp_path) if len(u.runs) == 1]
    if name == "hippocampus":
        assert not units


def test_the_real_study_takes_at_most_six_hours_on_two_cores(data, tmp_path):
    units = plan("hippocampus", data=data, folder=tmp_path)
    assert 1.0 < wall_seconds(units, {u.name: u.seconds for u in units}, 2) / 3600 < 6.0


def test_a_longer_training_is_estimated_by_its_steps(shared_data, tmp_path):
    units = plan("demo", ["em"], shared_data, tmp_path)
    whole = [u for u in units if u.runs and u.runs[0].changes]
    assert [u.parameters["draws"] for u in whole] == [[1], [[1]], [[2]]]
    assert all(u.parameters["changes"] == {"neurons": {"steps": 2000}} for u in whole)
    assert {u.seconds for u in whole} == {START + COSTS["cpu"].neurons * 2000 / 450}


def test_with_a_gpu_the_real_study_has_units_that_ask_for_one(data, tmp_path):
    units = plan("hippocampus", data=data, folder=tmp_path, gpu=True)
    large = [u for u in units if u.gpus]
    assert {u.parameters["backbone"] for u in large} == {"resnet50", "swin"}
    assert {u.rule for u in large} == {"text_gpu", "pretrain_gpu", "finetune_gpu"}
    assert len([u for u in units if u.rule == "table"]) == 1


def test_a_selection_keeps_names_and_parameters_of_whole_units(data, tmp_path):
    everything = {u.name: u for u in plan("hippocampus", data=data, folder=tmp_path)}
    some = plan("hippocampus", data=data, folder=tmp_path, where="method=gtgm and fold=1")
    assert [u.rule for u in some] == ["text", "pretrain", "finetune", "finetune", "table"]
    for unit in some[:-1]:
        assert unit == everything[unit.name]
    assert set(some[-1].needs) < set(everything["table_mri"].needs)


def test_a_selection_of_draws_makes_units_of_their_own(data, tmp_path):
    everything = {u.name for u in plan("hippocampus", data=data, folder=tmp_path)}
    where = "fold=0 and draw in (1, 3) and fraction=1% and method in (random, barlow)"
    units = [u for u in plan("hippocampus", data=data, folder=tmp_path, where=where) if u.runs]
    assert [(u.parameters["methods"], u.parameters["draws"]) for u in units] == [
        (["random", "barlow"], [[1, 3]])
    ]
    assert not {u.name for u in units} & everything
    assert {run.draw for run in units[0].runs} == {1, 3}


def test_figures_of_all_runs_come_last_and_only_where_nothing_is_left_out(tmp_path):
    units = plan("demo", folder=tmp_path)
    figures = [u for u in units if u.rule == "figure"]
    assert [u.name for u in figures] == list(FIGURES) and units[-len(FIGURES) :] == figures
    assert {u.parameters["results"] for u in figures} == {str(tmp_path)}
    assert all(set(u.needs) == {unit.name for unit in units if unit.runs} for u in figures)
    for part in (
        plan("demo", ["ct"], folder=tmp_path),
        plan("demo", folder=tmp_path, where="method=gtgm"),
    ):
        assert not [u for u in part if u.rule == "figure"]


def test_a_selection_needs_only_what_its_runs_need(tmp_path):
    rules = [u.rule for u in plan("demo", folder=tmp_path, where="method=random and fold=0")]
    assert set(rules) == {"finetune", "neurons", "table"}
    names = [u.name for u in plan("demo", folder=tmp_path, where="dataset=CREMI_B")]
    assert [name.split("-")[0] for name in names] == [
        "01_text", "02_pretraining", "04_neuron_segmentation", "table_em",
    ]  # fmt: skip
    with pytest.raises(SettingsError, match="selects none"):
        plan("demo", folder=tmp_path, where="fold=1")


def test_protocols_and_folds_do_not_share_units(tmp_path):
    one = {u.name for u in plan("demo", ["ct"], folder=tmp_path) if u.rule != "table"}
    for change in ({"protocol": "as_released"}, {"folds": [1]}):
        other = {u.name for u in plan("demo", ["ct"], folder=tmp_path, **change)}
        assert one & other == {"00_quickstart"}


def test_wrong_choices(tmp_path):
    with pytest.raises(SettingsError, match="unknown profile"):
        plan("huge", folder=tmp_path)
    with pytest.raises(SettingsError, match="unknown table 'pet'"):
        plan("demo", ["pet"], folder=tmp_path)
    with pytest.raises(SettingsError, match="no table"):
        plan("demo", [], folder=tmp_path)
    with pytest.raises(DataError, match="no such data folder"):
        plan("demo", data=tmp_path / "absent", folder=tmp_path)
