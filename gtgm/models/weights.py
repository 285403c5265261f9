"""Weights from files: read without trust, matched by name and shape, and reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode

from gtgm.errors import WeightsError


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file.

    Raises:
        WeightsError: the file is missing, damaged, empty or of another kind, or a tensor is not
            finite.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"cannot be read ({error})",
            where=path,
            expected="a safetensors file",
            fix="run the stage that writes it again; pickled weights are never opened",
        ) from error
    if not state:
        raise WeightsError(
            "has no tensor", where=path, expected="weights", fix="copy the file again"
        )
    broken = [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{len(broken)} tensors are not finite, such as {broken[0]}",
            where=path,
            expected="weights without NaN and infinity",
            fix="train again with a smaller learning rate or without half precision",
        )
    return state


def load_matching(
    module: nn.Module, state: dict[str, torch.Tensor], *, where: str | Path, minimum: float
) -> dict[str, int]:
    """Load the tensors of ``state`` that fit ``module`` by name and shape, and report.

    Args:
        minimum: smallest share of ``module``'s tensors that must match.

    Returns:
        Counts: ``matched``, ``missing`` (wanted, not in the file), ``mismatched`` (other shape or
        kind of number), ``unused`` (in the file, not wanted).

    Raises:
        WeightsError: fewer than ``minimum`` match; nothing is loaded then.
    """
    matched, counts = _match(module.state_dict(), state, where, minimum)
    module.load_state_dict(matched, strict=False)
    return counts


def check_sizes(
    build: Callable[..., nn.Module],
    config: dict[str, Any],
    state: dict[str, torch.Tensor],
    settings: Path,
    weights: Path,
) -> None:
    """Refuse settings whose network is not that of the tensors, before it takes any memory.

    Args:
        build: makes the network from the settings.
        config: settings as they stand in a file, which are not trusted.
        state: tensors that are to be loaded.
        settings, weights: files of both.

    Raises:
        WeightsError: no network has these sizes, or a tensor is missing or of another shape.
    """
    lists = [value for value in config.values() if isinstance(value, list)]
    blocks = [sum(config[k]) for k in ("layers", "depths") if _are_numbers(config.get(k))]
    try:
        if max([*map(len, lists), *blocks], default=0) > len(state):
            raise ValueError(f"more layers than the {len(state)} tensors")
        with torch.device("meta"), _Linspace():
            wanted = build(**config).state_dict()
    except Exception as error:  # whatever a network of absurd sizes provokes
        reason = (str(error).splitlines() or [""])[0]
        raise WeightsError(
            f"its sizes make no network for the weights ({type(error).__name__}: {reason})",
            where=settings,
            expected="the settings that were written with the weights",
            fix="copy the folder again, or run the stage that writes it",
        ) from error
    _match(wanted, state, weights, 1.0)


def _match(
    own: dict[str, torch.Tensor],
    state: dict[str, torch.Tensor],
    where: str | Path,
    minimum: float,
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The tensors of ``state`` that fit, and the counts of :func:`load_matching`."""
    matched = {k: v for k, v in state.items() if k in own and _fits(v, own[k])}
    mismatched = [k for k in state if k in own and k not in matched]
    missing = [k for k in own if k not in state]
    unused = [k for k in state if k not in own]
    if len(matched) < minimum * len(own) or not matched:
        examples = [f"missing {k}" for k in missing[:2]]
        examples += [f"{k} is {_shown(state[k])}, wanted {_shown(own[k])}" for k in mismatched[:2]]
        raise WeightsError(
            f"only {len(matched)} of {len(own)} tensors match ({'; '.join(examples)})",
            where=where,
            expected=f"weights of the same backbone and sizes, at least {minimum:.0%} matching",
            fix="name weights of this backbone, or set the backbone that the weights belong to",
        )
    counts = {"matched": matched, "missing": missing, "mismatched": mismatched, "unused": unused}
    return matched, {what: len(names) for what, names in counts.items()}


class _Linspace(TorchFunctionMode):
    """MONAI's transformers ask for the values of a linspace, which the meta device has none of."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.linspace:
            kwargs = {**(kwargs or {}), "device": "cpu"}
        return func(*args, **(kwargs or {}))


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int) for value in values)


def _fits(tensor: torch.Tensor, wanted: torch.Tensor) -> bool:
    same_kind = tensor.is_floating_point() == wanted.is_floating_point()
    return tensor.shape == wanted.shape and same_kind


def _shown(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
