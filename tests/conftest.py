"""Fixtures that several test files share."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings
from reliability import PROPERTY, SECTIONS, Evidence

# The same examples everywhere, and no opinion on how fast the machine makes them.
settings.register_profile(
    "gtgm",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gtgm")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-reliability", action="store_true", help="write the table of docs/reliability.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller hears of the tests of all workers
        config.pluginmanager.register(Evidence(config))


@pytest.fixture
def evidence(record_property: Callable[[str, object], None]) -> Callable[[str, str, str], None]:
    """Say what a test tries, for docs/reliability.md: section, kind and a name of its own."""

    def say(section: str, kind: str, name: str) -> None:
        assert section in SECTIONS
        record_property(PROPERTY, [section, kind, name])

    return say


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real data of the team; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GTGM_TEST_DATA") or SHARED)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder in GTGM_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the reader's own runs and datasets."""
    monkeypatch.setenv("GTGM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("GTGM_DATA", raising=False)


@pytest.fixture
def free_port() -> int:
    """A port that is free now, and that Linux, as it is set up by default, gives no connection."""
    chosen = random.SystemRandom().sample(range(20_000, 32_000), 100)
    for port in chosen:
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            return port
    raise OSError("100 ports, and none of them free")


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen]]:
    """``subprocess.Popen``, in a session of its own; what lives of it when the test ends is killed,
    with what it has started."""
    import kills

    begun: list[subprocess.Popen] = []

    def start(command: list[str], **options: object) -> subprocess.Popen:
        begun.append(subprocess.Popen(command, start_new_session=True, **options))
        return begun[-1]

    yield start
    for process in begun:
        if process.poll() is None:
            for each in kills.below(process):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs that nobody killed, by stage, each made once and by what goes before."""
    import kills

    made: dict[str, Path] = {}

    def get(stage: str) -> Path:
        if stage not in made:
            made[stage] = tmp_path_factory.mktemp("whole") / "runs"
            before = kills.BEFORE.get(stage)
            if before:
                shutil.copytree(get(before), made[stage])
            assert kills.run(stage, made[stage]) == 0
        return made[stage]

    return get
