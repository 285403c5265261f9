"""A study: which datasets, which protocol and sizes, and where its files are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from gtgm import methods, paths
from gtgm.cache import VolumeCache
from gtgm.datasets import em, registry
from gtgm.datasets.dataset import Dataset, case_hashes, label_hashes, open_dataset
from gtgm.datasets.geometry import Volume, content_hash, load_volume
from gtgm.datasets.splits import EMRanges, Split, em_ranges, em_training_range, load_split
from gtgm.device import process_state
from gtgm.errors import SettingsError
from gtgm.figure_data import write_figure_data
from gtgm.figures import save_figure
from gtgm.hashing import settings_hash
from gtgm.models.encoder import BACKBONES
from gtgm.neurons.fragments import is_anisotropic
from gtgm.precision import has_bf16, used_precision
from gtgm.setting_checks import check_choice, check_parameters
from gtgm.settings import PROFILES, PROTOCOLS, STAGES, preset

#: Lateral tiles that an EM volume is cut into for pretraining, so that some can be held out.
EM_TILES = 2
EM_FRACTION = 0.75


@dataclass(frozen=True)
class Study:
    """Everything that the stages of one experiment have in common.

    Attributes:
        datasets: names of the registry; pretraining pools them, so they share a modality or not
            as the reader likes.
        profile: ``tiny``, ``demo``, ``cpu`` or ``paper`` (``presets.toml``).
        protocol: ``corrected``, or ``as_released`` with the options of `deviations.md`.
        backbone: ``unet``, ``resnet50`` or ``swin``.
        fold: held-out fold; its cases are never pretrained on, unless the protocol says so.
        seed: of weights and draws.
        data: folder of real datasets, beside ``$GTGM_DATA``; empty for none.
        runs: working folder; empty for the default.
        changes: settings that differ from the preset, per stage, such as
            ``{"pretrain": {"steps": 100}}``.
        method: pretraining method of :data:`gtgm.methods.METHODS`, whose own changes come before
            those above.
    """

    datasets: tuple[str, ...]
    profile: str = "tiny"
    protocol: str = "corrected"
    backbone: str = "unet"
    fold: int = 0
    seed: int = 0
    data: str = ""
    runs: str = ""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    method: str = "gtgm"

    def __post_init__(self) -> None:
        names = [self.datasets] if isinstance(self.datasets, str) else self.datasets
        check_parameters(datasets=names, changes=self.changes)
        object.__setattr__(self, "datasets", tuple(names))
        if not names:
            raise SettingsError("no dataset is named", where="datasets", expected="at least one")
        check_choice("profile", self.profile, PROFILES)
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("backbone", self.backbone, BACKBONES)
        methods.get(self.method)
        if type(self.seed) is not int or not 0 <= self.seed < 1 << 32:
            raise SettingsError(
                f"is {self.seed!r}", where="seed", expected="a whole number from 0 to 2³² − 1"
            )
        for stage in self.changes:
            check_choice("stage", stage, STAGES)
        for stage in STAGES:
            self.settings(stage)
        pretraining, axes = self.settings("pretrain"), self.settings("text").axes
        changed = set(pretraining.flip_axes) | (set("HW") if pretraining.transpose else set())
        if self.protocol == "corrected" and changed & set(axes):
            raise SettingsError(
                f"views change {', '.join(sorted(changed & set(axes)))}, which captions name",
                where="pretrain.flip_axes and text.axes",
                expected="captions that stay true in every view",
                fix="leave these axes out of one of the two settings",
            )

    def settings(self, stage: str, dataset: str = "") -> Any:
        """Resolved settings of a stage, for a dataset if it matters.

        A pool of nothing but anisotropic EM volumes gets an encoder with flat kernels. Precision
        and number of processes are this computer's where the settings leave them open: they are
        part of what a run is.
        """
        changes = {
            **methods.get(self.method).changes.get(stage, {}),
            **self.changes.get(stage, {}),
        }
        infos = [registry.get(name) for name in ([dataset] if dataset else self.datasets)]
        modalities = {info.modality for info in infos}
        modality = modalities.pop() if len(modalities) == 1 else ""
        settings = preset(
            stage, self.profile, self.protocol, dataset, modality, self.method, self.backbone,
            **changes,
        )  # fmt: skip
        if stage == "neurons":
            settings = replace(settings, bf16=settings.bf16 and has_bf16())
        elif stage != "text":
            precision = settings.precision
            settings = replace(
                settings,
                precision=used_precision("auto") if precision == "auto" else precision,
                processes=settings.processes or process_state().num_processes,
            )
        if (
            stage == "pretrain"
            and modality == "EM"
            and all(is_anisotropic(info.spacing) for info in infos)
        ):
            return replace(settings, sizes={"anisotropic": True, **settings.sizes})
        return settings

    def of(self, method: str, **others: Any) -> Study:
        """This study with another method; opened datasets and cached volumes are shared.

        Args:
            method: of :data:`gtgm.methods.METHODS`.
            others: further fields that differ, but for those that say where data is.
        """
        other = replace(self, method=method, **others)
        if other == self:
            return self
        for shared in ("_opened", "_contents", "_volumes", "_em"):
            other.__dict__[shared] = getattr(self, shared)
        return other

    @property
    def name(self) -> str:
        """Name of the pretraining pool: the dataset, or the modality and the number of datasets."""
        if len(self.datasets) == 1:
            return self.datasets[0]
        modalities = sorted({self.open(name).info.modality for name in self.datasets})
        return f"{'-'.join(modalities)}-{len(self.datasets)}-datasets"

    @property
    def root(self) -> Path:
        """Folder of the study's profile."""
        return (Path(self.runs).expanduser() if self.runs else paths.runs_dir()) / self.profile

    def folder(self, stage: str, name: str, *identity: Any, backbone: str | None = None) -> Path:
        """Folder of a run; ``identity`` (settings, sources) ends up in its name as a hash.

        A changed setting therefore never meets files that another setting left.

        Args:
            stage, name: of the run.
            identity: what the run depends on.
            backbone: another one than the study's, for what no backbone changes.
        """
        backbone = backbone or self.backbone
        digest = settings_hash(self.protocol, backbone, self.fold, self.seed, *identity)
        return self.root / stage / f"{name}-{digest}"

    def open(self, name: str) -> Dataset:
        """The dataset, real if it is found, else its phantom."""
        if name not in self._opened:
            phantoms = Path(self.runs).expanduser() / "phantoms" if self.runs else None
            self._opened[name] = open_dataset(name, self.data or None, phantoms)
        return self._opened[name]

    def split(self, name: str) -> Split:
        """Folds and label draws of a NIfTI dataset."""
        return load_split(self.open(name))

    def sections(self, name: str, fraction: float = EM_FRACTION) -> EMRanges:
        """Section ranges of an EM dataset."""
        return em_ranges(name, fraction, self.em_volume(name).n_sections, self.protocol)

    def em_volume(self, name: str) -> em.EMVolume:
        """Grey values and neuron ids of an EM dataset, all sections."""
        return self._em(name)

    def volume(self, name: str, case: str, spacing: tuple[float, ...] | None = None) -> Volume:
        """A case with raw intensities, in the model's axes."""
        return self._volumes((name, case, spacing))

    def keep(
        self, figure: Figure, name: str, caption: str, shown: Mapping[str, Any] | None = None
    ) -> Figure:
        """Save a figure for the report, with the attribution that real images need; returns it.

        Args:
            figure: of :mod:`gtgm.figures` and its neighbours.
            name: of its files, without suffix.
            caption: what it shows.
            shown: what it was drawn from; kept beside it (:mod:`gtgm.figure_data`).
        """
        caption, credit = self.about_images(caption)
        path = self.root / "figures" / name
        save_figure(figure, path, caption, credit)
        if shown is not None:
            write_figure_data(path.with_name(f"{name}.npz"), shown, caption, credit)
        return figure

    def about_images(self, caption: str) -> tuple[str, str]:
        """A caption that says if its images are phantoms, and the credit of those that are not."""
        real = [self.open(n).info for n in self.datasets if self.open(n).source == "real"]
        credit = "; ".join(info.credit for info in real)
        return (caption if real else f"{caption} (phantom)"), credit

    def data_key(self, name: str, labels: bool = True) -> str:
        """Source, and a hash of the dataset's files: other data, another folder.

        Args:
            name: of the dataset.
            labels: those count, too.
        """
        opened = self.open(name)
        files = [case_hashes(opened, opened.ids), labels and label_hashes(opened, opened.ids)]
        return f"{opened.source}-{settings_hash(files)}"

    def pool(self) -> dict[str, list[str]]:
        """Cases per dataset that pretraining may read: the training cases of the fold.

        EM volumes count as lateral tiles of their training sections. The pretraining setting
        ``include_test`` adds the test cases, or all sections: the leak of `deviations.md`, row 10.
        """
        include_test = self.settings("pretrain").include_test
        pools = {}
        for name in self.datasets:
            if self.open(name).info.format == "cremi":
                pools[name] = [f"{name}_{y}{x}" for y in range(EM_TILES) for x in range(EM_TILES)]
            else:
                split = self.split(name)
                extra = split.test(self.fold) if include_test else []
                pools[name] = sorted(split.train(self.fold) + extra)
        return pools

    def pool_image(self, name: str, case: str) -> torch.Tensor:
        """Raw intensities (C, D, H, W) of a pretraining case."""
        dataset = self.open(name)
        if dataset.info.format != "cremi":
            return self.volume(name, case).image
        raw = self.em_volume(name).raw[slice(*self.pool_sections(name))]
        row, column = (int(digit) for digit in case[-2:])
        height, width = (n // EM_TILES for n in raw.shape[1:])
        tile = raw[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        return torch.from_numpy(tile.copy()).float()[None]

    def pool_spacing(self, name: str, case: str) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of a pretraining case."""
        if self.open(name).info.format == "cremi":
            return self.em_volume(name).resolution
        return self.volume(name, case).spacing

    def hashes(self, name: str, cases: list[str]) -> dict[str, str]:
        """SHA-256 of each case's image; of EM, of the volume's file."""
        dataset = self.open(name)
        if dataset.info.format == "cremi":
            return case_hashes(dataset, dataset.ids)
        return case_hashes(dataset, cases)

    def label_hashes(self, name: str, cases: list[str]) -> dict[str, str]:
        """SHA-256 of each case's label; of EM, of the file with the neuron ids."""
        dataset = self.open(name)
        return label_hashes(dataset, dataset.ids if dataset.info.format == "cremi" else cases)

    def pool_hashes(self, pool: dict[str, list[str]]) -> dict[str, str]:
        """SHA-256 of every case of a pool, by ``dataset/case``."""
        return {
            f"{name}/{case}": digest
            for name, cases in pool.items()
            for case, digest in self.hashes(name, cases).items()
        }

    def contents(self, name: str, cases: Iterable[str]) -> dict[str, str]:
        """Hash of each case's intensities, see :class:`gtgm.datasets.geometry.Volume`.

        What was read before, in whatever spacing, is not read again.
        """
        for case in cases:
            if (name, case) not in self._contents:
                self.volume(name, case)
        return {case: self._contents[name, case] for case in cases}

    def pool_contents(self, pool: dict[str, list[str]]) -> dict[str, str]:
        """The same of every case of a pool, by ``dataset/case``; of EM, of the sections read.

        Of sections the name is ``dataset/number``. Those of one grey value are left out.
        """
        found: dict[str, str] = {}
        for name, cases in pool.items():
            if self.open(name).info.format == "cremi":
                contents = self.section_contents(name, self.pool_sections(name))
            else:
                contents = self.contents(name, cases)
            found |= {f"{name}/{case}": content for case, content in contents.items()}
        return found

    def pool_sections(self, name: str) -> tuple[int, int]:
        """Sections (start, stop) of an EM volume that pretraining reads."""
        total = self.em_volume(name).n_sections
        if self.settings("pretrain").include_test:
            return 0, total
        return em_training_range(name, total, self.protocol)

    def section_contents(self, name: str, sections: tuple[int, int]) -> dict[str, str]:
        """Hash of each section of an EM volume but those of one grey value, by its number."""
        raw = self.em_volume(name).raw
        return {
            str(number): content_hash(raw[None, number : number + 1])
            for number in range(*sections)
            if raw[number].min() < raw[number].max()
        }

    @cached_property
    def _opened(self) -> dict[str, Dataset]:
        return {}

    @cached_property
    def _contents(self) -> dict[tuple[str, str], str]:
        return {}

    @cached_property
    def _volumes(self) -> VolumeCache[Volume]:
        def load(key: tuple[str, str, tuple[float, ...] | None]) -> Volume:
            name, case, spacing = key
            dataset = self.open(name)
            new = (name, case) not in self._contents
            volume = load_volume(dataset.case(case), dataset.info, spacing, hashed=new)
            if new:
                self._contents[name, case] = volume.content
            return volume

        return VolumeCache(load, lambda v: v.image.nbytes)

    @cached_property
    def _em(self) -> VolumeCache[em.EMVolume]:
        def load(name: str) -> em.EMVolume:
            opened = self.open(name)
            return em.read_case(opened.cases[0], opened.info)

        return VolumeCache(load, lambda v: v.raw.nbytes + v.labels.nbytes)


def pooled_cases(study: Study) -> dict[str, list[str]]:
    """Cases per dataset that are captioned, and pretrained on."""
    most = study.settings("text").cases or None
    return {name: ids[:most] for name, ids in study.pool().items()}


def text_folder(study: Study) -> Path:
    """Folder of the study's captions."""
    pretraining = study.settings("pretrain")
    return study.folder(
        "text",
        study.name,
        {name: study.data_key(name, labels=False) for name in study.datasets},
        study.settings("text"),
        list(pretraining.patch),
        pretraining.include_test,
        backbone="unet",  # one folder for all
    )
