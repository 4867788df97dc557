"""Puts the report's page together: template, style sheet, scripts and the payload, in one file.

Each script stays an element of its own with its name, as the browser's developer tools show it. The
page's content-security policy names every script and style by its hash, so that nothing else runs.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["SCRIPTS", "page"]

PACKAGE = "greenprof.exporters.html"

SCRIPTS = (
    "units.js",
    "words.js",
    "diff.js",
    "profile.js",
    "traces.js",
    "viewtree.js",
    "boxes.js",
    "chart.js",
    "figures.js",
    "colours.js",
    "flameview.js",
    "flamelayout.js",
    "flamepaint.js",
    "flameelements.js",
    "flame.js",
    "flameinput.js",
    "state.js",
    "table.js",
    "counted.js",
    "tables.js",
    "difftables.js",
    "tablepanel.js",
    "places.js",
    "marks.js",
    "help.js",
    "controls.js",
    "details.js",
    "main.js",
)
"""In the order in which they run: a script sees the names of those before it."""

_PLACEHOLDER = re.compile(r"<!-- (policy|title|style|payload|scripts) -->")
# What would end a script's or a style's element, or begin another one in it, for an HTML parser.
_NOT_IN_ELEMENT = re.compile(r"</?script|</style|<!--", re.IGNORECASE)


def page(payload: dict[str, Any]) -> str:
    """Return the page that shows a payload."""
    template, parts = _fixed_parts()
    filled = {
        **parts,
        "title": html.escape(f"{payload['title']} - greenprof"),
        "payload": f'<script type="application/json" id="profile">{_json(payload)}</script>',
    }
    return _PLACEHOLDER.sub(lambda found: filled[found[1]], template)


def _json(payload: dict[str, Any]) -> str:
    """Return the payload as JSON that cannot end the element that it is in."""
    text = json.dumps(payload, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def _fixed_parts() -> tuple[str, dict[str, str]]:
    """Return the template, and what is the same in each page by its placeholder."""
    style = f"\n{_asset('style.css')}"
    scripts = [f"\n{_asset(name)}//# sourceURL=greenprof/{name}\n" for name in SCRIPTS]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {_hash(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
    return _asset("page.html"), {
        "policy": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "style": f"<style>{style}</style>",
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }


def _asset(name: str) -> str:
    text = (files(PACKAGE) / "assets" / name).read_text(encoding="utf-8")
    if name != "page.html" and (found := _NOT_IN_ELEMENT.search(text)):
        raise ValueError(f"{name} has {found[0]!r}, which would break the page: write it otherwise")
    return text


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
