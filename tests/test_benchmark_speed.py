"""The benchmark's ratios and tables; the published pages say what the published files hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import scaling, speed
from gtgm.errors import DataError
from gtgm.paths import RESULTS, ROOT

HARDWARE = {"cpu": "a CPU", "cores": 2, "ram_gb": 8.0, "gpu": None}
ROWS = [
    {"name": "stock", "beside": None, "seconds": 6.0, "peak_gb": 8.0},
    {"name": "ours", "beside": "stock", "seconds": 1.5, "peak_gb": 2.0},
    {"name": "quick", "beside": "stock", "seconds": 0.003},
]


def report() -> dict:
    rows = [row | speed._ratios(row, ROWS) for row in ROWS]
    part = {"name": "step", "unit": "s", "sizes": "some", "rows": rows, "hardware": HARDWARE}
    return {"pretraining": part}


def test_ratios_are_those_of_one_run():
    table = speed.markdown(report())
    assert "| step | stock | 6.0 s | – | 8.0 | – |" in table
    assert "|  | ours | 1.5 s | 4.0× | 2.0 | 25% |" in table
    assert "|  | quick | 3.0 ms | 2000.0× | – | – |" in table
    assert "- step (s): some. a CPU, 2 cores." in table


def test_a_page_without_marks_is_refused():
    page = f"a\n{speed.BEGIN}\nold\n{speed.END}\nb\n"
    changed = speed.with_table(page, report())
    assert changed.startswith("a\n") and changed.endswith("\nb\n")
    assert "old" not in changed and "| ours |" in changed.replace("|  | ours", "| ours")
    with pytest.raises(DataError, match="has no performance table"):
        speed.with_table("a page", report())


def test_the_readme_and_the_plan_are_rendered_from_the_files():
    published = json.loads((RESULTS / "benchmarks" / "speed.json").read_text(encoding="utf-8"))
    table = speed.markdown(published)
    assert (RESULTS / "benchmarks" / "speed.md").read_text(encoding="utf-8") == table
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert page == scaling.page(RESULTS / "benchmarks")


def test_a_part_runs_and_keeps_the_others(tmp_path):
    out = tmp_path / "speed.json"
    out.write_text(json.dumps(report()), encoding="utf-8")
    options = ["--volumes", "2", "--size", "40", "64", "64", "--patches", "5", "--repeats", "1"]
    subprocess.run(
        [sys.executable, "benchmarks/speed.py", "--parts", "loading", "--out", str(out), *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = json.loads(out.read_text(encoding="utf-8"))
    assert set(found) == {"pretraining", "loading"}
    stock, ours = found["loading"]["rows"]
    assert ours["beside"] == stock["name"]
    assert ours["faster"] == pytest.approx(stock["seconds"] / ours["seconds"])
    assert {"grown_mb", "convert_seconds"} <= set(ours)
    assert speed.markdown(found) == out.with_suffix(".md").read_text(encoding="utf-8")
