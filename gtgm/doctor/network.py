"""Servers of datasets and the hub."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import cache

from gtgm.doctor.line import Line, note, ok

#: Seconds that a server has to answer.
PATIENCE = 4


def servers() -> Iterator[Line]:
    """Whether the servers of the datasets and the hub answer; all are asked at once."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield ok("the hub is not asked: HF_HUB_OFFLINE is set")
    hub = [] if constants.HF_HUB_OFFLINE else [constants.ENDPOINT]
    addresses = {urllib.parse.urlsplit(url).hostname: url for url in [*_downloads(), *hub]}
    answers: dict[str, str] = dict.fromkeys(addresses, f"no answer in {2 * PATIENCE} s")
    # Daemons, because looking up a name has no time limit of its own.
    threads = [
        threading.Thread(target=lambda h, u: answers.update({h: _ask(u)}), args=item, daemon=True)
        for item in addresses.items()
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2 * PATIENCE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    for host, answer in answers.items():
        if answer:
            yield note(
                f"{host} cannot be reached ({answer})",
                "everything but `gtgm data get`, and captioners from the hub, works",
            )
        else:
            yield ok(f"{host} can be reached")


def _downloads() -> list[str]:
    """Download addresses of the package's own datasets, also where own datasets are broken."""
    from gtgm.datasets.registry import REGISTRY

    rows = json.loads(REGISTRY.read_text(encoding="utf-8"))
    return [row["url"] for row in rows if row["url"]]


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: there are many."""
    return ssl.create_default_context()


def _ask(url: str) -> str:
    """Why the server of an address cannot be reached; empty if it answers anything."""
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "gtgm"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=_certificates()):
            return ""
    except urllib.error.HTTPError:
        return ""  # an answer, too
    except Exception as error:
        return str(getattr(error, "reason", error)) or type(error).__name__
