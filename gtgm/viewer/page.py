"""One HTML file that shows a scene in 3D, also without network."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from gtgm import paths
from gtgm.errors import GTGMError
from gtgm.markup import page_templates
from gtgm.viewer.niivue import HEIGHT, OPTIONS, volumes
from gtgm.viewer.scene import Scene

_EXPORT = re.compile(r"export\s*\{\s*(\w+)\s+as\s+default\s*\}\s*;?\s*$")


def write_page(scene: Scene, picture: bytes, path: str | Path) -> Path:
    """Write the page; a double click opens it, and it asks for nothing from outside.

    NiiVue's code, which ipyniivue brings, and the volumes are inside. The static picture stands
    above the view, and alone where there is no WebGL.

    Args:
        scene: see :func:`gtgm.viewer.scene.make_scene`.
        picture: PNG of :func:`gtgm.viewer.still.still_figure`.
        path: of the page.

    Raises:
        GTGMError: ipyniivue's code is missing, or of an unknown form.
    """
    environment = page_templates(Path(__file__).parent)
    entries = [_encoded(entry) for entry in volumes(scene)]
    text = environment.get_template("page_template.html.j2").render(
        title=scene.title or "overlay",
        credit=scene.credit,
        picture=base64.b64encode(picture).decode(),
        maps=[layer.title for layer in scene.layers],
        classes=_legend(scene),
        height=HEIGHT,
        code=_front_end(),
        state=_json({"volumes": entries, "options": dict(OPTIONS.values())}),
    )
    return paths.write_text(path, text)


def _encoded(entry: dict[str, Any]) -> dict[str, Any]:
    return entry | {"data": base64.b64encode(entry["data"]).decode()}


def _legend(scene: Scene) -> list[tuple[str, str]]:
    named = [layer for layer in scene.layers if not layer.instances]
    return [(layer.names[n - 1], layer.colors[n - 1]) for layer in named[:1] for n in layer.shown]


def _json(value: Any) -> str:
    # A closing tag inside a text would end the script that it stands in.
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _front_end() -> str:
    """NiiVue's code as a module that leaves its entry point in ``globalThis.niivue``."""
    found = importlib.util.find_spec("ipyniivue")
    folder = Path(found.origin).parent if found and found.origin else Path()
    file = folder / "static" / "widget.js"
    if not file.is_file():
        raise GTGMError(
            "NiiVue's code is not there",
            where=file,
            expected="the package ipyniivue",
            fix="install it: `pip install ipyniivue`",
        )
    code = file.read_text(encoding="utf-8")
    code, count = _EXPORT.subn(r"globalThis.niivue=\1;", code)
    if not count or re.search("</script", code, re.IGNORECASE):
        raise GTGMError(
            "NiiVue's code has an unknown form",
            where=file,
            expected="a module that ends with its default export",
            fix="install the version of ipyniivue that requirements.lock names",
        )
    return code
