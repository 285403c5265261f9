"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from reliability import PROPERTY, SECTIONS, Evidence

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
    """A port of this machine that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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
