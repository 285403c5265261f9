"""The small BLIP: trained, saved, read back by plain transformers, and better than chance."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from text_samples import MRI, PATCH, hippocampi
from transformers import BlipForConditionalGeneration

from gtgm.errors import DataError, SettingsError
from gtgm.text.blip import BlipCaptioner, train_blip
from gtgm.text.captioning import describe_slices


def toy(count: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Bright or dark noise, of two sizes, with a bright bar at its top or bottom."""
    rng = np.random.default_rng(seed)
    slices, texts = [], []
    for _ in range(count):
        bright, top = rng.integers(2, size=2)
        image = rng.integers(0, 60, (24, 20 + 8 * int(bright))) + 100 * bright
        image[slice(0, 6) if top else slice(-6, None)] = 255
        slices.append(image.astype(np.uint8))
        level, place = ("dark", "bright")[bright], ("lower", "upper")[top]
        texts.append(f"{level} image, {place} bar")
    return slices, texts


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip") / "small"
    slices, texts = toy(128, 0)
    state = torch.random.get_rng_state()
    stats = train_blip(slices, texts, folder, steps=80, image_size=32, show=False)
    assert torch.equal(state, torch.random.get_rng_state())  # the caller's draws are untouched
    return folder, stats, slices, texts


def test_it_learns_what_the_slices_show(trained):
    folder, stats, *_ = trained
    slices, texts = toy(40, 1)
    captions = BlipCaptioner.from_pretrained(folder, batch_size=16)(slices)
    assert np.mean([a == b for a, b in zip(captions, texts, strict=True)]) > 0.8
    losses = [value for _, value in stats["loss"]]
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:10])


def test_folder_is_a_plain_one_of_transformers(trained):
    folder, stats, *_ = trained
    model = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
    assert model.num_parameters() == stats["parameters"] < 1_500_000
    assert json.loads((folder / "training.json").read_text()) == stats
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.pt"))


def test_equal_slices_are_captioned_once(trained, monkeypatch):
    folder, _, slices, _ = trained
    captioner = BlipCaptioner.from_pretrained(folder)
    wanted = captioner(slices[:4])
    seen = []
    generate = captioner._generate
    monkeypatch.setattr(captioner, "_generate", lambda new: seen.append(len(new)) or generate(new))
    again = [slices[i].copy() for i in (0, 5, 0, 3, 5)]
    captions = captioner(again)
    assert seen == [1]
    assert [captions[i] for i in (0, 2, 3)] == [wanted[0], wanted[0], wanted[3]]
    assert captions[1] == captions[4]


def test_captions_do_not_depend_on_the_batch(trained):
    folder, _, slices, _ = trained
    one, many = (BlipCaptioner.from_pretrained(folder, batch_size=n) for n in (1, 7))
    assert one(slices[:10]) == many(slices[:10])
    assert one.name == many.name and str(folder.parent) not in one.name


def test_same_training_is_not_repeated(trained):
    folder, stats, slices, texts = trained
    written = (folder / "model.safetensors").stat().st_mtime_ns
    again = train_blip(slices, texts, folder, steps=80, image_size=32, show=False)
    assert again == stats and (folder / "model.safetensors").stat().st_mtime_ns == written


def test_seed_decides_the_weights(tmp_path):
    slices, texts = toy(16, 0)
    losses = [
        train_blip(slices, texts, tmp_path / str(i), 3, 16, 4, seed=seed, show=False)["loss"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]
    changed = train_blip(slices, texts, tmp_path / "0", 2, 16, 4, show=False)
    assert len(changed["loss"]) == 2  # another training replaces the old one


def test_bad_input(tmp_path):
    slices, texts = toy(4, 0)
    with pytest.raises(DataError, match="4 slices and 3 texts"):
        train_blip(slices, texts[:3], tmp_path)
    with pytest.raises(DataError, match="0 slices"):
        train_blip([], [], tmp_path)
    with pytest.raises(DataError, match="uint8"):
        train_blip([s.astype(float) for s in slices], texts, tmp_path)
    with pytest.raises(SettingsError, match="multiple of 16"):
        train_blip(slices, texts, tmp_path, image_size=40)


def test_real_slices_agree_with_their_descriptions_better_than_chance(shared_data, tmp_path):
    slices, texts = describe_slices(hippocampi(shared_data, 40), MRI, PATCH, seed=1)
    unseen, truth = describe_slices(hippocampi(shared_data, 15, start=200), MRI, PATCH, seed=1)
    train_blip(slices, texts, tmp_path, steps=150, image_size=32, show=False)
    captions = BlipCaptioner.from_pretrained(tmp_path)(unseen)

    def agreement(caption: str, text: str) -> float:
        said, true = set(caption.split(", ")), set(text.lower().split(", "))
        return len(said & true) / len(true)

    matched = np.mean([agreement(c, t) for c, t in zip(captions, truth, strict=True)])
    chance = np.mean([agreement(c, t) for c, t in itertools.product(captions, truth)])
    assert matched > chance + 0.03
    assert len(set(captions)) > 1
