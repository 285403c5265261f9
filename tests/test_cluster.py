"""Profiles for this machine, SLURM and Kubernetes; each is checked by a dry run of Snakemake.

The executor and storage plugins of the extra ``cluster`` are needed, a cluster is not.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gtgm.batch import snake
from gtgm.batch.cluster import PROFILES, find_profile
from gtgm.batch.manifest import HIPPOCAMPUS
from gtgm.batch.plan import plan
from gtgm.batch.snake import run_batch
from gtgm.batch.units import Unit
from gtgm.errors import SettingsError

CLUSTERS = ("slurm", "kubernetes")
STAGES = ("text", "pretrain", "finetune", "neurons")


def settings(cluster: str) -> dict:
    return yaml.safe_load((PROFILES / cluster / "config.yaml").read_text())


@pytest.fixture
def units(tmp_path: Path) -> list[Unit]:
    """Every kind of unit that a profile has to serve."""
    names = {"text": "01_text_generation", "pretrain": "02_pretraining",
             "finetune": "03_finetuning", "neurons": "04_neuron_segmentation"}  # fmt: skip
    small = [Unit(stage, f"{name}.ipynb", memory_gb=2.5) for stage, name in names.items()]
    large = [Unit(f"{stage}-large", f"{name}.ipynb", needs=("text",), gpus=1, memory_gb=32.0)
             for stage, name in names.items()]  # fmt: skip
    last = Unit("table", "table_mri.ipynb", needs=("finetune", "finetune-large"), memory_gb=1.0)
    return [Unit("quick", "00_quickstart.ipynb"), *small, *large, last]


def jobs(units: list[Unit], folder: Path, cluster: str) -> dict[str, dict[str, str]]:
    """Resources and threads of every job that Snakemake would start, by unit."""
    (folder / "batch").mkdir(parents=True)
    command = snake._command(units, folder / "batch", folder, 2, True, find_profile(cluster))
    # A dry run counts this machine's cores unless told otherwise; a cluster has more.
    cores = ["--cores", "64"] if cluster in CLUSTERS else []
    shown = snake._call([*command, "--dry-run", "--nolock", *cores])
    found = {}
    for block in re.findall(r"^(?:local)?rule \w+:\n(?:    .*\n)+", shown, re.M):
        unit = re.search(r"wildcards: unit=(\S+)", block)
        if unit:
            pairs = re.findall(r"(\w+)=([^,\n]+)", block.split("resources:")[1])
            threads = re.search(r"threads: (\d+)", block)
            found[unit[1]] = {**dict(pairs), "threads": threads[1] if threads else "1"}
    return found


@pytest.mark.parametrize("given", ["3", "3,1"])
def test_on_one_machine_resources_come_from_the_plan(given, units, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    found = jobs(units, tmp_path / "run", "local")
    assert set(found) == {unit.name for unit in units}
    assert {found[f"{stage}"]["mem_mb"] for stage in STAGES} == {"2500"}
    assert found["table"]["mem_mb"] == "1000"
    assert {job["threads"] for job in found.values()} == {"3"}
    assert {n for n, job in found.items() if job.get("gpu") == "1"} == {
        f"{stage}-large" for stage in STAGES
    }
    assert not any("gpu" in found[stage] for stage in STAGES)


def test_a_machine_with_less_memory_than_a_unit_would_like_still_plans_it(
    units, tmp_path, monkeypatch
):
    memory = type("Memory", (), {"total": 4_000_000_000})
    monkeypatch.setattr(snake.psutil, "virtual_memory", lambda: memory)
    found = jobs(units, tmp_path / "run", "local")
    assert found["pretrain-large"]["mem_mb"] == "4000" and found["pretrain"]["mem_mb"] == "2500"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_on_a_cluster_resources_come_from_the_profile_by_rule(cluster, units, tmp_path):
    found = jobs(units, tmp_path / "run", cluster)
    profile = settings(cluster)
    for unit in units:
        for name, value in profile["set-resources"][unit.rule].items():
            assert found[unit.name][name] == str(value), (unit.name, name)
        threads = profile["set-threads"].get(unit.rule)
        if threads:
            assert found[unit.name]["threads"] == str(threads)
    assert {n for n, job in found.items() if "gpu" in job} == {f"{s}-large" for s in STAGES}


@pytest.mark.parametrize("cluster", ["local", *CLUSTERS])
def test_a_whole_reproduction_is_planned_for_each_profile(cluster, tmp_path, capsys):
    (tmp_path / "data" / HIPPOCAMPUS).mkdir(parents=True)
    data, run = tmp_path / "data", tmp_path / "run"
    units = plan("hippocampus", data=data, folder=run, where="fold=0", gpu=True)
    report = run_batch(units, tmp_path / "run", 4, dry_run=True, cluster=cluster)
    assert set(report.executed) == {unit.name for unit in units}
    assert f"{len(units)} of {len(units)} units to run" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_what_a_profile_grants_is_enough_for_what_is_planned(cluster, tmp_path):
    (tmp_path / "data" / HIPPOCAMPUS).mkdir(parents=True)
    (tmp_path / "data" / "sample_A_20160501.hdf").touch()
    granted = settings(cluster)["set-resources"]
    for name in ("demo", "hippocampus", "paper"):
        for unit in plan(name, data=tmp_path / "data", folder=tmp_path, gpu=True):
            rule = granted[unit.rule]
            assert rule["runtime"] * 60 >= 1.5 * unit.seconds, unit.name
            assert rule["mem_mb"] >= 1000 * unit.memory_gb, unit.name
            assert rule.get("gpu", 0) == unit.gpus, unit.name


def test_a_folder_may_hold_a_profile_of_a_site(units, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    text = (PROFILES / "slurm" / "config.yaml").read_text()
    text = text.replace(
        "pretrain: {mem_mb: 6000", "pretrain: {slurm_partition: short, mem_mb: 7000"
    )
    (site / "config.yaml").write_text(text)
    found = jobs(units, tmp_path / "run", str(site))
    assert found["pretrain"]["mem_mb"] == "7000"
    assert found["pretrain"]["slurm_partition"] == "short"
    assert find_profile(site).executor == "slurm" and not find_profile(site).local


def test_a_profile_that_cannot_be_used_says_why(tmp_path):
    with pytest.raises(SettingsError, match="no such profile 'moon'.*kubernetes, local, slurm"):
        find_profile("moon")
    (tmp_path / "config.yaml").write_text("executor: lunar\n")
    with pytest.raises(SettingsError, match="snakemake-executor-plugin-lunar is not.*'cluster'"):
        find_profile(tmp_path)
    (tmp_path / "config.yaml").write_text("default-storage-provider: dust\n")
    with pytest.raises(SettingsError, match="snakemake-storage-plugin-dust is not installed"):
        find_profile(tmp_path)
    for text in ("[]", "executor: [", ""):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(SettingsError, match="is no Snakemake profile"):
            find_profile(tmp_path)
