"""Settings of every stage: frozen, checked, written beside each result.

Presets are data (``presets.toml``): one per stage and profile, and what each protocol changes.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from gtgm.errors import SettingsError
from gtgm.hashing import how
from gtgm.neurons.settings import NeuronSettings
from gtgm.setting_checks import (
    check_axes,
    check_choice,
    check_least,
    check_positive,
    check_sides,
    like,
)

PROFILES = ("tiny", "demo", "cpu", "paper")
PROTOCOLS = ("corrected", "as_released")
SCHEDULES = ("onecycle", "restarts", "constant")
#: Names of :data:`gtgm.models.encoder.BACKBONES`, whose imports take seconds.
BACKBONES = ("unet", "resnet50", "swin")
PRECISIONS = ("auto", "bf16", "fp16", "no")
AUGMENTATIONS = ("strong", "released")
VOLUMES = ("auto", "memory", "disk")
#: GB of a GPU that there are presets for.
MEMORY = ("8", "16", "24", "80")
EMBEDDED = "embedded"
#: Fewest patches of a joined batch: of two, batch norm makes ±1 whatever they show, and L_VR has no
#: gradient. ``as_released`` has as few as the release.
JOINED = 16


@dataclass(frozen=True)
class TextSettings:
    """Stage 1, text generation.

    Attributes:
        captioner: ``embedded`` (small BLIP trained here), ``describe``, ``metadata``, ``none`` (the
            same words for every patch), the id or folder of a BLIP, or ``chat:`` and the id or
            folder of a chat vision–language model.
        encoder: ``embedded`` (small BERT trained here), or the id or folder of a text encoder.
        prompt: template for chat models; empty for the package's own.
        axes: axes along which captions may name a side or position: those that no view flips.
        grid_step: step of the caption grid in voxels (z, y, x); empty for half a patch.
        released_grid: use the step of the released captions for the modality.
        prefix_file_name: put the case's file name before each caption (`deviations.md`, row 6).
        cases: most training cases per dataset that are captioned; 0 for all.
    """

    captioner: str = EMBEDDED
    encoder: str = EMBEDDED
    prompt: str = ""
    axes: str = "DH"
    grid_step: tuple[int, ...] = ()
    released_grid: bool = False
    prefix_file_name: bool = False
    captioner_steps: int = 400
    encoder_steps: int = 300
    image_size: int = 64
    cases: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_axes("text.axes", self.axes)
        check_least("text", self, 1, "captioner_steps", "encoder_steps", "image_size")
        check_least("text", self, 0, "cases")
        check_sides("text.grid_step", self.grid_step)


@dataclass(frozen=True)
class PretrainSettings:
    """Stage 2, vision–language pretraining.

    Attributes:
        patch: voxels of a training patch (z, y, x).
        batch: patches per process and step; joined at least :data:`JOINED`.
        weight_vr: weight of L_VR beside L_VLP; chosen on fold 0 for 128 features, and larger heads
            take proportionally less.
        off_diagonal: λ inside L_VR.
        width, embedding: sizes of the heads (2048 and 512 in the paper).
        flip_axes: axes that views may flip, among ``DHW``.
        transpose: views may swap the two axes of a section, whose sides must then be equal.
        operations: how many of {rescale, intensity, noise, blur, flip} change each view.
        projected_vr: L_VR on projected, batch-standardised features; off: raw encoder features
            without standardisation (`deviations.md`, row 7).
        equal_captions: patches with equal captions share the target (`design.md`).
        clip_sum: sum, not mean, of the two directions, and L_VR halved, as in the released code.
        gather: contrast over the joined batch of all processes (row 8).
        view_min_max: scale every view to 0…1 after augmentation (row 14).
        released_scale: raw intensities / 255, not normalised by modality (row 14).
        include_test: captioning and pretraining read the fold's test cases (row 10), a named leak.
        held_out: share of the training cases kept for measuring retrieval.
        schedule: ``onecycle``, or ``restarts`` (cosine with warm restarts, as released).
        precision: ``bf16``, ``fp16``, ``no`` (fp32, alone exactly repeatable), or ``auto``: bf16
            where the device has instructions for it, see :func:`gtgm.precision.has_bf16`.
        processes: that train together, each with batches of its own; 0 for as many as
            ``accelerate launch`` starts, one without it. Name it to find their encoder later, from
            a single process.
        shuffle_captions: give each patch the caption of another one, always the same.
        text_layers: last layers of the text encoder that are trained too; 0 freezes it, as in
            Figure 2 (the released code trains 6 of 12).
        options: settings of the method's own, see its class in :mod:`gtgm.methods`.
        sizes: other sizes of the backbone than its own default; downstream networks share them.
        chunk: patches that are in memory together; 0 for all. The gradient is that of the whole
            batch (:mod:`gtgm.models.chunks`).
        checkpointing: compute the blocks of swin again in the backward pass, not keep them.
        graphs: record the encoder's kernels and replay them (:mod:`gtgm.models.graphs`); one GPU.
        workers: processes that cut patches ahead; 0 for none. They change no draw.
        volumes: keep them in ``memory``, or cut patches from a store on ``disk``
            (:mod:`gtgm.volume_store`); ``auto`` takes the disk if a third of the free memory is too
            small for all, or if there are workers.
    """

    patch: tuple[int, int, int] = (24, 28, 28)
    steps: int = 400
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.05
    temperature: float = 0.07
    weight_vr: float = 0.1
    off_diagonal: float = 0.0051
    width: int = 256
    embedding: int = 128
    flip_axes: str = "W"
    transpose: bool = False
    operations: int = 1
    projected_vr: bool = True
    equal_captions: bool = True
    clip_sum: bool = False
    gather: bool = True
    view_min_max: bool = False
    released_scale: bool = False
    include_test: bool = False
    held_out: float = 0.1
    schedule: str = "onecycle"
    precision: str = "auto"
    processes: int = 0
    checkpoint_every: int = 100
    shuffle_captions: bool = False
    text_layers: int = 0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    sizes: dict[str, Any] = dataclasses.field(default_factory=dict)
    chunk: int = how(0)
    checkpointing: bool = how(False)
    graphs: bool = how(False)
    workers: int = how(0)
    volumes: str = how("auto")

    def __post_init__(self) -> None:
        check_sides("pretrain.patch", self.patch, empty=False)
        check_axes("pretrain.flip_axes", self.flip_axes)
        check_least("pretrain", self, 1, "steps", "width", "embedding", "checkpoint_every")
        check_least("pretrain", self, 2, "batch")
        check_least("pretrain", self, 0, "weight_decay", "weight_vr", "off_diagonal", "operations")
        check_least("pretrain", self, 0, "text_layers", "chunk", "workers", "processes")
        check_positive("pretrain", self, "lr", "temperature")
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("volumes", self.volumes, VOLUMES)
        if not 0 < self.held_out <= 0.5:
            raise SettingsError(
                f"is {self.held_out}", where="pretrain.held_out", expected="above 0, at most 0.5"
            )


@dataclass(frozen=True)
class FinetuneSettings:
    """Stage 3, fine-tuning and evaluation on a labelled dataset.

    Attributes:
        steps: of a training, to which ``steps_per_case`` are added for every labelled case: more
            cases take longer to learn from.
        patch: voxels (z, y, x); empty for the dataset's own.
        spacing: working voxel size in mm (z, y, x); empty for each file's own, or in the paper's
            profile the dataset's.
        encoder_lr: learning rate of the encoder, as a share of ``lr``, however it starts.
        decoder_first: share of the steps in which the encoder stays as it is, however it starts,
            while the decoder learns to use it.
        ema: decay of the weight average that is evaluated; 0 evaluates the last weights.
        augmentation: ``strong`` (rotation, zoom, noise, blur, intensity, contrast), or ``released``
            (flips, quarter turns and intensity shifts with the released probabilities).
        foreground: share of patches centred on a labelled voxel.
        rotate: largest rotation in degrees about each axis; ``zoom``: largest change of scale; both
            and ``flip_axes``, axes flipped at random, belong to the strong augmentation.
        tta_axes: axes flipped, and averaged over, at inference.
        overlap: of neighbouring sliding windows.
        sigmoid_output: sigmoid before the softmax loss (`deviations.md`, row 2).
        released_window: the CT window for every modality (row 3).
        select_on_test: keep the checkpoint that is best on the test cases (row 5), by the Dice that
            the release selects on, averaged over classes and background (row 4).
        precision, processes, chunk, checkpointing, graphs, workers, volumes: as in
            :class:`PretrainSettings`.
        windows: of the sliding window that go through the network together.
    """

    steps: int = 900
    steps_per_case: float = 0.0
    batch: int = 4
    lr: float = 2e-3
    weight_decay: float = 1e-2
    patch: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    encoder_lr: float = 1.0
    decoder_first: float = 0.0
    ema: float = 0.99
    augmentation: str = "strong"
    foreground: float = 0.67
    rotate: float = 15.0
    zoom: float = 0.15
    flip_axes: str = ""
    tta_axes: str = ""
    overlap: float = 0.5
    sigmoid_output: bool = False
    released_window: bool = False
    select_on_test: bool = False
    schedule: str = "onecycle"
    precision: str = "auto"
    processes: int = 0
    checkpoint_every: int = 150
    chunk: int = how(0)
    checkpointing: bool = how(False)
    graphs: bool = how(False)
    workers: int = how(0)
    volumes: str = how("auto")
    windows: int = how(4)

    def __post_init__(self) -> None:
        check_sides("finetune.patch", self.patch)
        check_sides("finetune.spacing", self.spacing, kind=(int, float))
        check_axes("finetune.flip_axes", self.flip_axes)
        check_axes("finetune.tta_axes", self.tta_axes)
        check_least("finetune", self, 1, "steps", "batch", "checkpoint_every", "windows")
        check_least(
            "finetune",
            self,
            0,
            "steps_per_case",
            "weight_decay",
            "encoder_lr",
            "rotate",
            "zoom",
            "chunk",
            "workers",
            "processes",
        )
        check_positive("finetune", self, "lr")
        check_choice("augmentation", self.augmentation, AUGMENTATIONS)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("volumes", self.volumes, VOLUMES)
        for name in ("ema", "overlap", "foreground", "decoder_first"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(
                    f"is {getattr(self, name)}",
                    where=f"finetune.{name}",
                    expected="at least 0 and below 1",
                )


S = TypeVar("S", TextSettings, PretrainSettings, FinetuneSettings, NeuronSettings)
STAGES: dict[str, type] = {
    "text": TextSettings,
    "pretrain": PretrainSettings,
    "finetune": FinetuneSettings,
    "neurons": NeuronSettings,
}
#: Whose settings captions and encoders depend on.
POOL_STAGES = ("text", "pretrain")


def preset(
    stage: str,
    profile: str = "tiny",
    protocol: str = "corrected",
    dataset: str = "",
    modality: str = "",
    method: str = "",
    backbone: str = "",
    **changes: Any,
) -> Any:
    """Settings of ``stage`` for a profile, then on top of it, each over the one before, those of
    the backbone, the modality (CT, MRI, EM), the dataset, the method, the protocol, and
    ``changes``.

    Raises:
        SettingsError: an unknown stage, profile, protocol or setting, or a value of a wrong type.
    """
    check_choice("stage", stage, STAGES)
    check_choice("profile", profile, PROFILES)
    check_choice("protocol", protocol, PROTOCOLS)
    tables = _presets()
    values: dict[str, Any] = {}
    for table in (
        tables[profile].get(stage, {}),
        tables[profile].get("backbone", {}).get(backbone, {}).get(stage, {}),
        tables[profile].get("modality", {}).get(modality, {}).get(stage, {}),
        tables[profile].get("dataset", {}).get(dataset, {}).get(stage, {}),
        tables[profile].get("method", {}).get(method, {}).get(stage, {}),
        tables["protocol"][protocol].get(stage, {}),
        tables["protocol"][protocol].get(profile, {}).get(stage, {}),
        changes,
    ):
        values |= table
    return from_dict(STAGES[stage], values)


def memory_preset(gigabytes: int, backbone: str) -> dict[str, dict[str, Any]]:
    """Changes with which fine-tuning in the paper's sizes fits a GPU; they change no number.

    Pretraining two patches at a time takes little more than 3 GB in any way
    (results/benchmarks/memory_gpu.json). ``resnet50`` takes all 16 together, for its batch norm:
    about 13 GB, if its two patches tell.

    Args:
        gigabytes: memory of the GPU, among :data:`MEMORY`.
        backbone: ``unet``, ``resnet50`` or ``swin``.

    Raises:
        SettingsError: another size, or a backbone that does not fit.
    """
    check_choice("memory", str(gigabytes), MEMORY)
    known = _presets()["memory"]
    if backbone not in known[str(gigabytes)]:
        least = next(size for size in MEMORY if backbone in known[size])
        raise SettingsError(
            f"{backbone} does not fit {gigabytes} GB in the paper's sizes",
            where="--memory",
            expected=f"{least} GB or more",
            fix="choose another backbone, or set a smaller finetune.patch without --memory",
        )
    return known[str(gigabytes)][backbone]


def from_dict(kind: type[S], values: dict[str, Any]) -> S:
    """Settings from plain values; an unknown name or a wrong type is an error, not ignored."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    stage = next((name for name, known in STAGES.items() if known is kind), kind.__name__)
    default = kind()
    checked = {}
    for name, value in values.items():
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            raise SettingsError(
                f"unknown setting {name!r}",
                where=stage,
                expected=f"one of {', '.join(fields)}",
                fix=f"did you mean {close[0]!r}" if close else None,
            )
        checked[name] = like(getattr(default, name), value, f"{stage}.{name}")
    return kind(**checked)


@cache
def _presets() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "presets.toml").read_text(encoding="utf-8"))
