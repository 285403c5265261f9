"""Caption positions."""

from __future__ import annotations

import numpy as np
import pytest

from gtgm.errors import SettingsError
from gtgm.text.grid import RELEASED_STEPS, caption_grid


@pytest.mark.parametrize("shape", [(35, 51, 35), (24, 32, 24), (20, 100, 25), (41, 64, 91)])
@pytest.mark.parametrize("step", [(), (10, 80, 80), (7, 5, 11)])
def test_covers_from_the_first_to_the_last_position(shape, step):
    patch = (24, 32, 24)
    grid = caption_grid(shape, patch, step)
    assert len(set(grid)) == len(grid)
    last = tuple(max(n - p, 0) for n, p in zip(shape, patch, strict=True))
    assert grid[0] == (0, 0, 0) and grid[-1] == last
    assert all(0 <= o <= m for origin in grid for o, m in zip(origin, last, strict=True))


@pytest.mark.parametrize("shape", [(35, 51, 35), (31, 200, 77)])
def test_half_a_patch_apart_covers_every_voxel(shape):
    patch = (24, 32, 24)
    seen = np.zeros(shape, bool)
    grid = caption_grid(shape, patch)
    for z, y, x in grid:
        seen[z : z + 24, y : y + 32, x : x + 24] = True
    assert seen.all()
    for axis, side in enumerate(patch):
        places = sorted({origin[axis] for origin in grid})
        assert all(b - a <= side // 2 for a, b in zip(places, places[1:], strict=False))


def test_released_grid_of_a_spleen():
    grid = caption_grid((41, 512, 512), (1, 224, 224), RELEASED_STEPS["CT"])
    released = {(z, y, x) for z in range(0, 41, 10) for y in range(0, 241, 80)
                for x in range(0, 241, 80)}  # fmt: skip
    assert len(released) == 80 and released <= set(grid)
    assert (40, 288, 288) in grid
    assert RELEASED_STEPS["EM"] == (10, 150, 150)


def test_grid_scales_with_the_volume():
    assert len(caption_grid((35, 51, 35), (24, 32, 24))) == 12
    assert len(caption_grid((10, 10, 10), (24, 32, 24))) == 1


@pytest.mark.parametrize(
    ("shape", "patch", "step"),
    [((0, 4, 4), (2, 2, 2), ()), ((4, 4), (2, 2), ()), ((4, 4, 4), (2, 2, 2), (0, 1, 1))],
)
def test_bad_sizes(shape, patch, step):
    with pytest.raises(SettingsError, match="three positive"):
        caption_grid(shape, patch, step)
