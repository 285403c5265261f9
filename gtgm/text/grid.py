"""Where a volume is captioned: a grid of patch positions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gtgm.errors import SettingsError

Position = tuple[int, int, int]

#: Steps (z, y, x) of the released captions, in voxels (`method.md`, text generator).
RELEASED_STEPS: dict[str, Position] = {
    "CT": (10, 80, 80),
    "MRI": (10, 80, 80),
    "EM": (10, 150, 150),
}


def caption_grid(
    volume_shape: Sequence[int], patch: Sequence[int], step: Sequence[int] = ()
) -> list[Position]:
    """Origins (z, y, x) of the patches that get a caption; together they cover the volume.

    Args:
        volume_shape: (D, H, W).
        patch: (d, h, w); an axis on which the volume is smaller has the one position 0.
        step: voxels between positions along (z, y, x): 0, s, 2s, … and the last possible one, as
            released. Empty: the positions of each axis are spread evenly, at most half a patch
            apart, so that the grid scales with the volume.

    Raises:
        SettingsError: a size or step that is not positive, or not three of them.
    """
    for name, values in (("volume", volume_shape), ("patch", patch), ("step", step or (1, 1, 1))):
        if len(values) != 3 or min(values) < 1:
            raise SettingsError(
                f"the {name} is {tuple(values)}", expected="three positive integers"
            )
    rooms = [max(n - p, 0) for n, p in zip(volume_shape, patch, strict=True)]
    if step:
        axes = [sorted({*range(0, room + 1, s), room}) for room, s in zip(rooms, step, strict=True)]
    else:
        axes = [_spread(room, max(p // 2, 1)) for room, p in zip(rooms, patch, strict=True)]
    return list(itertools.product(*axes))


def _spread(room: int, step: int) -> list[int]:
    """0, …, ``room``, evenly, at most ``step`` apart."""
    gaps = -(-room // step)
    return [round(i * room / gaps) for i in range(gaps + 1)] if gaps else [0]
