"""Encoders and segmenters: shapes, saving, loading, and refusing what does not fit."""

from __future__ import annotations

import json
import re

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file, save_file
from torch import nn

from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.models.blocks import InstanceNorm
from gtgm.models.decoder import SkipDecoder
from gtgm.models.encoder import (
    build_encoder,
    from_pretrained,
    save_pretrained,
)
from gtgm.models.segmenter import (
    build_segmenter,
    divisible_patch,
    load_segmenter,
    save_segmenter,
)
from gtgm.models.weights import load_matching, read_state

SMALL = {
    "unet": {"features": [4, 6, 8], "strides": [[2, 2, 2], [2, 2, 2], [1, 1, 1]]},
    "resnet50": {"layers": [1, 1, 1, 1], "width": 4},
    "swin": {"depths": [1, 1, 1, 1], "feature_size": 12},
}
FLAT = {
    "unet": {"features": [4, 6, 8], "strides": [[2, 2, 2]] * 3, "anisotropic": True},
    "resnet50": {"layers": [1, 2, 1, 1], "width": 4, "anisotropic": True},
    "swin": {"depths": [1, 1, 1, 1], "feature_size": 12, "anisotropic": True},
}
SIDE = {"unet": (12, 14, 9), "resnet50": (16, 32, 24), "swin": (64, 32, 32)}
FLAT_SIDE = {"unet": (9, 20, 26), "resnet50": (9, 64, 32), "swin": (12, 32, 64)}


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
    torch.testing.assert_close(stock.eval().swinViT(volume)[-1], encoder.eval()(volume)[-1])


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
    assert divisible_patch([18, 160, 161], (4, 32, 32)) == (20, 160, 192)
    assert divisible_patch((6, 7, 8), "unet") == (8, 8, 16)  # not one voxel in the deepest map
    assert divisible_patch((6, 9, 7), "unet") == (8, 16, 8)
    assert divisible_patch((8, 7, 7), "unet") == (16, 8, 8)


@pytest.mark.parametrize("backbone", ["unet", "swin"])
def test_a_patch_of_one_voxel_in_the_deepest_map_is_refused(backbone):
    network = build_segmenter(backbone, 1, 2, **SMALL[backbone])
    alone = network.encoder.divisor
    with pytest.raises(DataError, match=f"{re.escape(str(alone))} voxels"):
        network(torch.randn(1, 1, *alone))
    network(torch.randn(1, 1, *divisible_patch(alone, alone)))


def without_norm(network: nn.Module) -> nn.Module:
    """Instance norm, which looks at the whole volume, taken out; batch norm fixed by `eval`."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm3d):
                setattr(module, name, nn.Identity())
    return network.eval()


def changed_sections(function, volume: torch.Tensor, section: int) -> list[list[int]]:
    """For every output, the sections that depend on one section of the volume."""
    other = volume.clone()
    other[:, :, section] = torch.randn_like(other[:, :, section])
    with torch.no_grad():
        pairs = zip(function(volume), function(other), strict=True)
        return [
            [z for z in range(a.shape[2]) if not torch.equal(a[:, :, z], b[:, :, z])]
            for a, b in pairs
        ]


@pytest.mark.parametrize("backbone", FLAT)
def test_anisotropic_shapes(backbone):
    network = build_segmenter(backbone, 2, 3, **FLAT[backbone])
    depth, height, width = FLAT_SIDE[backbone]
    volume = torch.randn(2, 2, depth, height, width)
    shapes = [m.shape[2:] for m in network.encoder(volume)]
    assert shapes[0] == (depth, height // 2, width // 2)
    assert shapes[1] == (depth, height // 4, -(-width // 4))
    assert shapes[-1][0] < depth
    scores = network(volume)
    assert scores.shape == (2, 3, depth, height, width)
    scores.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("backbone", FLAT)
def test_tensor_names_do_not_depend_on_anisotropy(backbone):
    flat = build_segmenter(backbone, 1, 3, **FLAT[backbone]).state_dict()
    cubic = build_segmenter(backbone, 1, 3, **{**FLAT[backbone], "anisotropic": False}).state_dict()
    assert list(flat) == list(cubic)


@pytest.mark.parametrize("backbone", FLAT)
def test_anisotropic_round_trips(backbone, tmp_path):
    network = build_segmenter(backbone, 1, 3, **FLAT[backbone]).eval()
    volume = torch.randn(1, 1, *FLAT_SIDE[backbone])
    save_segmenter(network, tmp_path / "segmenter")
    again, _ = load_segmenter(tmp_path / "segmenter")
    assert torch.equal(network(volume), again(volume))
    save_pretrained(network.encoder, tmp_path / "encoder")
    started = build_segmenter(backbone, 1, 3, pretrained=tmp_path / "encoder").eval()
    assert torch.equal(network.encoder(volume)[-1], started.encoder(volume)[-1])
    wide = from_pretrained(tmp_path / "encoder", in_channels=4).eval()
    assert torch.allclose(
        wide(volume.repeat(1, 4, 1, 1, 1))[-1],
        network.encoder(volume)[-1],
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("backbone", SMALL)
def test_config_without_the_key_is_isotropic(backbone, tmp_path):
    encoder = build_encoder(backbone, 1, **SMALL[backbone], anisotropic=False).eval()
    save_pretrained(encoder, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config) == {"schema_version", "backbone", "in_channels", *SMALL[backbone], "about"}
    again = from_pretrained(tmp_path)
    assert again.divisor == encoder.divisor
    kernels = [m.kernel_size for m in again.modules() if isinstance(m, nn.Conv3d)]
    assert kernels == [m.kernel_size for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert (1, 3, 3) not in kernels


def test_pretrained_encoder_of_the_other_kind_is_refused(tmp_path):
    sizes = FLAT["unet"]
    save_pretrained(build_encoder("unet", 1, **sizes), tmp_path)
    assert build_segmenter("unet", 1, 3, tmp_path, **sizes).encoder.config["anisotropic"]
    with pytest.raises(WeightsError, match=r"holds an anisotropic encoder.*anisotropic=True"):
        build_segmenter("unet", 1, 3, tmp_path, **{**sizes, "anisotropic": False})


# The stem of the ResNet (3×7×7) and the first attention of the Swin (3×7×7 windows, not shifted:
# sections 3 to 5) reach the next section; nothing goes further.
@pytest.mark.parametrize(
    ("backbone", "first", "second"),
    [("unet", [4], [4]), ("resnet50", [3, 4, 5], [3, 4, 5]), ("swin", [4], [3, 4, 5])],
)
def test_flat_levels_keep_sections_apart(backbone, first, second):
    torch.manual_seed(0)
    volume = torch.randn(1, 1, 12, 32, 32)
    encoder = without_norm(build_encoder(backbone, 1, **FLAT[backbone]))
    maps = changed_sections(encoder, volume, 4)
    assert maps[0] == first
    assert maps[1] == second
    assert len(maps[-1]) > 1  # the deep levels join sections


def test_decoder_is_flat_where_the_encoder_is():
    torch.manual_seed(0)
    network = build_segmenter("unet", 1, 3, **FLAT["unet"])
    assert [r.conv1.kernel_size for r in network.decoder.refine] == [(1, 3, 3), (1, 3, 3)]
    assert network.decoder.refine_last[0].kernel_size == (1, 3, 3)
    resnet = build_segmenter("resnet50", 1, 3, **FLAT["resnet50"]).decoder
    assert [r.conv1.kernel_size[0] for r in resnet.refine] == [3, 3, 1, 1]
    decoder = without_norm(SkipDecoder((4, 6), 1, 2, kernels=[(1, 3, 3), (1, 3, 3)]))
    maps = [torch.randn(1, 4, 8, 8, 8), torch.randn(1, 6, 8, 4, 4)]
    volume = torch.randn(1, 1, 8, 16, 16)
    assert changed_sections(lambda v: [decoder(v, maps)], volume, 3) == [[3]]
    assert changed_sections(lambda m: [decoder(volume, [maps[0], m])], maps[1], 5) == [[5]]


@pytest.mark.parametrize("anisotropic", [False, True])
@pytest.mark.parametrize(
    ("backbone", "cubic", "flat"),
    [
        ("unet", (8, 8, 8), (2, 8, 8)),
        ("resnet50", (16, 32, 32), (4, 32, 32)),
        ("swin", (32, 32, 32), (4, 32, 32)),
    ],
)
def test_divisor_is_the_stride_of_the_deepest_map(backbone, cubic, flat, anisotropic):
    network = build_segmenter(backbone, 1, 2, **{**FLAT[backbone], "anisotropic": anisotropic})
    divisor = network.encoder.divisor
    assert divisor == (flat if anisotropic else cubic)
    patch = (2 * divisor[0], *divisor[1:])
    with torch.no_grad():
        for shape in [m.shape[2:] for m in network.eval().encoder(torch.randn(1, 1, *patch))]:
            assert all(side % grid == 0 for side, grid in zip(patch, shape, strict=True))
        assert shape == (2, 1, 1)
        assert network(torch.randn(1, 1, *patch)).shape[2:] == patch
        for axis, step in enumerate(divisor):
            half = [*patch]
            half[axis] -= step // 2
            assert divisible_patch(half, divisor) == patch
            if backbone == "swin":
                with pytest.raises(DataError, match=rf"multiples of \({divisor[0]}, 32, 32\)"):
                    network(torch.zeros(1, 1, *half))
            else:  # the last voxel of the deepest map stands half outside the patch
                deepest = network.encoder(torch.zeros(1, 1, *half))[-1]
                assert deepest.shape[2:] == (2, 1, 1)


def test_full_resolution_stem():
    sizes = {"features": [4, 4, 6, 8], "strides": [[1, 1, 1], *[[2, 2, 2]] * 3]}
    assert build_encoder("unet", 1, **sizes).divisor == (8, 8, 8)
    network = build_segmenter("unet", 1, 3, **sizes, anisotropic=True)
    assert network.encoder.divisor == (2, 8, 8)
    assert network.encoder.kernels == ((1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3))
    volume = torch.randn(1, 1, 9, 16, 16)
    assert network.encoder(volume)[0].shape[2:] == volume.shape[2:]
    assert network(volume).shape == (1, 3, 9, 16, 16)


def test_a_network_of_flat_levels_alone_is_refused():
    strides = [[2, 2, 2], [2, 2, 2]]
    with pytest.raises(SettingsError, match=r"anisotropic.*all flat.*add a level"):
        build_encoder("unet", 1, features=[4, 6], strides=strides, anisotropic=True)


@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_equals_torchs_and_keeps_the_layout(channels_last: bool) -> None:
    """Output and gradients, for a batch with volumes of different scale."""
    torch.manual_seed(0)
    own, reference = InstanceNorm(5), nn.InstanceNorm3d(5, affine=True)
    for parameter in own.parameters():
        nn.init.normal_(parameter)
    reference.load_state_dict(own.state_dict())
    x = torch.randn(3, 5, 4, 6, 7) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1, 1)
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    inputs = [x.clone(memory_format=layout).requires_grad_() for _ in range(2)]
    outputs = [norm(i) for norm, i in zip((own, reference), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    assert outputs[0].is_contiguous(memory_format=layout)
    weight = torch.randn_like(x)
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(own.weight.grad, reference.weight.grad)
