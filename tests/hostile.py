"""A notebook and texts that would run something in a page which shows them unescaped.

Whatever runs sets ``window.ran``. ``WORDS`` must be readable all the same.
"""

from __future__ import annotations

import html.parser

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

WORDS = "window.ran"
RUN = "window.ran=1"
#: Fragments of HTML, each with a way of its own.
FRAGMENTS = {
    "a script": f"<script>{RUN}</script>",
    "a script in other spelling": f"<ScRiPt >{RUN}</sCrIpT >",
    "a script that is not closed": f"<script>{RUN}",
    "a picture that fails": f"<img src=x onerror='{RUN}'>",
    "a picture with a handler": f"<img src='data:image/png;base64,' onerror={RUN}>",
    "a drawing": f"<svg onload='{RUN}'><script>{RUN}</script></svg>",
    "a script in a style sheet": f"<svg><style><img src=x onerror={RUN}></style></svg>",
    "a style sheet in a comment": f"<style><!--</style><script>{RUN}</script>-->",
    "a frame": f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    "a frame with an address": f"<iframe src='javascript:parent.{RUN}'></iframe>",
    "an object": f"<object data='javascript:{RUN}'></object><embed src='javascript:{RUN}'>",
    "a link": f"<a class='click' href='javascript:{RUN}'>here</a>",
    "a link in other spelling": f"<a class='click' href=' JaVa&#9;Script&colon;{RUN}'>here</a>",
    "a link with data": f"<a class='click' href='da&#10;ta:text/html,<script>{RUN}</script>'>h</a>",
    "an address in Markdown": f"[here](javascript:{RUN})",
    "a form": f"<form action='javascript:{RUN}'><button class='click'>go</button></form>",
    "a button": f"<button class='click' onclick='{RUN}'>go</button>",
    "something unfolded": f"<details open ontoggle='{RUN}'><summary>s</summary></details>",
    "something focused": f"<input autofocus onfocus='{RUN}'>",
    "another page": f"<meta http-equiv='refresh' content='0;url=javascript:{RUN}'>",
    "another base": "<base href='https://example.invalid/'>",
    "a picture from the web": "<img src='https://example.invalid/seen.png'>",
    "a style sheet from the web": "<link rel=stylesheet href='https://example.invalid/a.css'>",
    "a background from the web": "<p style='background:url(https://example.invalid/b.png)'>b</p>",
    "a comment that is not closed": f"<!-- <script>{RUN}</script>",
    "mathematics": f"<math><mtext><table><mglyph><style><img src=x onerror={RUN}>",
    "a template": f"<template><script>{RUN}</script></template><noscript><p title='</noscript>"
    f"<img src=x onerror={RUN}>'>",
}


def notebook() -> NotebookNode:
    """Every fragment as Markdown, and as HTML and Markdown of an output; then further outputs."""
    cells = [new_markdown_cell(f"{name}: {text}") for name, text in FRAGMENTS.items()]
    shown = [{kind: text} for text in FRAGMENTS.values() for kind in ("text/html", "text/markdown")]
    shown += [
        {"application/javascript": RUN},
        {"image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg'><script>{RUN}</script></svg>"},
        {"image/png": f"' onerror='{RUN}"},
        {"text/latex": FRAGMENTS["a script"]},
        {"text/plain": FRAGMENTS["a script"]},
    ]
    outputs = [new_output("display_data", data) for data in shown]
    injected = {"image/png": {"width": f"1 onerror={RUN}", "alt": f"' onerror='{RUN}"}}
    outputs.append(new_output("display_data", {"image/png": "AAAA"}, metadata=injected))
    isolated = {"text/html": {"isolated": True}}
    html = {"text/html": FRAGMENTS["a script"]}
    outputs.append(new_output("display_data", html, metadata=isolated))
    outputs.append(new_output("stream", name="stdout", text=FRAGMENTS["a script"]))
    code = new_code_cell(f"# {FRAGMENTS['a script']}", outputs=outputs)
    code.metadata["tags"] = [f"x' onclick='{RUN}"]
    last = new_markdown_cell("**the last words**")
    return new_notebook(cells=[*cells, code, last])


class Seen(html.parser.HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
