"""Weights, settings and checkpoints that cannot be used are refused with file and reason."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from handover_runs import ABOUT
from safetensors.torch import load_file, save_file

from gtgm.errors import GTGMError
from gtgm.inference import load_class_segmenter
from gtgm.loop import CHECKPOINT, load_checkpoint, save_checkpoint
from gtgm.models.encoder import build_encoder, from_pretrained, save_pretrained
from gtgm.models.segmenter import build_segmenter, load_segmenter, save_segmenter

SIZES = {"features": [4, 8, 8, 8]}
Break = Callable[[Path], object]


def tensors(change: Callable[[dict], object]) -> Break:
    def break_(path: Path) -> None:
        state = load_file(path)
        change(state)
        save_file(state, path)

    return break_


def config(**values: object) -> Break:
    """Set values of config.json; None removes them."""

    def break_(path: Path) -> None:
        whole = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({k: v for k, v in whole.items() if v is not None}))

    return break_


def about(**values: object) -> Break:
    def break_(path: Path) -> None:
        whole = json.loads(path.read_text())
        whole["about"] = {k: v for k, v in {**whole["about"], **values}.items() if v is not None}
        path.write_text(json.dumps(whole))

    return break_


def cut(share: float) -> Break:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def write(content: bytes) -> Break:
    return lambda path: path.write_bytes(content)


def header(table: dict, behind: int = 16) -> bytes:
    """A safetensors file with any table of tensors."""
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(behind)


def one(**entry: object) -> bytes:
    return header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **entry}})


def first(state: dict[str, torch.Tensor]) -> str:
    return next(key for key, value in state.items() if value.ndim > 1)


def to_nan(state: dict[str, torch.Tensor], value: float) -> None:
    state[first(state)].view(-1)[0] = value


def replace(change: Callable[[torch.Tensor], torch.Tensor]) -> Break:
    return tensors(lambda s: s.update({first(s): change(s[first(s)]).contiguous()}))


#: Files of tensors: how they are broken, and a word of the reason.
TENSORS: dict[str, tuple[Break, str]] = {
    "empty file": (write(b""), "cannot be read"),
    "cut off in the table": (cut(0.02), "cannot be read"),
    "cut off in the tensors": (cut(0.7), "cannot be read"),
    "one byte short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "cannot be read"),
    "bytes behind the end": (lambda p: p.write_bytes(p.read_bytes() + b"x"), "cannot be read"),
    "text": (write(b"version https://git-lfs.github.com/spec/v1\n"), "cannot be read"),
    "HTML page of an error": (write(b"<html><body>404</body></html>"), "cannot be read"),
    "zeros": (write(bytes(4096)), "cannot be read"),
    "table of 2^60 bytes": (write(struct.pack("<Q", 1 << 60) + b"{}"), "cannot be read"),
    "table that is no JSON": (write(struct.pack("<Q", 4) + b"{{{{" + bytes(8)), "cannot be read"),
    "table too deep": (
        write(struct.pack("<Q", 20_000) + b"[" * 10_000 + b"]" * 10_000),
        "cannot be read",
    ),
    "unknown kind of numbers": (write(one(dtype="F33")), "cannot be read"),
    "negative shape": (write(one(shape=[-4])), "cannot be read"),
    "huge shape in a small file": (write(one(shape=[1 << 40])), "cannot be read"),
    "offsets behind the file": (write(one(data_offsets=[0, 1 << 40])), "cannot be read"),
    "offsets that overlap": (
        write(
            header(
                {
                    name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
                    for name in ("a", "b")
                }
            )
        ),
        "cannot be read",
    ),
    "no tensors": (tensors(lambda s: s.clear()), "has no tensor"),
    "other names": (
        tensors(lambda s: [s.update({f"x.{k}": s.pop(k)}) for k in list(s)]),
        "0 of",
    ),
    "a tensor missing": (tensors(lambda s: s.pop(first(s))), "missing"),
    "a tensor of another shape": (replace(lambda t: t[..., :-1]), "wanted"),
    "a tensor with one more dimension": (replace(lambda t: t[None]), "wanted"),
    "integers for numbers": (replace(lambda t: t.to(torch.int32)), "int32"),
    "truth values for numbers": (replace(lambda t: t > 0), "bool"),
    "a NaN": (tensors(lambda s: to_nan(s, float("nan"))), "not finite"),
    "an infinity": (tensors(lambda s: to_nan(s, float("inf"))), "not finite"),
    "absent": (lambda path: path.unlink(), "cannot be read"),
    "a folder in its place": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "link to nowhere": (lambda p: (p.unlink(), p.symlink_to("nowhere")), "cannot be read"),
    "link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "cannot be read"),
}
#: config.json of an encoder or segmenter.
CONFIGS: dict[str, tuple[Break, str]] = {
    "empty file": (write(b""), "not valid JSON"),
    "cut off": (cut(0.5), "not valid JSON"),
    "UTF-16": (lambda p: p.write_text(p.read_text(), encoding="utf-16"), "not valid JSON"),
    "too deep": (write(b"[" * 100_000), "not valid JSON"),
    "a number of 5000 digits": (write(b"1" * 5000), "not valid JSON"),
    "a list": (write(b"[]"), "does not name a backbone"),
    "null": (write(b"null"), "does not name a backbone"),
    "absent": (lambda path: path.unlink(), "no such file"),
    "a folder in its place": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "no backbone": (config(backbone=None), "does not name a backbone"),
    "unknown backbone": (config(backbone="vgg"), "does not name a backbone"),
    "backbone is a list": (config(backbone=["unet"]), "does not name a backbone"),
    "backbone of other weights": (config(backbone="resnet50"), "make no network"),
    "no channels": (config(in_channels=None), "does not name a backbone"),
    "channels as text": (config(in_channels="1"), "does not name a backbone"),
    "no channel": (config(in_channels=0), "match|make no network"),
    "negative channels": (config(in_channels=-1), "make no network"),
    "other channels than the weights": (config(in_channels=2), "match"),
    "a million channels": (config(in_channels=1_000_000), "match"),
    "features of 2^40": (config(features=[1 << 40] * 4), "match|make no network"),
    "features of a million": (config(features=[1_000_000] * 4), "match"),
    "ten thousand levels": (
        config(features=[4] * 10_000, strides=[[1, 1, 1]] * 10_000),
        "make no network",
    ),
    "no features": (config(features=[]), "make no network"),
    "features as text": (config(features="4,8,8,8"), "make no network"),
    "fractions of features": (config(features=[4.5, 8, 8, 8]), "make no network"),
    "strides of another length": (config(strides=[[2, 2, 2]]), "make no network"),
    "unknown size": (config(heads=8), "make no network"),
    "newer schema": (config(schema_version=99), "update gtgm"),
    "schema as text": (config(schema_version="one"), "schema version"),
}
#: What else a segmenter says of itself.
SEGMENTER: dict[str, tuple[Break, str]] = {
    "an encoder": (config(out_channels=None), "not a segmenter"),
    "outputs of 2^40": (config(out_channels=1 << 40), "match|make no network"),
    "no outputs": (config(out_channels=0), "match|make no network"),
    "other outputs than the weights": (config(out_channels=5), "match"),
    "nothing about itself": (config(about=None), "no segmenter of classes"),
    "a text about itself": (config(about="good"), "no segmenter of classes"),
    "no classes": (about(classes=None), "no segmenter of classes"),
    "fewer classes than outputs": (about(classes=["one"]), "1 classes for 3"),
    "classes that are numbers": (about(classes=[1, 2]), "how to segment"),
    "no dataset": (about(dataset=None), "dataset"),
    "unknown dataset": (about(dataset="Task99_Soul"), "Task99_Soul"),
    "no patch": (about(patch=None), "patch"),
    "empty patch": (about(patch=[]), "patch"),
    "negative patch": (about(patch=[-16, 16, 16]), "patch"),
    "flat patch": (about(patch=[16, 16]), "patch"),
    "patch of fractions": (about(patch=[16.5, 16, 16]), "patch"),
    "zero spacing": (about(spacing=[0, 1, 1]), "spacing"),
    "spacing as text": (about(spacing="1mm"), "spacing"),
    "overlap of one": (about(overlap=1.0), "overlap"),
    "negative overlap": (about(overlap=-0.5), "overlap"),
    "unknown axis": (about(tta_axes="X"), "tta_axes"),
    "unknown precision": (about(precision="fp4"), "precision"),
    "unknown modality": (about(modality="PET"), "PET"),
    "window as text": (about(released_window="no"), "released_window"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_pretrained(build_encoder("unet", 1, **SIZES), folder / "encoder", steps=1)
    save_segmenter(build_segmenter("unet", 1, 3, **SIZES), folder / "segmenter", **ABOUT)
    return folder


def copied(saved: Path, kind: str, to: Path) -> Path:
    """A copy whose path has spaces and letters of other languages."""
    folder = to / f"réseau 网络 {kind}"
    folder.mkdir()
    for file in (saved / kind).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def refused(use: Callable[[], object], file: Path, words: str) -> None:
    tracemalloc.start()
    with pytest.raises(GTGMError, match=words) as caught:
        use()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.name in str(caught.value) or file.parent.name in str(caught.value)
    assert caught.value.expected or caught.value.fix
    assert peak < 1 << 27


LOADERS = {"encoder": from_pretrained, "segmenter": load_segmenter}


def test_sound_folders_load(saved, tmp_path):
    for kind, load in LOADERS.items():
        load(copied(saved, kind, tmp_path))
    assert load_class_segmenter(saved / "segmenter")[1]["classes"] == ABOUT["classes"]


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("kind", LOADERS)
def test_broken_tensors(saved, tmp_path, kind, name, evidence):
    evidence(
        "input", f"weights of an {kind}" if kind == "encoder" else f"weights of a {kind}", name
    )
    damage, words = TENSORS[name]
    folder = copied(saved, kind, tmp_path)
    file = folder / f"{kind}.safetensors"
    damage(file)
    refused(lambda: LOADERS[kind](folder), file, words)


@pytest.mark.parametrize("name", CONFIGS)
def test_broken_settings_of_weights(saved, tmp_path, name, evidence):
    evidence("input", "config.json of weights", name)
    damage, words = CONFIGS[name]
    for kind, load in LOADERS.items():
        folder = copied(saved, kind, tmp_path)
        damage(folder / "config.json")
        refused(lambda load=load, folder=folder: load(folder), folder / "config.json", words)


@pytest.mark.parametrize("name", SEGMENTER)
def test_segmenters_that_do_not_say_what_they_do(saved, tmp_path, name, evidence):
    evidence("input", "config.json of a segmenter", name)
    damage, words = SEGMENTER[name]
    folder = copied(saved, "segmenter", tmp_path)
    damage(folder / "config.json")
    refused(lambda: load_class_segmenter(folder), folder / "config.json", words)


def resave(change: Callable[[dict], object]) -> Break:
    def break_(path: Path) -> None:
        saved = torch.load(path, weights_only=True)
        torch.save(change(saved) or saved, path)

    return break_


CHECKPOINTS: dict[str, tuple[Break, str]] = {
    "empty file": (write(b""), "cannot be read"),
    "cut off": (cut(0.6), "cannot be read"),
    "cut off at the start": (cut(0.05), "cannot be read"),
    "text": (write(b"not a checkpoint"), "cannot be read"),
    "zip file of something else": (write(b"PK\x05\x06" + bytes(18)), "cannot be read"),
    "a folder in its place": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "a list": (resave(lambda s: [1, 2]), "cannot be read"),
    "no key": (resave(lambda s: s.pop("key") and None), "cannot be read"),
    "other settings": (resave(lambda s: s.update(key="other")), "other settings"),
    "no state": (resave(lambda s: s.pop("state") and None), "another network"),
    "no part": (resave(lambda s: s["state"].clear()), "another network"),
    "part of another network": (
        resave(lambda s: s["state"].update(network={"weight": torch.zeros(9, 9)})),
        "another network",
    ),
    "part that is a number": (resave(lambda s: s["state"].update(network=1)), "another network"),
    "no step": (resave(lambda s: s.pop("step") and None), "step"),
    "step as text": (resave(lambda s: s.update(step="3")), "step '3'"),
    "negative step": (resave(lambda s: s.update(step=-3)), "step -3"),
    "curves that are a number": (resave(lambda s: s.update(curves=1)), "cannot be read"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_broken_checkpoints(tmp_path, name, evidence):
    evidence("input", "checkpoint", name)
    damage, words = CHECKPOINTS[name]
    network = torch.nn.Linear(2, 2)
    save_checkpoint(tmp_path, "key", 3, {}, network=network)
    damage(tmp_path / CHECKPOINT)
    use = lambda: load_checkpoint(tmp_path, "key", network=network)  # noqa: E731
    refused(use, tmp_path / CHECKPOINT, words)
