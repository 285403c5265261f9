"""Stage 2: train the study's image encoder on patches and their captions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gtgm import methods
from gtgm import pretrain as training
from gtgm.at_work import RESULT, once
from gtgm.device import process_state, step_generator
from gtgm.errors import SettingsError
from gtgm.hashing import to_dict
from gtgm.intensity import normalise
from gtgm.methods.objective import Objective
from gtgm.models.encoder import from_pretrained, read_config
from gtgm.pool import PatchPool, PooledVolume
from gtgm.results import Result, load_result, measure
from gtgm.rich import encoder_html
from gtgm.settings import JOINED
from gtgm.stages.captioning import CaptionRun, caption, load_text_encoder
from gtgm.stages.disjoint import check_pool
from gtgm.stages.record import record
from gtgm.stages.study import Study, text_folder
from gtgm.stages.volumes import items
from gtgm.text.captioners import NONE
from gtgm.text.tower import FrozenText, TrainedText
from gtgm.views import make_view
from gtgm.volume_store import StoredVolume


@dataclass(frozen=True)
class PretrainRun:
    """A finished pretraining: its folder (encoder and matrices) and its result."""

    folder: Path
    result: Result

    def encoder(self, in_channels: int | None = None) -> torch.nn.Module:
        """The trained encoder."""
        return from_pretrained(self.folder, in_channels)

    def objective(self, study: Study, captions: CaptionRun) -> Objective:
        """The trained encoder with its heads and its text, for looking at what it has learnt.

        Args:
            study, captions: those that it was pretrained with.

        Raises:
            WeightsError: the method reads no text, or the heads do not fit.
        """
        model = training.make_objective(
            methods.get(study.method).objective,
            self.encoder(),
            study.settings("pretrain"),
            text_tower(study, captions),
        )
        training.load_heads(model, self.folder)
        return model.eval()

    def matrices(self) -> dict[str, torch.Tensor]:
        """See :func:`gtgm.pretrain.read_matrices`."""
        return training.read_matrices(self.folder)

    def _repr_html_(self) -> str:
        weights = sum(p.numel() for p in self.encoder().parameters())
        names = ", ".join(self.result.datasets)
        title = f"Encoder pretrained on {names} ({self.result.source}) by {self.result.method}"
        return encoder_html(read_config(self.folder), weights, title)


def pretrain(study: Study) -> PretrainRun:
    """Pretrain the study's encoder by its method; a finished one is read from its folder.

    Reads captions and text embeddings of :func:`gtgm.stages.caption`, made now if missing.

    Raises:
        SettingsError: the method is random initialisation, which has no pretraining, or fewer than
            :data:`gtgm.settings.JOINED` patches are joined.
        DataError: a test case is in the pool, and no setting says so.
    """
    method = methods.get(study.method)
    if not method.pretrains:
        raise SettingsError(
            f"{study.method} has no pretraining", expected="another method", where="method"
        )
    folder = pretrain_folder(study)
    once(folder, partial(_pretrain, study, folder), together=True)
    return PretrainRun(folder, load_result(folder / RESULT))


def _pretrain(study: Study, folder: Path) -> None:
    method = methods.get(study.method)
    settings, state = study.settings("pretrain"), process_state()
    joined = settings.batch * (state.num_processes if settings.gather else 1)
    if joined < JOINED and study.protocol != "as_released":
        raise SettingsError(
            f"is {settings.batch}, which joins {joined} patches",
            where="pretrain.batch",
            expected=f"at least {JOINED} together, or batch norm leaves the losses no gradient",
            fix="raise it; with pretrain.chunk=2 it takes the memory of two patches",
        )
    disjoint = check_pool(study)  # before captions, which take hours
    # Under `accelerate launch` one process captions; the others wait, and then read.
    with state.main_process_first():
        captions = caption(study)
    with measure() as used:
        volumes = pooled_volumes(study, captions)
        trained = training.pretrain(
            settings,
            study.backbone,
            method.objective,
            volumes,
            captions.texts,
            text_tower(study, captions),
            folder,
            study.seed,
        )
    summary = {f"{k}/before": v for k, v in trained.before.items()} | trained.after
    if state.is_main_process:
        record(
            folder / RESULT,
            study,
            "pretrain",
            study.datasets,
            used,
            to_dict(settings) | {"precision": trained.precision},
            study.pool_hashes(captions.cases),
            f"pretrain {' '.join(study.datasets)}",
            method=study.method,
            disjoint=disjoint,
            n_train=trained.n_train,
            n_test=trained.n_held_out,
            summary=summary,
            curves=trained.curves,
        )
    state.wait_for_everyone()


def pretrain_folder(study: Study) -> Path:
    """Folder of the study's pretraining run."""
    return study.folder(
        "pretrain",
        f"{study.name}-{study.method}",
        text_folder(study).name,
        study.settings("pretrain"),
    )


def text_tower(study: Study, captions: CaptionRun) -> torch.nn.Module | None:
    """What gives text embeddings to the method; None if it reads no text."""
    layers = study.settings("pretrain").text_layers
    if not methods.get(study.method).uses_text:
        return None
    if not layers or study.settings("text").captioner == NONE:  # nothing to learn from
        return FrozenText(captions.embeddings)
    return TrainedText(load_text_encoder(study, captions), captions.texts, layers)


def encoder_identity(study: Study) -> Any:
    """What tells one start of a downstream network from another: enters its run's folder."""
    if not methods.get(study.method).pretrains:
        return study.settings("pretrain").sizes
    return pretrain_folder(study).name


def example_views(
    study: Study, captions: CaptionRun, count: int = 4
) -> tuple[list[torch.Tensor], str]:
    """A patch (1, D, H, W), ``count`` views of it, and its caption."""
    settings = study.settings("pretrain")
    pool = PatchPool(pooled_volumes(study, captions), captions.texts, settings.patch)
    generator = step_generator(study.seed, 0)
    batch = pool.sample(1, generator)
    views = [make_view(batch.patches, settings, generator)[0] for _ in range(count)]
    return [batch.patches[0], *views], captions.texts[int(batch.captions[0])]


def pooled_volumes(study: Study, captions: CaptionRun) -> list[PooledVolume]:
    """Normalised volumes of the pool with their caption stores, read when they are needed."""
    settings = study.settings("pretrain")
    released = settings.released_scale

    def load(key: tuple[str, str]) -> dict[str, torch.Tensor]:
        name, case = key
        image = study.pool_image(name, case)
        if released:
            return {"image": image / 255}
        return {"image": normalise(image, study.open(name).info.modality, name)}

    keys = [(name, case) for name, cases in captions.cases.items() for case in cases]
    # The training sections of an EM volume depend on the protocol and on the leak.
    identity = [released, study.protocol, settings.include_test]
    read = items(study, keys, load, identity, settings.volumes, settings.workers)

    def image(key: tuple[str, str]) -> torch.Tensor | StoredVolume:
        return read(key)["image"]

    return [
        PooledVolume(case, partial(image, (name, case)), captions.stores[name], name)
        for name, case in keys
    ]
