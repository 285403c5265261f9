"""The page that says what was tried, docs/reliability.md: its table comes from the tests.

A test calls the fixture ``evidence(section, kind, name)`` before it tries something. What it tried
counts as held only if the test passes. A run of the whole suite fails if the page says something
else; ``make reliability`` writes it anew.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict

import pytest

from gtgm import paths
from gtgm.markup import between, markdown_table

PAGE = paths.ROOT / "docs" / "reliability.md"
MARKS = ("<!-- evidence:begin -->", "<!-- evidence:end -->")
PROPERTY = "evidence"
#: Section → what the page calls it, and what held means there.
SECTIONS = {
    "kill": ("Killed (SIGKILL), started again", "same numbers and weights as without the kill"),
    "repeat": ("Repeated in another process", "the same bytes in every file"),
    "fault": ("Faults injected", "said clearly, nothing lost, nothing half taken for whole"),
    "input": ("Bad inputs", "refused with name and reason"),
    "archive": ("Downloads and archives", "refused, repeated or continued as it should be"),
    "orientation": ("Orientations of a file", "image → model → prediction → image is the identity"),
}
Tried = dict[tuple[str, str, str], bool]


class Evidence:
    """Plugin that collects what the tests tried, and compares it with the page or writes it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.tried: Tried = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and (report.when == "call" or report.failed):
                key = tuple(value)
                self.tried[key] = self.tried.get(key, True) and report.passed

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.tried:
            return
        if self.config.getoption("--write-reliability"):
            paths.write_text(PAGE, between(_page(), *MARKS, render(self.tried)))
        elif self._whole() and between(_page(), *MARKS, render(self.tried)) != _page():
            print(f"\n{PAGE.relative_to(paths.ROOT)} says something else: make reliability")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _whole(self) -> bool:
        """Whether every test was asked for."""
        chosen = ("keyword", "markexpr", "lf", "deselect", "ignore", "ignore_glob")
        # Other systems have no /dev/full and no /sys, so that their tests try less.
        asked = (
            sys.platform == "linux" and self.config.args_source is not pytest.Config.ArgsSource.ARGS
        )
        return asked and not any(self.config.getoption(name, None) for name in chosen)


def render(tried: Tried) -> str:
    """A table of the sections, and below it, by kind, everything that was tried."""
    kinds: dict[str, dict[str, dict[str, bool]]] = defaultdict(lambda: defaultdict(dict))
    for (section, kind, name), held in sorted(tried.items()):
        kinds[section][kind][name] = held
    rows, lists = [], []
    for section, (title, means) in SECTIONS.items():
        every = [held for names in kinds[section].values() for held in names.values()]
        rows.append([title, str(len(every)), str(sum(every)), means])
        lists += ["", "<details>", f"<summary>{title}: each of the {len(every)}</summary>", ""]
        for kind, names in kinds[section].items():
            shown = "; ".join(n if held else f"{n} (did not hold)" for n, held in names.items())
            lists.append(f"- **{kind}** ({sum(names.values())} of {len(names)}): {_plain(shown)}")
        lists += ["", "</details>"]
    return "\n".join([markdown_table(["", "tried", "held", "held means"], rows), *lists, ""])


def _plain(text: str) -> str:
    """Text in which Markdown finds no marks."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", text)


def _page() -> str:
    return PAGE.read_text(encoding="utf-8")
