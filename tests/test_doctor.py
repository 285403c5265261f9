"""The doctor: finds what is wrong, says what to do, crashes on nothing and gives nothing away."""

from __future__ import annotations

import http.server
import io
import json
import re
import subprocess
import sys
import threading
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from gtgm import cli_doctor, doctor, paths, versions
from gtgm.datasets.own import FILE
from gtgm.doctor import hardware, network, places, software
from gtgm.doctor.line import Line, note, ok, problem


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, whose project needs numpy and packaging."""
    root = tmp_path / "checkout"
    root.mkdir()
    declare(root, "numpy>=1", "packaging")
    monkeypatch.setattr(paths, "ROOT", root)
    return root


def declare(root: Path, *requirements: str) -> None:
    (root / "pyproject.toml").write_text(f"[project]\ndependencies = {list(requirements)}\n")


def lock(root: Path, **pins: str) -> None:
    lines = ["# a lock", *(f"{name}=={version}" for name, version in pins.items())]
    (root / "requirements.lock").write_text("\n".join(lines))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose disk and packages are in order, whatever those of this one are."""
    monkeypatch.setattr(places, "FREE_GB", 0)
    monkeypatch.setattr(doctor, "packages", lambda: [ok("as locked")])


def of(lines: list[Line], state: str) -> list[Line]:
    return [line for line in lines if line.state == state]


def test_packages_as_locked(checkout: Path) -> None:
    lock(checkout, numpy=metadata.version("numpy"), packaging=metadata.version("packaging"))
    assert list(software.packages()) == [ok("2 of 2 packages as locked")]


def test_another_version_than_the_locked_one(checkout: Path) -> None:
    here = metadata.version("numpy")
    lock(checkout, numpy="1.0.1", packaging=metadata.version("packaging"))
    (other,) = of(list(software.packages()), "note")
    assert here in other.what and "1.0.1" in other.what and not other.stops
    assert "make" in other.advice


def test_a_local_build_of_the_locked_version_is_that_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock(checkout, numpy="2.13.0")
    monkeypatch.setattr(versions, "installed", lambda name: "2.13.0+cpu")
    assert list(software.packages())[-1] == ok("1 of 1 packages as locked")


def test_a_locked_package_that_nothing_needs_may_be_missing(checkout: Path) -> None:
    lock(checkout, absent_helper="3.0")
    (missing,) = of(list(software.packages()), "note")
    assert "missing" in missing.what and "absent-helper 3.0" in missing.what


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("numpy<1", ["numpy", "numpy<1", "locked: 0.9"]),
        ("absent-package>=7", ["absent-package is missing", ">=7"]),
    ],
)
def test_outside_of_the_required_range(checkout: Path, requirement: str, words: list[str]) -> None:
    declare(checkout, requirement)
    lock(checkout, numpy="0.9")
    (wrong,) = of(list(software.packages()), "problem")
    assert wrong.stops and all(word in wrong.what for word in words)


def test_what_packages_need_is_needed_too(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {"numpy": ["deep>=2", "old<1", "unused; extra == 'more'"], "deep": ["deeper"]}
    monkeypatch.setattr(versions, "needs", lambda name: needs.get(name, []))
    here = {"numpy": "2", "packaging": "25", "deep": "2", "old": "1.5"}
    monkeypatch.setattr(versions, "installed", here.get)
    lines = list(software.packages())
    assert [line.what for line in of(lines, "problem")] == ["deeper is missing; deep needs deeper"]
    assert [line.what for line in of(lines, "note")] == ["old 1.5; numpy needs old<1"]


def test_without_a_checkout_the_package_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    needs = {versions.PROJECT: ["packaging>=20", "absent; extra == 'dev'"]}
    monkeypatch.setattr(versions, "needs", lambda name: needs.get(name, []))
    (line,) = software.packages()
    assert line.state == "ok" and "all 1 packages" in line.what
    needs[versions.PROJECT].append("absent-package")
    (missing,) = software.packages()
    assert missing.stops and versions.PROJECT in missing.advice


def test_a_working_folder_is_tried_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FREE_GB", 0)
    assert not [x for x in places.working_folder(tmp_path / "new" / "runs") if x.stops]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").touch()
    assert not [x for x in places.working_folder(tmp_path) if x.stops]
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_working_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FREE_GB", 0)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "runs"):
        (wrong,) = of(list(places.working_folder(folder)), "problem")
        assert "cannot be written" in wrong.what and "$GTGM_RUNS" in wrong.advice


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(places, "FREE_GB", 0)
    monkeypatch.setattr("fcntl.flock", refuse)
    (wrong,) = of(list(places.working_folder(tmp_path)), "problem")
    assert "without locks" in wrong.what
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12, 4.9e9)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    (wrong,) = of(list(places.working_folder(tmp_path)), "problem")
    assert "4.9 GB free" in wrong.what and wrong.stops


def test_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.state for line in places.data_folders(None)] == ["ok"]
    full, empty, absent = (tmp_path / name for name in ("full", "empty", "absent"))
    (full / "Task02_Heart").mkdir(parents=True)
    (full / "msd" / "Task09_Spleen").mkdir(parents=True)
    empty.mkdir()
    monkeypatch.setenv("GTGM_DATA", f"{full}:{empty}:{absent}")
    lines = list(places.data_folders(None))
    assert [line.state for line in lines] == ["ok", "note", "note"]
    assert "Task02_Heart, Task09_Spleen;" in lines[0].what
    # What --data names must be there. Datasets of another folder are not those of this one.
    assert [line.state for line in places.data_folders(absent)][0] == "problem"
    other = tmp_path / "other"
    (other / "unknown").mkdir(parents=True)
    assert "no dataset found" in next(places.data_folders(other)).what


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": "Mine"}]'])
def test_broken_own_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    monkeypatch.setenv("GTGM_DATA", str(tmp_path))
    (wrong,) = places.data_folders(None)
    assert wrong.stops and FILE in wrong.what and wrong.advice


class _Server(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(404 if self.path == "/absent" else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_network(monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(network, "_downloads", lambda: [f"{here}/absent"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://localhost:{free_port}")
    reached, refused = network.servers()
    server.shutdown()
    server.server_close()
    assert reached == ok("127.0.0.1 can be reached")
    assert refused.state == "note" and "localhost cannot be reached" in refused.what
    assert not refused.stops and "gtgm data get" in refused.advice


def test_the_hub_is_not_asked_where_it_should_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(network, "_ask", lambda url: asked.append(url) or "")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    lines = list(network.servers())
    assert "HF_HUB_OFFLINE" in lines[0].what
    assert asked and not any("huggingface" in url for url in asked)
    assert len(asked) == len(lines) - 1


def test_little_memory_and_few_processors_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "container_limits", lambda: (0.5, 2e9))
    (line,) = hardware.memory()
    assert line.state == "note" and "the container has 2.0 GB" in line.what
    line = of(list(hardware.devices()), "note")[0]
    assert "0.5 CPUs" in line.what and "OMP_NUM_THREADS=1" in line.advice


def test_gpus_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda gpu: f"Card {gpu}")
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda gpu: (3e9, 80e9))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("gtgm.precision.has_bf16", lambda: True)
    shown = [line.what for line in hardware.devices()]
    assert "CUDA GPU 1: Card 1, 3.0 of 80.0 GB free" in shown
    assert shown[-1] == "bf16 is used"


@pytest.mark.parametrize(
    ("there", "said"),
    [(True, "bf16 is used, and fp32 for small patches"), (False, "fp32 is used, as the processor")],
)
def test_the_precision_is_said_with_its_measured_ratio(
    monkeypatch: pytest.MonkeyPatch, there: bool, said: str
) -> None:
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    monkeypatch.setattr("gtgm.precision.has_bf16", lambda: there)
    last = [line.what for line in hardware.devices()][-1]
    assert last.startswith(said)
    assert re.search(r"takes \d[\d.e+]* times as long in bf16 as in fp32$", last)


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (wrong,) = of(list(hardware.devices()), "problem")
    assert wrong.stops and "torch" in wrong.what and "cannot be imported" in wrong.what


def test_a_kernel_of_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    kernel.write_text(json.dumps({"argv": ["/other/bin/python"], "display_name": "x"}))
    (line,) = software.kernel()
    assert line.state == "note" and "/other/bin/python" in line.what
    kernel.write_text(json.dumps({"argv": ["python"], "display_name": "x"}))
    (line,) = software.kernel()
    assert line.state == "ok"


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("nothing", ["in order"]),
        ("user", ["no user has the number", "USER"]),
        ("home", ["home folder cannot be written", "HOME"]),
        ("encoding", ["latin-1", "LC_ALL=C.UTF-8"]),
        ("levels", ["OMP_NUM_THREADS=2,1", "OMP_NUM_THREADS=2"]),
        ("threads", ["OMP_NUM_THREADS is 'two'", "a number"]),
    ],
)
def test_surroundings(
    lacking: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(uid: int) -> None:
        raise KeyError(uid)

    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" if lacking == "home" else tmp_path))
    given = {"levels": "2,1", "threads": "two"}.get(lacking, "2")
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    found = (lambda uid: "somebody") if lacking != "user" else absent
    monkeypatch.setattr("pwd.getpwuid", found)
    encoding = "latin-1" if lacking == "encoding" else "utf-8"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    (line,) = software.surroundings()
    assert line.state == {"nothing": "ok", "threads": "problem"}.get(lacking, "note")
    assert all(word in f"{line.what} {line.advice}" for word in words)


def test_secrets_and_the_home_folder_are_not_shown(
    machine: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "alice"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GTGM_RUNS", str(home / "runs"))
    monkeypatch.setenv("GTGM_DATA", f"{home}:{home}-2")
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_TOKEN", "hf_confidential")
    monkeypatch.setenv("GTGM_SECRET", "confidential")
    monkeypatch.setenv("GTGM_ITK_VIEWER", "https://me:confidential@example.org/itk")
    for how in ([], ["--json"]):
        assert cli_doctor.main(["--no-network", *how]) == 0
        out = capsys.readouterr().out
        assert "confidential" not in out and f"{home}/" not in out and f"{home}:" not in out
        assert "HF_TOKEN: set, not shown" in out and "GTGM_SECRET: set, not shown" in out
        assert "GTGM_ITK_VIEWER=https://...@example.org/itk" in out
        assert f"GTGM_DATA=~:{home}-2" in out and "HF_HOME=~" in out and "~/runs: " in out


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setattr(doctor, "memory", lambda: [ok("at ~ and /home/alice.")])
    (line,) = doctor._run("memory", doctor.memory)
    assert line.what == "at ~ and /home/alice."
    monkeypatch.setattr("os.path.expanduser", lambda path: "/home/alice")
    (line,) = doctor._run("memory", doctor.memory)
    assert line.what == "at ~ and ~."


def test_a_check_that_fails_is_a_line(
    machine: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken():
        yield ok("as far as here")
        raise ZeroDivisionError("a\nreason")

    monkeypatch.setattr(doctor, "memory", broken)
    assert cli_doctor.main(["--no-network", "--json"]) == 0  # it need not stop anything
    lines = json.loads(capsys.readouterr().out)
    said = [line for line in lines if line["section"] == "memory"]
    assert [line["what"] for line in said] == [
        "as far as here",
        "this check failed (ZeroDivisionError: a reason)",
    ]
    assert said[1]["state"] == "problem" and said[1]["advice"]


def test_text_and_json_say_the_same(
    machine: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(
        doctor, "memory", lambda: [note("little", "buy more"), note("slow", "buy more")]
    )
    monkeypatch.setattr(doctor, "servers", lambda: [ok("reached")])
    monkeypatch.setattr(doctor, "working_folder", lambda folder: [ok("fine")])
    monkeypatch.setattr("gtgm.precision.bf16_ratio", lambda: 0.5)
    assert cli_doctor.main(["--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    assert cli_doctor.main([]) == 0
    text = capsys.readouterr().out
    shown = []
    for line in lines:
        if line["section"] not in shown:
            shown.append(line["section"])
        shown.append(f"  {line['state']:<8} {line['what']}")
        if line["advice"]:
            shown = [x for x in shown if x != f"           -> {line['advice']}"]
            shown.append(f"           -> {line['advice']}")
    assert shown.count("           -> buy more") == 1
    assert text.splitlines()[: len(shown)] == shown
    assert "problems: 0" in text and {"network", "memory"} <= {x["section"] for x in lines}


def test_exit_code_is_that_of_what_stops(
    machine: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "servers", lambda: pytest.fail("the network was asked"))
    assert cli_doctor.main(["--no-network", "--runs", str(tmp_path / "runs")]) == 0
    (tmp_path / "file").touch()
    assert cli_doctor.main(["--no-network", "--runs", str(tmp_path / "file")]) == 1
    assert cli_doctor.main(["--no-network", "--data", str(tmp_path / "absent")]) == 1
    monkeypatch.setattr(doctor, "memory", lambda: [problem("none left")])
    assert cli_doctor.main(["--no-network"]) == 1


def test_it_starts_without_the_packages_of_the_project(tmp_path: Path) -> None:
    for name in ("torch", "monai", "transformers", "numpy", "psutil", "jupyter_client"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "gtgm", "doctor", "--no-network", "--json"],
        env={"PYTHONPATH": f"{tmp_path}:{paths.ROOT}", "GTGM_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = {(x["section"], x["state"]): x["what"] for x in json.loads(done.stdout)}
    assert "no psutil here" in lines["memory", "problem"]
    assert "packages" in {section for section, _ in lines}
