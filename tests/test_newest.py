"""The check with the newest releases: which caps it drops, and what its report says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from gtgm import versions
from gtgm.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def newest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("newest", ROOT / ".ci" / "newest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "open_"),
    [
        ("a>=1,<2", "a>=1"),
        ("a<=2", "a"),
        ("a==1.0a55", "a>=1.0a55"),
        ("a~=1.4", "a>=1.4"),
        ("a==1.*", "a>=1"),
        ("a[x]>=1,!=1.5,<2", "a[x]!=1.5,>=1"),
        ('a<2; python_version >= "3.11"', 'a; python_version >= "3.11"'),
        ("a", "a"),
    ],
)
def test_caps_go_and_the_rest_stays(newest: ModuleType, text: str, open_: str) -> None:
    assert newest.without_cap(Requirement(text)) == Requirement(open_)


def test_no_declared_package_keeps_a_cap(newest: ModuleType) -> None:
    wanted = newest.declared(PROJECT)
    assert {"monai", "itkwidgets", "pytest", "snakemake-executor-plugin-slurm"} <= wanted.keys()
    assert versions.PROJECT not in wanted
    for name, requirement in wanted.items():
        open_ = newest.without_cap(requirement)
        assert {part.operator for part in open_.specifier} <= {">=", ">", "!="}
        assert open_.extras == requirement.extras
        assert versions.fits(open_, versions.locked(ROOT / "requirements.lock")[name])


def offer_of(releases: dict[str, list[tuple[str, list[str]]]]):
    """An index: of each package versions, newest first, with what they need."""

    def offer(requirements):
        found = {}
        for requirement in requirements:
            version, needs = next(
                (version, needs)
                for version, needs in releases[requirement.name]
                if versions.fits(requirement, version)
            )
            found[requirement.name] = {"version": version, "requires_dist": needs}
        return found

    return offer


def test_a_cap_stays_only_where_a_newest_release_needs_it(newest: ModuleType) -> None:
    wanted = {
        name: Requirement(text)
        for name, text in {
            "view": "view==1.0a5",
            "store": "store>=2,<3",
            "codec": "codec>=1,<2",
            "nets": "nets>=5,<6",
            "extra": "extra<4",
        }.items()
    }
    releases = {
        "view": [("1.0a5", ["store<3", "nets<1; extra == 'old'"])],
        "store": [("3.1", ["codec>=1"]), ("2.18", ["codec<2"])],
        "codec": [("2.0", []), ("1.9", [])],
        "nets": [("6.0", ["elsewhere>=1"]), ("5.2", [])],
        "extra": [("4.0", ["store>=3"]), ("3.9", [])],
    }
    chosen, kept, first = newest.choose(wanted, offer_of(releases))
    assert first == {"view": "1.0a5", "store": "3.1", "codec": "2.0", "nets": "6.0", "extra": "4.0"}
    # codec and extra must follow store, which view holds back; nets is free.
    assert kept == {
        "store": "view 1.0a5 needs store<3",
        "codec": "store 2.18 needs codec<2",
        "extra": "extra 4.0 needs store>=3",
    }
    got = {
        name: release["version"] for name, release in offer_of(releases)(chosen.values()).items()
    }
    assert got == {"view": "1.0a5", "store": "2.18", "codec": "1.9", "nets": "6.0", "extra": "3.9"}


def test_a_conflict_without_a_cap_is_left_to_pip(newest: ModuleType) -> None:
    wanted = {"a": Requirement("a>=1"), "b": Requirement("b")}
    releases = {"a": [("1", ["b<2"])], "b": [("2", [])]}
    chosen, kept, _ = newest.choose(wanted, offer_of(releases))
    assert chosen == wanted and kept == {}


def test_outcome_of_real_tests(newest: ModuleType, tmp_path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): raise KeyError('which one\\nis missing')\n"
        "def test_wrong(): assert [1] == [2]\n"
        "@pytest.mark.skip\n"
        "def test_left_out(): pass\n"
        "@pytest.fixture\n"
        "def fixture(): raise OSError('no disk')\n"
        "def test_not_ready(fixture): pass\n"
    )
    (tmp_path / "test_broken.py").write_text("import absent_package\n")
    junit = tmp_path / "junit.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path),
         "-p", "no:cacheprovider", "--continue-on-collection-errors",
         f"--junitxml={junit}", str(tmp_path)],
        capture_output=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    numbers, failed = newest.outcome(junit.read_text())
    assert numbers == {"passed": 1, "failed": 4, "skipped": 1}
    assert dict(failed) == {
        "test_broken": "ModuleNotFoundError: No module named 'absent_package'",
        "test_it::test_bad": "KeyError: 'which one\\nis missing'",
        "test_it::test_wrong": "assert [1] == [2]",
        "test_it::test_not_ready": 'failed on setup with "OSError: no disk"',
    }


def test_table(newest: ModuleType) -> None:
    wanted = {name: Requirement(f"{name}<9") for name in ("torch", "same", "newer", "held", "kept")}
    lock = {"torch": "2.1", "same": "1", "newer": "1", "held": "1", "kept": "1"}
    first = {"same": "1", "newer": "2", "held": "3", "kept": "9"}
    tried = {"torch": "2.1+cpu", "same": "1", "newer": "2", "held": "2", "kept": "1"}
    lines = newest.table(wanted, lock, first, tried, {"kept": "other 1 needs kept<9"}).splitlines()
    assert lines[2:] == [
        "| torch | 2.1 | – | 2.1+cpu |  |",
        "| same | 1 | 1 | 1 |  |",
        "| newer | 1 | 2 | 2 | newer than the lock |",
        "| held | 1 | 3 | 2 | held back by another package |",
        "| kept | 1 | 9 | 1 | cap kept (<9): other 1 needs kept<9 |",
    ]


@pytest.fixture
def check(newest: ModuleType, tmp_path, monkeypatch):
    """The check in a folder of its own."""
    monkeypatch.setattr(newest, "ROOT", tmp_path)
    monkeypatch.setattr(newest, "REPORT", tmp_path / "runs" / "newest.md")
    monkeypatch.setattr(newest, "LOG", tmp_path / "runs" / "newest.log")
    (tmp_path / "runs").mkdir()
    return newest


def test_a_command_says_why_it_failed(check: ModuleType) -> None:
    run = check.Check()
    assert run.run([sys.executable, "-c", "print('fine')"]) is None
    failing = "import os, sys; print(os.environ['WORD']); sys.exit(3)"
    assert run.run([sys.executable, "-c", failing], WORD="why") == "exit code 3: why"
    assert "fine" in check.LOG.read_text()
    run.end = 0
    assert run.run([sys.executable, "-c", "import time; time.sleep(60)"]) == "out of time"


def test_without_network_it_says_so_and_does_not_fail(
    check: ModuleType, monkeypatch, capsys
) -> None:
    for name in ("pyproject.toml", "requirements.lock"):
        (check.ROOT / name).write_text((ROOT / name).read_text())

    def offline(*_: object, **__: object) -> None:
        raise check.Stopped("exit code 1: no network")

    monkeypatch.setattr(check.Check, "pip", offline)
    assert check.main() == 0
    said = capsys.readouterr().out
    assert "nothing was tested: exit code 1: no network" in said
    assert check.REPORT.read_text() in said


def test_a_mistake_of_its_own_does_not_fail_the_build(check: ModuleType, capsys) -> None:
    assert check.main() == 0  # there is no pyproject.toml
    assert "The check itself failed" in capsys.readouterr().out


def test_all_tests_that_it_runs_exist(newest: ModuleType) -> None:
    assert [name for name in newest.TESTS if not (ROOT / name).is_file()] == []
