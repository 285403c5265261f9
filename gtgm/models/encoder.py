"""Image encoders: build, save, load, and start a network with other channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from gtgm import paths
from gtgm.errors import SettingsError, WeightsError
from gtgm.models.resnet import ResNetEncoder
from gtgm.models.swin import SwinEncoder
from gtgm.models.unet import UNetEncoder
from gtgm.models.weights import check_sizes, load_matching, read_state

BACKBONES: dict[str, type[nn.Module]] = {
    "unet": UNetEncoder,
    "resnet50": ResNetEncoder,
    "swin": SwinEncoder,
}
#: Patches of isotropic encoders with their default sizes are multiples of it on every axis (the
#: ResNet's deepest map has 32 in plane). What an encoder itself needs is its ``divisor``.
DIVISOR = {"unet": 8, "resnet50": 16, "swin": 32}
CONFIG, WEIGHTS = "config.json", "encoder.safetensors"
#: Of config.json. Folders without one were written before it was noted, and are read alike.
SCHEMA_VERSION = 1


def build_encoder(backbone: str, in_channels: int = 1, **sizes: Any) -> nn.Module:
    """An encoder with random weights.

    It has ``channels`` (per map, the finest first), ``config`` (what rebuilds it), ``divisor``
    (voxels (z, y, x) per voxel of the deepest map) and ``stem_keys`` (weights whose size depends
    on ``in_channels``). The size ``anisotropic`` is in ``config`` only where it is set, so that
    configs without it, older than the setting, mean an isotropic encoder.

    Raises:
        SettingsError: the backbone is unknown, or the sizes cannot be anisotropic.
    """
    if backbone not in BACKBONES:
        raise SettingsError(
            f"unknown backbone {backbone!r}", expected=f"one of {', '.join(BACKBONES)}"
        )
    return BACKBONES[backbone](in_channels=in_channels, **sizes)


def save_memory(
    encoder: nn.Module, chunk: int = 0, checkpointing: bool = False, stage: str = "finetune"
) -> None:
    """Make an encoder ready for a short memory.

    Args:
        encoder: of any backbone.
        chunk: patches of a chunk; with chunks, a Swin encoder keeps no scores on a GPU either.
        checkpointing: compute the blocks of a Swin encoder again in the backward pass.
        stage: of the settings, for the message.

    Raises:
        SettingsError: checkpointing of a backbone that has no such blocks.
    """
    if isinstance(encoder, SwinEncoder):
        encoder.swinViT.checkpointing = checkpointing
        encoder.swinViT.lean = checkpointing or chunk > 0
    elif checkpointing:
        raise SettingsError(
            f"{encoder.config['backbone']} has no checkpointing",
            where=f"{stage}.checkpointing",
            expected="backbone swin",
            fix=f"set it to false; {stage}.chunk=1 saves more (resnet50: with group norm)",
        )


def save_pretrained(encoder: nn.Module, folder: str | Path, **about: Any) -> Path:
    """Write ``encoder.safetensors`` and ``config.json`` (sizes, and ``about``: source, metrics)."""
    folder = Path(folder)
    state = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    with paths.atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_config(folder, {**encoder.config, "about": about})
    return folder


def from_pretrained(folder: str | Path, in_channels: int | None = None) -> nn.Module:
    """The encoder that :func:`save_pretrained` wrote, for ``in_channels`` channels if given.

    A stem for another number of channels repeats the saved one and divides by the number of
    repeats, so that the response to equal channels stays what it was.

    Raises:
        WeightsError: a file is missing or damaged, or a tensor does not fit.
    """
    folder = Path(folder)
    state = read_state(folder / WEIGHTS)
    config = read_config(folder)
    config.pop("about", None)
    check_sizes(build_encoder, config, state, folder / CONFIG, folder / WEIGHTS)
    saved_channels = config["in_channels"]
    config["in_channels"] = in_channels or saved_channels
    encoder = build_encoder(**config)
    if config["in_channels"] != saved_channels:
        for key in encoder.stem_keys:
            weight = state[key].mean(1, keepdim=True)  # (out, 1, kz, ky, kx)
            state[key] = weight.repeat(1, config["in_channels"], 1, 1, 1)
            state[key] *= saved_channels / config["in_channels"]
    load_matching(encoder, state, where=folder / WEIGHTS, minimum=1.0)
    return encoder


def write_config(folder: str | Path, config: dict) -> Path:
    """Write ``config.json`` with the version of its schema."""
    return paths.write_json(Path(folder) / CONFIG, {"schema_version": SCHEMA_VERSION, **config})


def read_config(folder: str | Path) -> dict:
    """Sizes and ``about`` of a saved encoder, without the version of the schema.

    Raises:
        WeightsError: the file cannot be read, names no backbone, or has a schema that this version
            of the package does not know.
    """
    path = Path(folder) / CONFIG
    config = paths.read_json(
        path,
        WeightsError,
        "the config.json that `gtgm pretrain` or `gtgm finetune` writes beside the weights",
        "name the folder that holds config.json and the weights, a .safetensors file",
    )
    config = config if isinstance(config, dict) else {}
    version = config.pop("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version != SCHEMA_VERSION:  # True and 1.0 equal 1
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise WeightsError(
            f"has schema version {version!r}",
            where=path,
            expected=f"version {SCHEMA_VERSION}, or none in a folder of an older gtgm",
            fix="update gtgm, a newer one wrote these weights"
            if newer
            else "copy the folder again, or run the stage that writes it",
        )
    backbone, channels = config.get("backbone"), config.get("in_channels")
    if not (isinstance(backbone, str) and backbone in BACKBONES and type(channels) is int):
        raise WeightsError(
            "does not name a backbone of this package and its channels",
            where=path,
            expected=f"a `backbone` among {', '.join(BACKBONES)}, and a number `in_channels`",
            fix="name a folder that `gtgm pretrain` wrote",
        )
    return config
