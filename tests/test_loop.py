"""Schedules and checkpoints."""

from __future__ import annotations

import contextlib
import io
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kills
import pytest
import torch

from gtgm import paths
from gtgm.errors import SettingsError, WeightsError
from gtgm.faults import ResourceError, StorageError, explained
from gtgm.loop import CHECKPOINT, load_checkpoint, make_schedule, save_checkpoint


def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = torch.nn.Linear(2, 2)
    return network, torch.optim.AdamW(network.parameters(), 0.1)


def rates(name: str, steps: int) -> list[float]:
    _, optimizer = make()
    schedule = make_schedule(optimizer, name, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_one_cycle_rises_to_the_peak_and_ends_near_zero():
    found = rates("onecycle", 100)
    assert max(found) == pytest.approx(0.1, rel=1e-3)
    assert found.index(max(found)) == pytest.approx(9, abs=1)
    assert found[-1] < 1e-4


@pytest.mark.parametrize("steps", [*range(1, 25), 100])
def test_one_cycle_works_for_every_length(steps):
    found = rates("onecycle", steps)
    assert len(found) == steps
    assert all(0 < rate <= 0.1 + 1e-9 for rate in found)


@pytest.mark.parametrize(("steps", "period"), [(3, 2), (30, 2), (60, 3), (350, 18), (400, 20)])
def test_restarts_come_after_each_twentieth_of_the_training(steps, period):
    found = rates("restarts", steps)
    starts = [i for i in range(steps) if found[i] == pytest.approx(0.1)]
    assert starts == list(range(0, steps, period))


def test_unknown_schedule():
    with pytest.raises(ValueError, match="onecycle"):
        rates("linear", 3)


def test_a_checkpoint_restores_everything(tmp_path):
    network, optimizer = make()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, "key", 7, {"loss": [[7, 0.5]]}, network=network, optimizer=optimizer)
    other, other_optimizer = make()
    step, curves = load_checkpoint(tmp_path, "key", network=other, optimizer=other_optimizer)
    assert (step, curves) == (7, {"loss": [[7, 0.5]]})
    assert torch.equal(other.weight, network.weight)
    assert other_optimizer.state_dict()["state"][0]["step"] == 1


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    network, _ = make()
    assert load_checkpoint(tmp_path, "key", network=network) == (0, {})


def test_checkpoints_that_do_not_belong_are_refused(tmp_path):
    network, _ = make()
    save_checkpoint(tmp_path, "key", 7, {}, network=network)
    with pytest.raises(SettingsError, match="other settings.*delete it"):
        load_checkpoint(tmp_path, "other", network=network)
    with pytest.raises(WeightsError, match="another network"):
        load_checkpoint(tmp_path, "key", network=torch.nn.Linear(3, 2))
    with pytest.raises(WeightsError, match="another network"):
        load_checkpoint(tmp_path, "key", model=network)


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_damaged_checkpoint_is_refused(tmp_path, keep):
    network, _ = make()
    save_checkpoint(tmp_path, "key", 7, {}, network=network)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match="cannot be read"):
        load_checkpoint(tmp_path, "key", network=network)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch, evidence):
    evidence("fault", "full disk", "written by a training")
    network, _ = make()
    save_checkpoint(tmp_path, "key", 7, {}, network=network)
    with monkeypatch.context() as patch:
        patch.setattr(paths, "atomic", full(paths.atomic))
        with pytest.raises(StorageError, match="disk is full"):
            save_checkpoint(tmp_path, "key", 8, {}, network=network)
    assert load_checkpoint(tmp_path, "key", network=network)[0] == 7
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def full(atomic: Callable) -> Callable:
    @contextlib.contextmanager
    def on_a_full_disk(path: Path) -> Iterator[Path]:
        with atomic(path) as temporary:
            kills.fill(temporary)
            yield temporary

    return on_a_full_disk


def test_what_interrupts_a_checkpoint_is_what_is_raised(tmp_path, evidence):
    """As Ctrl-C does, or torch when a worker is lost: from a signal, between any two bytes."""
    evidence("fault", "interrupted", "at 60 moments of writing a checkpoint")
    network = torch.nn.Sequential(*(torch.nn.Linear(200, 200) for _ in range(20)))
    save_checkpoint(tmp_path, "key", 0, {}, network=network)
    begun = time.perf_counter()
    save_checkpoint(tmp_path, "key", 0, {}, network=network)
    once = time.perf_counter() - begun

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    last, interrupted = 0, 0
    try:
        for moment in range(1, 61):
            try:
                signal.setitimer(signal.ITIMER_REAL, once * moment / 60)
                save_checkpoint(tmp_path, "key", moment, {}, network=network)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            found, _ = load_checkpoint(tmp_path, "key", network=network)
            assert found in (last, moment)
            last = found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted
    paths.sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_checkpoint_without_memory_for_it(tmp_path, monkeypatch, evidence):
    evidence("fault", "out of memory", "writing a checkpoint")
    network, _ = make()
    save_checkpoint(tmp_path, "key", 7, {}, network=network)

    class Full(io.BytesIO):
        def write(self, data: bytes) -> int:
            if self.tell() > 500:
                raise MemoryError
            return super().write(data)

    monkeypatch.setattr("gtgm.loop.io.BytesIO", Full)
    with pytest.raises(ResourceError, match="memory has ended"), explained(tmp_path):
        save_checkpoint(tmp_path, "key", 8, {}, network=network)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, "key", network=network)[0] == 7
