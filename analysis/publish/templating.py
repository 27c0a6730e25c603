"""Templates of the published pages: HTML that loads nothing, and Markdown."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """A template with these values. In HTML all text is escaped, and the page's content security policy forbids
    scripts and everything from elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    html = template.endswith(".html.j2")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=html,  # the other output is Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["path"] = quote  # a path as an address
    if html:
        style = (TEMPLATES / "publish.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        rest = "img-src data:; base-uri 'none'; form-action 'none'"
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; {rest}"
        values |= {"style": Markup(style), "policy": policy}
    return environment.get_template(template).render(**values)
