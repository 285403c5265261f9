"""Units of the ablations: every one of them, on what they are all compared with."""

from __future__ import annotations

import pytest

from gtgm.batch.manifest import HIPPOCAMPUS
from gtgm.batch.plan import plan
from gtgm.batch.units import ordered, write_manifest
from gtgm.deviations import DEVIATIONS
from gtgm.errors import DataError
from gtgm.variants import ABLATIONS


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data" / HIPPOCAMPUS).mkdir(parents=True)
    return tmp_path / "data"


def test_every_ablation_and_all_rows_are_executed_after_what_they_share(data, tmp_path):
    units = plan("ablations", data=data, folder=tmp_path, folds=[0, 1])
    write_manifest(units, tmp_path / "manifest.json")  # checks names, needs and notebooks
    order = [unit.name for unit in ordered(units)]
    shared = {unit.name for unit in units if unit.runs}
    for fold in (0, 1):
        mine = [u for u in units if u.rule == "variants" and u.parameters["fold"] == fold]
        assert [u.parameters.get("ablation") for u in mine] == [*ABLATIONS, None]
        assert mine[-1].parameters["rows"] == [d.row for d in DEVIATIONS if d.runs]
        assert all(u.name.endswith(f"fold{fold}") for u in mine)
    for unit in (u for u in units if u.rule == "variants"):
        assert set(unit.needs) <= shared
        assert all(order.index(need) < order.index(unit.name) for need in unit.needs)
        assert unit.parameters["draws"] == 3
        assert any(f"fold{unit.parameters['fold']}" in need for need in unit.needs)


def test_the_released_protocol_has_its_departures_on_already(data, tmp_path):
    units = plan("ablations", data=data, folder=tmp_path, protocol="as_released")
    notebooks = {unit.notebook for unit in units if unit.rule == "variants"}
    assert notebooks == {"05_ablations.ipynb"}


def test_ablations_need_the_real_dataset(tmp_path):
    with pytest.raises(DataError, match="gtgm data get"):
        plan("ablations", data=None, folder=tmp_path)
