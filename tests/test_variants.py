"""Variants: what they change and what they leave alone, and how they are compared."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from scipy import stats
from study_results import run
from transformers import BertConfig

from gtgm import variants
from gtgm.errors import SettingsError
from gtgm.hashing import to_dict
from gtgm.settings import PROFILES, PROTOCOLS
from gtgm.stages import Study
from gtgm.stages.captioning import text_folder
from gtgm.stages.finetuning import run_folder
from gtgm.text.encoder import train_text_encoder
from gtgm.variants import (
    ABLATIONS,
    BERT_LAYERS,
    EMBEDDED_LAYERS,
    RANDOM,
    Variant,
    comparisons,
    conclusions,
    distinct,
    run_variants,
    variants_frame,
    variants_of,
)

NAME = "Task04_Hippocampus"
#: The only settings that an ablation may touch.
VARIED = {
    "text_source": {"text.captioner", "pretrain.shuffle_captions"},
    "text_encoder": {"pretrain.text_layers"},
    "weight_vr": {"pretrain.weight_vr"},
    "temperature": {"pretrain.temperature"},
    "batch": {"pretrain.batch"},
    "backbone": {"pretrain.chunk"},  # which changes no number
    "cases": {"text.cases"},
    "caption_grid": {"text.grid_step"},
    "length": {"pretrain.steps"},
    "views": {"pretrain.operations"},
    "transfer": {"finetune.encoder_lr", "finetune.decoder_first"},
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Phantoms are written once for all tests of this file."""
    return str(tmp_path_factory.mktemp("variants"))


def settings_of(study: Study) -> dict[str, object]:
    return {
        f"{stage}.{name}": value
        for stage in ("text", "pretrain", "finetune")
        for name, value in to_dict(study.settings(stage, NAME)).items()
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", ABLATIONS)
def test_variants_are_valid_and_differ_in_nothing_but_their_setting(
    name, profile, protocol, phantoms
):
    study = Study((NAME,), profile, protocol, runs=phantoms)
    chosen = variants_of(study, name)
    assert len(chosen) > 1
    studies = [variant.of(study) for variant in chosen]
    default = settings_of(study)
    assert studies[0] == study
    assert chosen[0].label.endswith("(default)")
    assert len({variant.label for variant in chosen}) == len(chosen)
    assert len({run_folder(s, NAME, s.method, 1.0, 0) for s in studies}) == len(studies)
    for variant, changed in zip(chosen[1:], studies[1:], strict=True):
        found = {key for key, value in settings_of(changed).items() if value != default[key]}
        # Methods without text have captions that cost nothing.
        allowed = {"text.captioner"} if variant.method == "barlow" else VARIED[name]
        assert found <= allowed
        assert found or changed.method != study.method or changed.backbone != study.backbone
    dropped = len(ABLATIONS[name]) - len(chosen)
    # One backbone and the frozen text encoder are the default; a batch has at least 16.
    half = name == "batch" and profile != "cpu"
    assert dropped == (name in ("backbone", "text_encoder") or half)


@pytest.mark.parametrize("profile", PROFILES)
def test_sizes_follow_the_profile(profile, phantoms):
    study = Study((NAME,), profile, runs=phantoms)
    pretraining = study.settings("pretrain")

    def found(name: str, stage: str, setting: str) -> list:
        return [
            getattr(v.of(study).settings(stage), setting)
            for v in variants_of(study, name)
            if v.method == "gtgm"
        ]

    weight, temperature = pretraining.weight_vr, pretraining.temperature
    assert found("weight_vr", "pretrain", "weight_vr") == pytest.approx(
        [weight, weight / 10, 10 * weight]
    )
    assert found("temperature", "pretrain", "temperature") == pytest.approx(
        [temperature, temperature / 4, 4 * temperature]
    )
    batch = pretraining.batch
    assert set(found("batch", "pretrain", "batch")) == {batch, max(16, batch // 2), 2 * batch}
    steps = found("caption_grid", "text", "grid_step")
    assert steps == [(), tuple(side // 4 for side in pretraining.patch), pretraining.patch]
    pool = len(study.pool()[NAME])
    captioned = min(pool, study.settings("text").cases or pool)
    assert found("cases", "text", "cases")[1:] == [captioned // 2, 2]  # never fewer than two


def test_text_layers_are_those_of_the_encoders(phantoms):
    assert inspect.signature(train_text_encoder).parameters["layers"].default == EMBEDDED_LAYERS
    assert BertConfig().num_hidden_layers == BERT_LAYERS
    layers = [
        [v.of(study).settings("pretrain").text_layers for v in variants_of(study, "text_encoder")]
        for study in (Study((NAME,), p, runs=phantoms) for p in ("cpu", "paper"))
    ]
    assert layers == [[0, 1, 2], [0, 6, 12]]  # the released code trains 6 of 12


def test_the_studys_own_choices_are_kept(phantoms):
    changes = {"pretrain": {"batch": 40, "temperature": 0.2}, "text": {"captioner": "describe"}}
    study = Study((NAME,), backbone="swin", fold=1, runs=phantoms, changes=changes)
    chosen = variants_of(study, "batch")
    assert [v.label for v in chosen] == ["batch 40 (default)", "batch 20", "batch 80"]
    for variant in chosen:
        changed = variant.of(study)
        assert changed.settings("pretrain").temperature == 0.2
        assert changed.settings("text").captioner == "describe"
        assert (changed.backbone, changed.fold) == ("swin", 1)
    labels = [v.label for v in variants_of(study, "backbone")]
    assert labels[0] == "swin, GTGM (default)" and "swin, GTGM" not in labels
    assert "unet, GTGM" in labels


def test_only_variants_of_the_text_are_captioned_anew(phantoms):
    study = Study((NAME,), runs=phantoms)
    for name in ("text_encoder", "weight_vr", "temperature", "batch", "backbone"):
        for variant in variants_of(study, name):
            if variant.method != "barlow":
                assert text_folder(variant.of(study)) == text_folder(study), variant.label
    for name in ("cases", "caption_grid"):
        assert len({text_folder(v.of(study)) for v in variants_of(study, name)}) == 3


def test_captions_must_stay_true_in_every_view(phantoms):
    study = Study((NAME,), runs=phantoms)
    with pytest.raises(SettingsError, match="which captions name"):
        Variant("flips", changes={"pretrain": {"flip_axes": "DW"}}).of(study)


def test_unknown_ablation(phantoms):
    with pytest.raises(SettingsError, match="unknown ablation 'colour'.*temperature"):
        variants_of(Study((NAME,), runs=phantoms), "colour")


def test_equal_variants_count_once(phantoms):
    study = Study((NAME,), runs=phantoms)
    batch = study.settings("pretrain").batch
    same = Variant("batch as it is", changes={"pretrain": {"batch": batch}})
    assert distinct(study, [Variant("first"), same, RANDOM, RANDOM]) == [Variant("first"), RANDOM]


def test_the_frame_names_what_is_changed(phantoms):
    study = Study((NAME,), runs=phantoms, changes={"pretrain": {"patch": [24, 32, 32]}})
    frame = variants_frame(study, variants_of(study, "caption_grid"))
    assert list(frame["changes"]) == ["", "text.grid_step = [6, 8, 8]",
                                      "text.grid_step = [24, 32, 32]"]  # fmt: skip
    frame = variants_frame(study, variants_of(study, "backbone"))
    assert list(frame["backbone"]) == ["unet", "unet", "resnet50", "resnet50", "swin", "swin"]


SCORES = {("gtgm", 0.07): (0.70, 0.74, 0.71), ("gtgm", 0.28): (0.73, 0.76, 0.75),
          ("random", 0.07): (0.71, 0.73, 0.71)}  # fmt: skip


@pytest.fixture
def runs(monkeypatch) -> list[tuple]:
    """Stands for training: gives the scores above and keeps what was asked for."""
    asked = []

    def finetune(study, dataset, method, fraction, draw):
        temperature = study.settings("pretrain").temperature
        asked.append((dataset, method, temperature, fraction, draw))
        score = SCORES[method, temperature][draw]
        return run(method, score, draw=draw, wall_seconds=10.0 + draw)

    monkeypatch.setattr(variants, "finetune", finetune)
    return asked


@pytest.fixture
def frame(runs, phantoms):
    study = Study((NAME,), runs=phantoms, changes={"pretrain": {"temperature": 0.07}})
    first, _, fourfold = variants_of(study, "temperature")
    return run_variants(study, NAME, [first, fourfold, RANDOM], 0.1, range(3))


def test_every_variant_is_compared_on_the_same_draw(frame, runs):
    assert runs[:4] == [
        (NAME, "gtgm", 0.07, 0.1, 0),
        (NAME, "gtgm", 0.28, 0.1, 0),
        (NAME, "random", 0.07, 0.1, 0),
        (NAME, "gtgm", 0.07, 0.1, 1),
    ]
    assert len(frame) == len(runs) == 9
    assert set(frame["against"]) == {"temperature 0.07 (default)"}
    table = frame.pivot(index="label", columns="draw", values="difference")
    assert list(table.loc["temperature 0.07 (default)"]) == [0, 0, 0]
    assert list(table.loc["temperature 0.28"]) == pytest.approx([0.03, 0.02, 0.04])
    assert list(table.loc[RANDOM.label]) == pytest.approx([0.01, -0.01, 0.0])
    assert list(frame.query("draw == 2")["seconds"]) == [12, 12, 12]


def test_intervals_are_students(frame):
    fourfold, random = comparisons(frame)
    assert (fourfold.method, fourfold.baseline) == ("temperature 0.28",
                                                    "temperature 0.07 (default)")  # fmt: skip
    for comparison, differences in (
        (fourfold, [0.03, 0.02, 0.04]),
        (random, [0.01, -0.01, 0.0]),
    ):
        expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert (comparison.low, comparison.high) == pytest.approx(tuple(expected))
        assert comparison.mean == pytest.approx(np.mean(differences))
        assert comparison.units == ((0, 0), (0, 1), (0, 2))


def test_conclusions_name_what_the_draws_do_not_explain(frame):
    *each, all_of_them = conclusions(frame)
    assert each[0].startswith(
        "temperature 0.28: +3.00 points against temperature 0.07 (default) (3 pairs, 95 % interval "
    )
    assert len(each) == 2
    assert all_of_them.startswith("1 of 2 intervals leave out zero: temperature 0.28.")
    single = conclusions(frame.query("draw == 0"))
    assert "no interval" in single[0] and single[-1].startswith("One draw has no spread")
