"""What a machine refuses is said in words, and loses nothing that was computed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import shutil
import sys
from pathlib import Path

import kills
import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gtgm import paths
from gtgm.faults import ResourceError, StorageError, explained, storage_error
from gtgm.lock import held

TENSOR = torch.zeros(100_000)


WRITERS = {
    "text": lambda path: path.write_text("a" * 400_000),
    "numpy": lambda path: np.save(path, TENSOR.numpy()),
    "NIfTI": lambda path: nib.save(nib.Nifti1Image(np.random.rand(50, 50, 50), np.eye(4)), path),
}
TENSORS = {"safetensors": lambda path: save_file({"a": TENSOR}, path)}
SUFFIX = {"numpy": ".npy", "NIfTI": ".nii.gz"}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file(tmp_path, writer, evidence):
    evidence("fault", "full disk", f"written by {writer}")
    path = tmp_path / f"file{SUFFIX.get(writer, '.bin')}"
    path.write_bytes(b"old")
    says = "disk is full.*GB free.*GTGM_RUNS"
    with pytest.raises(StorageError, match=says) as caught, paths.atomic(path) as temporary:
        kills.fill(temporary)
        WRITERS[writer](temporary)
    assert caught.value.where == path
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("writer", [*WRITERS, "safetensors"])
def test_a_file_above_the_limit_of_its_size(tmp_path, writer, evidence):
    """A quota cuts a file in the middle, which no library sees in the same way."""
    evidence("fault", "file cut off in the middle", f"written by {writer}")
    path = tmp_path / f"file{SUFFIX.get(writer, '.bin')}"
    path.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        says = "cannot be written"
        with pytest.raises(StorageError, match=says), paths.atomic(path) as temporary:
            (WRITERS | TENSORS)[writer](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


REFUSED = {
    "no permission": (errno.EACCES, "you may not write"),
    "read-only file system": (errno.EROFS, "read-only"),
    "quota": (errno.EDQUOT, "quota of the disk is used up"),
    "device gone": (errno.EIO, "cannot be written"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_folder_that_cannot_be_written_in(tmp_path, monkeypatch, kind, evidence):
    evidence("fault", "folder", kind)
    number, words = REFUSED[kind]

    def refuse(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StorageError, match=words) as caught:
        paths.write_text(tmp_path / "new", "text")
    assert caught.value.fix


@pytest.mark.skipif(sys.platform != "linux", reason="/sys is Linux's")
def test_a_run_in_a_folder_of_the_system(evidence):
    evidence("fault", "folder", "the system's own, in every stage")
    for stage in kills.STAGES:
        code, message = kills.message_of(stage, Path("/sys/gtgm-runs"))
        assert code == 3 and "/sys/gtgm-runs" in message and "cannot be written" in message


def test_a_file_in_place_of_a_folder(tmp_path, evidence):
    evidence("fault", "folder", "a file in its place")
    (tmp_path / "runs").write_text("")
    code, message = kills.message_of("phantoms", tmp_path / "runs")
    assert code == 3 and "runs" in message and "cannot be written" in message


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (
        KeyError("a"),
        ValueError("out of range"),
        RuntimeError("shape '[2]' is invalid"),
    ):
        with pytest.raises(type(error)) as caught, explained(), paths.atomic(tmp_path / "new"):
            raise error
        assert caught.value is error
    assert storage_error(ValueError("no space in this text"), tmp_path / "new") is None


def test_memory_of_a_gpu_names_what_helps():
    with pytest.raises(ResourceError, match="GPU's memory has ended.*--memory 8"), explained("run"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


#: Stage, what happens, at which point, what the message says.
INJECTED = {
    "full disk": {
        ("preprocessing", "a volume of the store"): "full image.npy 2",
        ("captioning", "the captions of a case"): "full *.jsonl 2",
        ("captioning", "the embeddings"): "full embeddings.safetensors 1",
        ("pretraining", "the second checkpoint"): "full checkpoint.pt 2",
        ("pretraining", "the encoder"): "full encoder.safetensors 1",
        ("fine-tuning", "the first checkpoint"): "full checkpoint.pt 1",
        ("evaluation", "a prediction"): "full *.nii.gz 2",
        ("evaluation", "the segmenter"): "full segmenter.safetensors 1",
        ("evaluation", "the result"): "full result.json 1",
        ("neurons", "the segmentation"): "full test_sections.safetensors 1",
    },
    "out of memory": {
        ("captioning", "in the captioner"): "memory gtgm.stages.captioning describe_slices 1 numpy",
        ("pretraining", "in a step"): "memory gtgm.pretrain make_view 7 torch",
        ("fine-tuning", "in a step"): "memory gtgm.finetune _draw 4 torch",
        ("evaluation", "in a case"): "memory gtgm.stages.finetuning segment_volume 2 numpy",
        ("neurons", "in the prediction"): "memory gtgm.stages.neurons predict_affinities 1 torch",
    },
    "worker lost": {
        ("pretraining", "after a checkpoint"): "worker numpy load 14",
        ("fine-tuning", "after a checkpoint"): "worker gtgm.finetune list_data_collate 5",
    },
}
SAYS = {
    "full disk": ("disk is full", "same command again"),
    "out of memory": ("memory has ended", "same command again"),
    "worker lost": ("worker process is gone", "fewer workers"),
}
ALL = [(kind, *stage, point) for kind, p in INJECTED.items() for stage, point in p.items()]


@pytest.mark.parametrize(("kind", "stage", "what", "point"), ALL, ids=[" ".join(a) for a in ALL])
def test_a_stage_says_what_it_lacks_and_then_goes_on(
    whole, tmp_path, kind, stage, what, point, evidence
):
    evidence("fault", kind, f"{stage}: {what}")
    runs = tmp_path / "runs"
    shutil.copytree(whole(kills.BEFORE[stage]), runs)
    code, message = kills.message_of(stage, runs, point)
    assert code == 3
    for words in (*SAYS[kind], str(runs)):
        assert words in message
    assert kills.run(stage, runs) == 0
    assert kills.outputs(runs) == kills.outputs(whole(stage))


@pytest.mark.parametrize("stage", ["captioning", "pretraining", "fine-tuning", "neurons"])
def test_two_at_once_do_the_work_once(whole, tmp_path, stage, evidence):
    evidence("fault", "two at once in one folder", stage)
    runs = tmp_path / "runs"
    shutil.copytree(whole(kills.BEFORE[stage]), runs)
    both = [kills.start(stage, runs) for _ in range(2)]
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    assert kills.outputs(runs) == kills.outputs(whole(stage))


def test_workers_that_live_on_hold_no_lock(tmp_path, evidence):
    """A notebook keeps the traceback of a failed cell, and with it the workers."""
    evidence("fault", "folder", "workers of a failed run that live on")
    context = multiprocessing.get_context("fork")
    ended = context.Event()
    with pytest.raises(RuntimeError), held(tmp_path):
        worker = context.Process(target=ended.wait)
        worker.start()
        raise RuntimeError
    with held(tmp_path, wait=False) as alone:
        assert alone and worker.is_alive()
        with held(tmp_path, wait=False) as second:
            assert not second
    ended.set()
    worker.join(60)


def test_a_disk_without_locks_is_warned_of(tmp_path, monkeypatch, evidence):
    evidence("fault", "folder", "a disk without locks")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("gtgm.lock.fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="no locks"), held(tmp_path) as alone:
        assert alone


def test_a_file_that_may_not_be_read_is_not_called_unwritable(tmp_path):
    problem = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "scan.nii.gz"))
    with pytest.raises(PermissionError), explained(), paths.atomic(tmp_path / "new"):
        raise problem
    with pytest.raises(FileNotFoundError), paths.atomic(tmp_path / "new") as temporary:
        shutil.copyfile(tmp_path / "absent", temporary)
    with pytest.raises(ResourceError, match="memory has ended"), explained():
        raise OSError(errno.ENOMEM, "Cannot allocate memory")
