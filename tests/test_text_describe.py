"""Facts and sentences: what is measured, what is said, and what is never said."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import pytest
from text_samples import CT, EM, MRI, PATCH, any_facts, hippocampi, noise

from gtgm.datasets import registry
from gtgm.errors import DataError, SettingsError
from gtgm.text.describe import facts, reference_range
from gtgm.text.grid import caption_grid

SIDES = {"D": {"lower", "upper"}, "H": {"posterior", "anterior"}, "W": {"left", "right"}}
FINDINGS = re.compile(
    r"tumou?r|cancer|lesion|metasta|disease|patholog|normal|health|infarct|stroke|ha?emorrhage"
    r"|o?edema|cyst|nodul|\bmass|atroph|fractur|inflam|infect|calcif|necro|stenosis|aneurysm"
    r"|malignan|benign|enhanc|diagnos|patient|\bsigns?\b|suggest|evidence",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    return re.findall(r"[\w-]+", text)


@pytest.fixture(scope="module")
def real(shared_data):
    rows = []
    for case, image, spacing in hippocampi(shared_data, 30):
        reference = reference_range(image[0])
        for origin in caption_grid(image.shape[1:], PATCH):
            box = tuple(slice(o, o + p) for o, p in zip(origin, PATCH, strict=True))
            patch = image[(slice(None), *box)]
            measured = facts(patch, MRI, origin, image.shape[1:], spacing, reference)
            rows.append((case, patch, origin, image.shape[1:], reference, measured))
    return rows


def test_real_sentences_recur_and_discriminate(real):
    cases = defaultdict(set)
    for case, *_, measured in real:
        cases[measured.sentence("DH")].add(case)
    assert 40 <= len(cases) <= 220
    shared = [s for s, where in cases.items() if len(where) > 1]
    in_shared = sum(measured.sentence("DH") in shared for *_, measured in real)
    assert in_shared > len(real) / 2
    assert all(15 <= len(words(s)) <= 30 for s in cases)


@pytest.mark.parametrize("axes", ["", "D", "H", "W", "DH", "DHW"])
def test_only_the_given_axes_have_side_words(real, axes):
    allowed = set().union(*(SIDES[a] for a in axes), set())
    said = set().union(*(words(measured.sentence(axes)) for *_, measured in real))
    assert said & set().union(*SIDES.values()) == allowed


@pytest.mark.parametrize(("axis", "others"), [(1, "HW"), (2, "DW"), (3, "DH")])
def test_a_flip_does_not_falsify_a_sentence_without_that_axis(real, axis, others):
    for _, patch, origin, shape, reference, measured in real[::9]:
        mirrored = list(origin)
        mirrored[axis - 1] = shape[axis - 1] - patch.shape[axis] - origin[axis - 1]
        flipped = facts(np.flip(patch, axis), MRI, mirrored, shape, (1, 1, 1), reference)
        assert flipped.sentence(others) == measured.sentence(others)


def test_never_a_finding(real):
    texts = {measured.sentence() for *_, measured in real}
    texts |= {any_facts(registry.get(name)).sentence() for name in registry.names()}
    for text in texts:
        assert not FINDINGS.search(text), text
    assert FINDINGS.search("evidence of past ischemic stroke")


def test_deterministic(real):
    for _, patch, origin, shape, reference, measured in real[:20]:
        assert facts(patch, MRI, origin, shape, (1, 1, 1), reference) == measured


def test_position_words():
    image = noise((1, 40, 40, 40))

    def place(origin):
        box = tuple(slice(o, o + 10) for o in origin)
        return facts(image[(slice(None), *box)], MRI, origin, (40, 40, 40), (1, 1, 1)).position

    assert place((0, 0, 0)) == (-1, -1, -1)
    assert place((30, 15, 0)) == (1, 0, -1)
    whole = facts(image, MRI, (0, 0, 0), (40, 40, 40), (1, 1, 1))
    assert whole.position == (0, 0, 0)
    assert "part" not in whole.sentence()


def test_a_bright_ball_is_found_where_it_is():
    patch = np.full((1, 30, 30, 30), 100.0, np.float32)
    grid = np.indices((30, 30, 30))
    ball = sum((g - c) ** 2 for g, c in zip(grid, (6, 15, 15), strict=True)) < 25
    patch[0, ball] = 300
    found = facts(patch, MRI, (0, 0, 0), (30, 30, 30), (1, 1, 1), (0, 100, 300))
    assert (found.bright.count, found.bright.size) == ("one", "small")
    assert "one small bright structure lower" in found.sentence()
    assert "no dark structures" in found.sentence()
    assert "lower" not in found.sentence("HW")


def test_texture_follows_the_grain():
    fine = noise((1, 24, 24, 24))
    coarse = np.kron(noise((1, 3, 3, 3)), np.ones((1, 8, 8, 8), np.float32))
    ramp = np.broadcast_to(np.linspace(0, 1000, 64, dtype=np.float32), (1, 24, 64, 64))
    order = [facts(p, MRI, (0, 0, 0), p.shape[1:], (1, 1, 1)).texture for p in (fine, coarse, ramp)]
    assert order == ["fine", "medium", "smooth"]


def test_intensity_level_and_symmetry():
    rng = np.random.default_rng(0)
    half = rng.normal(0, 20, (1, 16, 16, 8)).astype(np.float32)
    patch = np.concatenate([half, half[..., ::-1]], 3)
    for shift, word in ((200, "low"), (500, "medium"), (800, "high")):
        found = facts(patch + shift, MRI, (0, 0, 0), (16, 16, 16), (1, 1, 1), (0, 500, 1000))
        assert found.level == word and found.symmetric and found.contrast == "weak"
    assert not any_facts().symmetric


def test_ct_names_tissues_in_hounsfield_units():
    patch = np.full((1, 10, 10, 10), 40.0, np.float32)
    patch[:, :2] = -100
    patch[:, 2:4] = 700
    found = facts(patch, CT, (0, 0, 0), (10, 10, 10), (1, 1, 1))
    assert found.tissues == pytest.approx(
        {"air": 0, "fat": 0.2, "soft tissue": 0.6, "dense tissue": 0, "bone": 0.2}
    )
    assert found.sentence().startswith("axial CT of the abdomen and spleen, mostly soft tissue")
    bone = facts(np.full((1, 4, 4, 4), 900.0), CT, (0, 0, 0), (4, 4, 4), (1, 1, 1))
    assert "mostly bone" in bone.sentence()


def test_modality_decides_the_words():
    em = any_facts(EM).sentence()
    assert em.startswith("electron micrograph of the medulla of a fly brain")
    assert not set(words(em)) & set().union(*SIDES.values()) and "MRI" not in em
    brain = registry.get("Task01_BrainTumour")
    image = noise((4, 8, 8, 8))
    t1gd = facts(image, brain, (0, 0, 0), (8, 8, 8), (1, 1, 1), channel=2)
    assert t1gd.sentence().startswith("axial T1gd MRI of the brain")
    assert any_facts(MRI).subject == "MRI of the hippocampus"


def test_reference_leaves_out_the_empty_background():
    volume = np.zeros((10, 10, 10), np.float32)
    volume[5:] = np.linspace(100, 200, 500).reshape(5, 10, 10)
    low, middle, high = reference_range(volume)
    assert 100 <= low < 102 and middle == pytest.approx(150) and 198 < high <= 200
    assert reference_range(np.zeros((2, 2, 2), np.float32)) == (0, 0, 0)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_flat_patch_is_described(value):
    flat = facts(np.full((1, 1, 6, 6), value), MRI, (0, 0, 0), (1, 6, 6), (5, 1, 1))
    assert "smooth texture" in flat.sentence()


def test_errors():
    with pytest.raises(DataError, match="cannot be described"):
        facts(np.full((1, 4, 4, 4), np.nan), MRI, (0, 0, 0), (4, 4, 4), (1, 1, 1))
    with pytest.raises(DataError):
        facts(np.zeros((4, 4, 4)), MRI, (0, 0, 0), (4, 4, 4), (1, 1, 1))
    with pytest.raises(SettingsError, match="DHW"):
        any_facts().sentence("XY")
