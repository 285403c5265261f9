"""The page of a case: whole in one file. That it works in a browser: ``test_browser_page.py``."""

from __future__ import annotations

import base64
import gzip
import json
import re
from importlib.machinery import ModuleSpec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gtgm.errors import GTGMError
from gtgm.viewer import overlay

LABELS = np.zeros((6, 8, 7), int)
LABELS[1:5, 2:6, 2:5] = 1
VIEW = overlay(
    np.random.default_rng(0).random(LABELS.shape),
    LABELS,
    LABELS,
    spacing=(1, 2, 3),
    names=["a <b>"],
    title="case </script> 1",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return VIEW.save(tmp_path_factory.mktemp("page") / "case.html").read_text(encoding="utf-8")


def test_the_volumes_are_inside(page):
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.S).group(1))
    assert [v["name"] for v in state["volumes"]] == [
        "image.nii.gz", "truth.nii.gz", "prediction.nii.gz"]  # fmt: skip
    data = gzip.decompress(base64.b64decode(state["volumes"][1]["data"]))
    file = nib.Nifti1Image.from_bytes(data)
    assert np.array_equal(np.asarray(file.dataobj).transpose(2, 1, 0), LABELS)
    assert state["options"]["dragAndDropEnabled"] is False


def test_a_page_of_a_file_with_nan_starts_and_names_freesurfers_labels(tmp_path):
    image = VIEW.scene.image.copy()
    image[:2], image[2, 0, 0] = np.nan, np.inf
    names, labels = {17: "left <b>", 53: "right"}, 17 * LABELS
    labels[2, 3, 3] = 53
    for name, values in (("image", image), ("labels", labels.astype(np.int16))):
        nib.save(nib.Nifti1Image(values.transpose(2, 1, 0), np.eye(4)), tmp_path / f"{name}.nii.gz")
    view = overlay(tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz", names=names)
    page = view.save(tmp_path / "case.html").read_text(encoding="utf-8")

    def refuse(constant):
        raise AssertionError(constant)

    text = re.search(r'id="state">(.*?)</script>', page, re.S).group(1)
    grey, map_ = json.loads(text, parse_constant=refuse)["volumes"]
    finite = image[np.isfinite(image)]
    assert finite.min() <= grey["cal_min"] < grey["cal_max"] <= finite.max()
    assert map_["lut"]["labels"] == ["", "left <b>", "right"]
    legend = re.findall(r'background: (#\w+)"></span> (.*?)</li>', page)
    assert [name for _, name in legend] == ["left &lt;b&gt;", "right"]
    assert len({color for color, _ in legend}) == 2


def test_nothing_is_loaded_from_elsewhere(page):
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(src|href)=[\"'](?!data:)", markup)
    assert "default-src 'none'" in page and "http" not in re.search(
        r'Policy" content="([^"]*)"', page).group(1)  # fmt: skip


def test_names_cannot_break_out_of_the_page(page):
    assert page.count("</script>") == 3 and "<b>" not in page.split("<script", 1)[0]


def test_code_of_another_form_is_refused(monkeypatch, tmp_path: Path):
    for code, message in ((None, "is not there"), ("export const a = 1;", "unknown form")):
        folder = tmp_path / str(code is None)
        if code:
            (folder / "static").mkdir(parents=True)
            (folder / "static" / "widget.js").write_text(code)
        spec = ModuleSpec("ipyniivue", None, origin=str(folder / "__init__.py"))
        monkeypatch.setattr("importlib.util.find_spec", lambda _, spec=spec: spec)
        with pytest.raises(GTGMError, match=message):
            VIEW.save(tmp_path / "page.html")
        assert not (tmp_path / "page.html").exists()
