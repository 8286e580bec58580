"""The report as PDF (PDF/UA-1 and PDF/A-2a) through typst: tagged, every image with its text, only embedded fonts.

Same content and order as the HTML page; the same report gives the same bytes because its own date is the document's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import typst

from inference.render.overlay import picture_png
from inference.render.page import page_of
from inference.render.pictures import KeyPicture
from inference.render.roots_svg import draw_roots
from inference.report import Report

_TEMPLATE = Path(__file__).parent / "report.typ"
_STANDARDS: list[typst.PDFStandard] = ["ua-1", "a-2a"]


def render_pdf(report: Report, pictures: Sequence[KeyPicture] = (), *, dated: datetime | None = None) -> bytes:
    """The whole report as PDF bytes.

    `dated` stands for the time of making as the document's date and is not printed: the same result then gives the same bytes
    whenever it is made.
    """
    made = (dated or report.created_at).astimezone(UTC)
    with tempfile.TemporaryDirectory(prefix="recess-pdf-") as name:
        compiler = compiler_of(report, pictures, Path(name), dated)
        made_pdf = compiler.compile(format="pdf", pdf_standards=_STANDARDS, timestamp=made.replace(microsecond=0))
    if not isinstance(made_pdf, bytes):
        raise TypeError("one document was expected")
    return made_pdf


def compiler_of(
    report: Report, pictures: Sequence[KeyPicture], folder: Path, dated: datetime | None = None
) -> typst.Compiler:
    """The report laid out in an empty folder, ready to be compiled or asked on which page something stands."""
    page = page_of(report) if dated is None else replace(page_of(report), made="")
    made = (dated or report.created_at).astimezone(UTC)
    drawn = [
        {"title": picture.title, "alt": picture.alt_text, "file": f"picture{number}.png"}
        for number, picture in enumerate(pictures, start=1)
    ]
    drawing = draw_roots(report)
    data = {
        "scheme": drawing and {"title": drawing.title, "alt": drawing.alt, "file": "roots.svg"},
        "page": asdict(page),
        "pictures": drawn,
        "date": {name: getattr(made, name) for name in ("year", "month", "day", "hour", "minute")},
    }
    main = folder / "report.typ"
    main.write_bytes(_TEMPLATE.read_bytes())
    if drawing is not None:
        (folder / "roots.svg").write_text(drawing.svg, encoding="utf-8")
    for picture, entry in zip(pictures, drawn, strict=True):
        (folder / entry["file"]).write_bytes(picture_png(picture))
    return typst.Compiler(
        main, root=folder, ignore_system_fonts=True, sys_inputs={"data": json.dumps(data, ensure_ascii=False)}
    )
