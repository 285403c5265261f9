"""Publishing: one call brings results, tables, figures, findings and README in step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_results import draws, study

from gtgm import paths
from gtgm.errors import ResultError
from gtgm.figure_data import write_figure_data
from gtgm.figures import save_figure, similarity_matrix
from gtgm.publishing import publish_all, write_tables
from gtgm.results import load_results
from gtgm.tables import BEGIN, END


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for result in study(folds=(0,)):
        paths.write_json(tmp_path / "runs" / result.id / "result.json", result.to_dict())
    save_figure(similarity_matrix(np.eye(3), np.eye(3)), tmp_path / "runs" / "figures" / "mine")
    write_figure_data(tmp_path / "runs" / "figures" / "mine.npz", {"before": np.eye(3)})
    return tmp_path / "runs"


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text(f"# Title\n{BEGIN}\n{END}\n")
    return file


def test_everything_that_shows_results_is_written(tmp_path, runs, readme) -> None:
    written = publish_all([runs], tmp_path / "results", readme)
    assert len(set(written)) == len(written) and all(path.is_file() for path in written)
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    expected = {"README.md", "results/README.md", "results/tables/mri.tex",
                "results/figures/mine.png", "results/figures/mine.pdf", "results/figures/mine.npz",
                "results/figures/gains-gtgm.png",
                "results/figures/differences-Task04_Hippocampus.png"}  # fmt: skip
    assert expected <= names
    assert len(load_results([tmp_path / "results" / "measured"])) == len(study(folds=(0,)))
    assert "| MSD Hippocampus |" in readme.read_text() and "Shown" not in readme.read_text()


def test_the_folder_of_one_run_may_hold_other_files(tmp_path, runs, readme) -> None:
    one = next(path.parent for path in sorted(runs.rglob("result.json")))
    paths.write_json(one / "config.json", {"backbone": "unet"})
    publish_all([one], tmp_path / "results", readme)
    assert [r.id for r in load_results([tmp_path / "results" / "measured"])] == [one.name]


def test_publishing_twice_changes_nothing(tmp_path, runs, readme) -> None:
    def contents():
        return {f: f.read_bytes() for f in tmp_path.rglob("*.*")
                if f.suffix in (".json", ".md", ".csv", ".tex")}  # fmt: skip

    publish_all([runs], tmp_path / "results", readme)
    before = contents()
    assert readme not in publish_all([runs], tmp_path / "results", readme)
    assert contents() == before


def test_a_folder_without_results_is_refused_before_anything_is_written(tmp_path, readme) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultError, match="holds no result"):
        publish_all([tmp_path / "empty"], tmp_path / "results", readme)
    assert not (tmp_path / "results").exists()


def test_tables_leave_out_runs_with_one_choice_changed(tmp_path) -> None:
    changed = draws("gtgm", [0.1], settings={"changes": {"finetune": {"released_window": True}}})
    plain = draws("gtgm", [0.8])
    for name, results in (("with", plain + changed), ("without", plain)):
        assert len(write_tables(results, tmp_path / name)) == 9
    frames = [pd.read_csv(tmp_path / name / "mri.csv") for name in ("with", "without")]
    assert frames[0].equals(frames[1])
