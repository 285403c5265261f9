"""Limits of containers, as control groups of both versions say them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from gtgm import container


@pytest.mark.parametrize(
    ("group", "files", "limits"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, (1.5, None)),
        ("0::/", {"memory.max": "8000000000", "cpu.max": "200000 100000"}, (2.0, 8e9)),
        ("0::/gone/from/here", {"memory.max": "7000", "cpu.max": "max 100000"}, (None, 7e3)),
        ("0::/a b", {"a b/memory.max": "max", "memory.max": "9"}, (None, 9.0)),
        (
            "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x",
            {
                "memory/memory.limit_in_bytes": "5000",
                "cpu/cpu.cfs_quota_us": "300000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            (3.0, 5e3),
        ),
        (
            "4:memory:/\n3:cpu:/",
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            (None, None),
        ),
    ],
)
def test_limits_of_containers(
    tmp_path: Path, group: str, files: dict[str, str], limits: tuple[float | None, float | None]
) -> None:
    (tmp_path / "groups").write_text(f"{group}\n")
    for name, text in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    assert container.container_limits(tmp_path / "groups", tmp_path / "mount") == limits
    assert container.container_limits(tmp_path / "none", tmp_path / "mount") == (None, None)


def test_free_memory_is_no_more_than_the_container_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, mine = psutil.virtual_memory().total, psutil.Process().memory_info().rss
    monkeypatch.setattr(container, "container_limits", lambda: (None, None))
    assert 0 < container.free_memory() <= machine
    monkeypatch.setattr(container, "container_limits", lambda: (None, mine + 5e8))
    assert 0 < container.free_memory() < 1e9  # other tests' threads take and give back
    monkeypatch.setattr(container, "container_limits", lambda: (None, 1.0))
    assert container.free_memory() == 0
