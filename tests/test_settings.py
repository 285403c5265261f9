"""Settings: presets resolve, and nothing unknown passes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gtgm.errors import SettingsError
from gtgm.hashing import settings_hash, to_dict
from gtgm.models import encoder
from gtgm.models.chunks import check_independent
from gtgm.models.encoder import build_encoder
from gtgm.neurons import affinities, postprocess
from gtgm.neurons.settings import LOSSES, POSTPROCESSING
from gtgm.paths import RESULTS
from gtgm.settings import (
    BACKBONES,
    MEMORY,
    PROFILES,
    PROTOCOLS,
    STAGES,
    FinetuneSettings,
    PretrainSettings,
    from_dict,
    memory_preset,
    preset,
)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_preset_resolves_and_survives_json(stage, profile, protocol):
    settings = preset(stage, profile, protocol)
    assert from_dict(STAGES[stage], to_dict(settings) if stage != "neurons" else {}) is not None
    if stage != "neurons":
        assert from_dict(STAGES[stage], to_dict(settings)) == settings


def test_layers_of_a_preset():
    assert preset("finetune", "paper").batch == 2
    assert preset("finetune", "paper", dataset="Task04_Hippocampus").batch == 16
    assert preset("finetune", "paper", "as_released").sigmoid_output
    assert not preset("finetune", "paper").sigmoid_output
    assert preset("finetune", "paper", "as_released", sigmoid_output=False).sigmoid_output is False


def test_the_paper_profile_has_the_papers_values():
    settings = preset("pretrain", "paper")
    assert (settings.temperature, settings.off_diagonal, settings.lr) == (0.07, 0.0051, 2e-5)
    assert (settings.width, settings.embedding, settings.weight_decay) == (2048, 512, 0.05)
    assert settings.patch == (32, 160, 160)


@pytest.mark.parametrize("profile", PROFILES)
def test_as_released_has_the_released_rates_in_every_profile(profile):
    settings = preset("finetune", profile, "as_released", "Task04_Hippocampus")
    assert (settings.lr, settings.weight_decay, settings.batch) == (1e-5, 1e-5, 2)
    settings = preset("pretrain", profile, "as_released")
    assert (settings.lr, settings.weight_decay) == (2e-5, 0.05)
    assert settings.batch == 2 or profile != "paper"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_profile_joins_enough_patches_in_chunks_that_its_backbone_takes(profile, backbone):
    settings = preset("pretrain", profile, backbone=backbone)
    assert settings.batch >= 16
    check_independent(build_encoder(backbone), settings.chunk, 2 * settings.batch, "pretrain.chunk")
    if profile == "paper":
        assert settings.chunk == (0 if backbone == "resnet50" else 2)


def test_unknown_setting_names_the_nearest():
    with pytest.raises(SettingsError, match="'step'.*did you mean 'steps'"):
        preset("finetune", "tiny", step=3)


def test_wrong_type_is_refused():
    with pytest.raises(SettingsError, match="finetune.steps"):
        from_dict(FinetuneSettings, {"steps": "many"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "unknown stage"),
        (("finetune", "big"), "unknown profile"),
        (("finetune", "tiny", "right"), "unknown protocol"),
    ],
)
def test_unknown_choices(arguments, message):
    with pytest.raises(SettingsError, match=message):
        preset(*arguments)


def test_hash_depends_on_every_value():
    settings = FinetuneSettings()
    assert settings_hash(settings) == settings_hash(FinetuneSettings())
    assert settings_hash(settings) != settings_hash(dataclasses.replace(settings, lr=1e-5))


def test_what_changes_no_number_enters_no_hash():
    settings = PretrainSettings()
    for change in ({"chunk": 2}, {"workers": 3}, {"volumes": "disk"}, {"graphs": True}):
        other = dataclasses.replace(settings, **change)
        assert settings_hash(other) == settings_hash(settings)
        assert to_dict(other) != to_dict(settings)  # but the result tells it


def test_names_that_are_listed_without_their_imports():
    assert tuple(encoder.BACKBONES) == BACKBONES
    assert tuple(affinities.LOSSES) == LOSSES
    assert tuple(postprocess.METHODS) == POSTPROCESSING


@pytest.mark.parametrize("size", MEMORY)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_memory_presets_are_settings_that_change_no_number(size, backbone):
    if (size, backbone) == ("8", "resnet50"):
        with pytest.raises(SettingsError, match="resnet50 does not fit 8 GB.*16 GB or more"):
            memory_preset(int(size), backbone)
        return
    for stage, changes in memory_preset(int(size), backbone).items():
        usual, lean = preset(stage, "paper"), preset(stage, "paper", **changes)
        assert settings_hash(lean) == settings_hash(usual)
        assert lean != usual


def test_memory_presets_fit_what_was_measured():
    """A preset's row of the measured peaks is below its size, where there is one."""
    rows = json.loads((RESULTS / "benchmarks" / "memory_gpu.json").read_text("utf-8"))["rows"]
    checked = 0
    for size in MEMORY:
        for backbone in ("swin", "resnet50"):
            if (size, backbone) == ("8", "resnet50"):
                continue
            changes = memory_preset(int(size), backbone).get("finetune", {})
            training = [changes.get("chunk", 0), changes.get("checkpointing", False)]
            for row in rows:
                way = [row.get("chunk", 0), row.get("checkpointing", False)]
                if row["backbone"] == backbone and (
                    (row["stage"] == "finetune" and way == training)
                    or (row["stage"] == "inference" and row["windows"] == changes.get("windows", 4))
                ):
                    assert row["peak_gb"] < int(size)
                    checked += 1
    assert checked == 11  # four sizes of swin, twice; three of resnet50, in training


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FinetuneSettings().steps = 3


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ("pretrain", {"schedule": "foo"}, "unknown schedule 'foo'"),
        ("pretrain", {"held_out": 0.0}, "pretrain.held_out"),
        ("pretrain", {"patch": [24, 28]}, "pretrain.patch"),
        ("pretrain", {"batch": 1}, "at least 2"),
        ("pretrain", {"temperature": 0.0}, "pretrain.temperature"),
        ("finetune", {"tta_axes": "Q"}, "finetune.tta_axes"),
        ("finetune", {"steps": 0}, "finetune.steps"),
        ("finetune", {"precision": "x"}, "unknown precision"),
        ("finetune", {"overlap": 1.0}, "finetune.overlap"),
        ("finetune", {"augmentation": "none"}, "unknown augmentation"),
        ("text", {"axes": "DX"}, "text.axes"),
        ("text", {"captioner_steps": 0}, "text.captioner_steps"),
        ("neurons", {"loss": "dice"}, "loss"),
    ],
)
def test_values_out_of_range_are_refused(stage, changes, message):
    with pytest.raises(SettingsError, match=message):
        preset(stage, "tiny", **changes)
