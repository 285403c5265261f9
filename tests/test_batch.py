"""Batch: parameters, failures, what is run again and what is not, kills."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import kills
import nbformat
import pytest

from gtgm import paths, progress
from gtgm.batch.execute import ExecutionError, execute_notebook
from gtgm.batch.execute import main as execute_unit
from gtgm.batch.run import Run
from gtgm.batch.running import still_running
from gtgm.batch.snake import run_batch
from gtgm.batch.status import failure, state, states
from gtgm.batch.units import Unit, ordered, read_manifest, write_manifest
from gtgm.errors import DataError, SettingsError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WORK = """
import os, pathlib, time
here = pathlib.Path(folder)
(here / f"{name}.started").touch()
while wait_for and not pathlib.Path(wait_for).exists():
    time.sleep(0.1)
if fail:
    raise ValueError("no organ in sight")
with open(here / f"{name}.count", "a") as file:
    file.write("x")
print("unit", os.environ["GTGM_UNIT"], "threads", os.environ.get("OMP_NUM_THREADS"))
"""

#: A name that the file system allows; YAML, Snakemake, format strings and shells read more in it.
ODD = """läufe (1) #2: {0} {n} 'a' "b" $HOME %s [x] *?"""

#: A batch in a process of its own.
BATCH = """
import signal, sys
from gtgm.batch.snake import run_batch
from gtgm.batch.units import read_manifest
try:
    run_batch(list(read_manifest(sys.argv[1]).values()), sys.argv[2])
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the second one of two
    print("stopped", file=sys.stderr)
    sys.exit(130)
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """A notebook whose cell leaves a mark each time it runs to its end."""
    cells = [
        nbformat.v4.new_code_cell("folder = ''\nname = ''\nwait_for = ''\nfail = False"),
        nbformat.v4.new_code_cell(WORK),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    path = tmp_path / "work.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def test_an_unknown_parameter_is_found_before_anything_runs(notebook: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "done.ipynb"
    with pytest.raises(SettingsError, match="'fractoin'.*folder, name, wait_for, fail"):
        execute_notebook(notebook, output, {"folder": str(tmp_path), "fractoin": 0.1})
    assert not output.parent.exists()
    with pytest.raises(SettingsError, match="no such notebook"):
        execute_notebook(tmp_path / "absent.ipynb", output)
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        execute_notebook(tmp_path / "broken.ipynb", output)


def test_a_notebook_that_fails_is_kept_under_another_name(notebook: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "unit.ipynb"
    with pytest.raises(ExecutionError, match="ValueError: no organ in sight") as caught:
        execute_notebook(notebook, output, {"folder": str(tmp_path), "fail": True}, unit="u1")
    assert str(caught.value).startswith("u1: cell ") and len(str(caught.value)) < 400
    assert [p.name for p in output.parent.iterdir()] == ["unit.failed.ipynb"]
    assert "GTGM_UNIT" not in os.environ
    nbformat.validate(nbformat.read(output.parent / "unit.failed.ipynb", as_version=4))


@pytest.fixture
def begin(launch: Callable) -> Callable[..., subprocess.Popen]:
    """Starts a batch in a process of its own."""

    def start(
        manifest: Path, run: Path, before: Callable[[], object] = bool, **options
    ) -> subprocess.Popen:
        def prepare() -> None:
            kills.hear_signals()
            before()

        return launch(
            [sys.executable, "-c", BATCH, str(manifest), str(run)],
            env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
            preexec_fn=prepare,
            **options,
        )

    return start


def until(batch: subprocess.Popen, reached: Callable[[], bool]) -> None:
    limit = time.monotonic() + 300
    while not reached():
        assert batch.poll() is None and time.monotonic() < limit
        time.sleep(0.05)


STOPS = (
    "Ctrl-C",
    "Ctrl-C twice",
    "Ctrl-C while a unit starts",
    "SIGTERM to the batch alone",
    "a closed terminal",
)


@pytest.mark.parametrize("by", STOPS)
def test_a_batch_that_is_stopped_says_so_and_leaves_no_process(
    notebook: Path, tmp_path: Path, by: str, begin: Callable, evidence
) -> None:
    evidence("fault", "interrupted", f"a batch, by {by}")
    run = tmp_path / "run"
    values = {"folder": str(run), "name": "slow", "wait_for": str(tmp_path / "go")}
    slow = Unit("slow", str(notebook), values, outputs=("slow.count",), memory_gb=0.1)
    write_manifest([slow], tmp_path / "units.json")
    options, terminal = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}, None
    if by == "a closed terminal":
        terminal, other = os.openpty()
        owns = partial(fcntl.ioctl, other, termios.TIOCSCTTY, 0)
        options = dict.fromkeys(("stdin", "stdout", "stderr"), other) | {"before": owns}
    batch = begin(tmp_path / "units.json", run, **options)

    def starts() -> bool:
        return bool(kills.below(batch, "gtgm.batch.execute"))

    until(batch, starts if "starts" in by else (run / "slow.started").exists)
    below = kills.below(batch)
    said = ""
    if by == "a closed terminal":
        os.close(other)
        os.close(terminal)
        batch.wait(120)
    elif "SIGTERM" in by:
        batch.terminate()
    else:
        os.killpg(batch.pid, signal.SIGINT)
    if by == "Ctrl-C twice":
        time.sleep(0.2)  # while it ends the kernel
        os.killpg(batch.pid, signal.SIGINT)
    if terminal is None:
        _, said = batch.communicate(timeout=120)
        assert batch.returncode == 130, said
        assert said.splitlines()[-1] == "stopped" and "Traceback" not in said
    assert not still_running(below, 60)
    assert state(slow, run) == "to run" and not slow.failed(run).exists()

    (tmp_path / "go").touch()
    assert run_batch([slow], run).executed == ("slow",)
    assert (run / "slow.count").read_text() == "x"


def test_a_batch_survives_failure_and_kill_and_runs_nothing_twice(
    notebook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable,
    evidence,
    capsys: pytest.CaptureFixture,
) -> None:
    evidence("kill", "batch", "while one of its notebooks runs")
    evidence("fault", "two at once in one folder", "a batch")
    run, go = tmp_path / ODD, tmp_path / "go"

    def unit(name: str, *needs: str, **parameters) -> Unit:
        values = {"folder": str(run), "name": name, **parameters}
        return Unit(name, str(notebook), values, needs, outputs=(f"{name}.count",), memory_gb=0.1)

    def count(name: str) -> int:
        file = run / f"{name}.count"
        return len(file.read_text()) if file.exists() else 0

    first, slow = unit("first"), unit("slow", "first", wait_for=str(go))
    units = [unit("after-bad", "bad"), slow, first, unit("bad", "slow", fail=True)]
    write_manifest(units, tmp_path / "units.json")

    # Killed without warning while `slow` runs: nothing of it remains, `first` does.
    batch = begin(tmp_path / "units.json", run)
    until(batch, (run / "slow.started").exists)
    with pytest.raises(SettingsError, match="another batch is at work"):
        run_batch(units, run)
    os.killpg(batch.pid, signal.SIGKILL)
    batch.wait()
    limit = time.monotonic() + 120
    while state(slow, run) == "running":  # until all processes of the batch have ended
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert states(units, run) == {
        "first": "done", "slow": "to run", "bad": "to run", "after-bad": "to run"
    }  # fmt: skip
    finished = first.executed(run).stat().st_mtime_ns

    # Continued: `first` is not run again; what needs the failed unit is not started. The cell may
    # end once the new execution of `slow` is at it, so an orphaned kernel would leave a mark too.
    (run / "slow.started").unlink()

    def let_go() -> None:
        while not (run / "slow.started").exists():
            time.sleep(0.1)
        time.sleep(0.3)
        go.touch()

    monkeypatch.setattr(progress, "EVERY", 0.1)
    threading.Thread(target=let_go, daemon=True).start()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    report = run_batch(units, run)
    assert report.code == 1 and report.failed == ["bad"]
    assert re.search(r"running   slow for \d+ s; 1 of 4 done\n", capsys.readouterr().out)
    assert report.executed == ("slow", "bad")
    assert report.states["slow"] == "done" and report.states["after-bad"] == "to run"
    assert failure(unit("bad"), run) == "ValueError: no organ in sight"
    assert [count(n) for n in ("first", "slow", "bad", "after-bad")] == [1, 1, 0, 0]
    assert first.executed(run).stat().st_mtime_ns == finished
    log = (run / "batch" / "logs" / "slow.log").read_text()
    assert "unit slow threads 1" in log
    assert "no organ in sight" in (run / "executed" / "bad.failed.ipynb").read_text()

    # With other parameters the failed one runs, and then the one that needs it.
    units = [unit("after-bad", "bad"), slow, first, unit("bad", "slow")]
    report = run_batch(units, run, jobs=2)
    assert report.code == 0 and report.executed == ("bad", "after-bad")
    assert not unit("bad").failed(run).exists()
    assert [count(n) for n in ("first", "slow", "bad", "after-bad")] == [1, 1, 1, 1]

    # Nothing is left to do; Snakemake agrees.
    report = run_batch(units, run)
    assert report.code == 0 and report.executed == ()

    # A lost result, or another parameter, brings back that unit and those that need it.
    assert run_batch(units, run, dry_run=True).executed == ()
    (run / "bad.count").unlink()
    assert state(units[3], run) == "to run"
    assert run_batch(units, run, dry_run=True).executed == ("bad", "after-bad")
    changed = [unit("after-bad", "bad", wait_for=str(go)), slow, first, unit("bad", "slow")]
    (run / "bad.count").touch()
    assert run_batch(changed, run, dry_run=True).executed == ("after-bad",)

    # So does another code of the notebook, but not another date or another output of it.
    os.utime(notebook)
    content = nbformat.read(notebook, as_version=4)
    content.cells[1].outputs = [nbformat.v4.new_output("stream", text="old")]
    nbformat.write(content, notebook)
    assert run_batch(units, run, dry_run=True).executed == ()
    content.cells[1].source += "\nprint()"
    nbformat.write(content, notebook)
    assert set(run_batch(units, run, dry_run=True).executed) == {u.name for u in units}


def test_a_dry_run_lists_units_and_changes_nothing(
    notebook: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    units = [
        Unit("b", str(notebook), needs=("a",), seconds=600),
        Unit("a", str(notebook), seconds=30),
    ]
    report = run_batch(units, tmp_path / "run", jobs=2, dry_run=True)
    assert report.code == 0 and report.executed == ("a", "b")
    shown = capsys.readouterr().out
    assert "2 of 2 units to run, about 10 min of work" in shown
    assert shown.index("a  ") < shown.index("b  ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("surroundings", ["odd folders", "no home", "threads per level"])
def test_a_dry_run_in_unusual_surroundings(
    surroundings: str, notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    if surroundings == "odd folders":
        run = tmp_path / ODD  # also of the manifest, which a dry run puts into a temporary folder
        run.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(run))
    if surroundings == "no home":
        no_home(tmp_path, monkeypatch)
    if surroundings == "threads per level":
        monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert run_batch([Unit("a", str(notebook))], run, dry_run=True).executed == ("a",)


def no_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that nobody can write, not even root."""
    (folder / "file").touch()
    monkeypatch.setenv("HOME", str(folder / "file" / "home"))
    for name in ("XDG_CACHE_HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_what_snakemake_says_when_it_refuses_a_batch_is_shown(
    notebook: Path, tmp_path: Path
) -> None:
    (tmp_path / ".snakemake").touch()
    log = tmp_path / "batch" / "snakemake.log"
    with pytest.raises(SettingsError, match=r"(?s)Exists.*\.snakemake.*snakemake\.log"):
        run_batch([Unit("a", str(notebook))], tmp_path)
    assert "Exists" in log.read_text()
    with pytest.raises(SettingsError, match=r"(?s)refuses.*Exists"):
        run_batch([Unit("a", str(notebook))], tmp_path, dry_run=True)


def test_a_folder_whose_name_is_no_text_is_refused(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="udce4.*UTF-8"):
        run_batch([Unit("a", str(notebook), {"folder": "l\udce4ufe"})], tmp_path, dry_run=True)


def test_manifest_round_trip_keeps_order_and_values(notebook: Path, tmp_path: Path) -> None:
    run = Run("Task02_Heart", "gtgm", 0.1, pool=("Task02_Heart",), changes={"text": {"seed": 1}})
    units = [Unit("a", str(notebook), {"fraction": 0.1, "patch": [1, 2]}, outputs=("x/y.json",)),
             Unit("b", str(notebook), needs=("a",), gpus=1, runs=(run, run))]  # fmt: skip
    read = read_manifest(write_manifest(units, tmp_path / "m.json"))
    assert list(read.values()) == units
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(SettingsError, match="no manifest"):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([("a", ("z",))], "unknown units z"),
        ([("a", ("b",)), ("b", ("a",))], "in a circle"),
        ([("a", ()), ("a", ())], "two units"),
        ([("../a", ())], "plain file name"),
        ([("a.failed", ())], "plain file name"),
    ],
)
def test_units_that_contradict_each_other_are_refused(
    notebook: Path, tmp_path: Path, change: list, message: str
) -> None:
    units = [Unit(name, str(notebook), needs=needs) for name, needs in change]
    with pytest.raises(SettingsError, match=message):
        write_manifest(units, tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_a_unit_needs_an_existing_notebook_and_a_batch_a_known_profile(
    notebook: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="no such notebook"):
        write_manifest([Unit("a", "99_absent.ipynb")], tmp_path / "m.json")
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read as a notebook"):
        write_manifest([Unit("a", str(tmp_path / "broken.ipynb"))], tmp_path / "m.json")
    with pytest.raises(SettingsError, match="no such profile 'moon'.*kubernetes, local, slurm"):
        run_batch([Unit("a", str(notebook))], tmp_path, cluster="moon")
    with pytest.raises(SettingsError, match="jobs is 0"):
        run_batch([Unit("a", str(notebook))], tmp_path, jobs=0)


def test_order_puts_needs_first_and_the_key_follows_the_parameters() -> None:
    units = [Unit("c", "n", needs=("a", "b")), Unit("b", "n", needs=("a",)), Unit("a", "n")]
    assert [u.name for u in ordered(units)] == ["a", "b", "c"]
    assert Unit("a", "n", {"x": 1, "y": 2}).key == Unit("b", "n", {"y": 2, "x": 1}).key
    assert Unit("a", "n", {"x": 1}).key != Unit("a", "n", {"x": 2}).key


def test_the_rule_of_a_unit_is_its_stage() -> None:
    rules = {name: Unit("a", f"{name}.ipynb").rule for name in
             ("00_quickstart", "01_text_generation", "02_pretraining", "03_finetuning",
              "04_neuron_segmentation", "table_mri", "figure_gains")}  # fmt: skip
    assert list(rules.values()) == [
        "notebook", "text", "pretrain", "finetune", "neurons", "table", "figure",
    ]  # fmt: skip
    assert Unit("a", "02_pretraining.ipynb", gpus=1).rule == "pretrain_gpu"


def test_an_execution_can_leave_a_copy_elsewhere(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit("u", str(notebook), {"folder": str(tmp_path), "name": "u"})
    manifest = write_manifest([unit], tmp_path / "m.json")
    no_home(tmp_path, monkeypatch)
    run, copy = tmp_path / ODD, tmp_path / "storage" / "u.ipynb"
    arguments = ["--manifest", str(manifest), "--unit", "u", "--folder", str(run)]
    assert execute_unit([*arguments, "--output", str(copy)]) == 0
    assert copy.read_bytes() == unit.executed(run).read_bytes()
    assert execute_unit([*arguments, "--output", str(unit.executed(run))]) == 0
    assert (tmp_path / "u.count").read_text() == "xx"


def test_what_a_kernel_says_that_does_not_start_is_shown(
    notebook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [sys.executable, "-c", "import sys; sys.exit('no läuft')"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    unit = Unit("u", str(notebook), outputs=("u.count",))
    manifest = write_manifest([unit], tmp_path / "m.json")
    run = tmp_path / "run"
    arguments = ["--manifest", str(manifest), "--unit", "u", "--folder", str(run)]
    assert execute_unit(arguments) == 1
    said = capfd.readouterr().err
    assert "Kernel died" in said and "no läuft" in said
    assert str(run / "batch" / "logs" / "u.log") in said
    assert failure(unit, run).startswith("stopped outside of a cell")
