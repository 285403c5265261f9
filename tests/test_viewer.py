"""The one call: a picture first, something interactive only where somebody looks."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gtgm.errors import SettingsError
from gtgm.viewer import live, overlay

LABELS = np.zeros((6, 8, 7), int)
LABELS[1:5, 2:6, 2:5] = 1
GREY = np.random.default_rng(0).random(LABELS.shape)


def shown(monkeypatch, view):
    """What a cell displays."""
    found = []
    monkeypatch.setattr("IPython.display.display", lambda value, **_: found.append(value))
    view._ipython_display_()
    return found


def test_without_a_front_end_there_is_the_picture_and_nothing_interactive_is_imported():
    code = (
        "import sys; import numpy as np; from gtgm.viewer import overlay; "
        "from IPython.display import display; "
        "labels = np.ones((6, 6, 6), int); labels[0] = 0; "
        "display(overlay(labels * 1.5, labels, spacing=(1, 1, 1), viewer='itk')); "
        "print({m.partition('.')[0] for m in sys.modules} "
        "& {'ipyniivue', 'ipywidgets', 'anywidget', 'itkwidgets', 'imjoy_rpc'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_picture_comes_first_and_the_view_only_when_it_is_live(monkeypatch):
    view = overlay(GREY, LABELS, spacing=(1, 1, 1), names=["a"])
    (only,) = shown(monkeypatch, view)
    with Image.open(io.BytesIO(base64.b64decode(only["image/png"]))) as image:
        assert image.width > 600 and np.asarray(image.convert("L")).std() > 5
    assert len(only["image/png"]) < 400_000
    view = overlay(GREY, LABELS, spacing=(1, 1, 1), names=["a"], live=True)
    picture, widget = shown(monkeypatch, view)
    assert "image/png" in picture and type(widget).__name__ == "VBox"


def test_itk_is_chosen_by_name_and_an_unknown_viewer_is_refused(monkeypatch):
    called = []
    monkeypatch.setattr("gtgm.viewer.itk.show_itk", called.append)
    view = overlay(GREY, spacing=(1, 1, 1), viewer="itk", live=True)
    assert len(shown(monkeypatch, view)) == 1 and called == [view.scene]
    with pytest.raises(SettingsError, match="viewer"):
        overlay(GREY, spacing=(1, 1, 1), viewer="vtk")


class _Kernel:
    def __init__(self, username):
        self.username = username

    def get_parent(self, channel):
        assert channel == "shell"
        return {"header": {"username": self.username}}


@pytest.mark.parametrize(
    ("username", "session", "expected"),
    [("", "a.ipynb", True), ("username", "a.ipynb", False), ("", None, False), (None, "x", False)],
)
def test_a_front_end_is_live_if_lab_sent_the_cell(monkeypatch, username, session, expected):
    import IPython

    kernel = None if username is None else _Kernel(username)
    monkeypatch.setattr(IPython, "get_ipython", lambda: type("Shell", (), {"kernel": kernel})())
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if session:
        monkeypatch.setenv("JPY_SESSION_NAME", session)
    assert live.is_live() is expected


def test_no_shell_is_not_live():
    assert not live.is_live()


def test_an_overlay_says_what_it_shows():
    view = overlay(GREY, LABELS, LABELS, spacing=(1, 1, 1), title="a case")
    assert repr(view) == "Overlay(a case, 6 × 8 × 7, truth, prediction)"
    assert "no labels" in repr(overlay(GREY, spacing=(1, 1, 1)))
