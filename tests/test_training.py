"""Fine-tuning and pretraining loops: they learn, continue exactly, and refuse what cannot work."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gtgm import finetune as finetuning
from gtgm import loop, pretrain
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.methods.gtgm import GTGM
from gtgm.methods.pcrlv2 import PCRLv2
from gtgm.models.encoder import build_encoder, from_pretrained, save_pretrained
from gtgm.models.segmenter import build_segmenter
from gtgm.pool import PatchPool, PooledVolume, pad_to
from gtgm.retrieval import similarity_matrix
from gtgm.settings import FinetuneSettings, PretrainSettings
from gtgm.text.store import CaptionStore
from gtgm.text.tower import FrozenText

SIZES = {"features": [4, 8], "strides": [[2, 2, 2], [2, 2, 2]]}
FINE = FinetuneSettings(steps=12, batch=2, checkpoint_every=4, precision="no", lr=1e-2)
PRE = PretrainSettings(
    patch=(8, 8, 8),
    steps=24,
    batch=8,
    width=16,
    embedding=8,
    sizes=SIZES,
    precision="no",
    checkpoint_every=6,
    lr=1e-2,
)


def ball(case: str) -> dict[str, torch.Tensor]:
    """A bright ball in noise, with its label."""
    generator = torch.Generator().manual_seed(int(case))
    z, y, x = torch.meshgrid(*[torch.arange(12.0)] * 3, indexing="ij")
    inside = (z - 6) ** 2 + (y - 5) ** 2 + (x - 6) ** 2 < 10
    image = inside * 2.0 + 0.3 * torch.randn(12, 12, 12, generator=generator)
    return {"image": image[None], "label": inside[None].to(torch.int16)}


def train(folder, settings=FINE, **changes):
    arguments = {"cases": ["1", "2"], "load": ball, "patch": (8, 8, 8), "sizes": SIZES}
    return finetuning.finetune(
        settings, "unet", ("ball",), 1, folder=folder, **(arguments | changes)
    )


def test_finetuning_learns(tmp_path):
    trained = train(tmp_path, dataclasses.replace(FINE, steps=120))
    values = [v for _, v in trained.curves["loss"]]
    assert values[-1] < 0.5 * values[0]
    image = ball("3")
    predicted = trained.network.eval()(image["image"][None]).argmax(1)[0]
    overlap = (predicted.bool() & image["label"][0].bool()).sum()
    assert 2 * overlap / (predicted.sum() + image["label"].sum()) > 0.7


class Stop(Exception):
    pass


def stop_after(monkeypatch, number: int) -> None:
    """Let the next training die after writing its checkpoint ``number``."""
    save, done = loop.save_checkpoint, []

    def dying(*args, **kwargs):
        save(*args, **kwargs)
        done.append(1)
        if len(done) == number:
            raise Stop

    monkeypatch.setattr(loop, "save_checkpoint", dying)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_finetuning_ends_with_the_same_weights(tmp_path, monkeypatch, stop):
    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, stop)
        with pytest.raises(Stop):
            train(tmp_path / "stopped")
    continued = train(tmp_path / "stopped")
    assert continued.curves == whole.curves
    for a, b in zip(whole.network.parameters(), continued.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "stopped" / loop.CHECKPOINT).exists()  # until a stage has its result


def test_released_options_change_the_training(tmp_path):
    plain = train(tmp_path / "plain").curves["loss"]
    options = {"sigmoid_output": True, "augmentation": "released"}
    for option, value in options.items():
        changed = train(tmp_path / option, dataclasses.replace(FINE, **{option: value}))
        assert changed.curves["loss"] != plain


def test_more_cases_may_get_more_steps(tmp_path):
    settings = dataclasses.replace(FINE, steps=4, steps_per_case=1.5)
    for cases, last in ((["1", "2"], 7), (["1"], 6)):
        curve = train(tmp_path / str(last), settings, cases=cases).curves["loss"]
        assert curve[-1][0] == last


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize(
    ("changes", "same"),
    [({"decoder_first": 0.99}, True), ({"decoder_first": 0.5}, False), ({"encoder_lr": 0.0}, True)],
)
def test_the_encoder_may_stay_as_it_is_however_it_starts(tmp_path, pretrained, changes, same):
    torch.manual_seed(5)
    start = save_pretrained(build_encoder("unet", 1, **SIZES), tmp_path / "encoder")
    start = start if pretrained else None
    torch.manual_seed(0)  # as training does
    begun = build_segmenter("unet", 1, 2, start, **SIZES).state_dict()
    settings = dataclasses.replace(FINE, ema=0.0, **changes)
    ended = train(tmp_path / "run", settings, pretrained=start).network.state_dict()
    unchanged = {name for name, value in ended.items() if torch.equal(value, begun[name])}
    encoder = {name for name in begun if name.startswith("encoder.")}
    assert (encoder <= unchanged) is same and unchanged <= encoder


def test_selection_keeps_the_best_checkpoint(tmp_path):
    offered = []

    def score(network):
        offered.append({k: v.clone() for k, v in network.state_dict().items()})
        return [0.1, 0.9, 0.5][len(offered) - 1]

    trained = train(tmp_path, dataclasses.replace(FINE, select_on_test=True), score=score)
    assert trained.curves["selected"] == [[4, 0.1], [8, 0.9], [12, 0.5]]
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, offered[1][name])


def test_selection_without_a_score_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"finetune.select_on_test: is on.*score"):
        train(tmp_path, dataclasses.replace(FINE, select_on_test=True))


def test_no_case_is_refused(tmp_path):
    with pytest.raises(DataError, match="no labelled case"):
        train(tmp_path, cases=[])


def pool(folder) -> tuple[list[PooledVolume], list[str], FrozenText]:
    """Volumes whose left part is bright or dark, and captions that say which."""
    store, volumes = CaptionStore(folder), []
    texts = ["bright", "dark"]
    for number in range(6):
        word = texts[number % 2]
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(1, 10, 10, 10, generator=generator) + (2 if word == "bright" else -2)
        store.write(
            str(number),
            [
                {
                    "origin": [0, 0, 0],
                    "size": [8, 8, 8],
                    "slice": 0,
                    "channel": 0,
                    "text": word,
                    "raw": word,
                    "captioner": "test",
                }
            ],
        )
        volumes.append(PooledVolume(str(number), lambda image=image: image, store))
    return volumes, texts, FrozenText(torch.eye(2))


def test_pretraining_learns_which_words_belong_to_a_patch(tmp_path):
    settings = dataclasses.replace(PRE, held_out=0.34, operations=0)
    trained = pretrain.pretrain(settings, "unet", GTGM, *pool(tmp_path / "c"), tmp_path / "run")
    assert trained.after["r@1"] == 1
    vlp = [v for _, v in trained.curves["vlp"]]
    assert vlp[-1] < vlp[0]
    matrices = pretrain.read_matrices(tmp_path / "run")
    assert matrices["correlation_after"].shape == (8, 8)
    assert matrices["similarity_before"].shape == matrices["similarity_after"].shape
    assert from_pretrained(tmp_path / "run").config["features"] == [4, 8]


def test_heads_come_back_with_what_they_learnt(tmp_path):
    settings = dataclasses.replace(PRE, held_out=0.34, operations=0)
    volumes, texts, text = pool(tmp_path / "c")
    pretrain.pretrain(settings, "unet", GTGM, volumes, texts, text, tmp_path / "run")
    model = pretrain.make_objective(GTGM, from_pretrained(tmp_path / "run"), settings, text)
    pretrain.load_heads(model, tmp_path / "run")
    model.eval()
    patches = torch.stack([v.load()[:, :8, :8, :8] for v in volumes])
    with torch.no_grad():
        similarity = similarity_matrix(
            model.embed(patches), model.embed_captions(torch.tensor([0, 1]))
        )
    assert similarity.argmax(1).tolist() == [0, 1] * 3
    other = pretrain.make_objective(
        GTGM, from_pretrained(tmp_path / "run"), dataclasses.replace(settings, width=5), text
    )
    with pytest.raises(WeightsError, match="heads.safetensors"):
        pretrain.load_heads(other, tmp_path / "run")
    (tmp_path / "run" / pretrain.HEADS).unlink()
    with pytest.raises(WeightsError, match="heads.safetensors: is missing"):
        pretrain.load_heads(model, tmp_path / "run")


def test_a_stopped_pretraining_ends_with_the_same_encoder(tmp_path, monkeypatch):
    data = pool(tmp_path / "c")
    whole = pretrain.pretrain(PRE, "unet", GTGM, *data, tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(Stop):
            pretrain.pretrain(PRE, "unet", GTGM, *data, tmp_path / "stopped")
    continued = pretrain.pretrain(PRE, "unet", GTGM, *data, tmp_path / "stopped")
    assert continued.curves == whole.curves
    assert continued.before == whole.before
    a, b = (from_pretrained(tmp_path / name).state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    "option",
    # Not equal_captions: of equal texts the two targets have the same loss but for rounding.
    [{"projected_vr": False}, {"clip_sum": True}, {"weight_vr": 1.0}],
)
def test_options_of_the_losses_matter(tmp_path, option):
    data = pool(tmp_path / "c")
    short = dataclasses.replace(PRE, steps=2)
    plain = pretrain.pretrain(short, "unet", GTGM, *data, tmp_path / "plain").curves
    changed = pretrain.pretrain(
        dataclasses.replace(short, **option), "unet", GTGM, *data, tmp_path / "changed"
    ).curves
    assert plain["loss"] != changed["loss"]


def test_what_cannot_be_pretrained_is_refused(tmp_path):
    data = pool(tmp_path / "c")
    with pytest.raises(SettingsError, match="at least 2"):
        dataclasses.replace(PRE, batch=1)
    with pytest.raises(SettingsError, match="transposed"):
        settings = dataclasses.replace(PRE, transpose=True, patch=(8, 8, 6))
        pretrain.pretrain(settings, "unet", GTGM, *data, tmp_path)
    with pytest.raises(SettingsError, match="pretrain.graphs: is on, and PCRLv2 calls"):
        pretrain.pretrain(
            dataclasses.replace(PRE, graphs=True), "unet", PCRLv2, *data[:2], None, tmp_path
        )
    with pytest.raises(DataError, match="1 volume"):
        pretrain.pretrain(PRE, "unet", GTGM, data[0][:1], *data[1:], tmp_path)


def test_patches_carry_the_nearest_caption(tmp_path):
    volumes, texts, _ = pool(tmp_path)
    patches = PatchPool(volumes, texts, (8, 8, 8))
    batch = patches.sample(32, np.random.default_rng(0))
    assert batch.patches.shape == (32, 1, 8, 8, 8)
    bright = batch.patches.mean((1, 2, 3, 4)) > 0
    assert torch.equal(bright, batch.captions == 0)


def test_shuffled_captions_are_the_same_words_of_other_places(tmp_path):
    volumes, texts, _ = pool(tmp_path)
    plain = PatchPool(volumes, texts, (8, 8, 8))
    batches = [PatchPool(volumes, texts, (8, 8, 8), shuffle=s) for s in (1, 1, 2)]
    first, again, other = (b.grid(6, np.random.default_rng(0)).captions for b in batches)
    truth = plain.grid(6, np.random.default_rng(0)).captions
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, truth)
    assert first.sort().values.tolist() == truth.sort().values.tolist()
    drawn = [b.sample(16, np.random.default_rng(3)) for b in (plain, batches[0])]
    assert torch.equal(drawn[0].patches, drawn[1].patches)


def test_small_volumes_are_padded_at_the_far_end():
    image = torch.rand(1, 3, 5, 4) + 1
    padded = pad_to(image, (4, 4, 6))
    assert padded.shape == (1, 4, 5, 6)
    assert torch.equal(padded[:, :3, :, :4], image)
    assert padded[:, 3:].unique().tolist() == [image.min()]
