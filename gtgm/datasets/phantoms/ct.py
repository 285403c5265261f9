"""Phantom CT in Hounsfield units: a torso with organs, vessels, bowel, bones and lesions.

The same torso serves six datasets; each has its own field of view, labelled classes and contrast
phase. Voxels are coarser than in the real datasets so that a small volume shows whole organs, and
keep much of their anisotropy. Typical values in HU: air −1000, lung −850, fat −100, water 0,
muscle 55, liver in the portal phase 110, vessels 150 to 200, bone 200 to 400.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from gtgm.datasets.phantoms.shapes import Frame, curve, tree


@dataclass(frozen=True)
class View:
    """Field of view: voxels (D, H, W), mm (z, y, x) per voxel and of the centre in the torso."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]


VIEWS = {
    "Task03_Liver": View((40, 64, 64), (5.0, 4.6, 4.6), (30, 0, 0)),
    "Task06_Lung": View((40, 64, 64), (6.0, 4.6, 4.6), (155, 0, 0)),
    "Task07_Pancreas": View((28, 72, 72), (6.5, 4.0, 4.0), (15, 0, 0)),
    "Task08_HepaticVessel": View((40, 64, 64), (4.5, 3.2, 3.2), (38, 5, 45)),
    "Task09_Spleen": View((36, 64, 64), (6.0, 4.6, 4.6), (40, 0, 0)),
    "Task10_Colon": View((28, 72, 72), (8.0, 4.0, 4.0), (-35, 0, 0)),
}


def case(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """One case of a CT dataset.

    Returns:
        Image int16 (1, D, H, W) in HU, label uint8 (D, H, W), spacing in mm (z, y, x).
    """
    view = VIEWS[name]
    shape = [n + int(rng.integers(-2, 3)) for n in view.shape]
    centre = np.asarray(view.centre) + rng.normal(0, (6, 3, 3))
    torso = _torso(Frame(shape, view.spacing, rng, centre, warp=4.5, scale=65))
    label = np.zeros(shape, np.uint8)
    for value, mask in enumerate(_CLASSES[name](torso), start=1):
        label[mask] = value
    return _scan(torso)[None], label, view.spacing


@dataclass
class _Torso:
    """Values in HU so far, the organs painted into them, and the strength of the contrast agent."""

    frame: Frame
    hu: np.ndarray
    enhancement: float
    organs: dict[str, np.ndarray] = field(default_factory=dict)
    colon_place: np.ndarray | None = None

    def paint(self, mask: np.ndarray, value: float | np.ndarray, organ: str | None = None) -> None:
        """Set ``mask`` to ``value`` HU; what was there before belongs to no organ any more."""
        for other in self.organs.values():
            other &= ~mask
        self.hu[mask] = value[mask] if isinstance(value, np.ndarray) else value
        if organ:
            self.organs[organ] = mask.copy()

    def lesion(self, inside: np.ndarray, radius: tuple[float, float], depth: float) -> np.ndarray:
        """An irregular ball around a random voxel at least ``depth`` mm inside of a region."""
        rng, spacing = self.frame.rng, self.frame.spacing
        room = ndimage.distance_transform_edt(inside, sampling=spacing)
        candidates = np.argwhere(room >= min(depth, room.max()))
        if not len(candidates) or not inside.any():
            return np.zeros_like(inside)
        centre = self.frame.points[(slice(None), *candidates[rng.integers(len(candidates))])]
        radii = rng.uniform(*radius) * rng.uniform(0.8, 1.25, 3)
        return self.frame.ellipsoid(centre, radii) + 0.12 * self.frame.noise(15) < 1


def _torso(frame: Frame) -> _Torso:
    torso = _Torso(frame, np.full(frame.shape, -1000.0), frame.rng.uniform(0.75, 1.2))
    cavity = _wall(torso)
    _bones(torso)
    _organs(torso, cavity)
    _bowel(torso, cavity)
    _chest(torso, cavity)
    _great_vessels(torso)
    return torso


def _wall(torso: _Torso) -> np.ndarray:
    """Skin, fat and muscle around the cavity; returns the cavity (D, H, W)."""
    frame, rng = torso.frame, torso.frame.rng
    z, y, x = frame.zyx
    rx, ry = rng.uniform(128, 140), rng.uniform(90, 100)
    ratio = (np.abs(x / rx) ** 2.3 + np.abs(y / ry) ** 2.3) ** (1 / 2.3)
    depth = (1 - ratio) * np.hypot(rx * x, ry * y) / np.maximum(np.hypot(x, y), 1)
    fat = rng.uniform(7, 17)
    torso.paint(depth > 0, -105.0)
    torso.paint((depth > 0) & (depth < 3), -20.0)
    torso.paint(depth > fat, 55.0)
    cavity = (depth > fat + 12) & (y > -55 - 12 * np.cos(x / 25))
    torso.paint(cavity, -100.0)
    arch = np.cos(2 * np.pi * (z + 0.45 * y + 0.1 * np.abs(x)) / 27)
    ribs = (depth > fat + 2) & (depth < fat + 10) & (arch > 0.45) & (y < 62) & (z > -25)
    torso.paint(ribs & (np.abs(x) > 25), 420.0)
    torso.paint(frame.ellipsoid((140, ry - fat - 7, 0), (60, 6, 17)) < 1, 260.0)
    return cavity


def _bones(torso: _Torso) -> None:
    frame = torso.frame
    z, y, x = frame.zyx
    column = np.hypot(x / 19, (y + 50) / 15)
    level = np.cos(2 * np.pi * z / 34)  # 1 in a disc, −1 in the middle of a vertebra
    torso.paint(column < 1, 190.0)
    torso.paint((column < 1) & (column > 0.78), 380.0)
    torso.paint((column < 1) & (level > 0.8), 85.0)
    ring = np.hypot(x / 15, (y + 73) / 13)
    torso.paint(ring < 1, 430.0)
    torso.paint((np.abs(x) < 4) & (y < -80) & (y > -102) & (level < 0.3), 400.0)
    torso.paint((np.abs(y + 68) < 5) & (np.abs(x) < 38) & (level < -0.5), 380.0)
    torso.paint(ring < 0.62, 30.0)
    for side in (-1, 1):
        wing = frame.ellipsoid((-150, -10, side * 82), (62, 52, 24), tilt=side * 0.6)
        torso.paint((wing < 1) & (wing > 0.75), 400.0)


def _organs(torso: _Torso, cavity: np.ndarray) -> None:
    frame, rng, agent = torso.frame, torso.frame.rng, torso.enhancement
    texture = 5 * frame.noise(9)
    rough = 0.06 * frame.noise(28)
    low = rng.uniform(0.93, 1.07)

    for side in (-1, 1):
        centre = frame.jitter((-22 + 6 * -side, -38, side * 62), 3)
        kidney = frame.ellipsoid(centre, (52, 26, 27), tilt=-side * 0.5) + rough
        hilum = frame.ellipsoid(centre + np.array([0, 8, -side * 17]), (20, 12, 14))
        torso.paint((kidney < 1) & (hilum > 1), 190.0 * agent + texture)
        torso.paint((kidney < 0.62) & (hilum > 1), 130.0 * agent + texture)
    right = frame.ellipsoid(frame.jitter((38, -2, 64), 4), np.array((72, 70, 62)) * low, tilt=-0.25)
    left = frame.ellipsoid(frame.jitter((55, 42, 2), 4), np.array((34, 34, 68)) * low)
    fissure = frame.ellipsoid((5, 25, 12), (50, 24, 17))
    liver = (np.minimum(right, left) + rough < 1) & cavity & (fissure > 1)
    hollow = frame.ellipsoid(frame.jitter((48, 28, -48), 5), (42, 30, 40), tilt=0.4) + rough
    middle = frame.jitter((42, -30, -92), 4)
    spleen = frame.ellipsoid(middle, np.array((48, 42, 27)) * low, tilt=0.5)
    notch = frame.ellipsoid((42, -8, -58), (46, 40, 22), tilt=0.4)
    torso.paint((hollow < 1) & cavity, 70.0, "stomach")
    torso.paint((hollow < 0.86) & cavity, rng.uniform(5, 45) + 3 * texture)
    torso.paint((hollow < 0.86) & cavity & (frame.zyx[1] > rng.uniform(38, 50)), -900.0)
    spleen = (spleen + rough < 1) & (notch > 1) & cavity
    torso.paint(spleen, 125.0 * agent + texture, "spleen")
    torso.paint(liver, 55 + 55.0 * agent + texture, "liver")
    torso.paint((frame.ellipsoid((2, 38, 46), (22, 15, 13)) < 1) & cavity, 12.0)
    path = curve(
        [
            frame.jitter(p, 2.5)
            for p in ((-22, 2, 34), (-2, 8, 30), (10, 20, 6), (18, 8, -30), (30, -14, -68))
        ]
    )
    width = np.interp(np.linspace(0, 1, len(path)), (0, 0.25, 0.5, 1), (17, 16, 10, 11)) * low
    lobules = 0.16 * frame.noise(11)
    pancreas = (frame.tube(path, width)[0] + lobules < 1) & cavity & ~liver & ~spleen
    torso.paint(pancreas, 40 + 58.0 * agent + 2 * texture, "pancreas")


def _bowel(torso: _Torso, cavity: np.ndarray) -> None:
    """Colon with wall, stool and gas; loops of small bowel in what is left of the cavity."""
    frame, rng = torso.frame, torso.frame.rng
    z, y, _ = frame.zyx
    free = cavity & (torso.hu < -60)
    loops = np.abs(frame.noise(24))
    bowel = free & (z < 0) & (y > -30) & (loops < 0.75)
    torso.paint(bowel, 48.0 * torso.enhancement)
    torso.paint(bowel & (loops < 0.45), 18 + 15 * frame.noise(14))
    controls = (
        (-135, 5, 78), (-95, 0, 88), (-45, -2, 92), (-12, 28, 80), (-32, 58, 40),
        (-42, 62, 0), (-25, 52, -45), (5, 22, -82), (-40, -12, -96), (-95, -8, -92), (-135, 0, -72),
    )  # fmt: skip
    path = curve([frame.jitter(p, 4) for p in controls])
    folds = 1 + 0.13 * np.sin(np.arange(len(path)) * 2 / 5.5)
    ratio, place = frame.tube(path, rng.uniform(17, 20) * folds, where=cavity & (torso.hu < 80))
    torso.paint(ratio < 1, 60.0 * torso.enhancement, "colon")
    content = np.where(frame.noise(20) > 0.2, -820.0, -10 + 70 * frame.noise(8))
    torso.paint(ratio < 0.8, content)
    torso.organs["lumen"] = ratio < 0.8
    torso.colon_place = np.where(ratio < 1.6, place, -1)


def _chest(torso: _Torso, cavity: np.ndarray) -> None:
    frame, rng, agent = torso.frame, torso.frame.rng, torso.enhancement
    z, y, x = frame.zyx
    dome = 72 + 32 * np.exp(-((y / 60) ** 2) - ((np.abs(x) - 55) / 45) ** 2) - 30 * (y < -30)
    chest = cavity & (z > dome)
    torso.paint(chest, 45.0)
    lungs = np.zeros(frame.shape, bool)
    for side in (-1, 1):
        lobe = frame.ellipsoid(frame.jitter((138, -2, side * 68), 3), (128, 88, 58))
        lungs |= (lobe < 1) & chest & (np.abs(x) > 17)
    heart = frame.ellipsoid(frame.jitter((112, 26, -18), 4), (46, 42, 58), tilt=-0.5)
    hilum = frame.ellipsoid((150, -6, 0), (30, 26, 34))
    lungs &= (heart > 1.03) & (hilum > 1) & ~torso.organs["liver"]
    torso.paint(lungs, -860 + 45 * np.clip(-y / 60, -1, 1) + 18 * frame.noise(20), "lungs")
    torso.paint((heart < 1) & chest, 90 + 35 * agent)
    torso.paint((heart < 0.72) & chest, 60 + 110 * agent + 10 * frame.noise(18))
    branches = []
    for side in (-1, 1):
        # Branches go up, down, forward and outward from the hilum.
        for aim in ((0.8, -0.1, 0.6), (-0.8, -0.5, 0.5), (0.1, 0.8, 0.7), (0.2, -0.7, 0.9)):
            start, aim = (150, -6, side * 24), (aim[0], aim[1], side * aim[2])
            branches.append(tree(rng, start, aim, 36, 7.0, 5))
    path, radii = (np.concatenate(part) for part in zip(*branches, strict=True))
    ratio, _ = frame.tube(path, np.maximum(radii, 2.6), where=lungs)
    torso.hu[ratio < 1] = 20 + 45 * agent
    airways = [curve([(290, -2, 0), (215, -4, 1), (168, -8, 0)])]
    airways += [curve([(168, -8, 0), (152, -10, s * 22), (138, -14, s * 42)]) for s in (-1, 1)]
    for path, radius in zip(airways, (9.0, 6.5, 6.5), strict=True):
        torso.hu[frame.tube(path, radius, where=chest)[0] < 1] = -960.0


def _great_vessels(torso: _Torso) -> None:
    frame, agent = torso.frame, torso.enhancement
    body = torso.hu > -500
    aorta = curve([(-160, -24, -2), (-40, -24, -6), (60, -26, -12), (150, -28, -20),
                   (192, -12, -16), (200, 8, -2), (175, 22, 8), (140, 20, 0)])  # fmt: skip
    cava = curve([(-160, -24, 20), (0, -22, 22), (60, -14, 26), (120, 6, 26), (200, 10, 24)])
    portal = curve([(-20, 4, 8), (8, 6, 14), (26, 8, 34)])
    splenic = curve([(8, 2, 10), (22, -4, -25), (36, -20, -70)])
    for path, radius, value in (
        (cava, 11.5, 95.0), (aorta, 10.5, 130.0), (splenic, 4.5, 115.0), (portal, 7.0, 115.0),
    ):  # fmt: skip
        torso.paint(frame.tube(path, radius, where=body)[0] < 1, 45 + value * agent)


def _hepatic_vessels(torso: _Torso, spread: float) -> np.ndarray:
    """Portal and hepatic veins inside the liver, radii scaled by ``spread``: painted, returned."""
    frame, rng, liver = torso.frame, torso.frame.rng, torso.organs["liver"]
    roots = [
        ((26, 8, 34), (0.2, -0.3, 1.0), 24, 6.0),
        ((26, 8, 30), (0.6, 0.7, -0.5), 22, 5.0),
        ((26, 8, 34), (-0.7, -0.1, 0.7), 24, 5.0),
        ((88, -8, 30), (-0.5, -0.3, 0.9), 26, 5.5),
        ((88, -2, 28), (-0.6, 0.8, 0.4), 26, 5.0),
        ((88, -2, 26), (-0.4, 0.8, -0.8), 24, 4.5),
    ]
    branches = [
        tree(rng, frame.jitter(start, 3), aim, length, radius * spread, 3)
        for start, aim, length, radius in roots
    ]
    path, radii = (np.concatenate(part) for part in zip(*branches, strict=True))
    vessel = frame.tube(path, np.maximum(radii, 2.8), where=liver)[0] < 1
    torso.hu[vessel] = 55 + rng.uniform(125, 145) * torso.enhancement
    return vessel


def _liver_tumours(torso: _Torso, radius: tuple[float, float], most: int) -> np.ndarray:
    """Up to ``most`` darker lesions with a blurred brighter rim; now and then there is none."""
    frame, rng, liver = torso.frame, torso.frame.rng, torso.organs["liver"]
    found = np.zeros(frame.shape, bool)
    count = int(rng.integers(1, most + 1)) if rng.random() < 0.9 else 0
    for _ in range(count):
        mask = torso.lesion(liver, radius, 8) & liver
        value = torso.hu[liver].mean() - rng.uniform(45, 70)
        torso.hu[mask] = value + 6 * frame.noise(8)[mask]
        torso.hu[ndimage.binary_dilation(mask) & liver & ~mask] += 8
        found |= mask
    return found


def _liver(torso: _Torso) -> list[np.ndarray]:
    _hepatic_vessels(torso, 0.8)
    return [torso.organs["liver"], _liver_tumours(torso, (11, 26), 3)]


def _hepatic(torso: _Torso) -> list[np.ndarray]:
    vessel = _hepatic_vessels(torso, 1.3)
    tumour = _liver_tumours(torso, (9, 20), 2)
    return [vessel & ~tumour, tumour]


def _spleen(torso: _Torso) -> list[np.ndarray]:
    _hepatic_vessels(torso, 0.8)
    return [torso.organs["spleen"]]


def _pancreas(torso: _Torso) -> list[np.ndarray]:
    rng, pancreas = torso.frame.rng, torso.organs["pancreas"].copy()
    _hepatic_vessels(torso, 0.8)
    if rng.random() > 0.9:
        return [pancreas, np.zeros_like(pancreas)]
    near = ndimage.binary_dilation(pancreas) & (np.abs(torso.hu - 90) < 80) | pancreas
    mass = torso.lesion(pancreas, (11, 18), 6) & near
    torso.hu[mass] = torso.hu[pancreas].mean() - rng.uniform(42, 60)
    return [pancreas, mass]


def _lung(torso: _Torso) -> list[np.ndarray]:
    rng, lungs = torso.frame.rng, torso.organs["lungs"]
    mass = torso.lesion(lungs, (10, 24), rng.uniform(4, 16)) & lungs
    torso.hu[mass] = rng.uniform(20, 55) + 10 * torso.frame.noise(12)[mass]
    return [mass]


def _colon(torso: _Torso) -> list[np.ndarray]:
    """A ring of thickened wall around a stretch of the colon that lies well inside the view."""
    frame, rng, place = torso.frame, torso.frame.rng, torso.colon_place
    lumen = torso.organs["lumen"]
    counts = np.bincount(place[lumen])
    good = np.flatnonzero(counts >= np.percentile(counts[counts > 0], 35))
    good = good[(good > 12) & (good < len(counts) - 12)]
    middle, half = rng.choice(good), rng.uniform(9, 16)
    stretch = (place >= 0) & (np.abs(place - middle) < half)
    core = ndimage.binary_erosion(lumen & stretch, iterations=1)
    grown = ndimage.binary_dilation(lumen & stretch) & (torso.hu < 150) & stretch
    side = frame.noise(30) > -1.2
    mass = grown & side & ~core
    torso.hu[mass] = 50 + 62 * torso.enhancement + 8 * frame.noise(9)[mass]
    return [mass]


_CLASSES: dict[str, Callable[[_Torso], list[np.ndarray]]] = {
    "Task03_Liver": _liver,
    "Task06_Lung": _lung,
    "Task07_Pancreas": _pancreas,
    "Task08_HepaticVessel": _hepatic,
    "Task09_Spleen": _spleen,
    "Task10_Colon": _colon,
}


def _scan(torso: _Torso) -> np.ndarray:
    """What the scanner makes of it: partial volume, correlated noise, the table, 12 bits."""
    frame, rng = torso.frame, torso.frame.rng
    blurred = ndimage.gaussian_filter(torso.hu, (0.4, 0.5, 0.5))
    grain = ndimage.gaussian_filter(rng.normal(size=frame.shape), (0, 0.5, 0.5))
    noisy = blurred + rng.uniform(9, 15) * grain / grain.std()
    return np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
