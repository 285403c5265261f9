"""The files around the code: environments in step, notebooks in order, README true."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from gtgm.cli import make_parser
from gtgm.paths import NOTEBOOKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))


def lock() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_the_lock_satisfies_every_declared_dependency():
    pins = lock()
    declared = PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
    for requirement in map(Requirement, declared):
        if requirement.name == PROJECT["name"]:  # an extra that takes another one in
            assert requirement.extras <= set(PROJECT["optional-dependencies"])
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in pins, name
        assert requirement.specifier.contains(pins[name], prereleases=True), name


def test_conda_installs_the_lock_and_nothing_else():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert {d.partition("=")[0] for d in conda} == {"python", "pip"}
    python = next(d for d in conda if d.startswith("python=")).partition("=")[2]
    assert PROJECT["requires-python"] == f">={python}"


def test_nothing_comes_with_a_local_build_tag():
    assert not [v for v in lock().values() if "+" in v]
    assert "torchvision" not in lock()


def test_every_make_target_makes_the_environment_first():
    text = (ROOT / "Makefile").read_text()
    for target in ("reproduce", "test", "notebooks", "lab", "lint"):
        assert re.search(rf"^{target}: \$\(READY\)", text, re.M), target


def test_ci_runs_the_tests_and_then_the_main_job():
    text = (ROOT / ".ci" / "run").read_text()
    assert text.index("make test") < text.index("make reproduce")


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_in_order(name):
    notebook = nbformat.read(NOTEBOOKS / name, 4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    tagged = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
    assert "xpected runtime" in notebook.cells[0].source
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    for cell in code:
        source = re.sub(r"^%.*$", "", cell.source, flags=re.M)
        assert not re.search(r"^\s*(class |!)|pip install", source, re.M)
        assert not re.search(r"[\"'](/\w+/|~/|[A-Z]:\\)", source)
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.FunctionDef), "functions belong into the package"


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_committed_with_its_outputs(name):
    path = NOTEBOOKS / name
    notebook = nbformat.read(path, 4)
    assert path.stat().st_size < 500_000
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    outputs = [o for c in code for o in c.outputs]
    assert any(o.output_type in ("execute_result", "display_data") for o in outputs)
    for output in outputs:
        assert output.output_type != "error"
        assert not (output.output_type == "stream" and output.name == "stderr"), output.text
    checked = [c for c in code if c.source.startswith("# NBVAL_CHECK_OUTPUT")]
    assert checked
    assert all(c.outputs for c in checked)
    assert not re.search(r"/(home|root|work|tmp)/", json.dumps(outputs))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_pages_name_commands_and_files_that_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make (\w+)", text, re.M):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target
    parser = make_parser()
    for line in re.findall(r"^gtgm (.*?)(?:\s+#.*)?$", text, re.M):
        parser.parse_args(shlex.split(line))
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
