"""A drawing of the lumbar and sacral roots with findings and deficits on them: which are accounted for and which are not.

Seen from the front, so the patient's left is on the right of the picture. Everything is read from the report; shapes tell what
colours tell. Places are a scheme, not this patient's anatomy.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from configs.clinical import ROOTS, matrix, model
from inference.clinical_words import join, label, name_place, name_root, word
from inference.report import Concordance, DeficitShare, Finding, Report, Withheld

WIDTH, CENTRE = 860, 430
_LEVELS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
_FIRST_DISC, _PITCH = 78, 62
_RECESS, _FORAMEN, _BEYOND, _ROOT_END = 33, 74, 96, 128
"""Distances of the scheme from the midline, in drawing units."""
_SHIFT = {"herniation": -8, "recess_stenosis": 13, "foraminal_stenosis": 0}
"""Down from the disc, so that a herniation and a narrow recess of one place do not cover each other."""
_COLUMN, _LINE, _WRAP = 292, 14, 42
"""Inner edge of the lists beside the roots, line height and characters a line."""
_INK, _MINOR, _BONE, _DISC, _SAC = "#16191d", "#59616b", "#eceae4", "#d8dde2", "#cfe0ea"
_NERVE, _POINTED, _MATCH, _OPEN = "#a9a08c", "#8a5a00", "#b3460b", "#4d5a86"
_FONT = "system-ui, Helvetica, Arial, 'Libertinus Serif', sans-serif"


@dataclass(frozen=True)
class Drawing:
    """An SVG document, what stands above it, and the same in words for whoever cannot see it."""

    svg: str
    title: str
    alt: str


def draw_roots(report: Report) -> Drawing | None:
    """The drawing of a report with an examination; None without one, since there is nothing to lay on the roots."""
    concordance = report.concordance
    if concordance is None:
        return None
    language = report.language
    top = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    _spine(top, language)
    for side in ("left", "right"):
        for root in ROOTS:
            _root(top, side, root, f"{side}:{root}" in concordance.roots_implicated)
    drawn = [item for item in report.findings if item.flagged and item.level in _LEVELS]
    for finding in drawn:
        _finding(top, finding, _verdict(concordance, finding))
    held = [item for item in report.withheld if item.level in _LEVELS]
    for item in held:
        _withheld(top, item)
    bottom = max([_disc_y("L5-S1") + 110, *(_deficits(top, concordance, side, language) for side in ("left", "right"))])
    bottom = _general(top, concordance, bottom, language)
    height = _legend(top, bottom + 22, language)
    top.attrib |= {"viewBox": f"0 0 {WIDTH} {height:.0f}", "width": str(WIDTH), "height": f"{height:.0f}"}
    top.insert(0, ET.Element("rect", width=str(WIDTH), height=f"{height:.0f}", fill="#ffffff", rx="6"))
    title, alt = word("draw_title", language), _alt(concordance, drawn, held, language)
    for tag, text in (("desc", alt), ("title", title)):
        note = ET.Element(tag)
        note.text = text
        top.insert(0, note)
    return Drawing(ET.tostring(top, encoding="unicode"), title, alt)


def explained(item: DeficitShare) -> bool:
    """Whether enough of a deficit lies on the roots of matching findings."""
    return item.share >= model().verdict.unexplained_below


def root_of(item: DeficitShare) -> str | None:
    """The root beside which a deficit is drawn: the one that carries most of it, else the one it is most typical of."""
    cut = model().verdict
    carried = {root: item.by_cause.get(root, 0.0) for root in ROOTS}
    best = max(carried, key=lambda root: carried[root])
    if carried[best] >= cut.unexplained_below:
        return best
    field = item.field.partition(":")[2]
    row = next((row for row in matrix().sign if field == row.id or field.startswith(f"{row.id}_")), None)
    if row is None:
        return None
    typical = max(ROOTS, key=lambda root: row.w.get(root, 0.0))
    return typical if row.w.get(typical, 0.0) >= cut.root_counts_from_weight else None


def _verdict(concordance: Concordance, finding: Finding) -> str:
    return next((item.verdict for item in concordance.per_finding if item.finding_id == finding.id), "indeterminate")


def _disc_y(level: str) -> float:
    return _FIRST_DISC + _PITCH * _LEVELS.index(level)


def _way(side: str) -> int:
    """Direction of a side on the picture: the patient's left is on the right."""
    return 1 if side == "left" else -1


def _add(parent: ET.Element, tag: str, **values: object) -> ET.Element:
    names = {key.rstrip("_").replace("_", "-"): str(value) for key, value in values.items()}
    return ET.SubElement(parent, tag, names)


def _text(parent: ET.Element, x: float, y: float, text: str, **style: object) -> None:
    base: dict[str, object] = {"font_family": _FONT, "font_size": 12, "fill": _INK}
    _add(parent, "text", x=f"{x:.1f}", y=f"{y:.1f}", **(base | style)).text = text


def _spine(top: ET.Element, language: str) -> None:
    """Bodies, discs, sacrum and the sac; the names of the levels stand on the discs' edge."""
    _text(top, 14, 24, word("draw_right", language), fill=_MINOR)
    _text(top, WIDTH - 14, 24, word("draw_left", language), fill=_MINOR, text_anchor="end")
    for level in _LEVELS:
        y = _disc_y(level)
        _add(top, "rect", x=CENTRE - 58, y=y - 53, width=116, height=44, rx=7, fill=_BONE, stroke="#cdc9bd")
        _add(top, "rect", x=CENTRE - 61, y=y - 8, width=122, height=16, rx=7, fill=_DISC)
    end = _disc_y("L5-S1")
    sacrum = (
        f"M{CENTRE - 58},{end + 9} L{CENTRE + 58},{end + 9} L{CENTRE + 26},{end + 100} L{CENTRE - 26},{end + 100} Z"
    )
    _add(top, "path", d=sacrum, fill=_BONE, stroke="#cdc9bd", stroke_linejoin="round")
    sac = f"M{CENTRE - 22},24 L{CENTRE + 22},24 L{CENTRE + 17},{end} L{CENTRE},{end + 48} L{CENTRE - 17},{end} Z"
    _add(top, "path", d=sac, fill=_SAC, stroke="#9fbccc")
    for offset in (-5, 0, 5):
        tail = f"M{CENTRE + offset * 0.4},{end + 20} L{CENTRE + offset * 2.4},{end + 92}"
        _add(top, "path", d=tail, fill="none", stroke=_NERVE, stroke_width=1.4)
    for level in _LEVELS:
        _text(top, CENTRE, _disc_y(level) - 13, level, font_size=10.5, text_anchor="middle", fill="#2e4c5e")


def _exit_y(root: str) -> float:
    """Height at which a root leaves the spine: the disc below its own vertebra; S1 leaves through the sacrum."""
    return {"L3": _disc_y("L3-L4"), "L4": _disc_y("L4-L5"), "L5": _disc_y("L5-S1"), "S1": _disc_y("L5-S1") + _PITCH}[
        root
    ]


def _root(top: ET.Element, side: str, root: str, pointed: bool) -> None:
    way, out = _way(side), _exit_y(root)
    beside = out - _PITCH
    path = (
        f"M{CENTRE + way * 14},{beside - 34} C{CENTRE + way * 22},{beside - 18} {CENTRE + way * _RECESS},{beside - 14} "
        f"{CENTRE + way * _RECESS},{beside} C{CENTRE + way * _RECESS},{beside + 26} {CENTRE + way * 50},{out - 14} "
        f"{CENTRE + way * _FORAMEN},{out} L{CENTRE + way * _ROOT_END},{out + 22}"
    )
    colour, width = (_POINTED, 4.5) if pointed else (_NERVE, 2)
    _add(top, "path", d=path, fill="none", stroke=colour, stroke_width=width, stroke_linecap="round")
    x, y = CENTRE + way * (_ROOT_END + 10), out + 30
    weight = "700" if pointed else "400"
    anchor = "start" if way > 0 else "end"
    ink = _POINTED if pointed else _MINOR
    _text(top, x - way * 6, y, root, font_size=13, font_weight=weight, text_anchor=anchor, fill=ink)


def _place(finding_side: str | None, kind: str, zone: str | None) -> tuple[float, ...]:
    """Distances from the midline at which something is drawn; several for both sides."""
    ways = {"left": (1,), "right": (-1,), "both": (1, -1)}.get(finding_side or "midline", ())
    if kind == "canal_stenosis" or zone == "central" or not ways:
        return (0.0,)
    depth = {"foraminal": _FORAMEN, "extraforaminal": _BEYOND}.get(zone or "", _RECESS)
    return tuple(way * (_FORAMEN if kind == "foraminal_stenosis" else depth) for way in ways)


def _finding(top: ET.Element, finding: Finding, verdict: str) -> None:
    """A herniation is round, a recess a triangle, a foramen a square, the canal a bar; filled where it matches."""
    matches = verdict in {"explains", "contributes"}
    style = {
        "fill": _MATCH if matches else "#ffffff",
        "stroke": _OPEN if verdict == "indeterminate" else _MATCH if matches else _INK,
        "stroke_width": 2.2,
    }
    y = _disc_y(finding.level) + _SHIFT.get(finding.kind, 0)
    for offset in _place(finding.side, finding.kind, finding.zone):
        x = CENTRE + offset
        _shape(top, finding.kind, x, y, style)
        if verdict == "indeterminate":
            _text(top, x, y + 4.5, "?", font_size=13, font_weight="700", text_anchor="middle", fill=_OPEN)


def _shape(top: ET.Element, kind: str, x: float, y: float, style: dict[str, object]) -> None:
    if kind == "herniation":
        _add(top, "circle", cx=x, cy=y, r=9.5, **style)
    elif kind == "canal_stenosis":
        _add(top, "rect", x=x - 26, y=y - 7, width=52, height=14, rx=7, **style)
    elif kind == "foraminal_stenosis":
        _add(top, "rect", x=x - 8, y=y - 8, width=16, height=16, **style)
    else:
        _add(top, "path", d=f"M{x},{y - 10} L{x + 10},{y + 8} L{x - 10},{y + 8} Z", **style)


def _withheld(top: ET.Element, item: Withheld) -> None:
    zone = "foraminal" if item.kind == "foraminal_stenosis" else "central" if item.side is None else None
    y = _disc_y(str(item.level)) + _SHIFT.get(item.kind, 14)
    for offset in _place(item.side, item.kind, zone):
        _diamond(top, CENTRE + offset, y)


def _diamond(top: ET.Element, x: float, y: float) -> None:
    path = f"M{x},{y - 9} L{x + 9},{y} L{x},{y + 9} L{x - 9},{y} Z"
    _add(top, "path", d=path, fill="#ffffff", fill_opacity=0.7, stroke=_OPEN, stroke_width=1.6, stroke_dasharray="3 2")


def _deficits(top: ET.Element, concordance: Concordance, side: str, language: str) -> float:
    """The deficits of a side beside their roots, from the top down; returns the lowest line."""
    way = _way(side)
    x = CENTRE + way * (CENTRE - _COLUMN + 28)
    by_root: dict[str | None, list[DeficitShare]] = {}
    for item in concordance.deficits:
        if item.field.startswith(f"{side}:"):
            by_root.setdefault(root_of(item), []).append(item)
    y = 50.0
    for root in (*ROOTS, None):
        items = by_root.get(root, [])
        if not items:
            continue
        if root is not None:
            y = max(y, _exit_y(root) + 30)
            start = CENTRE + way * (_ROOT_END + 24)
            _add(top, "path", d=f"M{start},{_exit_y(root) + 26} L{x - way * 8},{y - 4}", stroke="#dcdfe3", fill="none")
        else:
            y = max(y, _disc_y("L5-S1") + _PITCH + 54)
            y = _lines(top, x, y, way, f"{word('draw_other', language)}:", None)
        for item in items:
            y = _lines(top, x, y, way, label(item.field.partition(":")[2], language), explained(item))
        y += 8
    return y


def _lines(top: ET.Element, x: float, y: float, way: int, text: str, good: bool | None) -> float:
    """One entry, wrapped; its mark is a full dot where it is accounted for and an open ring where it is not."""
    if good is not None:
        _mark(top, x, y - 4, good)
    for line in textwrap.wrap(text, _WRAP):
        weight = "700" if good is False else "400"
        anchor = "start" if way > 0 else "end"
        _text(top, x + way * (10 if good is not None else 0), y, line, text_anchor=anchor, font_weight=weight)
        y += _LINE
    return y + 2


def _mark(top: ET.Element, x: float, y: float, good: bool) -> None:
    fill = _MATCH if good else "#ffffff"
    _add(top, "circle", cx=x, cy=y, r=4.2, fill=fill, stroke=_MATCH if good else _INK, stroke_width=1.8)


def _general(top: ET.Element, concordance: Concordance, y: float, language: str) -> float:
    """Bladder, bowel and saddle signs below the sacrum; returns the lowest line."""
    items = [item for item in concordance.deficits if item.field.startswith("general:")]
    if not items:
        return y
    base = _disc_y("L5-S1") + 122
    _text(top, CENTRE, base, word("draw_sacral", language), text_anchor="middle", fill=_MINOR)
    for number, item in enumerate(items, start=1):
        line = base + 4 + number * 16
        text = label(item.field.partition(":")[2], language)
        _mark(top, CENTRE - 4 - 3.1 * len(text), line - 4, explained(item))
        weight = "400" if explained(item) else "700"
        _text(top, CENTRE + 6, line, text, text_anchor="middle", font_weight=weight)
    return max(y, base + 8 + 16 * len(items))


def _legend(top: ET.Element, y: float, language: str) -> float:
    _add(top, "path", d=f"M14,{y - 14} L{WIDTH - 14},{y - 14}", stroke="#dcdfe3")
    plain: dict[str, object] = {"stroke_width": 2.2}
    for number, key in enumerate(("root", "match", "no_match", "open", "withheld", "explained", "unexplained")):
        x, line = 26 + (number % 3) * 282, y + 6 + (number // 3) * 22
        if key == "root":
            _add(top, "path", d=f"M{x - 9},{line - 4} L{x + 9},{line - 4}", stroke=_POINTED, stroke_width=4.5)
        elif key in {"explained", "unexplained"}:
            _mark(top, x, line - 4, key == "explained")
        elif key == "withheld":
            _diamond(top, x, line - 4)
        else:
            fill = _MATCH if key == "match" else "#ffffff"
            stroke = {"match": _MATCH, "open": _OPEN}.get(key, _INK)
            _add(top, "circle", cx=x, cy=line - 4, r=7.5, **(plain | {"fill": fill, "stroke": stroke}))
            if key == "open":
                _text(top, x, line, "?", font_size=11, font_weight="700", text_anchor="middle", fill=_OPEN)
        _text(top, x + 16, line, word(f"key_{key}", language), font_size=11.5, fill=_MINOR)
    return y + 62


def _alt(concordance: Concordance, findings: Iterable[Finding], held: Iterable[Withheld], language: str) -> str:
    """The drawing in words, in the order in which it is read."""
    none = word("nothing", language)
    judged = [f"{_named(item, language)}: {word(_verdict(concordance, item), language)}" for item in findings]
    withheld = dict.fromkeys(name_place(str(item.level), item.side, None, item.kind, language) for item in held)
    matched = [label(item.field, language) for item in concordance.deficits if explained(item)]
    open_ = [label(item.field, language) for item in concordance.deficits if not explained(item)]
    roots = [name_root(key, language) for key in concordance.roots_implicated]
    parts = (
        ("roots", roots),
        ("findings", judged),
        ("withheld", withheld),
        ("explained", matched),
        ("unexplained", open_),
    )
    said = [word(f"draw_{key}", language).format(list=join(names) or none) for key, names in parts]
    return f"{word('draw_title', language)}. {' '.join(said)}"


def _named(finding: Finding, language: str) -> str:
    what = finding.type if finding.kind == "herniation" and finding.type else finding.kind
    side = None if finding.kind == "canal_stenosis" else finding.side
    return name_place(finding.level, side, finding.zone if finding.kind == "herniation" else None, what, language)
