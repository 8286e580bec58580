"""Reads what was handed in into studies: objects from the decoding child, series into stacks, stacks into roles.

Nothing is decided by file order, names or descriptions; whatever is left out is told with a code and a remedy.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from configs.loader import limits
from dicom_io.codes import ALL, OBJECT_WARNINGS, notice
from dicom_io.errors import NoUsableSeries, SeveralStudies, UnreadableInput
from dicom_io.frames import Slice, slices_of
from dicom_io.geometry import FloatArray
from dicom_io.header import Header
from dicom_io.identity import age_years, date_of, patient_conflict, patient_context
from dicom_io.intake import opened
from dicom_io.isolation import Examined, examine_all
from dicom_io.pixels import has_text, is_blank, is_clipped, pixels_of
from dicom_io.roles import Judged, judge, rank
from dicom_io.stacks import Run, sort_series, volume_of
from dicom_io.study import Notice, Stack, Study

_LOCALIZER = "localizer: few slices in mixed planes, or named so by the scanner"

# PS3.3 C.7.3.1.1.2: head or feet first, or lying across; prone, supine, decubitus right or left
_PATIENT_POSITIONS = frozenset(
    {"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"}
    | {f"{first}{second}" for first in ("LF", "RF", "AF", "PF") for second in ("P", "S", "DR", "DL")}
)

_WITHOUT_MM = frozenset({"NO_PIXEL_SPACING", "NUMBER_INVALID"})

Source = Path | str | Sequence[Path | str]

# An input in which every object has one of these codes holds no readable DICOM; all other codes leave a header that was read.
_UNREADABLE = frozenset(
    {
        "EMPTY",
        "NOT_DICOM",
        "TRUNCATED",
        "LENGTH_INVALID",
        "DEPTH",
        "TOO_MANY_ELEMENTS",
        "ELEMENT_TOO_LARGE",
        "TOO_LARGE",
    }
    | {"LIMIT", "DECOMPRESSION_LIMIT", "UID_MISSING", "TAG_DUPLICATE", "VR_INVALID", "TRAILING_BYTES", "SYNTAX_UNKNOWN"}
    | {
        "SYNTAX_MISMATCH",
        "PIXEL_LENGTH",
        "INTERNAL",
        "IO",
        "NOT_REGULAR",
        "ARCHIVE_INVALID",
        "ARCHIVE_LIMIT",
        "NOT_EXAMINED",
    }
    | {"CHILD_TIME", "CHILD_DIED", "CHILD_PROTOCOL"}
)


def read_study(source: Source) -> Study:
    """The one study in a folder (searched through), zip, file or list of these.

    Raises UnreadableInput (no readable DICOM), NoUsableSeries (nothing that may be measured), SeveralStudies.
    """
    outcomes = read_outcomes(source)
    if len(outcomes) > 1:
        raise SeveralStudies(
            f"{_name(source)} holds {len(outcomes)} studies; hand them in one by one or use read_studies",
            code="SEVERAL_STUDIES",
        )
    if isinstance(outcomes[0], NoUsableSeries):
        raise outcomes[0]
    return outcomes[0]


def read_studies(source: Source) -> list[Study]:
    """All usable studies of the input, by study UID. Raises like read_study when none is usable."""
    outcomes = read_outcomes(source)
    studies = [outcome for outcome in outcomes if isinstance(outcome, Study)]
    if not studies:
        raise next(outcome for outcome in outcomes if isinstance(outcome, NoUsableSeries))
    return studies


def read_outcomes(source: Source) -> list[Study | NoUsableSeries]:
    """One outcome a study, by study UID: the study, or the error that says why it cannot be used.

    Raises UnreadableInput when no readable DICOM object is in the input at all.
    """
    name = _name(source)
    with opened(source) as entries:
        by_name = {entry.name: entry for entry in entries}
        examined = list(examine_all(entries))
        studies = {item.verdict.header.study_instance_uid for item in examined if item.verdict.header is not None}
        waiting = {item.verdict.header.study_instance_uid for item in examined if _other(item) and item.verdict.header}
        for study in sorted(waiting):
            positions = [at for at, item in enumerate(examined) if _other(item) and _study(item) == study]
            again = examine_all([by_name[examined[at].name] for at in positions], study)
            for at, item in zip(positions, again, strict=True):
                examined[at] = item
    lost = tuple(_object_notice(item) for item in examined if item.verdict.header is None)
    if not studies:
        readable = [item for item in examined if item.verdict.code not in _UNREADABLE]
        if not readable:
            raise UnreadableInput(_unreadable_text(name, examined), code="UNREADABLE", notices=lost)
        first = _object_notice(readable[0])
        raise NoUsableSeries(f"{readable[0].name}: {first.text}", code=first.code, notices=lost)
    broken = [item for item in examined if item.verdict.header is not None]
    if all(item.verdict.state != "accepted" and item.verdict.code in _UNREADABLE for item in broken):
        raise UnreadableInput(
            _unreadable_text(name, examined),
            code="UNREADABLE",
            notices=tuple(_object_notice(i) for i in examined if i.verdict.code),
        )
    crossed = _crossed(examined)
    reused = _reused_series(examined)
    return [
        _refusal("SOP_UID_CROSS_PATIENT", study, [*lost, *crossed[study]])
        if study in crossed
        else _outcome(study, [i for i in examined if _study(i) == study], lost, reused)
        for study in sorted(studies)
    ]


def _other(item: Examined) -> bool:
    return item.verdict.other_study


def _study(item: Examined) -> str | None:
    return item.verdict.header.study_instance_uid if item.verdict.header is not None else None


def _name(source: Source) -> str:
    if isinstance(source, str | Path):
        return Path(source).name
    return ", ".join(Path(item).name for item in list(source)[:3]) or "nothing"


def _unreadable_text(name: str, examined: Sequence[Examined]) -> str:
    if not examined:
        return f"{name}: the folder or archive is empty; hand in the study's DICOM files"
    first = _object_notice(examined[0])
    return f"{name}: none of {len(examined)} files is a readable DICOM object ({examined[0].name}: {first.text})"


def _object_notice(item: Examined) -> Notice:
    return notice(item.verdict.code, path=item.name)


def _reused_series(examined: Sequence[Examined]) -> set[str]:
    owners: dict[str, set[str]] = defaultdict(set)
    for item in examined:
        if item.verdict.header is not None:
            owners[item.verdict.header.series_instance_uid].add(item.verdict.header.study_instance_uid)
    return {series for series, studies in owners.items() if len(studies) > 1}


def _crossed(examined: Sequence[Examined]) -> dict[str, list[Notice]]:
    """Studies that hold a SOP Instance UID which another patient's study holds too, with the objects in question."""
    owners: dict[str, list[Examined]] = defaultdict(list)
    for item in examined:
        if item.verdict.header is not None:
            owners[item.verdict.header.sop_instance_uid].append(item)
    found: dict[str, list[Notice]] = defaultdict(list)
    for items in owners.values():
        headers = [item.verdict.header for item in items if item.verdict.header is not None]
        if len({header.study_instance_uid for header in headers}) > 1 and patient_conflict(headers):
            for item in items:
                found[_study(item) or ""].append(notice("SOP_UID_CROSS_PATIENT", _series(item), item.name))
    return found


def _outcome(study: str, objects: list[Examined], lost: tuple[Notice, ...], reused: set[str]) -> Study | NoUsableSeries:
    """Build one study from its objects, or say why it cannot be used."""
    excluded = list(lost)
    excluded += [replace(_object_notice(i), series_instance_uid=_series(i)) for i in objects if i.verdict.code]
    accepted = _distinct([item for item in objects if item.verdict.state == "accepted"])
    headers = [item.verdict.header for item in objects if item.verdict.header is not None]
    conflict = patient_conflict(headers)
    if conflict:
        return _refusal("PATIENT_CONFLICT", study, excluded, conflict)
    if any(age is not None and age < limits().scope.min_age_years for age in map(age_years, headers)):
        return _refusal("AGE_SCOPE", study, excluded)
    warnings = _study_warnings(accepted, headers)
    taken: list[Examined] = []
    for item in accepted:
        if _series(item) in reused:
            excluded.append(notice("SERIES_UID_REUSED", _series(item), item.name))
        else:
            taken.append(item)
    taken, conflicting = _without_uid_conflicts(taken)
    excluded += conflicting
    stacks: list[Stack] = []
    for series in sorted({_series(item) or "" for item in taken}):
        made, left = _series_stacks(series, [item for item in taken if _series(item) == series])
        stacks += made
        excluded += left
    excluded = _gathered(excluded)
    roles = rank(stacks)
    if not any(stack.role != "localizer" for stack in stacks):
        return _refusal(_why_nothing(headers, stacks, excluded), study, excluded)
    if len({stack.volume.frame_of_reference_uid for stack in stacks if stack.role != "localizer"}) > 1:
        warnings.append(notice("FOR_MISMATCH"))
    return Study(
        study_instance_uid=study,
        patient=patient_context(headers, study),
        stacks=tuple(stacks),
        excluded=tuple(excluded),
        warnings=tuple(warnings),
        manifest_sha256=hashlib.sha256("\n".join(sorted(item.digest for item in accepted)).encode()).hexdigest(),
        objects=len(accepted),
        roles=roles,
    )


def _series(item: Examined) -> str | None:
    return item.verdict.header.series_instance_uid if item.verdict.header is not None else None


def _refusal(code: str, study: str, excluded: Sequence[Notice], detail: str = "") -> NoUsableSeries:
    reasons = sorted({item.code for item in excluded if item.series_instance_uid})
    tail = f" Left out: {', '.join(reasons)}." if reasons else ""
    lead = f"Study {study}" + (f", {detail}" if detail else "")
    return NoUsableSeries(f"{lead}: {ALL[code]}{tail}", code=code, notices=tuple(excluded), study_instance_uid=study)


def _why_nothing(headers: Sequence[Header], stacks: Sequence[Stack], excluded: Sequence[Notice]) -> str:
    if not any(header.modality in ("MR", "") and header.has_pixels for header in headers):
        return "NO_MR"
    if not stacks and "SOP_UID_CONFLICT" in {item.code for item in excluded}:
        return "INCOMPLETE"
    if {item.code for item in excluded} and {item.code for item in excluded} <= _WITHOUT_MM:
        return "NO_MM"
    return "NO_USABLE_SERIES"


def _distinct(objects: Sequence[Examined]) -> list[Examined]:
    """One of each digest, in the order of digests: the same file twice is one object."""
    return [item for _, item in sorted({item.digest: item for item in reversed(objects)}.items())]


def _study_warnings(accepted: Sequence[Examined], headers: Sequence[Header]) -> list[Notice]:
    found: list[Notice] = []
    for code in OBJECT_WARNINGS:
        count = sum(code in item.verdict.warnings for item in accepted)
        if count:
            found.append(notice(code, detail=f"{count} of {len(accepted)} objects"))
    if any(not header.modality for header in headers):
        found.append(notice("MODALITY_ABSENT"))
    if not any(header.patient_id for header in headers):
        found.append(notice("PATIENT_ID_EMPTY"))
    if len({header.patient_name for header in headers}) > 1 and len({h.patient_name_bytes for h in headers}) > 1:
        found.append(notice("NAME_VARIANT"))
    positions = {header.patient_position for header in headers if header.has_pixels} - {""}
    if len(positions) > 1 or not positions <= _PATIENT_POSITIONS:
        found.append(notice("POSITION_TAG"))
    low, high = limits().scope.field_strength_tesla
    strengths = [header.field_strength for header in headers if header.field_strength is not None]
    if not all(low <= strength <= high for strength in strengths):
        found.append(notice("PROTOCOL"))
    if len({header.accession_number for header in headers} - {""}) > 1:
        found.append(notice("ACCESSION_VARIANT"))
    days = [day for day in (date_of(header.study_date) for header in headers) if day is not None]
    if days and max(days) - min(days) > timedelta(days=1):
        found.append(notice("STUDY_DATE_SPREAD"))
    places: dict[str, set[str | None]] = defaultdict(set)
    for item in accepted:
        if item.verdict.header is not None:
            places[item.verdict.header.sop_instance_uid].add(_series(item))
    if any(len(series) > 1 for series in places.values()):
        found.append(notice("SOP_UID_REPEATED"))
    return found


def _without_uid_conflicts(objects: Sequence[Examined]) -> tuple[list[Examined], list[Notice]]:
    """Different images under one SOP Instance UID of one series: none of them can be told to be the right one."""
    groups: dict[tuple[str, str], list[Examined]] = defaultdict(list)
    for item in objects:
        if item.verdict.header is not None:
            groups[(item.verdict.header.series_instance_uid, item.verdict.header.sop_instance_uid)].append(item)
    kept = [group[0] for group in groups.values() if len(group) == 1]
    left = [
        notice("SOP_UID_CONFLICT", key[0], item.name)
        for key, group in groups.items()
        if len(group) > 1
        for item in group
    ]
    return kept, left


def _series_stacks(series: str, objects: Sequence[Examined]) -> tuple[list[Stack], list[Notice]]:
    left: list[Notice] = []
    slices: list[Slice] = []
    for item in objects:
        good, bad = slices_of(item)
        left += [notice(code, series, item.name) for code in bad]
        for slice_ in good:
            code = "BLANK" if is_blank(slice_) else "SATURATED" if is_clipped(slice_) else ""
            if code:
                left.append(notice(code, series, item.name))
            else:
                slices.append(slice_)
    if not slices:
        return [], left
    sorted_ = sort_series(slices, series)
    made: list[tuple[Run, Stack]] = []
    for run in sorted_.runs:
        planes, code = pixels_of(run)
        if planes is None:
            left.append(notice(code, series, detail=f"{len(run.slices)} images"))
        else:
            made.append((run, _stack(run, planes, series)))
    judged = judge([stack for run, stack in made if not run.localizer], slices[0].header)
    roles = iter(judged)
    stacks = [
        replace(stack, role="localizer", reason=_LOCALIZER, warnings=())
        if run.localizer
        else _with_role(stack, next(roles))
        for run, stack in made
    ]
    return stacks, left + sorted_.excluded


def _with_role(stack: Stack, judged: Judged) -> Stack:
    told = tuple(notice(code, stack.series_instance_uid) for code in judged.codes)
    return replace(stack, role=judged.role, reason=judged.reason, warnings=stack.warnings + told)


def _stack(run: Run, planes: FloatArray, series: str) -> Stack:
    """The run as a stack whose role is not judged yet."""
    header = run.slices[0].header
    frames = [item.frame for item in run.slices]
    return Stack(
        volume=volume_of(run, planes),
        role="other",
        reason="",
        series_instance_uid=series,
        series_number=header.series_number,
        description=header.description,
        echo_time_ms=_median([frame.echo_time for frame in frames]),
        repetition_time_ms=_median([frame.repetition_time for frame in frames]),
        inversion_time_ms=_median([frame.inversion_time for frame in frames]),
        warnings=tuple(notice(code, series) for code in dict.fromkeys(run.codes + _written_over(run))),
    )


def _written_over(run: Run) -> tuple[str, ...]:
    return ("BURNED_IN",) if any(has_text(item) for item in run.slices) else ()


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and value > 0]
    return float(np.quantile(known, 0.5)) if known else None  # np.median loads all of numpy.ma at its first call


def _gathered(notices: Sequence[Notice]) -> list[Notice]:
    """One notice per series and code, naming the first object and how many there are."""
    groups: dict[tuple[str, str | None], list[Notice]] = defaultdict(list)
    for item in notices:
        groups[(item.code, item.series_instance_uid)].append(item)
    gathered: list[Notice] = []
    for group in groups.values():
        first = min(group, key=lambda item: (item.path or "", item.text))
        more = len([item for item in group if item.path]) - 1
        gathered.append(replace(first, text=f"{first.text} ({more + 1} objects)") if more > 0 else first)
    return sorted(gathered, key=lambda item: (item.series_instance_uid or "", item.code, item.text))
