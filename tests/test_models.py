"""Encoders and segmenters: shapes, saving, loading, and refusing what does not fit."""

from __future__ import annotations

import json

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file, save_file

from gtgm.errors import SettingsError, WeightsError
from gtgm.models.encoder import (
    build_encoder,
    from_pretrained,
    load_matching,
    read_state,
    save_pretrained,
)
from gtgm.models.segmenter import (
    build_segmenter,
    divisible_patch,
    load_segmenter,
    save_segmenter,
)

SMALL = {
    "unet": {"features": [4, 6, 8], "strides": [[2, 2, 2], [2, 2, 2], [1, 1, 1]]},
    "resnet50": {"layers": [1, 1, 1, 1], "width": 4},
    "swin": {"depths": [1, 1, 1, 1], "feature_size": 12},
}
SIDE = {"unet": (12, 14, 9), "resnet50": (16, 32, 24), "swin": (64, 32, 32)}


@pytest.mark.parametrize("backbone", SMALL)
def test_pyramid_and_segmenter_shapes(backbone):
    encoder = build_encoder(backbone, 2, **SMALL[backbone])
    volume = torch.randn(2, 2, *SIDE[backbone])
    maps = encoder(volume)
    assert [m.shape[1] for m in maps] == list(encoder.channels)
    assert all(a.shape[2] >= b.shape[2] for a, b in zip(maps, maps[1:], strict=False))
    network = build_segmenter(backbone, 2, 3, **SMALL[backbone])
    scores = network(volume)
    assert scores.shape == (2, 3, *SIDE[backbone])
    scores.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("backbone", SMALL)
def test_encoder_round_trip_is_exact(backbone, tmp_path):
    encoder = build_encoder(backbone, 1, **SMALL[backbone]).eval()
    save_pretrained(encoder, tmp_path, source="test")
    again = from_pretrained(tmp_path).eval()
    volume = torch.randn(1, 1, *SIDE[backbone])
    assert torch.equal(encoder(volume)[-1], again(volume)[-1])
    assert json.loads((tmp_path / "config.json").read_text())["about"] == {"source": "test"}


@pytest.mark.parametrize("backbone", SMALL)
def test_stem_for_more_channels_answers_alike_to_equal_channels(backbone, tmp_path):
    encoder = build_encoder(backbone, 1, **SMALL[backbone]).eval()
    save_pretrained(encoder, tmp_path)
    volume = torch.randn(1, 1, *SIDE[backbone])
    wide = from_pretrained(tmp_path, in_channels=4).eval()
    assert torch.allclose(
        wide(volume.repeat(1, 4, 1, 1, 1))[-1], encoder(volume)[-1], atol=1e-4, rtol=1e-3
    )


def test_paper_sizes():
    assert build_encoder("swin").channels[-1] == 768
    assert build_encoder("resnet50").channels[-1] == 2048


def test_swin_weights_load_into_monai(tmp_path):
    encoder = build_encoder("swin", 1, **SMALL["swin"])
    save_pretrained(encoder, tmp_path)
    stock = SwinUNETR(1, 2, depths=(1, 1, 1, 1), feature_size=12)
    report = stock.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=False)
    assert not report.unexpected_keys
    assert not [k for k in report.missing_keys if k.startswith("swinViT.")]
    volume = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(stock.eval().swinViT(volume)[-1], encoder.eval()(volume)[-1])


def test_pretrained_encoder_starts_the_segmenter(tmp_path):
    encoder = build_encoder("unet", 1, **SMALL["unet"])
    save_pretrained(encoder, tmp_path)
    network = build_segmenter("unet", 1, 3, pretrained=tmp_path)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], weight)


def test_weights_of_another_backbone_are_refused(tmp_path):
    save_pretrained(build_encoder("unet", 1, **SMALL["unet"]), tmp_path)
    with pytest.raises(WeightsError, match=r"backbone 'unet'.*weights of 'swin'"):
        build_segmenter("swin", 1, 3, pretrained=tmp_path)


def test_weights_of_other_sizes_are_refused(tmp_path):
    save_pretrained(build_encoder("unet", 1, **SMALL["unet"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["features"] = [5, 7, 9]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="only 0 of .* tensors match"):
        from_pretrained(tmp_path)


def test_loading_reports_and_refuses_too_few(tmp_path):
    encoder = build_encoder("unet", 1, **SMALL["unet"])
    state = dict(encoder.state_dict())
    dropped = state.pop("levels.0.conv1.weight")
    state["other"] = torch.zeros(1)
    report = load_matching(encoder, state, where="x", minimum=0.5)
    assert report == {
        "matched": len(state) - 1,
        "missing": 1,
        "mismatched": 0,
        "unused": 1,
    }
    with pytest.raises(WeightsError, match="missing levels.0.conv1.weight"):
        load_matching(encoder, state, where="x", minimum=1.0)
    assert torch.equal(encoder.state_dict()["levels.0.conv1.weight"], dropped)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x80\x04K\x01."])
def test_damaged_or_pickled_weights_are_refused(tmp_path, content):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="encoder.safetensors"):
        read_state(path)


def test_folder_without_config_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "encoder.safetensors")
    with pytest.raises(WeightsError, match="config.json"):
        from_pretrained(tmp_path)


def test_unknown_backbone():
    with pytest.raises(SettingsError, match="'vit'.*unet, resnet50, swin"):
        build_encoder("vit")


@pytest.mark.parametrize("backbone", ["unet", "swin"])
def test_segmenter_round_trip(backbone, tmp_path):
    network = build_segmenter(backbone, 1, 3, **SMALL[backbone]).eval()
    save_segmenter(network, tmp_path, dataset="x")
    again, about = load_segmenter(tmp_path)
    volume = torch.randn(1, 1, *SIDE[backbone])
    assert about == {"dataset": "x"}
    assert torch.equal(network(volume), again(volume))


def test_patches_are_rounded_up():
    assert divisible_patch((40, 56, 40), "unet") == (40, 56, 40)
    assert divisible_patch((35, 50, 36), "swin") == (64, 64, 64)
