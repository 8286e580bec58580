"""The report as one HTML file: no script, no outside address, images inside, light and dark, made to be printed.

Laid out from `page.py`; the template escapes everything that it prints.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from inference.render.overlay import picture_png
from inference.render.page import page_of
from inference.render.pictures import KeyPicture
from inference.render.roots_svg import draw_roots
from inference.report import Report

_FOLDER = Path(__file__).parent


def render_html(report: Report, pictures: Sequence[KeyPicture] = ()) -> str:
    """The whole page as text. Equal reports and pictures give equal text."""
    drawn: list[dict[str, Any]] = [
        {
            "title": picture.title,
            "alt": picture.alt_text,
            "source": "data:image/png;base64," + base64.b64encode(picture_png(picture)).decode("ascii"),
        }
        for picture in pictures
    ]
    drawing = draw_roots(report)
    scheme = drawing and {
        "title": drawing.title,
        "alt": drawing.alt,
        "source": "data:image/svg+xml;base64," + base64.b64encode(drawing.svg.encode()).decode("ascii"),
    }
    style = (_FOLDER / "report.css").read_text(encoding="utf-8")
    return _template().render(page=page_of(report), pictures=drawn, scheme=scheme, style=style)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")
