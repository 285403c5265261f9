"""Connected structures: count, size, place."""

from __future__ import annotations

import numpy as np

from gtgm.text.structures import Structures, find


def blocks(*boxes):
    mask = np.zeros((20, 20, 20), bool)
    for box in boxes:
        mask[box] = True
    return mask


def test_counts_and_sizes():
    a, b = np.s_[0:5, 0:5, 0:5], np.s_[10:15, 10:15, 10:15]
    assert find(blocks()).count == "no"
    assert find(blocks(np.s_[0:2, 0:2, 0:2])) == Structures("no")  # too small to count
    assert (find(blocks(a)).count, find(blocks(a)).size) == ("one", "small")
    assert find(blocks(a, b)) == Structures("several", "small")
    assert find(blocks(np.s_[0:10])).size == "large"


def test_specks_beside_one_structure_do_not_count():
    assert find(blocks(np.s_[0:5, 0:5, 0:5], np.s_[19, 19, 19])).count == "one"


def test_side_is_the_farthest_allowed_axis():
    found = find(blocks(np.s_[0:5, 12:17, 8:12]))
    assert found.offset == (-0.375, 0.225, 0.0)
    assert found.side((0, 1, 2)) == (0, -1)
    assert found.side((1, 2)) == (1, 1)
    assert found.side((2,)) is None and found.side(()) is None


def test_several_structures_have_no_side():
    found = find(blocks(np.s_[0:5, 0:5, 0:5], np.s_[0:5, 10:15, 10:15]))
    assert found.side((0, 1, 2)) is None
