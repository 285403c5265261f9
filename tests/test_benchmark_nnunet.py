"""nnU-Net beside the project: its data, its time, its environment, its scores. Without nnU-Net."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import small_files
from packaging.requirements import Requirement

from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.splits import load_split
from gtgm.errors import GTGMError, SettingsError
from gtgm.paths import ROOT
from gtgm.results import absolute_paths, save_result


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nnunet, worker = load("nnunet"), load("nnunet_worker")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    small_files.hippocampus(tmp_path / "data" / "Task04_Hippocampus", n=10)
    return tmp_path / "data"


def options(out: Path, *more: str):
    return nnunet.make_parser().parse_args(["--out", str(out), *more])


class Clock:
    """Time that passes only where a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Trainer:
    """Stands for nnU-Net's trainer: setting up takes 2 s, a step takes ``pace[step]``."""

    num_epochs = 1000

    def __init__(self, clock: Clock, pace) -> None:
        self.clock, self.pace, self.calls, self.epochs = clock, iter(pace), [], []
        self.network = SimpleNamespace(train=lambda: self.calls.append("train mode"))
        self.lr_scheduler = SimpleNamespace(step=self.epochs.append)
        self.dataloader_train = iter(range(10**6))

    def on_train_start(self) -> None:
        self.calls.append("start")
        self.clock.now += 2

    def train_step(self, batch: int) -> dict[str, np.ndarray]:
        self.calls.append(batch)
        self.clock.now += next(self.pace)
        return {"loss": np.float32(-batch)}

    def on_train_end(self) -> None:
        self.calls.append("end")


def test_training_fills_the_time_and_never_exceeds_it():
    clock = Clock()
    trainer = Trainer(clock, [3.0] * 99)
    assert worker.train(trainer, 60, clock) == [-batch for batch in range(19)]  # 2 + 19 · 3 = 59
    assert clock.now == 159
    assert trainer.calls == ["start", "train mode", *range(19), "end"]
    slower = Trainer(clock, range(1, 99))
    begin = clock.now
    worker.train(slower, 60, clock)
    assert 0 < clock.now - begin <= 60


def test_the_learning_rate_follows_the_share_of_time_that_is_over():
    clock = Clock()
    trainer = Trainer(clock, [10.0, 20.0, 30.0, 30.0])
    worker.train(trainer, 100, clock)
    assert trainer.epochs == pytest.approx([20, 120, 320, 620])  # of 1000; the first begins at 2 s


def test_one_step_is_done_even_if_setting_up_took_all_the_time():
    clock = Clock()
    trainer = Trainer(clock, [1.0])
    assert worker.train(trainer, 1.5, clock) == [0]
    assert trainer.epochs == [1000]  # no negative share, whose power is complex


def test_a_long_loss_curve_is_thinned_by_means():
    assert worker.thinned([3.0, 1.0]) == [[1, 3], [2, 1]]
    assert worker.thinned([4.0, 2.0, 1.0, 1.0, 7.0], points=3) == [[2, 3], [4, 1], [5, 7]]
    curve = worker.thinned([1.0] * 12_345)
    assert len(curve) <= 100 and curve[-1] == [12_345, 1]


def test_the_raw_dataset_holds_the_labelled_cases_and_no_test_label(data: Path, tmp_path: Path):
    dataset = open_dataset("Task04_Hippocampus", data)
    split = load_split(dataset)
    labelled, test = split.labelled(1, 0.25), split.test(1)
    raw = nnunet.write_raw(dataset, labelled, test, tmp_path / "Dataset001_x")
    declared = json.loads((raw / "dataset.json").read_text())
    assert declared == {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }

    def names(part: str) -> list[str]:
        return sorted(p.name for p in (raw / part).iterdir())

    assert names("imagesTr") == [f"{id}_0000.nii.gz" for id in labelled]
    assert names("labelsTr") == [f"{id}.nii.gz" for id in labelled]
    assert names("imagesTs") == [f"{id}_0000.nii.gz" for id in test]
    assert sorted(p.name for p in raw.iterdir()) == [
        "dataset.json",
        "imagesTr",
        "imagesTs",
        "labelsTr",
    ]
    for id in labelled:
        for part, name, path in (
            ("imagesTr", f"{id}_0000.nii.gz", dataset.case(id).image),
            ("labelsTr", f"{id}.nii.gz", dataset.case(id).label),
        ):
            written, original = nib.load(raw / part / name), nib.load(path)
            assert np.array_equal(written.get_fdata(), original.get_fdata())
            assert np.array_equal(written.affine, original.affine)


def test_each_channel_is_a_file_and_labels_are_whole_numbers(tmp_path: Path):
    root = tmp_path / "data" / "Task05_Prostate"
    affine = np.diag([0.6, 0.6, 3.6, 1])
    rng = np.random.default_rng(0)
    images = rng.normal(size=(5, 6, 7, 8, 2)).astype(np.float32)
    labels = rng.integers(0, 3, (5, 6, 7, 8)).astype(np.float32)
    rows = []
    for i in range(5):
        paths = {"image": f"imagesTr/p_{i}.nii.gz", "label": f"labelsTr/p_{i}.nii.gz"}
        small_files.nifti(root / paths["image"], images[i], affine)
        small_files.nifti(root / paths["label"], labels[i], affine)
        rows.append(paths)
    small_files.write_manifest(
        root,
        rows,
        modality={"0": "T2", "1": "ADC"},
        labels={"0": "background", "1": "PZ", "2": "TZ"},
    )
    dataset = open_dataset("Task05_Prostate", tmp_path / "data")
    raw = nnunet.write_raw(dataset, ["p_3"], ["p_1"], tmp_path / "Dataset001_x")
    for channel in range(2):
        written = nib.load(raw / "imagesTr" / f"p_3_{channel:04d}.nii.gz")
        assert np.array_equal(written.get_fdata(), images[3, ..., channel])
        assert np.array_equal(written.affine, nib.load(dataset.case("p_3").image).affine)
    label = nib.load(raw / "labelsTr" / "p_3.nii.gz")
    assert label.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(label.dataobj), labels[3])


def test_an_em_volume_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError):
        nnunet.measure_run(options(tmp_path / "out.json", "--dataset", "CREMI_A", "--minutes", "1"))


def test_the_budget_is_the_wall_time_of_a_run_of_the_same_cases(tmp_path: Path):
    run = {
        "id": "r1",
        "stage": "finetune",
        "dataset": "Task04_Hippocampus",
        "source": "real",
        "fraction": 0.01,
        "fold": 0,
        "draw": 2,
        "wall_seconds": 217.2,
    }
    file = tmp_path / "r1.json"
    save_result(file, **run)
    same = ("--budget-from", str(file), "--fraction", "0.01", "--draw", "2")
    assert nnunet.budget(options(tmp_path / "o.json", *same)) == (217.2, "r1")
    for other in (("--draw", "1"), ("--fraction", "0.1"), ("--fold", "1")):
        with pytest.raises(SettingsError, match=other[0][2:]):
            nnunet.budget(options(tmp_path / "o.json", *same, *other))
    save_result(file, **run | {"wall_seconds": None})
    with pytest.raises(SettingsError):
        nnunet.budget(options(tmp_path / "o.json", *same))


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, minutes: str):
    with pytest.raises(SettingsError, match="minutes"):
        nnunet.budget(options(tmp_path / "o.json", f"--minutes={minutes}"))


def test_torch_of_the_lock_comes_first_and_a_finished_environment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = []

    def run(command: list[str]) -> SimpleNamespace:
        steps.append(command)
        return SimpleNamespace(returncode=int(fails in command))

    monkeypatch.setattr(nnunet.subprocess, "run", run)
    lock = (ROOT / "requirements.lock").read_text()
    torch = re.search(r"^torch==.*$", lock, re.M).group()

    fails = "--constraint"
    with pytest.raises(GTGMError, match="exit code 1"):
        nnunet.environment(tmp_path / "env")
    fails = None
    steps.clear()
    python = nnunet.environment(tmp_path / "env")  # an unfinished one is made again
    made, first, needs, last = steps
    assert made[1:4] == ["-m", "venv", "--clear"]
    assert {command[0] for command in (first, needs, last)} == {str(python)}
    assert first[-1] == torch
    assert str(ROOT / "requirements.lock") in needs and "--no-deps" not in needs
    assert "--no-deps" in last and any(name.startswith("nnunetv2==") for name in last)

    steps.clear()
    assert nnunet.environment(tmp_path / "env") == python
    assert not steps
    monkeypatch.setattr(nnunet, "ALONE", ("nnunetv2==0.0",))
    nnunet.environment(tmp_path / "env")
    assert len(steps) == 4


def test_every_requirement_has_one_version_and_none_brings_torchvision():
    lock = {
        re.sub(r"[-_.]+", "-", name).lower()
        for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.M)
    }
    lines = nnunet.REQUIREMENTS.read_text().splitlines()
    for requirement in map(Requirement, [x for x in lines if not x.startswith("#")]):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert (name in lock) != bool(requirement.specifier), name
        assert name not in ("torch", "timm", "torchvision", "nnunetv2")


def test_the_worker_is_told_its_threads_and_a_failure_shows_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = {}

    def run(command, env, stdout, stderr) -> SimpleNamespace:
        seen.update(env)
        job = json.loads(Path(command[-1]).read_text())
        stdout.write("one\ntwo\nRuntimeError: no space\n")
        stdout.flush()
        Path(job["report"]).write_text('{"steps": 3}')
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(nnunet.subprocess, "run", run)
    job = {"threads": 3, "seconds": 5.0}
    code = 0
    assert nnunet.run_worker(Path("python"), job, tmp_path) == {"steps": 3}
    assert seen["OMP_NUM_THREADS"] == seen["nnUNet_n_proc_DA"] == "3"
    assert seen["nnUNet_raw"] == str(tmp_path / "raw")
    code = 1
    with pytest.raises(GTGMError, match="no space"):
        nnunet.run_worker(Path("python"), job, tmp_path)


def test_the_report_scores_each_test_case_and_names_no_path(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = open_dataset("Task04_Hippocampus", data)
    test = load_split(dataset).test(2)
    jobs = []

    def run_worker(python: Path, job: dict, folder: Path) -> dict:
        """Predicts the truth for the first case and background for the others."""
        jobs.append(job)
        for id in test:
            label = nib.load(dataset.case(id).label)
            voxels = np.asarray(label.dataobj) * (id == test[0])
            small_files.nifti(Path(job["predictions"]) / f"{id}.nii.gz", voxels, label.affine)
        used = {"seconds": 9.0, "processor_seconds": 8.0}
        return {
            "steps": 7,
            "own_steps": 250_000,
            "curves": {"loss": [[7, 0.5]]},
            "used": {"prepare": used, "train": used, "predict": used},
            "planned": {"patch": [8, 8, 8]},
            "gpu": None,
            "versions": {"nnunetv2": "2"},
        }

    monkeypatch.setattr(nnunet, "environment", lambda folder: folder / "python")
    monkeypatch.setattr(nnunet, "run_worker", run_worker)
    out = tmp_path / "out.json"
    arguments = ["--data", str(data), "--fold", "2", "--fraction", "0.5", "--minutes", "0.15"]
    assert nnunet.main([*arguments, "--no-mirroring", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    foreground = [
        row["value"]
        for row in report["metrics"]
        if row["metric"] == "dice" and row["class"] != "background"
    ]
    assert foreground == [1, 1, 0, 0]
    assert report["summary"]["dice"] == 0.5
    assert (report["n_train"], report["n_test"], report["source"]) == (4, 2, "real")
    assert report["budget_seconds"] == jobs[0]["seconds"] == pytest.approx(9)
    assert (jobs[0]["mirroring"], jobs[0]["threads"], jobs[0]["augmenters"]) == (False, 1, 0)
    assert set(report["data"]["cases"]) == {*test, *load_split(dataset).labelled(2, 0.5)}
    assert absolute_paths(report) == []
    words = report["command"].replace("DIR", str(data)).replace("FILE.json", str(out)).split()
    again = nnunet.make_parser().parse_args(words[2:])
    assert again == nnunet.make_parser().parse_args(
        [*arguments, "--no-mirroring", "--out", words[-1]]
    )
    assert not Path(jobs[0]["images"]).exists()  # nothing of the data stays


def test_a_problem_is_one_line_and_the_exit_code_1(data: Path, tmp_path: Path, capsys):
    arguments = ["--data", str(data), "--out", str(tmp_path / "out.json"), "--minutes", "1"]
    assert nnunet.main([*arguments, "--threads", "0"]) == 1
    assert nnunet.main([*arguments, "--fold", "9"]) == 1
    assert nnunet.main([*arguments, "--fraction", "2"]) == 1
    assert nnunet.main([*arguments, "--folder", str(data)]) == 1  # where other cases may lie
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("nnunet: ") for line in lines)
    assert not (tmp_path / "out.json").exists()
