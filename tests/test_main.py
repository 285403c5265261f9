"""The entry point of ``gtgm``."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
import atexit, sys
atexit.register(lambda: print("loaded:", *sorted({"torch", "monai"} & set(sys.modules))))
from gtgm.__main__ import main
sys.argv = ["gtgm", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["data", "get", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True
    )
    first, *_, last = done.stdout.strip().splitlines()
    assert "gtgm" in first and last == "loaded:"


def test_the_status_of_a_batch_does_not_wait_for_monai(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "status", "--runs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().splitlines()[-1] == "loaded: torch"


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
