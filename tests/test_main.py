"""The entry point of ``gtgm``."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time

import kills
import pytest

from gtgm import __version__
from gtgm.__main__ import main

LOADED = """
import atexit, sys
heavy = {"torch", "monai", "transformers", "sklearn", "matplotlib"}
atexit.register(lambda: print("loaded:", *sorted(heavy & set(sys.modules))))
from gtgm import __version__
from gtgm.__main__ import main
sys.argv = ["gtgm", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("arguments", "shown", "loaded"),
    [
        ("--help", "gtgm segment", ""),
        ("--version", "gtgm ", ""),
        ("data get --help", "gtgm data get", ""),
        ("pretrain --help", "gtgm-shuffled", ""),
        ("data list", "Task04_Hippocampus", ""),
        ("status --where backbone=unet --runs {}", "table_mri", ""),
        ("reproduce --dry-run --where fraction<=10% --data {}/data --runs {}", "to run", ""),
        ("doctor --no-network --runs {}", "kernel python3", "torch"),  # which knows the devices
    ],
)
def test_what_only_informs_does_not_wait_for_packages_that_train(
    arguments, shown, loaded, tmp_path
):
    (tmp_path / "data" / "Task04_Hippocampus").mkdir(parents=True)
    words = [word.replace("{}", str(tmp_path)) for word in arguments.split()]
    done = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True)
    *text, last = done.stdout.strip().splitlines()
    assert shown in "\n".join(text), done.stderr
    assert last == f"loaded: {loaded}".strip()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["data", "list"], ["data", "get", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    process = subprocess.Popen(
        [sys.executable, "-m", "gtgm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()  # before it writes anything
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


ENCODINGS = (
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_terminal_that_lacks_a_sign_gets_its_number(encoding):
    done = subprocess.run(
        [sys.executable, "-m", "gtgm", "segment", "--help"],
        env={**os.environ, **encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert rb"(left\u2013right)" in done.stdout


def test_a_folder_whose_name_is_no_text_can_be_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    monkeypatch.setattr(sys, "argv", ["gtgm", "status", "--runs", f"{tmp_path}/\udce4"])
    assert main() == 0
    assert rb"\udce4; this is the plan" in sys.stdout.buffer.getvalue()


ASKS = "import gtgm, getpass, pathlib; print(getpass.getuser(), pathlib.Path.home())"
NOBODY = """
import pwd
def absent(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = absent
"""
#: Becomes a user that is in no list, but can read this Python, wherever it lies.
SETPRIV = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"] + [
    f"--{which}-caps=+dac_read_search" for which in ("inh", "ambient")
]


@pytest.mark.parametrize("how", ["setpriv", "pwd"])
def test_a_user_that_is_in_no_list_has_a_name_and_a_home(how):
    command, number = [sys.executable, "-c", NOBODY + ASKS], os.getuid()
    if how == "setpriv":
        if not shutil.which("setpriv") or subprocess.run([*SETPRIV, "true"]).returncode:
            pytest.skip("setpriv and root are needed")
        command, number = [*SETPRIV, sys.executable, "-c", ASKS], 12345
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")
    done = subprocess.run(
        command,
        env={name: value for name, value in os.environ.items() if name not in names},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"user{number} /\n", done.stderr


def test_without_stdout():
    done = subprocess.run(
        ["sh", "-c", '"$0" -m gtgm --version >&-', sys.executable], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr in ("", f"gtgm {__version__}\n")


def test_ctrl_c_in_a_training_with_workers_is_one_line(tmp_path, launch, evidence):
    evidence("fault", "interrupted", "gtgm pretrain with workers, by Ctrl-C")
    process = launch(
        [sys.executable, "-m", "gtgm", "pretrain", "Task04_Hippocampus", "--profile", "tiny"]
        + ["--runs", str(tmp_path), "--set", "pretrain.steps=100000"]
        + ["--set", "pretrain.workers=1", "--set", "pretrain.checkpoint_every=2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=kills.hear_signals,
    )
    limit = time.monotonic() + 240
    while not any(tmp_path.glob("tiny/pretrain/*/checkpoint.pt")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, workers included
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "gtgm: stopped; the same command continues from here\n"


def test_ctrl_c_while_packages_are_imported(monkeypatch, capsys):
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("gtgm.cli.main", interrupted)
    monkeypatch.setattr(sys, "argv", ["gtgm", "status"])
    assert main() == 130
    assert capsys.readouterr().err.startswith("gtgm: stopped")
