"""Sliders below a picture: they draw it anew, and are absent where nobody looks."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from gtgm.errors import SettingsError
from gtgm.explore import explore


@pytest.fixture
def cell(monkeypatch):
    """What a cell displays, and what is drawn into it later."""
    cell = SimpleNamespace(shown=[], updates=[])

    def display(value, **_):
        cell.shown.append(value)
        return SimpleNamespace(update=cell.updates.append)

    monkeypatch.setattr("IPython.display.display", display)
    return cell


def example(**changes):
    arguments = {"start": {"n": 3, "t": 0.5, "who": "b"}, "n": (0, 9), "t": (0.0, 1.0, 0.25)}
    return explore(lambda n, t, who: f"{n} {t} {who}", **arguments | {"who": ["a", "b"]} | changes)


def test_a_batch_gets_the_picture_alone(cell):
    example()._ipython_display_()
    assert cell.shown == ["3 0.5 b"] and cell.updates == []


def test_a_batch_imports_no_widgets():
    code = (
        "import sys; from IPython.display import display; from gtgm.explore import explore; "
        "display(explore(lambda n: n, {'n': 1}, n=(0, 2))); print('ipywidgets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split()[-1] == "False", done.stderr


def test_controls_draw_it_anew_in_the_same_place(cell):
    example(live=True)._ipython_display_()
    first, box = cell.shown
    number, share, who = box.children
    assert first == "3 0.5 b" and [number.value, share.value, who.value] == [3, 0.5, "b"]
    assert (number.min, number.max, share.step) == (0, 9, 0.25)
    number.value = 7
    share.value = 0.75
    who.value = "a"
    assert cell.updates == ["7 0.5 b", "7 0.75 b", "7 0.75 a"]


def test_whole_numbers_stay_whole(cell):
    whole, share = example(live=True).widgets(lambda _: None)[:2]
    assert type(whole).__name__ == "IntSlider" and type(share).__name__ == "FloatSlider"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {"n": 3}}, "'t' has no first value"),
        ({"n": (4, 9)}, "n: 3 is not offered"),
        ({"who": ["c"]}, "who: 'b' is not offered"),
    ],
)
def test_a_first_value_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        example(**changes)
