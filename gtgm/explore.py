"""Sliders for a picture, where somebody looks; the picture alone in a batch or a saved notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gtgm.errors import SettingsError
from gtgm.viewer.live import is_live

if TYPE_CHECKING:
    import ipywidgets
    from IPython.display import DisplayHandle

#: A range (low, high) or (low, high, step), or a list of values to choose from.
Control = tuple[float, ...] | Sequence[Any]


def explore(
    draw: Callable[..., Any],
    /,
    start: dict[str, Any],
    live: bool | None = None,
    **controls: Control,
) -> Explorer:
    """Let a reader play with the arguments of a function that draws.

    As the last line of a cell, what ``draw`` returns for ``start`` is shown; with a live front end
    controls stand below it, and a change draws it anew in the same place.

    Args:
        draw: takes the controls by name and returns anything that a notebook shows.
        start: the first value of each control.
        live: whether to show controls; found out by default.
        controls: by name a tuple (low, high) or (low, high, step) for a slider, or a list of
            values.

    Raises:
        SettingsError: a control has no first value, or one that it does not offer.
    """
    for name, offered in controls.items():
        if name not in start:
            raise SettingsError(f"the control {name!r} has no first value", where="start")
        value = start[name]
        inside = (
            value in offered if isinstance(offered, list) else offered[0] <= value <= offered[1]
        )
        if not inside:
            raise SettingsError(
                f"{value!r} is not offered", where=name, expected=f"a value of {offered}"
            )
    return Explorer(draw, start, live, controls)


class Explorer:
    """What :func:`explore` returns."""

    def __init__(
        self,
        draw: Callable[..., Any],
        start: dict[str, Any],
        live: bool | None,
        controls: dict[str, Control],
    ) -> None:
        self._draw, self._values, self._live, self._controls = draw, dict(start), live, controls

    def widgets(self, changed: Callable[[Any], None]) -> list[ipywidgets.Widget]:
        """A slider or a list for each control.

        Args:
            changed: called with what is drawn for the new values.
        """
        import ipywidgets

        def follow(name: str, widget: ipywidgets.Widget) -> ipywidgets.Widget:
            def update(change: dict[str, Any]) -> None:
                self._values[name] = change["new"]
                changed(self._draw(**self._values))

            widget.observe(update, "value")
            return widget

        found = []
        for name, offered in self._controls.items():
            value, about = self._values[name], {"description": name.replace("_", " ")}
            if isinstance(offered, list):
                widget = ipywidgets.Dropdown(options=offered, value=value, **about)
            else:
                low, high, *step = offered
                whole = all(isinstance(n, int) for n in (value, *offered))
                kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
                about |= {"step": step[0]} if step else {}
                widget = kind(value=value, min=low, max=high, continuous_update=False, **about)
            found.append(follow(name, widget))
        return found

    def _ipython_display_(self) -> None:
        from IPython.display import display

        shown: DisplayHandle = display(self._draw(**self._values), display_id=True)
        if is_live(self._live):
            import ipywidgets

            display(ipywidgets.HBox(self.widgets(shown.update)))
