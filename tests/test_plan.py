"""The units of a reproduction."""

from __future__ import annotations

import json

import pytest

from gtgm.batch.execute import check_parameters
from gtgm.batch.plan import plan
from gtgm.batch.units import ordered
from gtgm.datasets import registry
from gtgm.errors import DataError, SettingsError


def test_demo_covers_all_thirteen_datasets_with_phantoms(tmp_path):
    units = plan("demo", folder=tmp_path)
    trained = {u.parameters["dataset"] for u in units if "dataset" in u.parameters}
    assert trained == set(registry.names(in_paper=True))
    assert len(trained) == 13
    assert {u.name for u in units} >= {"table_ct", "table_mri", "table_em"}
    assert all(u.parameters.get("data", "") == "" for u in units)
    assert ordered(units)


def test_parameters_are_literals_that_the_notebooks_have(tmp_path):
    for profile in ("demo", "paper"):
        for unit in plan(profile, folder=tmp_path):
            assert json.loads(json.dumps(unit.parameters)) == unit.parameters
            check_parameters(unit.source, unit.parameters)


def test_real_data_is_pretrained_on_alone_and_at_all_fractions(shared_data, tmp_path):
    units = plan("demo", ["mri"], shared_data / "msd", tmp_path)
    real = [u for u in units if u.parameters.get("dataset") == "Task04_Hippocampus"]
    assert [u.parameters["methods"] for u in real] == [["random"]] * 3 + [["gtgm"]] * 3
    assert all(u.parameters["pool"] == ["Task04_Hippocampus"] for u in real)
    assert [u.parameters["fractions"] for u in real] == [[1.0], [0.1], [0.01]] * 2
    assert [u.parameters["draws"] for u in real] == [[1], [1], [3]] * 2
    pools = [u.parameters["datasets"] for u in units if "datasets" in u.parameters]
    assert sorted(map(len, pools)) == [1, 1, 4 - 1, 4 - 1]


def test_em_beyond_the_paper_is_run_where_it_is_found(shared_data, tmp_path):
    units = plan("demo", ["em"], shared_data / "em", tmp_path)
    real = [u.parameters for u in units if u.parameters.get("dataset") == "FIB25"]
    runs = [(p["methods"], p["fractions"], p["draws"]) for p in real]
    both = [([m], [f], [3]) for m in ("random", "gtgm") for f in (0.75, 0.1)]
    assert runs == [*both, (["random"], [1.0], [3])]
    assert all("changes" not in p for p in real[:-1]) and real[-1]["changes"]["neurons"]
    for unit in units:
        check_parameters(unit.source, unit.parameters)


def test_random_initialisation_does_not_wait_for_pretraining(shared_data, tmp_path):
    units = {u.name: u for u in plan("demo", ["mri"], shared_data / "msd", tmp_path)}
    needs = units["03_finetuning-Task04_Hippocampus-random-0.1"].needs
    assert not any("pretraining" in name for name in needs)
    needs = units["03_finetuning-Task04_Hippocampus-gtgm-0.1"].needs
    assert needs == ("02-pretraining-mri-Task04_Hippocampus",)


def test_wrong_choices(tmp_path):
    with pytest.raises(SettingsError, match="unknown profile"):
        plan("huge", folder=tmp_path)
    with pytest.raises(SettingsError, match="unknown table 'pet'"):
        plan("demo", ["pet"], folder=tmp_path)
    with pytest.raises(SettingsError, match="no table"):
        plan("demo", [], folder=tmp_path)
    with pytest.raises(DataError, match="no such data folder"):
        plan("demo", data=tmp_path / "absent", folder=tmp_path)
