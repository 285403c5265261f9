"""No code comes from data: the sources are searched for ways, and loaders are given traps.

That parameters of notebooks are literals: ``test_project.py``.
"""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from gtgm.errors import GTGMError
from gtgm.figure_data import read_figure_data
from gtgm.loop import load_checkpoint
from gtgm.models.encoder import build_encoder, from_pretrained, save_pretrained
from gtgm.neurons.published import read_published
from gtgm.paths import NOTEBOOKS, ROOT
from gtgm.text.encoder import TextEncoder
from gtgm.text.hub import load_weights
from gtgm.volume_store import StoredVolume

#: Modules whose files are programs, and modules that run what they are given.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
           "jsonpickle", "pty", "code", "builtins"}  # fmt: skip
#: Calls that are never made, by their last names.
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec",
    "os.system", "os.popen", "os.execv", "os.execvp",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "hub.load", "hub.list",
    "hub.load_state_dict_from_url", "jit.load", "export.load", "pandas.read_pickle",
    "pd.read_pickle", "subprocess.getoutput", "subprocess.getstatusoutput", "np.fromregex",
    "runpy.run_path", "runpy.run_module",
}  # fmt: skip
#: Keywords and the value that they may have.
KEYWORDS = {"allow_pickle": False, "trust_remote_code": False, "shell": False,
            "weights_only": True, "use_safetensors": True}  # fmt: skip
#: Calls that need a keyword.
NEEDED = {"torch.load": "weights_only"}
#: Where archives of others are opened.
UNPACKERS = {"gtgm/datasets/unpack.py"}


def findings(source: str, file: str = "") -> list[str]:
    """What of the lists above stands in a source, each with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: {n.name}" for n in node.names if _top(n.name) in MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{n.name}" for n in node.names]
            wrong = [n for n in names if _top(n) in MODULES or _ends(n, CALLS)]
            found += [f"{node.lineno}: {name}" for name in wrong]
        elif isinstance(node, ast.Call):
            found += [f"{node.lineno}: {what}" for what in _call(node, file)]
    return found


def _call(node: ast.Call, file: str) -> Iterator[str]:
    name = ast.unparse(node.func)
    method = "." in name
    if _ends(name, {c for c in CALLS if "." in c or not method}):
        yield name
    if name.endswith((".extractall", ".extract", "unpack_archive")) and file not in UNPACKERS:
        yield name
    given = {k.arg: k.value for k in node.keywords}
    for keyword, value in given.items():
        if keyword in KEYWORDS and not (
            isinstance(value, ast.Constant) and value.value is KEYWORDS[keyword]
        ):
            yield f"{name}({keyword}={ast.unparse(value)})"
    for function, keyword in NEEDED.items():
        if _ends(name, {function}) and keyword not in given:
            yield f"{name} without {keyword}"
    if name in ("np.load", "numpy.load") and len(node.args) > 2:
        yield f"{name} with more than a path and a mode"


def _top(module: str) -> str:
    return module.partition(".")[0]


def _ends(name: str, names: set[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in names)


def sources() -> Iterator[tuple[str, str]]:
    for folder in ("gtgm", "benchmarks", "workflow", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix == ".py" or path.name == "Snakefile"):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        code = "\n".join(re.sub(r"^[%!].*$", "", cell, flags=re.M) for cell in cells)
        yield path.relative_to(ROOT).as_posix(), code


def test_no_source_takes_code_from_data():
    found, seen = {}, 0
    for file, source in sources():
        if file.endswith("Snakefile"):  # Python but for its rules
            lines = re.findall(r"^.*(?:eval|exec|pickle|import|load|shell).*$", source, re.M)
            wrong = [x for x in lines if re.search(r"\b(eval|exec)\(|pickle|yaml\.load\b", x)]
        else:
            wrong = findings(source, file)
        seen += 1
        if wrong:
            found[file] = wrong
    assert found == {} and seen > 100


@pytest.mark.parametrize(
    "snippet",
    [
        "import pickle", "import pickle as p", "from pickle import loads", "import dill",
        "from joblib import load", "import joblib.memory", "import shelve", "import marshal",
        "eval(text)", "exec(text)", "compile(text, 'f', 'exec')", "__import__(name)",
        "builtins.eval(text)", "import builtins as b\nb.exec(text)",
        "torch.load(path)", "torch.load(path, weights_only=False)", "torch.load(p, weights_only=x)",
        "np.load(path, allow_pickle=True)", "np.load(path, None, True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=options.trust)",
        "AutoModel.from_pretrained(x, use_safetensors=False)",
        "yaml.load(text)", "yaml.load(text, Loader=yaml.SafeLoader)", "from yaml import load",
        "subprocess.run(command, shell=True)", "subprocess.run(command, shell=flag)",
        "os.system(command)", "from os import system", "os.popen(command)",
        "tar.extractall(folder)", "zipfile.ZipFile(p).extractall()", "shutil.unpack_archive(a, b)",
        "torch.hub.load('org/model', 'x')", "torch.jit.load(path)", "pd.read_pickle(path)",
        "def f():\n    if x:\n        import pickle",
    ],
)  # fmt: skip
def test_the_search_finds(snippet):
    assert findings(snippet)


@pytest.mark.parametrize(
    "snippet",
    [
        "model.eval()", "re.compile(text)", "torch.compile(model)", "ast.literal_eval(text)",
        "torch.load(path, weights_only=True)", "np.load(path)", "np.load(p, mmap_mode='r')",
        "np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "subprocess.run([a, b])",
        "json.load(file)", "load(path)", "x.from_pretrained(y, trust_remote_code=False)",
    ],
)  # fmt: skip
def test_the_search_lets_pass(snippet):
    assert findings(snippet) == []


def test_only_the_unpacker_may_unpack():
    assert findings("tar.extractall(x)", "gtgm/datasets/unpack.py") == []
    assert findings("tar.extractall(x)", "gtgm/datasets/other.py")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return subprocess.check_call, (["touch", str(self.file)],)


@pytest.fixture
def trap(tmp_path):
    """A trap that works; what it makes must not be there at the end."""
    made = tmp_path / "proof"
    pickle.loads(pickle.dumps(Trap(made)))
    assert made.exists(), "the trap itself does not work"
    made.unlink()
    yield Trap(made)
    assert not made.exists(), "code from the file was executed"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


@pytest.mark.parametrize("form", ["torch", "plain pickle", "torch, legacy"])
def test_a_checkpoint_that_is_a_program_is_refused(evidence, trap, folder, form):
    evidence("input", "file with code", f"checkpoint ({form})")
    path = folder / "checkpoint.pt"
    content = {"key": "k", "step": 1, "curves": {}, "state": {}, "x": trap}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(GTGMError, match="cannot be read"):
        load_checkpoint(folder, "k")


@pytest.mark.parametrize("form", ["torch", "plain pickle"])
def test_encoder_weights_that_are_a_program_are_refused(evidence, trap, folder, form):
    evidence("input", "file with code", f"encoder weights ({form})")
    save_pretrained(build_encoder("unet", features=(4, 8, 8, 8)), folder)
    weights = folder / "encoder.safetensors"
    if form == "torch":
        torch.save({"x": trap}, weights)
    else:
        weights.write_bytes(pickle.dumps(trap))
    with pytest.raises(GTGMError, match="encoder.safetensors"):
        from_pretrained(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_language_model_that_is_a_program_is_refused(evidence, trap, folder, name):
    evidence("input", "file with code", f"language model ({name})")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
             "intermediate_size": 8, "vocab_size": 20}  # fmt: skip
    BertModel(BertConfig(**sizes)).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": trap}, folder / name)
    with pytest.raises(GTGMError):
        load_weights(AutoModel, folder)


def test_a_model_folder_with_code_of_its_own_is_refused(evidence, trap, folder):
    evidence("input", "file with code", "language model (Python in its folder)")
    proof = str(trap.file)
    (folder / "model.py").write_text(f"open({proof!r}, 'w')\nclass Model: pass\nclass Config: pass")
    (folder / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "model.Config",'
        ' "AutoModel": "model.Model", "AutoTokenizer": ["model.Model", null]}}'
    )
    with pytest.raises(GTGMError):
        load_weights(AutoModel, folder)
    with pytest.raises(GTGMError):
        TextEncoder.from_pretrained(folder)


@pytest.mark.parametrize("form", ["object array", "plain pickle"])
@pytest.mark.parametrize("kind", ["figure data", "stored volume", "published segmentation"])
def test_arrays_that_are_a_program_are_refused(evidence, trap, folder, kind, form):
    evidence("input", "file with code", f"{kind} ({form})")
    path = folder / ("image.npy" if kind == "stored volume" else "a.npz")
    array = np.empty((1, 1, 1, 1), object)
    array[0, 0, 0, 0] = trap
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(array))
    elif kind == "stored volume":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, values=array, segmentation=array[0])
    read = {
        "figure data": read_figure_data,
        "published segmentation": read_published,
        "stored volume": lambda p: StoredVolume(p, (1, 1, 1, 1))[(slice(0, 1),) * 4],
    }[kind]
    with pytest.raises(GTGMError, match=path.name):
        read(path)
