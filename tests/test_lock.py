"""Locks of units: who holds them, who waits, what a killed execution leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gtgm.batch.lock import MARK, alone, held_since, take

HOLD = """
import sys, time
from gtgm.batch.lock import alone
with alone(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "unit")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_who_holds_a_lock_can_be_seen_without_taking_it(tmp_path: Path, other) -> None:
    assert held_since(tmp_path / "nobody") is None
    assert not (tmp_path / "nobody").exists()
    since = held_since(tmp_path / "unit")
    assert since is not None and 0 <= time.time() - since < 600
    assert held_since(tmp_path / "unit") == since
    other.communicate("\n")
    assert held_since(tmp_path / "unit") is None


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, other) -> None:
    other.kill()
    other.wait()
    assert held_since(tmp_path / "unit") is None
    with alone(tmp_path / "unit"):
        pass


def test_a_second_execution_waits_for_the_first(tmp_path: Path, other, capsys) -> None:
    entered = threading.Event()

    def second() -> None:
        with alone(tmp_path / "unit"):
            entered.set()

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    assert not entered.wait(2)
    other.communicate("\n")
    assert entered.wait(60)
    thread.join()
    assert "waiting   unit" in capsys.readouterr().out


def test_a_glance_at_the_lock_delays_nobody_for_long(tmp_path: Path) -> None:
    import fcntl

    path = tmp_path / "unit"
    with path.open("a") as mine, path.open() as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        assert not take(mine.fileno(), ())
        threading.Timer(0.2, fcntl.flock, (glance, fcntl.LOCK_UN)).start()
        assert take(mine.fileno(), (0.1,) * 100)


def test_processes_that_a_killed_execution_left_are_ended(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "unit"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    mine = subprocess.Popen(sleep, env={**os.environ, MARK: str(lock.resolve())})
    others = subprocess.Popen(sleep, env={**os.environ, MARK: f"{lock.resolve()}-2"})
    try:
        with alone(lock):
            assert mine.poll() is not None
            assert others.poll() is None
            assert os.environ[MARK] == str(lock.resolve())
        assert MARK not in os.environ
    finally:
        mine.kill()
        others.kill()
