"""Files of older versions are read, and those of newer ones say what to do."""

from __future__ import annotations

import json

import pytest
import torch
from handover_runs import ABOUT, SIZES

from gtgm import paths
from gtgm.errors import ResultError, WeightsError
from gtgm.models.encoder import (
    SCHEMA_VERSION,
    build_encoder,
    from_pretrained,
    read_config,
    save_pretrained,
)
from gtgm.models.segmenter import build_segmenter, load_segmenter, save_segmenter
from gtgm.results import load_result


def change(folder, **values):
    """Set values of config.json; None removes them."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.fixture
def encoder(tmp_path):
    return save_pretrained(build_encoder("unet", 1, **SIZES), tmp_path / "encoder", steps=1)


@pytest.fixture
def segmenter(tmp_path):
    return save_segmenter(build_segmenter("unet", 1, 3, **SIZES), tmp_path / "segmenter", **ABOUT)


def test_weights_say_their_version_and_the_network_does_not_know_it(encoder, segmenter):
    for folder in (encoder, segmenter):
        written = json.loads((folder / "config.json").read_text())
        assert written["schema_version"] == SCHEMA_VERSION == 1
        assert "schema_version" not in read_config(folder)
    assert "schema_version" not in from_pretrained(encoder).config
    assert "schema_version" not in load_segmenter(segmenter)[0].encoder.config


def test_a_folder_of_an_older_version_gives_the_same_network(encoder, segmenter):
    patch = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        new = from_pretrained(encoder).eval()(patch)[-1], load_segmenter(segmenter)[0](patch)
        for folder in (encoder, segmenter):
            change(folder, schema_version=None)
            assert "schema_version" not in json.loads((folder / "config.json").read_text())
        old = from_pretrained(encoder).eval()(patch)[-1], load_segmenter(segmenter)[0](patch)
    assert all(torch.equal(a, b) for a, b in zip(new, old, strict=True))
    assert load_segmenter(segmenter)[1] == ABOUT


@pytest.mark.parametrize(
    "version, advice",
    [
        (2, "What to do: update gtgm"),
        (0, "copy the folder again"),
        ("1", "copy the folder again"),
        (True, "copy the folder again"),
        (1.0, "copy the folder again"),
    ],
)
def test_weights_of_another_version_say_what_to_do(encoder, segmenter, evidence, version, advice):
    evidence("input", "config.json of weights", f"config.json with the schema version {version!r}")
    for folder, load in ((encoder, from_pretrained), (segmenter, load_segmenter)):
        change(folder, schema_version=version)
        with pytest.raises(WeightsError, match=advice) as error:
            load(folder)
        assert "config.json" in str(error.value) and f"version {version!r}" in str(error.value)


def test_a_newer_backbone_is_a_matter_of_the_version(encoder):
    change(encoder, schema_version=2, backbone="one of tomorrow")
    with pytest.raises(WeightsError, match="update gtgm"):
        from_pretrained(encoder)


def test_every_result_in_git_is_of_a_version_that_loads():
    files = sorted(paths.MEASURED.glob("*.json"))
    assert files
    for file in files:
        written = json.loads(file.read_text())
        assert written["schema_version"] == 1
        loaded = load_result(file).to_dict()
        assert {name: loaded[name] for name in written} == written


@pytest.mark.parametrize("version, advice", [(0, "run the unit again"), (2, "update gtgm")])
def test_results_of_another_version_say_what_to_do(tmp_path, evidence, version, advice):
    evidence("input", "results JSON", f"schema version {version}")
    known = json.loads(next(paths.MEASURED.glob("*.json")).read_text())
    file = paths.write_json(tmp_path / "result.json", {**known, "schema_version": version})
    with pytest.raises(ResultError, match=advice) as error:
        load_result(file)
    assert str(file) in str(error.value)
