"""The picture of a case: planes in physical proportions, outlines where the objects are."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_hex
from matplotlib.text import Text

from gtgm.datasets.em import EMVolume
from gtgm.viewer.planes import proportions
from gtgm.viewer.scene import make_scene
from gtgm.viewer.still import MOST_SURFACES, still_figure, surfaces

LABEL = np.zeros((8, 12, 10), int)
LABEL[2:6, 3:9, 2:8] = 1
LABEL[2:6, 3:6, 2:8] = 2
NOISE = np.random.default_rng(0).random(LABEL.shape)
SPACING = (3, 1, 1)
CUTS = ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))


def scene(labels=LABEL, prediction=None, **changes):
    return make_scene(NOISE, labels, prediction, spacing=SPACING, names=["a", "b"], **changes)


def neurons():
    labels = np.arange(NOISE.size).reshape(NOISE.shape) // 40 + 1
    raw = (NOISE * 255).astype(np.uint8)
    return make_scene(EMVolume(raw, labels.astype(np.uint64), (40.0, 4.0, 4.0), (0, 8), 8))


def planes(figure):
    return [axes for axes in figure.axes if axes.name == "rectilinear"]


def test_contours_lie_on_the_structure_in_mm():
    figure = still_figure(scene(prediction=np.roll(LABEL, 1, 1)), solid=False)
    for axes, (axis, (rows, columns)) in zip(planes(figure), CUTS, strict=True):
        assert axes.get_xlabel().endswith("(mm)") and axes.get_ylabel().endswith("(mm)")
        assert axes.get_xlim() == (0, LABEL.shape[columns] * SPACING[columns])
        assert axes.get_ylim() == (0, LABEL.shape[rows] * SPACING[rows])
        points = np.concatenate([p.vertices for c in axes.collections[:2] for p in c.get_paths()])
        sections = [np.take(LABEL, i, axis) for i in range(LABEL.shape[axis])]
        where = np.argwhere(max(sections, key=np.count_nonzero) > 0)
        for column, i, axis_of in ((1, 0, rows), (0, 1, columns)):
            place, step = points[:, column], SPACING[axis_of]
            assert place.min() == pytest.approx(where.min(0)[i] * step)
            assert place.max() == pytest.approx((where.max(0)[i] + 1) * step)


def test_planes_have_the_proportions_of_the_body():
    widths, ratio = proportions(scene())
    assert widths == [10, 10, 12] and ratio == pytest.approx(24 / 32)


@pytest.mark.parametrize("prediction", [None, LABEL], ids=["truth", "both"])
def test_texts_are_readable_and_nothing_is_cut_off(prediction):
    figure = still_figure(scene(prediction=prediction, title="a case"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    solid = (axes for axes in figure.axes if axes.name == "3d")  # their ticks are not drawn
    hidden = {id(t) for axes in solid for t in axes.findobj(Text) if t is not axes.title}
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and id(t) not in hidden]
    assert min(t.get_fontsize() for t in texts) >= 9
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
    assert np.asarray(canvas.buffer_rgba()).std() > 5


def test_only_what_is_there_is_in_the_legend():
    def names(figure):
        return [t.get_text() for t in figure.findobj(Text) if t.get_text() in
                ("a", "b", "truth", "prediction")]  # fmt: skip

    assert names(still_figure(scene(), solid=False)) == ["a", "b", "truth"]
    alone = still_figure(scene(None, LABEL), solid=False)
    assert names(alone) == ["a", "b", "prediction"]
    plain = still_figure(make_scene(NOISE, spacing=SPACING))
    assert [len(axes.collections) for axes in plain.axes] == [0, 0, 0] and names(plain) == []


def test_each_label_that_is_there_is_in_the_legend_and_has_a_surface_in_its_colour():
    labels, names = np.array([0, 17, 53])[LABEL], {4: "absent", 17: "left", 53: "right"}
    view = make_scene(NOISE, labels, spacing=SPACING, names=names)
    figure = still_figure(view)
    (legend,) = figure.subfigs[0].legends
    entries = zip(legend.get_texts(), legend.get_lines(), strict=True)
    found = {text.get_text(): to_hex(line.get_color()) for text, line in entries}
    colors = dict(zip(view.layers[0].names, map(str.lower, view.layers[0].colors), strict=True))
    assert found.pop("truth") and found == {name: colors[name] for name in ("left", "right")}
    assert len(set(found.values())) == 2 and list(surfaces(view.layers[0], SPACING)) == [2, 3]


def test_surfaces_lie_where_the_objects_are():
    ball = np.zeros((30, 30, 30), int)
    z, y, x = np.ogrid[:30, :30, :30]
    ball[(z - 12) ** 2 + (y - 14) ** 2 + (x - 16) ** 2 <= 81] = 1
    layer = make_scene(ball, ball, spacing=(2, 1, 1), names=["ball"]).layers[0]
    vertices, faces = surfaces(layer, (2, 1, 1))[1]
    assert vertices.mean(0) == pytest.approx([24, 14, 16], abs=0.3)
    radius = np.linalg.norm((vertices - (24, 14, 16)) / (2, 1, 1), axis=1)
    assert radius.mean() == pytest.approx(9, abs=0.5) and faces.max() < len(vertices)


def test_thin_objects_of_large_volumes_keep_a_surface_and_specks_have_none():
    large = np.zeros((4, 300, 300), int)
    large[2, 10:290, 150] = 1
    large[0, 0, 0] = 2
    layer = make_scene(large, large, spacing=(1, 1, 1), names=["line", "speck"]).layers[0]
    found = surfaces(layer, (1, 1, 1))
    assert list(found) == [1] and np.ptp(found[1][0][:, 1]) > 250


def test_neurons_are_filled_and_only_the_largest_are_solid():
    view = neurons()
    figure = still_figure(view)
    first = planes(figure)[0]
    assert first.get_xlabel() == "x (µm)" and first.yaxis_inverted()
    assert len(first.images) == 2 and not first.collections
    solid = next(axes for axes in figure.axes if axes.name == "3d")
    assert len(solid.collections) == MOST_SURFACES
    overlay = first.images[1].get_array()
    label = view.layers[0].values[4, 0, 0]  # the middle section, since none was chosen
    assert same_color(to_hex(overlay[0, 0, :3]), view.layers[0].colors[label - 1])
