"""Two readers side by side: where they agree, where they differ and how much that matters for this patient.

Blank in the first read is not "normal"; what one side did not read is no discrepancy. Weights: configs/clinical/second_read.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from configs.clinical import second_read_rules, sources, words
from inference.clinical_words import quoted, reason_withheld
from inference.first_read import FirstRead, ReaderCell
from inference.imaging_findings import SITE_OF, SITES, Imaging, ImagingFinding, imaging_from_report
from inference.report import Concordance, Discrepancy, Finding, SecondRead, Severity, Triage, Withheld
from inference.roots import reach, severity_of

__all__ = ["FirstRead", "compare", "compare_imaging"]

_STEPS: tuple[Severity, ...] = ("normal_mild", "moderate", "severe")
_LEVELS = ("T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")
Key = tuple[str, str, str]
"""Level, condition and side of a cell; a canal cell has the side both."""


@dataclass(frozen=True)
class _Ours:
    """What the program says about a cell."""

    state: str
    severity: Severity | None = None
    finding: ImagingFinding | None = None
    reason: str | None = None


@dataclass
class _Sheet:
    """Both grids, and the lists that the comparison fills."""

    theirs: dict[Key, ReaderCell]
    imaging: Imaging
    implicated: frozenset[str]
    factor: float
    language: str = "en"
    agreements: list[dict[str, Any]] = field(default_factory=list)
    discrepancies: list[Discrepancy] = field(default_factory=list)
    not_comparable: list[dict[str, Any]] = field(default_factory=list)

    def differ(self, rule: str, key: Key, theirs: str | None, ours: str | None, note: str | None = None) -> None:
        rules = second_read_rules()
        entry = rules.find(rule)
        priority = entry.weight * self.factor
        level, kind, side = key
        self.discrepancies.append(
            Discrepancy(
                id=rule,
                level=level,
                side=side,
                kind=kind,
                theirs=theirs,
                ours=ours,
                weight=entry.weight,
                direction=_direction(theirs, ours),
                priority=priority,
                flagged=priority >= rules.flag_from,
                note=f"{self.text(rule)}; {note}" if note else self.text(rule),
            )
        )

    def text(self, key: str) -> str:
        """Text of a kind of difference or of a reason why a place cannot be compared."""
        texts = words(self.language)
        return texts.difference[key] if key in texts.difference else texts.second_read[key]

    def open(self, rule: str | None, key: Key, theirs: str | None, ours: str | None, reason: str) -> None:
        level, kind, side = key
        row = {"level": level, "side": side, "kind": kind, "theirs": theirs, "ours": ours, "reason": reason}
        self.not_comparable.append({"id": rule, **row} if rule else row)


def _direction(theirs: str | None, ours: str | None) -> str:
    rank = {name: step for step, name in enumerate(_STEPS)}
    if ours in rank and (theirs is None or (theirs in rank and rank[ours] > rank[theirs])):
        return "program_higher"
    if theirs in rank and ours in rank and rank[theirs] > rank[ours]:
        return "reader_higher"
    return "differs"


def compare(
    first_read: FirstRead,
    findings: Sequence[Finding],
    withheld: Sequence[Withheld] = (),
    concordance: Concordance | None = None,
    triage: Triage | None = None,
) -> SecondRead:
    """Compare a first read with the findings of a report; see `compare_imaging`."""
    return compare_imaging(first_read, imaging_from_report(findings, withheld), concordance, triage)


def compare_imaging(
    first_read: FirstRead,
    imaging: Imaging,
    concordance: Concordance | None = None,
    triage: Triage | None = None,
    language: str = "en",
) -> SecondRead:
    """Compare a first read with the program's side. Weights double at T1 and T2; roots of the examination decide DC-01.

    The reader's text is never rewritten; agreement is agreement, not correctness.
    """
    rules = second_read_rules()
    urgent = triage is not None and triage.tier in rules.urgent_tiers
    sheet = _Sheet(
        {_key(cell): cell for cell in first_read.cells if cell.condition != "herniation"},
        imaging,
        frozenset(concordance.roots_implicated if concordance else ()),
        rules.urgent_factor if urgent else 1.0,
        language,
    )
    for text in first_read.mentions:
        sheet.not_comparable.append({"id": "DC-10", "theirs": quoted(text, language), "reason": sheet.text("DC-10")})
    settled = _shifted(sheet) | _swapped(sheet)
    for key in _cells():
        if key not in settled:
            _compare_cell(sheet, key)
    for level in _LEVELS:
        _compare_herniations(
            sheet, level, [c for c in first_read.cells if (c.level, c.condition) == (level, "herniation")]
        )
    order = sorted(
        sheet.discrepancies, key=lambda item: (-item.priority, item.id, item.level, item.kind, item.side or "")
    )
    return SecondRead(
        agreements=tuple(sheet.agreements), discrepancies=tuple(order), not_comparable=tuple(sheet.not_comparable)
    )


def _key(cell: ReaderCell) -> Key:
    return cell.level, cell.condition, "both" if cell.condition == "canal_stenosis" else str(cell.side)


def _cells() -> list[Key]:
    out: list[Key] = []
    for level in _LEVELS:
        out.append((level, "canal_stenosis", "both"))
        out += [(level, kind, side) for kind in ("recess_stenosis", "foraminal_stenosis") for side in ("left", "right")]
    return out


def _ours(sheet: _Sheet, key: Key) -> _Ours:
    level, kind, side = key
    here = [
        item
        for item in sheet.imaging.findings
        if (item.level, item.condition) == (level, kind) and (kind == "canal_stenosis" or side in item.sides)
    ]
    for item in here:
        if item.withheld is not None:
            return _Ours("withheld", finding=item, reason=item.withheld)
    graded = [(severity_of(item, sheet.imaging)[0], item) for item in here]
    if graded:
        worst = max(graded, key=lambda pair: _STEPS.index(pair[0]))
        return _Ours("read", worst[0], worst[1])
    return _Ours("read", "normal_mild") if sheet.imaging.was_read(level, SITE_OF[kind]) else _Ours("not_read")


def _their_grade(sheet: _Sheet, key: Key) -> Severity | None:
    cell = sheet.theirs.get(key)
    return cell.severity if cell is not None and cell.assessable else None


def _abnormal(grade: Severity | None) -> bool:
    return grade is not None and grade != "normal_mild"


def _shifted(sheet: _Sheet) -> set[Key]:
    """DC-03: the reader's abnormal cells of one kind and side are ours, one level away."""
    settled: set[Key] = set()
    for kind, side in {(kind, side) for _, kind, side in _cells()}:
        column = [(level, kind, side) for level in _LEVELS]
        ours = {n for n, key in enumerate(column) if _abnormal(_ours(sheet, key).severity)}
        theirs = {n for n, key in enumerate(column) if _abnormal(_their_grade(sheet, key))}
        for step in (-1, 1):
            if not ours or ours == theirs or theirs != {n + step for n in ours}:
                continue
            both = sorted(ours | theirs)
            if any(_ours(sheet, column[n]).state != "read" for n in both):
                continue
            if not all(_ours(sheet, column[n]).severity == _their_grade(sheet, column[n + step]) for n in ours):
                continue
            names = [", ".join(_LEVELS[n] for n in sorted(levels)) for levels in (theirs, ours)]
            sheet.differ("DC-03", column[min(ours)], names[0], names[1])
            settled |= {column[n] for n in both}
    return settled


def _swapped(sheet: _Sheet) -> set[Key]:
    """DC-02: abnormal on one side for the reader and only on the other for the program."""
    settled: set[Key] = set()
    for level in _LEVELS:
        for kind in ("recess_stenosis", "foraminal_stenosis"):
            left, right = (level, kind, "left"), (level, kind, "right")
            ours, theirs = (
                [_ours(sheet, key) for key in (left, right)],
                [_their_grade(sheet, key) for key in (left, right)],
            )
            if any(item.state != "read" for item in ours):
                continue
            mine, other = [_abnormal(item.severity) for item in ours], [_abnormal(grade) for grade in theirs]
            if sum(mine) == 1 and sum(other) == 1 and mine != other:
                here, there = ("left", "right") if mine[0] else ("right", "left")
                sheet.differ("DC-02", (level, kind, here), there, here)
                settled |= {left, right}
    return settled


def _compare_cell(sheet: _Sheet, key: Key) -> None:
    ours, cell = _ours(sheet, key), sheet.theirs.get(key)
    theirs = _their_grade(sheet, key)
    if ours.state == "withheld":
        if cell is not None:
            reason = reason_withheld(ours.reason or "", sheet.language)
            sheet.open("DC-09", key, theirs, None, f"{sheet.text('DC-09')}: {reason}")
        return
    if ours.state == "not_read":
        if cell is not None:
            sheet.open(None, key, theirs, None, sheet.text("not_read_here"))
        return
    if cell is not None and not cell.assessable:
        sheet.open(None, key, None, ours.severity, sheet.text("not_assessable"))
        return
    _grade_difference(sheet, key, theirs, ours)


def _grade_difference(sheet: _Sheet, key: Key, theirs: Severity | None, ours: _Ours) -> None:
    grade = ours.severity or "normal_mild"
    if theirs is None:
        if grade == "severe":
            sheet.differ(_severe_rule(sheet, ours), key, None, grade)
        elif grade == "moderate":
            sheet.open(None, key, None, grade, sheet.text("not_mentioned"))
        return
    if theirs == grade:
        level, kind, side = key
        sheet.agreements.append({"level": level, "side": side, "kind": kind, "severity": grade})
        return
    if abs(_STEPS.index(theirs) - _STEPS.index(grade)) == 1:
        sheet.differ("DC-07", key, theirs, grade, _reader_agreement(sheet, key[1]))
    elif grade == "severe":
        sheet.differ(_severe_rule(sheet, ours), key, theirs, grade)
    else:
        sheet.differ("DC-04", key, theirs, grade)


def _severe_rule(sheet: _Sheet, ours: _Ours) -> str:
    roots = reach(ours.finding).endangered() if ours.finding is not None else ()
    return "DC-01" if any(f"{side}:{root}" in sheet.implicated for side, root in roots) else "DC-05"


def _reader_agreement(sheet: _Sheet, kind: str) -> str | None:
    """How far readers agree on this grade among themselves: a ceiling for what a difference of one step can mean."""
    texts = words(sheet.language)
    for item in sources().agreement:
        if item.condition == kind:
            return texts.second_read["agreement"].format(
                kappa=f"{item.kappa[0]:.2f}", item=texts.kappa_item[kind], source=item.source
            )
    return None


def _compare_herniations(sheet: _Sheet, level: str, cells: list[ReaderCell]) -> None:
    ours = [item for item in sheet.imaging.findings if (item.level, item.condition) == (level, "herniation")]
    left = [cell for cell in cells if cell.type != "none"]
    if any(item.withheld is not None for item in ours):
        reason = next(item.withheld for item in ours if item.withheld is not None)
        text = reason_withheld(reason or "", sheet.language)
        for cell in cells:
            sheet.open("DC-09", _herniation_key(level, cell.side), cell.severity or cell.type, None, text)
        return
    if not ours and not sheet.imaging.was_read(level, SITES[0]):
        for cell in cells:
            sheet.open(
                None, _herniation_key(level, cell.side), cell.severity or cell.type, None, sheet.text("not_read_here")
            )
        return
    unmatched = list(ours)
    for cell in [cell for cell in left if cell.assessable]:
        match = next((item for item in unmatched if _same_side(item.side, cell.side)), None)
        swapped = next((item for item in unmatched if {item.side, cell.side} == {"left", "right"}), None)
        if match is not None:
            unmatched.remove(match)
            _compare_herniation(sheet, level, cell, match)
        elif swapped is not None:
            unmatched.remove(swapped)
            sheet.differ("DC-02", _herniation_key(level, swapped.side), cell.side, swapped.side)
        else:
            _herniation_only_theirs(sheet, level, cell)
    reader_says_none = any(cell.type == "none" for cell in cells)
    for item in unmatched:
        grade = severity_of(item, sheet.imaging)[0]
        theirs: Severity | None = "normal_mild" if reader_says_none else None
        if any(not cell.assessable for cell in left):
            sheet.open(None, _herniation_key(level, item.side), None, grade, sheet.text("not_assessable"))
        else:
            _grade_difference(sheet, _herniation_key(level, item.side), theirs, _Ours("read", grade, item))
    if reader_says_none and not ours:
        sheet.agreements.append({"level": level, "side": None, "kind": "herniation", "type": "none"})


def _herniation_key(level: str, side: str | None) -> Key:
    return level, "herniation", side or "midline"


def _same_side(ours: str, theirs: str | None) -> bool:
    return theirs is None or ours == theirs or "both" in {ours, theirs} or "midline" in {ours, theirs}


def _herniation_only_theirs(sheet: _Sheet, level: str, cell: ReaderCell) -> None:
    key = _herniation_key(level, cell.side)
    if cell.severity in {"moderate", "severe"}:
        rule = "DC-04" if cell.severity == "severe" else "DC-07"
        sheet.differ(
            rule, key, cell.severity, "normal_mild", None if rule == "DC-04" else _reader_agreement(sheet, "herniation")
        )
    else:
        sheet.differ("DC-08", key, cell.type or cell.severity, "none")


def _compare_herniation(sheet: _Sheet, level: str, cell: ReaderCell, ours: ImagingFinding) -> None:
    key = _herniation_key(level, ours.side)
    before = len(sheet.discrepancies)
    if cell.zone is not None and ours.zone is not None and cell.zone != ours.zone:
        theirs = reach(ours.model_copy(update={"zone": cell.zone})).endangered()
        if set(theirs) != set(reach(ours).endangered()):
            sheet.differ("DC-06", key, cell.zone, ours.zone)
    if cell.type is not None and ours.type is not None and cell.type != ours.type:
        sheet.differ("DC-08", key, cell.type, ours.type, _reader_agreement(sheet, "herniation"))
    grade = severity_of(ours, sheet.imaging)[0]
    if cell.severity is not None and cell.severity != grade:
        _grade_difference(sheet, key, cell.severity, _Ours("read", grade, ours))
    if len(sheet.discrepancies) == before:
        sheet.agreements.append(
            {"level": level, "side": ours.side, "kind": "herniation", "type": ours.type, "severity": grade}
        )
