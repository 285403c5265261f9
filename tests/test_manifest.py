"""The runs of a reproduction."""

from __future__ import annotations

from collections import Counter

import pytest

from gtgm.batch.manifest import HIPPOCAMPUS, list_runs
from gtgm.datasets import registry
from gtgm.errors import DataError, SettingsError
from gtgm.methods import METHODS

ALL_OFFLINE = [name for name in METHODS if name != "gtgm-blip"]


@pytest.fixture
def hippocampus(tmp_path):
    """A data folder in which the dataset is found; nothing of it is read here."""
    (tmp_path / "data" / HIPPOCAMPUS).mkdir(parents=True)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_every_dataset_of_the_paper_is_compared_and_no_run_is_listed_twice(name):
    runs = list_runs(name)
    assert {run.dataset for run in runs} == set(registry.names(in_paper=True))
    assert len(set(runs)) == len(runs)
    assert all({"random", "gtgm"} <= {r.method for r in runs if r.dataset == d} for d in
               registry.names(in_paper=True))  # fmt: skip
    assert all(run.dataset in run.pool for run in runs)
    assert {registry.get(n).modality for run in runs if run.table == "mri" for n in run.pool} == {
        "MRI"
    }


def test_the_demo_shows_all_methods_on_one_mri_dataset():
    methods = [run.method for run in list_runs("demo", ["mri"]) if run.dataset == HIPPOCAMPUS]
    assert methods == ALL_OFFLINE
    others = {run.method for run in list_runs("demo") if run.dataset != HIPPOCAMPUS}
    assert others == {"random", "gtgm"}


def test_the_real_study_pairs_all_methods_on_the_same_draws_of_two_folds(hippocampus):
    runs = list_runs("hippocampus", data=hippocampus)
    few = [run for run in runs if run.fraction == 0.01]
    assert list(dict.fromkeys(run.method for run in few)) == ALL_OFFLINE
    assert {(run.fold, run.draw) for run in few} == {(f, d) for f in (0, 1) for d in range(5)}
    assert set(Counter(run.method for run in few).values()) == {10}
    more = Counter((run.method, run.fraction, run.fold) for run in runs if run.fraction > 0.01)
    kinds = ("random", "barlow", "vlp", "pcrlv2", "gtgm")
    assert more == {(m, f, k): {0.1: 2, 1.0: 1}[f] for m in kinds for f in (0.1, 1.0)
                    for k in (0, 1)}  # fmt: skip
    same = {(run.dataset, run.pool, run.profile, run.backbone, run.protocol) for run in runs}
    assert same == {(HIPPOCAMPUS, (HIPPOCAMPUS,), "cpu", "unet", "corrected")}


def test_a_gpu_adds_the_other_backbones_at_the_papers_sizes(hippocampus):
    without = list_runs("hippocampus", data=hippocampus)
    runs = list_runs("hippocampus", data=hippocampus, gpu=True)
    assert runs[: len(without)] == without
    added = runs[len(without) :]
    assert {(run.backbone, run.profile) for run in added} == {
        ("resnet50", "paper"),
        ("swin", "paper"),
    }
    assert {run.method for run in added} == {"random", "byol", "pcrlv2", "gtgm"}
    chosen = list_runs("hippocampus", data=hippocampus, backbone="resnet50", gpu=True)
    assert {(run.backbone, run.profile) for run in chosen} == {("resnet50", "cpu")}


def test_the_real_study_says_what_it_needs(tmp_path):
    with pytest.raises(DataError, match="gtgm data get Task04_Hippocampus.*--data"):
        list_runs("hippocampus")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"--data or \$GTGM_DATA"):
        list_runs("hippocampus", data=tmp_path)
    with pytest.raises(SettingsError, match="no part in the tables ct.*mri"):
        list_runs("hippocampus", ["ct"], data=tmp_path)


def test_the_papers_methods_are_those_that_it_reports(hippocampus):
    runs = list_runs("paper", ["mri"], hippocampus)
    real = [run for run in runs if run.dataset == HIPPOCAMPUS]
    assert {run.method for run in real} == {n for n, m in METHODS.items() if m.reported}
    assert {(run.backbone, run.profile) for run in real} == {("swin", "paper")}
    count = Counter((run.fraction, run.draw) for run in real)
    assert set(count) == {(1.0, 0), (0.1, 0), *((0.01, draw) for draw in range(3))}
    phantoms = [run for run in runs if run.dataset != HIPPOCAMPUS]
    assert {run.profile for run in phantoms} == {"demo"}
    assert not any(HIPPOCAMPUS in run.pool for run in phantoms)


def test_the_whole_training_range_of_an_extra_em_volume_is_trained_longer(shared_data):
    runs = [run for run in list_runs("demo", ["em"], shared_data) if run.dataset == "FIB25"]
    assert {run.stage for run in runs} == {"neurons"}
    assert {run.method for run in runs if run.fraction == 1.0} == {"random"}
    assert {bool(run.changes) for run in runs if run.fraction == 1.0} == {True}
    assert not any(run.changes for run in runs if run.fraction < 1.0)


def test_other_folds_and_another_protocol(hippocampus):
    runs = list_runs("hippocampus", data=hippocampus, folds=[2, 3], protocol="as_released")
    usual = list_runs("hippocampus", data=hippocampus)
    assert Counter(run.fold for run in runs) == {2: len(usual) / 2, 3: len(usual) / 2}
    assert {run.protocol for run in runs} == {"as_released"}
    with pytest.raises(SettingsError, match="no fold 5"):
        list_runs("demo", folds=[5])
