"""Whether somebody is looking: a front end that can draw, rather than a batch."""

from __future__ import annotations

import os
import sys

#: User name that nbclient (papermill, nbval, ``jupyter execute``) puts into its requests.
_BATCH_USER = "username"


def is_live(asked: bool | None = None) -> bool:
    """Whether this code runs in a cell that JupyterLab, or another Jupyter page, has sent.

    There is an IPython kernel, it was started by a Jupyter server for a notebook, and the request
    that is being executed does not come from nbclient, which papermill, nbval and ``jupyter
    execute`` use. Nothing interactive is imported to find out.

    Args:
        asked: the answer, for a caller who knows it.
    """
    if asked is not None:
        return asked
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None or "JPY_SESSION_NAME" not in os.environ:
        return False
    request = kernel.get_parent("shell") or {}
    return request.get("header", {}).get("username", _BATCH_USER) != _BATCH_USER
