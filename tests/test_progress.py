"""Progress of long work: a bar on a terminal, lines in a file."""

from __future__ import annotations

import os
import subprocess
import sys
import termios

import nbformat
import pytest
import torch

from gtgm import loop, progress
from gtgm.batch.execute import execute_notebook
from gtgm.inference import predict_scores

SHOW = """
from gtgm import progress
progress.EVERY = 0
for _ in progress.tqdm(range(2, 5), desc="work", initial=2, total=5, mininterval=0):
    pass
"""


def test_a_file_gets_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0)
    monkeypatch.setattr(progress.time, "monotonic", iter(range(0, 10_000, 100)).__next__)
    assert list(loop.steps(2, 6, "pretrain")) == [2, 3, 4, 5]
    out, error = capsys.readouterr()
    assert error == ""
    assert out.splitlines() == [
        "pretrain: continues behind step 2 of 6",
        "pretrain: 3 of 6 (50 %), 10 min left",  # 100 s between two looks at the clock, of which
        "pretrain: 4 of 6 (67 %), 7 min left",  # there are two a line
        "pretrain: 5 of 6 (83 %), 3 min left",
        "pretrain: 6 of 6 (100 %)",
    ]


@pytest.mark.parametrize("every", [30.0, 1e9])
def test_short_work_prints_nothing(every, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", every)
    list(loop.steps(0, 6, "pretrain"))
    assert capsys.readouterr() == ("", "")


def test_what_shall_not_be_shown_is_not(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0)
    list(loop.steps(0, 6, "pretrain", show=False))
    assert capsys.readouterr() == ("", "")


def test_long_work_ends_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0)
    with progress.tqdm(total=4000, unit="B", unit_scale=True, desc="scan") as bar:
        bar.update(1000)
        monkeypatch.setattr(progress, "EVERY", 1e9)
        bar.update(3000)
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("scan: 1.00kB of 4.00kB (25 %)")
    assert last == "scan: 4.00kB of 4.00kB (100 %)"


def test_the_windows_of_a_volume_are_counted(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0)
    network = torch.nn.Conv3d(1, 2, 1)
    predict_scores(network, torch.zeros(1, 8, 8, 16), (8, 8, 8), 0.0, "", "no", 1)
    assert capsys.readouterr().out.splitlines() == ["windows: 1", "windows: 2"]


def test_a_terminal_gets_a_bar():
    terminal, other = os.openpty()
    termios.tcsetwinsize(other, (24, 80))
    streams = dict.fromkeys(("stdout", "stderr"), other)
    environment = {k: v for k, v in os.environ.items() if k != "TQDM_DISABLE"}
    subprocess.run([sys.executable, "-c", SHOW], **streams, env=environment, check=True)
    os.close(other)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "work: " in shown and "5/5" in shown and "5 of 5" not in shown


def test_the_log_of_a_unit_gets_lines(tmp_path):
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    cells = [nbformat.v4.new_code_cell(SHOW)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, tmp_path / "work.ipynb")
    log = tmp_path / "log"
    execute_notebook(tmp_path / "work.ipynb", tmp_path / "done.ipynb", log=log)
    assert "work: 3 of 5 (60 %)" in log.read_text() and "5/5" not in log.read_text()
