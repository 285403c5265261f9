"""The grid of test sections: errors counted by hand, and the right runs side by side."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from readable import assert_readable

from gtgm.errors import ResultError
from gtgm.figures_segmentations import ERRORS, examples_of, segmentation_grid, wrong_where

TRUTH = np.zeros((20, 24), np.uint8)
TRUTH[4:16, 4:12], TRUTH[4:16, 12:20] = 1, 2


def example(method: str, **changes) -> dict:
    prediction = np.roll(TRUTH, 1 if method == "random" else 2, axis=0)
    return {
        "raw": np.linspace(0, 255, TRUTH.size).reshape(TRUTH.shape).astype(np.uint8),
        "truth": TRUTH, "prediction": prediction, "neurons": False, "classes": ["a", "b"],
        "spacing": [1.0, 1.0], "dataset": "Task04_Hippocampus", "title": "MSD Hippocampus",
        "source": "real", "method": method, "fraction": 0.01, "changes": "", "id": method,
        "setting": ["cpu", "corrected", "unet", 0, 0], "case": "x, section 3",
    } | changes  # fmt: skip


def pair(**changes) -> list[dict]:
    return [example("random", **changes), example("gtgm", **changes)]


NEURONS = {"neurons": True, "classes": [], "dataset": "FIB25", "title": "FIB-25", "source": "real"}


def test_texts_are_large_enough_inside_the_page_and_apart() -> None:
    rows = [
        pair(),
        pair(**NEURONS),
        pair(source="phantom", title="MSD HepaticVessel", spacing=[0.5, 0.8]),
    ]
    assert_readable(segmentation_grid(rows))
    assert_readable(segmentation_grid(rows[:1]))


def test_every_kind_of_error_of_classes() -> None:
    truth, prediction = np.array([[0, 0, 1, 1, 2]]), np.array([[0, 2, 1, 0, 1]])
    assert wrong_where(truth, prediction, False).tolist() == [[0, 1, 0, 2, 3]]


def test_neurons_are_right_whatever_their_number_and_unlabelled_pixels_do_not_count() -> None:
    truth = np.array([[0, 5, 5, 5, 9, 9, 9]])
    renamed = np.array([[7, 3, 3, 3, 4, 4, 4]])
    assert not wrong_where(truth, renamed, True).any()
    #                 unlabelled, right, right, a piece, right, right, missed
    broken = np.array([[7, 3, 3, 8, 4, 4, 0]])
    assert wrong_where(truth, broken, True).tolist() == [[0, 0, 0, 3, 0, 0, 2]]
    merged = np.array([[0, 3, 3, 3, 3, 3, 3]])
    assert wrong_where(truth, merged, True).sum() > 0


def test_the_error_map_is_of_the_last_method() -> None:
    figure = segmentation_grid([pair()])
    errors = figure.axes[4].images[0].get_array()
    wrong = wrong_where(TRUTH, np.roll(TRUTH, 2, axis=0), False)
    for number, color in enumerate(ERRORS.values(), start=1):
        near = np.abs(errors - to_rgb(color)).max(-1) < 0.2
        assert near[wrong == number].all() and not near[wrong == 0].any()
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "truth", "random initialisation", "GTGM", "errors of GTGM"]


def test_real_data_and_few_labels_come_first_and_changed_runs_not_at_all() -> None:
    found = [
        *pair(source="phantom", fraction=0.01),
        *pair(fraction=1.0),
        *pair(fraction=0.1),
        *pair(fraction=0.01, changes="lr=1"),
        example("gtgm", fraction=0.05),  # no partner
        *pair(dataset="Task02_Heart", source="phantom"),
    ]
    heart, hippocampus = examples_of(found, ["random", "gtgm"])
    assert [e["method"] for e in heart] == ["random", "gtgm"]
    assert {(e["source"], e["fraction"]) for e in hippocampus} == {("real", 0.1)}
    assert {e["source"] for e in heart} == {"phantom"}


def test_other_folds_and_sections_are_not_partners() -> None:
    found = [
        example("random"),
        example("gtgm", setting=["cpu", "corrected", "unet", 1, 0]),
        example("gtgm", case="x, section 4"),
    ]
    with pytest.raises(ResultError, match="no section was segmented by random and gtgm"):
        examples_of(found, ["random", "gtgm"])
