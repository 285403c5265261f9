"""The caption stage on small and on real volumes."""

from __future__ import annotations

import numpy as np
import pytest
from text_samples import CT, EM, MRI, PATCH, hippocampi, noise

from gtgm.datasets.registry import get
from gtgm.text.captioners import load_captioner
from gtgm.text.captioning import caption_volumes, describe_slices, samples_of, to_grey
from gtgm.text.grid import caption_grid
from gtgm.text.store import CaptionStore


class Fixed:
    """Says the same of every slice, and counts."""

    name = "fixed"

    def __init__(self, text="Figure 3 : a slice"):
        self.text, self.seen = text, 0

    def __call__(self, slices, facts):
        assert len(slices) == len(facts)
        self.seen += len(slices)
        return [self.text] * len(slices)


def cube(case="a", channels=1, seed=0):
    return case, noise((channels, 12, 16, 16), seed), (1, 1, 1)


def run(volumes, captioner, store, info=MRI, **options):
    return caption_volumes(volumes, info, captioner, store, (6, 8, 8), show=False, **options)


def test_real_volumes(shared_data, tmp_path):
    volumes = hippocampi(shared_data, 4)
    store = CaptionStore(tmp_path)
    describe = load_captioner("describe")
    stats = caption_volumes(iter(volumes), MRI, describe, store, PATCH, show=False)
    assert store.cases() == [case for case, *_ in volumes]
    assert stats["cases"] == 4 and stats["kept"] == 0 and stats["filtered"] == 0
    assert stats["unique"] == len(store.unique_texts()) > 10
    for case, image, _ in volumes:
        rows = store.rows(case)
        assert [tuple(r["origin"]) for r in rows] == caption_grid(image.shape[1:], PATCH)
        assert all(0 <= r["slice"] < r["size"][0] and r["size"] == [24, 32, 24] for r in rows)
        assert all(r["text"].startswith("axial MRI of the hippocampus") for r in rows)


def test_a_slice_is_what_its_row_says():
    case, image, spacing = cube()
    for sample in samples_of(case, image, spacing, MRI, (6, 8, 8)):
        z, y, x = sample.origin
        expected = to_grey(image[0], "MRI")[z + sample.slice, y : y + 8, x : x + 8]
        # anterior up, the patient's right on the left
        assert np.array_equal(sample.pixels, expected[::-1, ::-1])
    section = samples_of(case, image, spacing, EM, (6, 8, 8))[0]
    assert np.array_equal(section.pixels, to_grey(image[0], "EM")[section.slice, :8, :8])


def test_same_seed_same_slices_whatever_the_order():
    a, b = cube("a"), cube("b", seed=1)
    first, _ = describe_slices([a, b], MRI, (6, 8, 8))
    second, _ = describe_slices([b, a], MRI, (6, 8, 8))
    half = len(first) // 2
    assert all(map(np.array_equal, first, second[half:] + second[:half]))
    other, texts = describe_slices([a, b], MRI, (6, 8, 8), seed=1)
    assert not all(map(np.array_equal, first, other))
    assert len(texts) == len(other) and all(s.dtype == np.uint8 and s.ndim == 2 for s in other)


def test_filter_and_raw_text_are_kept_apart(tmp_path):
    store = CaptionStore(tmp_path)
    stats = run([cube()], Fixed(), store)
    assert {(r["raw"], r["text"]) for r in store.rows("a")} == {("Figure 3 : a slice", "a slice")}
    assert stats["filtered"] == stats["captions"] and stats["unique"] == 1
    run([cube()], Fixed("Figure 3."), store, seed=1)
    assert store.unique_texts() == ["Figure 3."]  # nothing else would be left
    run([cube()], Fixed(""), store, seed=2)
    assert store.unique_texts() == ["image"]


def test_file_name_prefix_as_released(tmp_path):
    store = CaptionStore(tmp_path)
    run([cube("spleen_9")], Fixed(), store, prefix_file_name=True)
    assert store.unique_texts() == ["spleen_9, a slice"]


def test_resumes_and_redoes_what_changed(tmp_path):
    store = CaptionStore(tmp_path)
    volumes = [cube(c, seed=i) for i, c in enumerate("abcde")]
    run(volumes[:2], Fixed(), store)
    captioner = Fixed()
    stats = run(volumes, captioner, CaptionStore(tmp_path))
    assert stats["cases"] == 5 and stats["kept"] == 2
    assert captioner.seen == 3 * len(store.rows("a"))
    for change in ({"seed": 1}, {"step": (3, 8, 8)}, {"prefix_file_name": True}):
        assert run(volumes, Fixed(), CaptionStore(tmp_path), **change)["kept"] == 0
    other = Fixed("other")
    other.name = "other"
    run(volumes, other, CaptionStore(tmp_path))
    assert CaptionStore(tmp_path).unique_texts() == ["other"]


def test_a_failure_leaves_whole_cases(tmp_path):
    class Fails(Fixed):
        def __call__(self, slices, facts):
            if self.seen:
                raise RuntimeError("stopped")
            return super().__call__(slices, facts)

    volumes = [cube(f"case{i}", seed=i) for i in range(8)]
    with pytest.raises(RuntimeError, match="stopped"):
        run(volumes, Fails(), CaptionStore(tmp_path))
    store = CaptionStore(tmp_path)
    done = len(store.cases())
    assert 0 < done < 8
    assert run(volumes, Fixed(), store)["kept"] == done


def test_a_random_channel_that_the_row_names(tmp_path):
    brain = get("Task01_BrainTumour")
    store = CaptionStore(tmp_path)
    run([cube("a", 4), cube("b", 4, seed=1)], load_captioner("describe"), store, info=brain)
    rows = store.rows("a") + store.rows("b")
    assert {row["channel"] for row in rows} == {0, 1, 2, 3}
    assert all(brain.channels[row["channel"]] in row["text"] for row in rows)


def test_a_volume_smaller_than_the_patch(tmp_path):
    store = CaptionStore(tmp_path)
    run([("thin", noise((1, 3, 20, 8)), (5, 1, 1))], load_captioner("describe"), store)
    assert {tuple(r["size"]) for r in store.rows("thin")} == {(3, 8, 8)}


def test_grey_values():
    ct = np.array([[[-1000, -160, 40, 240, 3000]]], np.float32)
    assert to_grey(ct, "CT").tolist() == [[[0, 0, 128, 255, 255]]]
    ramp = np.linspace(0, 1000, 1001, dtype=np.float32).reshape(1, 1, -1)
    grey = to_grey(ramp, "MRI")[0, 0]
    assert grey[5] == 0 and grey[995] == 255 and grey[500] in (127, 128)
    assert to_grey(np.full((2, 2, 2), 7.0, np.float32), "EM").max() == 0
    assert "CT of the abdomen" in describe_slices([cube()], CT, (6, 8, 8))[1][0]
