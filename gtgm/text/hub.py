"""Load a model or processor of transformers from a folder or by its id on the hub, safely."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils import logging

from gtgm.errors import DataError, WeightsError


def load_pretrained(loader: Any, source: str | Path, **options: Any) -> Any:
    """``loader.from_pretrained(source)`` without remote code, and without network for a folder.

    Args:
        loader: an auto class of transformers.
        source: a folder, or an id such as ``Salesforce/blip-image-captioning-base``.
        options: further arguments of ``from_pretrained``.

    Raises:
        DataError: the folder is absent or incomplete, or the id can be neither found in the cache
            nor downloaded.
    """
    folder = is_folder(source)
    if folder and not Path(source).is_dir():
        raise DataError("there is no such model folder", where=source, fix="check the path")
    try:
        return loader.from_pretrained(
            str(source), local_files_only=folder, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{loader.__name__} cannot load it ({type(error).__name__}: "
            f"{reason[0] if reason else 'no message'})",
            where=source,
            expected="config.json, model.safetensors and the tokenizer or processor files",
            fix="complete the folder"
            if folder
            else "check the id and the network (gated models need a login and accepted terms), or "
            "download the model elsewhere and name its folder",
        ) from error


def load_weights(loader: Any, source: str | Path, **options: Any) -> Any:
    """A model in evaluation mode, its weights read from safetensors only.

    Raises:
        DataError: see :func:`load_pretrained`.
        WeightsError: weights are missing or of other shapes (a BERT pooler may be missing).
    """
    with quiet():  # its report of missing weights becomes our error
        model, report = load_pretrained(
            loader, source, use_safetensors=True, output_loading_info=True, **options
        )
    missing = sorted(k for k in report["missing_keys"] if "pooler." not in k)
    wrong = [str(k) for k in report["mismatched_keys"]]
    if missing or wrong:
        raise WeightsError(
            f"{len(missing)} weights are missing and {len(wrong)} have another shape: "
            + ", ".join([*missing, *wrong][:3]),
            where=source,
            expected=f"all weights of {type(model).__name__}",
            fix="name a model of this kind",
        )
    return model.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers inside the block."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def is_folder(source: str | Path) -> bool:
    """Whether ``source`` means a folder: it exists, or is no id (``name``, ``org/name``)."""
    text = str(source)
    return (
        isinstance(source, Path)
        or Path(source).exists()
        or text.startswith((".", "/", "~"))
        or "\\" in text
        or text.count("/") > 1
    )
