"""HTML that notebooks hold, shown in a page of ours: what a page may contain is, the rest is text.

Text of captions, names and outputs may come from anywhere. A script, a frame, a form or a picture
from the web in it must neither run nor be asked for; it is shown as the text that it is.
"""

from __future__ import annotations

import html
import re

import bleach
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer

TAGS = frozenset({
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl",
    "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "li", "mark", "ol", "p",
    "pre", "rect", "s", "small", "span", "strong", "sub", "summary", "sup", "svg", "table",
    "tbody", "td", "tfoot", "th", "thead", "tr", "u", "ul",
})  # fmt: skip
_EVERYWHERE = {"aria-label", "class", "id", "role", "style", "tabindex", "title"}
_ATTRIBUTES = {
    "details": {"open"},
    "img": {"alt", "height", "width"},
    "ol": {"start"},
    "rect": {"fill", "fill-opacity", "height", "width", "x", "y"},
    "svg": {"height", "preserveAspectRatio", "viewBox", "width"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan", "scope"},
}
_STYLES = [*ALLOWED_CSS_PROPERTIES, "image-rendering", "max-width", "overflow-x"]
#: To the web, to a mailbox, or within the report's folder.
_LINK = re.compile(r"(https?://|mailto:).*|[^:]*")
_PICTURE = re.compile(r"data:image/.*")
_STYLE = re.compile(r"<style\b.*?</style\s*>", re.IGNORECASE | re.DOTALL)


def clean(fragment: str | bytes) -> str:
    """An HTML fragment without anything that runs or is loaded from elsewhere.

    Tags, attributes and styles that are not on the list of this module are escaped or left out;
    pictures must be inside (``data:``). Style sheets, which pandas puts before its tables, are left
    out without a trace.
    """
    text = fragment.decode() if isinstance(fragment, bytes) else str(fragment)
    return bleach.clean(
        _STYLE.sub("", text),
        tags=TAGS,
        attributes=_is_allowed,
        protocols={"http", "https", "mailto", "data"},
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
    )


def _is_allowed(tag: str, name: str, value: str) -> bool:
    if (tag, name) in (("a", "href"), ("img", "src")):
        # As a browser reads it: entities resolved, spaces and control characters ignored.
        address = re.sub(r"[\x00-\x20]", "", html.unescape(value)).lower()
        return bool((_LINK if tag == "a" else _PICTURE).fullmatch(address))
    return name in _EVERYWHERE or name in _ATTRIBUTES.get(tag, ())
