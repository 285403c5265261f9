"""Phantom MRI: tissue contrast per channel, a bias field, Rician noise, an arbitrary scale.

Four anatomies: a skull-stripped head with a glioma (FLAIR, T1w, T1gd, T2w), a chest with the left
atrium, a crop around one hippocampus, and a pelvis with the prostate (T2, ADC). Contrasts are
relative to white matter, blood or fat = about 1; a scanner's scale differs from case to case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from gtgm.datasets.phantoms.shapes import Frame, curve

Spacing = tuple[float, float, float]
#: Voxels (D, H, W) and mm (z, y, x) per voxel.
GRIDS: dict[str, tuple[tuple[int, int, int], Spacing]] = {
    "Task01_BrainTumour": ((50, 66, 52), (2.9, 2.9, 2.9)),
    "Task02_Heart": ((32, 64, 64), (4.1, 3.75, 3.75)),
    "Task04_Hippocampus": ((35, 50, 36), (1.0, 1.0, 1.0)),
    "Task05_Prostate": ((16, 64, 64), (3.6, 1.9, 1.9)),
}


def case(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Spacing]:
    """One case of an MRI dataset.

    Returns:
        Image int16 (C, D, H, W), label uint8 (D, H, W), spacing in mm (z, y, x).
    """
    shape, spacing = GRIDS[name]
    spread = (1, 3, 3) if name == "Task05_Prostate" else (2, 3, 3)
    shape = [n + int(rng.integers(-s, s + 1)) for n, s in zip(shape, spread, strict=True)]
    extent = float(np.max(np.multiply(shape, spacing)))
    frame = Frame(shape, spacing, rng, warp=0.018 * extent, scale=0.22 * extent)
    channels, label, noise, mask = _ANATOMY[name](frame)
    image = [_acquire(frame, c, n, mask) for c, n in zip(channels, noise, strict=True)]
    return np.stack(image), label, spacing


# channels of signal (D, H, W), label, noise per channel, mask outside of which the image is 0
_Phantom = tuple[Sequence[np.ndarray], np.ndarray, Sequence[float], np.ndarray | None]


def _acquire(frame: Frame, signal: np.ndarray, noise: float, mask: np.ndarray | None) -> np.ndarray:
    """Partial volume, multiplicative bias field, Rician noise and the scanner's scale: int16."""
    rng = frame.rng
    extent = float(np.max(np.multiply(frame.shape, frame.spacing)))
    bias = np.exp(rng.uniform(0.08, 0.2) * frame.noise(0.6 * extent))
    signal = ndimage.gaussian_filter(np.maximum(signal, 0), 0.5) * bias
    real, imaginary = rng.normal(0, noise, (2, *frame.shape))
    magnitude = np.hypot(signal + real, imaginary) * rng.uniform(250, 1100)
    image = np.clip(np.rint(magnitude), 0, 32767).astype(np.int16)
    return image if mask is None else np.where(mask, np.maximum(image, 1), 0).astype(np.int16)


def _brain(frame: Frame) -> _Phantom:
    rng = frame.rng
    z, y, x = frame.zyx
    low = rng.uniform(0.93, 1.04)
    cerebrum = frame.ellipsoid((8, 2, 0), np.array((58, 84, 66)) * low)
    cerebellum = frame.ellipsoid((-42, -48, 0), (24, 30, 46))
    stem = np.hypot(x / 13, (y + 16) / 15) + np.maximum(-z - 66, 0)
    brain = ((cerebrum < 1) & (z > -36 + 0.12 * y)) | (cerebellum < 1) | ((stem < 1) & (z < 0))
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=frame.spacing)
    depth = depth[1:-1, 1:-1, 1:-1]
    # Sulci are sheets: the zero level of a noise, open to the surface; grey matter lines both.
    fold = np.abs(frame.noise(15)) + 0.05 * np.maximum(depth - 13, 0)
    midline = np.abs(x) + np.maximum(26 - z, 0)
    grey, white, csf = 0, 1, 2
    tissue = np.where((depth < 6.5) | (fold < 0.36) | (midline < 5), grey, white)
    folia = (cerebellum < 1) & (np.sin(z * 1.1 + 2 * frame.noise(20)) > 0.2)
    tissue[folia & (z < -30)] = white
    deep = np.minimum(
        frame.ellipsoid((4, -6, 15), (11, 15, 9)), frame.ellipsoid((4, -6, -15), (11, 15, 9))
    )
    putamen = np.minimum(
        frame.ellipsoid((4, 12, 27), (11, 18, 6)), frame.ellipsoid((4, 12, -27), (11, 18, 6))
    )
    tissue[((deep < 1) | (putamen < 1)) & (cerebrum < 0.7)] = grey
    tissue[(depth < 2) | ((fold < 0.15) & (depth < 16)) | (midline < 1.7)] = csf
    width = rng.uniform(0.8, 1.3)
    for side in (-1, 1):
        horn = curve([(12, 36, side * 11), (20, 8, side * 9), (18, -22, side * 14),
                      (2, -38, side * 22), (-10, -12, side * 32)])  # fmt: skip
        tissue[frame.tube(horn, 5.5 * width)[0] < 1] = csf
    ventricle = ndimage.gaussian_filter((tissue == csf).astype(float), 1) > 0.6

    side = rng.choice((-1, 1))
    centre = (rng.uniform(2, 34), rng.uniform(-38, 40), side * rng.uniform(24, 36))
    radius = rng.uniform(13, 21)
    core = frame.ellipsoid(centre, radius * rng.uniform(0.85, 1.2, 3)) + 0.13 * frame.noise(14)
    swelling = radius * rng.uniform(1.5, 1.95)
    oedema = frame.ellipsoid(centre, swelling * rng.uniform(0.85, 1.2, 3))
    oedema = oedema + 0.22 * frame.noise(20) + 0.18 * (tissue == grey)
    label = np.zeros(frame.shape, np.uint8)
    tumour = brain & ~ventricle & (depth > 2)
    label[(oedema < 1) & tumour] = 1
    label[(core < 1) & tumour] = 3
    necrosis = core + 0.1 * frame.noise(9)
    label[(necrosis < rng.uniform(0.62, 0.76)) & tumour] = 2
    # Part of the rim takes up no contrast agent.
    label[(label == 3) & (frame.noise(24) > 1.2)] = 2

    values = {  # relative signal of FLAIR, T1w, T1gd, T2w
        grey: (0.68, 0.58, 0.61, 0.66),
        white: (0.48, 0.90, 0.93, 0.42),
        csf: (0.16, 0.22, 0.24, 1.05),
    }
    abnormal = {
        1: (0.92, 0.55, 0.57, 0.84),
        2: (0.66, 0.38, 0.40, 0.90),
        3: (0.80, 0.52, 1.15, 0.70),
    }
    # Sinuses and vessels are bright after contrast agent too.
    vessels = brain & ((depth < 4) & (np.abs(x) < 5) & (z > 20) | (frame.noise(9) > 2.5))
    channels = []
    for i in range(4):
        signal = np.zeros(frame.shape)
        for table, where in ((values, tissue), (abnormal, label)):
            for key, row in table.items():
                signal[where == key] = row[i] * rng.uniform(0.94, 1.06)
        if i == 2:
            signal[vessels & (label == 0)] = 1.05
        channels.append(signal * (1 + 0.05 * frame.noise(7)) * brain)
    return channels, label, (0.035, 0.028, 0.032, 0.035), brain


def _heart(frame: Frame) -> _Phantom:
    rng = frame.rng
    z, y, x = frame.zyx
    ratio = (np.abs(x / 135) ** 2.3 + np.abs((y - 5) / 98) ** 2.3) ** (1 / 2.3)
    signal = np.full(frame.shape, 0.02)
    signal[ratio < 1] = 0.75
    signal[ratio < rng.uniform(0.86, 0.91)] = 0.35
    lungs = (ratio < 0.78) & (np.abs(x + 5) > 22 + 0.1 * (y + 60)) & (y > -75)
    signal[ratio < 0.78] = 0.55
    signal[lungs] = 0.06
    liver = (frame.ellipsoid((-85, 5, 45), (50, 62, 75)) < 1) & (ratio < 0.78)
    signal[liver] = 0.5 + 0.03 * frame.noise(14)[liver]
    vertebra = np.hypot(x / 20, (y + 68) / 16)
    signal[vertebra < 1] = 0.45
    signal[np.hypot(x / 9, (y + 89) / 8) < 1] = 0.7
    low = rng.uniform(0.92, 1.08)
    at = frame.jitter((0, 0, 0), 3)

    def chamber(centre: Sequence[float], radii: Sequence[float], tilt: float = 0.0) -> np.ndarray:
        middle = at + np.asarray(centre)
        return frame.ellipsoid(middle, np.asarray(radii) * low, tilt) + rough

    rough = 0.05 * frame.noise(18)
    sac = chamber((-6, 10, -12), (58, 48, 62), -0.6)
    signal[sac < 1] = 0.62
    left_muscle = chamber((-14, 14, -36), (44, 32, 40), -0.6)
    signal[left_muscle < 1] = 0.40
    blood = rng.uniform(0.95, 1.1) * (1 + 0.06 * frame.noise(16))
    atrium = chamber((8, -22, -6), (26, 19, 30))
    others = [
        (left_muscle, 0.7),
        (chamber((-22, 36, 2), (34, 20, 38), -0.4), 1.0),
        (chamber((0, 6, 34), (32, 24, 19)), 1.0),
    ]
    wall = (atrium < 1.14) & (atrium >= 1)
    for ratio_of, edge in others:
        signal = np.where(ratio_of < edge, blood, signal)
    signal[wall] = 0.45
    pools = [(curve([at + p for p in path]), r) for path, r in (
        (((-70, -46, -22), (0, -48, -24), (50, -40, -24)), 11.0),
        (((10, 8, 2), (30, 14, 8), (60, 10, 10)), 13.0),
        (((-10, 34, -4), (28, 30, -14), (50, 8, -20)), 11.0),
        (((0, 8, 36), (40, 2, 32), (80, 4, 32)), 9.0),
    )]  # fmt: skip
    for path, radius in pools:
        signal = np.where(frame.tube(path, radius * low)[0] < 1, blood, signal)
    left = atrium < 1
    for side, up in ((-1, 16), (-1, 0), (1, 16), (1, 0)):
        stops = ((8, -24, 18), (up, -32, 36), (up + 3, -40, 58))
        vein = curve([at + (dz, dy, side * dx) for dz, dy, dx in stops])
        inside, place = frame.tube(vein, 6.5)
        signal = np.where(inside < 1, blood, signal)
        # As in the dataset's protocol, a vein counts as atrium only for its first centimetre.
        left |= (inside < 1) & (place < 9)
    signal = np.where(left, blood, signal)
    return [signal], left.astype(np.uint8), (0.05,), None


def _hippocampus(frame: Frame) -> _Phantom:
    rng = frame.rng
    side = rng.choice((-1.0, 1.0))
    frame.points[2] *= side
    _, y, x = frame.zyx
    low, at = rng.uniform(0.9, 1.1), frame.jitter((0, 0, 0), 1.2)
    # Head in front, below and to the side; the tail curves up and towards the midline.
    path = at + curve(
        [(-4, 17, -1), (-4.5, 11, 1), (-2.5, 3, 2), (0, -6, 1.5), (4, -14, -2), (7.5, -17, -6)], 0.5
    )
    along = np.linspace(0, 1, len(path))
    radius = low * np.interp(along, (0, 0.12, 0.3, 0.55, 0.9, 1), (4.2, 6.4, 6.0, 4.6, 3.8, 2.6))
    ratio, place = frame.tube(path, radius)
    body = ratio + 0.10 * frame.noise(5) < 1
    border = rng.uniform(0.36, 0.46) * len(path) + 2 * frame.noise(10)
    label = np.where(body, np.where(place < border, 1, 2), 0).astype(np.uint8)

    white, grey, csf = 1.0, rng.uniform(0.66, 0.74), rng.uniform(0.22, 0.34)
    ribbon = np.abs(frame.noise(13))
    signal = np.where(ribbon < 0.5, grey, white)
    signal[ribbon < 0.14] = csf + 0.15
    stem = frame.ellipsoid(at + (-2, -4, -21), (24, 17, 10))
    signal[stem < 1.25] = csf
    signal[stem < 1] = 0.92
    signal[frame.ellipsoid(at + (15, -6, -13), (9, 13, 10)) < 1] = grey + 0.12
    sheath = frame.tube(path, radius + 2.2)[0]
    signal[(sheath < 1) & (frame.zyx[0] > at[0] - 9)] = white
    cortex = frame.tube(path + np.array((-9.5, 0, -3)), 4.6)[0] + 0.2 * frame.noise(7)
    signal[cortex < 1] = grey
    horn = frame.tube(path[: int(0.75 * len(path))] + np.array((4.2, 2, 5.2)), 2.6)[0]
    signal[horn + 0.15 * frame.noise(6) < 1] = csf
    amygdala = frame.ellipsoid(at + (4.5, 18, -1), (6.5, 6.5, 8))
    signal[amygdala + 0.08 * frame.noise(6) < 1] = grey + 0.03
    signal[body] = grey + 0.02
    layer = frame.tube(path, 0.45 * radius)[0]
    signal[body & (layer < 1)] += 0.07
    signal = signal * (1 + 0.04 * frame.noise(4))
    return [signal], label, (rng.uniform(0.035, 0.06),), None


def _prostate(frame: Frame) -> _Phantom:
    rng = frame.rng
    z, y, x = frame.zyx
    low, at = rng.uniform(0.88, 1.12), frame.jitter((0, 2, 0), 2)
    t2, adc = np.full(frame.shape, 0.75), np.full(frame.shape, 0.12)

    def paint(mask: np.ndarray, *values: float | np.ndarray) -> None:
        for image, value in zip((t2, adc), values, strict=True):
            image[mask] = value[mask] if isinstance(value, np.ndarray) else value

    rough = 0.05 * frame.noise(16)
    for side in (-1, 1):
        obturator = frame.ellipsoid((0, 12, side * 45), (60, 36, 12), tilt=side * 0.2) + rough
        paint(obturator < 1, 0.24, 0.42)
        paint(frame.ellipsoid((0, 14, side * 66), (60, 40, 11)) < 1, 0.5, 0.15)
        levator = np.abs(np.hypot((x - side * 3) / 29, (y + 14) / 36) - 1) * 30
        paint((levator < 2.2) & (x * side > 12) & (y < 4), 0.22, 0.4)
        paint(frame.ellipsoid((-4, 44, side * 22), (22, 13, 18), tilt=side * 0.5) < 1, 0.4, 0.18)
    paint(frame.ellipsoid((0, -58, 0), (60, 14, 46)) < 1, 0.26, 0.4)
    bladder = frame.ellipsoid((34, 20, 0), (20, 26, 32)) + rough
    paint(bladder < 1, 0.3, 0.45)
    paint(bladder < 0.86, 1.25, 1.25)
    rectum = frame.ellipsoid(at + (0, -32, 0), (70, 12, 16)) + rough
    paint(rectum < 1, 0.38, 0.45)
    paint(rectum < 0.72, rng.choice((0.05, 0.45)), 0.08)
    gland = frame.ellipsoid(at, np.array((22, 18, 24)) * low) + rough
    inner = frame.ellipsoid(at + (3, 5, 0), np.array((18, 12.5, 16)) * low * rng.uniform(0.95, 1.1))
    inner = inner + 1.3 * rough
    horns = frame.ellipsoid(at + (4, 18, 0), np.array((24, 14, 15)) * low)
    outer = gland < 1
    transition = outer & ((inner < 1) | (horns < 1))
    paint((gland < 1.09) & ~outer, 0.22, 0.4)
    nodules = frame.noise(8)
    paint(outer, 0.92 + 0.09 * frame.noise(5), 0.95 + 0.06 * frame.noise(8))
    paint(transition, 0.52 + 0.16 * nodules, 0.68 + 0.08 * nodules)
    paint(outer & (horns < 1) & (inner >= 1), 0.3, 0.55)
    paint(transition & (np.abs(inner - 1) < 0.07), 0.3, 0.6)
    paint(frame.ellipsoid(at + (2, 3, 0), (16, 2.6, 2.6)) < 1, 0.95, 0.9)
    for _ in range(int(rng.integers(0, 3))):
        spot = at + (rng.uniform(-8, 8), rng.uniform(-14, -10), rng.uniform(-14, 14))
        paint((frame.ellipsoid(spot, rng.uniform(3.5, 6, 3)) < 1) & outer & ~transition, 0.45, 0.5)
    label = np.where(outer, 1, 0).astype(np.uint8)
    label[transition] = 2
    t2 = t2 * (1 + 0.07 * frame.noise(5))
    adc = ndimage.gaussian_filter(adc, (0, 0.8, 0.8))
    return [t2, adc], label, (0.045, 0.06), None


_ANATOMY: dict[str, Callable[[Frame], _Phantom]] = {
    "Task01_BrainTumour": _brain,
    "Task02_Heart": _heart,
    "Task04_Hippocampus": _hippocampus,
    "Task05_Prostate": _prostate,
}
