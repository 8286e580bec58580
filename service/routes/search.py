"""Answers of DICOMweb searches (PS3.18 10.6): which kept studies, series and objects match, and what is shown of them.

Matching: exact, ranges of dates, and * and ? in names. An attribute that cannot be matched is an error and is not ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.problems import Problem
from service.received import Group, Kept, Objects, dicom_json

_STUDY = {
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "AccessionNumber": "00080050",
    "ReferringPhysicianName": "00080090",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "StudyInstanceUID": "0020000D",
    "StudyID": "00200010",
}
_MODALITIES, _SERIES_COUNT, _INSTANCE_COUNT, _SERIES_INSTANCES = "00080061", "00201206", "00201208", "00201209"
_SERIES = {
    "Modality": "00080060",
    "SeriesDescription": "0008103E",
    "SeriesInstanceUID": "0020000E",
    "SeriesNumber": "00200011",
}
_INSTANCE = {
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
    "NumberOfFrames": "00280008",
    "Rows": "00280010",
    "Columns": "00280011",
}
_STUDY_SEARCH = _STUDY | {"ModalitiesInStudy": _MODALITIES}
_TEXT = frozenset({"PN", "LO", "SH"})


class Search(BaseModel):
    """What does not match attributes: paging. Which attributes are shown is fixed, fuzzy matching is not done."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(default=200, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)
    includefield: list[str] = []
    fuzzymatching: bool = False


def found_studies(objects: Objects, search: Search, asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """Studies that match, in the order of their UIDs."""
    matches = _matcher(asked, _STUDY_SEARCH)
    return _page((shown for shown in map(_study, objects.groups("study")) if matches(shown)), search)


def found_series(objects: Objects, study: str | None, search: Search, asked: Mapping[str, str]) -> list[dict[str, Any]]:
    """Series that match, of one study or of all."""
    matches = _matcher(asked, _STUDY | _SERIES)
    return _page((shown for shown in map(_series, objects.groups("series", study)) if matches(shown)), search)


def found_instances(
    objects: Objects, study: str | None, series: str | None, search: Search, asked: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Objects that match, of one series, of one study or of all."""
    matches = _matcher(asked, _STUDY | _SERIES | _INSTANCE)
    return _page((shown for shown in map(_instance, objects.find(study, series)) if matches(shown)), search)


def _study(group: Group) -> dict[str, Any]:
    return _only(group.attributes, _STUDY) | {
        _MODALITIES: dicom_json("CS", group.modalities),
        _SERIES_COUNT: dicom_json("IS", [group.series]),
        _INSTANCE_COUNT: dicom_json("IS", [group.instances]),
    }


def _series(group: Group) -> dict[str, Any]:
    return _only(group.attributes, _STUDY | _SERIES) | {_SERIES_INSTANCES: dicom_json("IS", [group.instances])}


def _instance(kept: Kept) -> dict[str, Any]:
    syntax = dicom_json("UI", [kept.transfer_syntax_uid])
    return _only(kept.attributes, _STUDY | _SERIES | _INSTANCE) | {"00083002": syntax}


def _only(attributes: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    return {tag: attributes[tag] for tag in sorted(tags.values()) if tag in attributes}


def _page(found: Iterable[dict[str, Any]], search: Search) -> list[dict[str, Any]]:
    return list(found)[search.offset : search.offset + search.limit]


def _matcher(asked: Mapping[str, str], tags: Mapping[str, str]) -> Callable[[dict[str, Any]], bool]:
    """Whether a data set matches what was asked. Raises Problem 400 for an attribute that this level cannot match."""
    known = {**tags, **{tag: tag for tag in tags.values()}}
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise Problem(
            400, "ATTRIBUTE", f"{len(unknown)} attributes cannot be matched here; known are {', '.join(tags)}"
        )
    wanted = [(known[name], value) for name, value in asked.items() if value not in ("", "*")]
    return lambda shown: all(_matches(shown.get(tag, {}), value) for tag, value in wanted)


def _matches(attribute: Mapping[str, Any], wanted: str) -> bool:
    vr = str(attribute.get("vr", ""))
    values = [value["Alphabetic"] if isinstance(value, dict) else str(value) for value in attribute.get("Value", [])]
    if vr == "UI":
        return bool({uid.strip() for uid in re.split(r"[,\\]", wanted)} & set(values))
    if vr == "DA" and "-" in wanted:
        first, last = wanted.split("-", 1)
        return any((not first or first <= value) and (not last or value <= last) for value in values)
    if vr in _TEXT and ("*" in wanted or "?" in wanted):
        pattern = re.compile(translate(wanted.replace("[", "[[]")), re.IGNORECASE)
        return any(pattern.fullmatch(value) for value in values)
    return any(value.casefold() == wanted.casefold() if vr == "PN" else value == wanted for value in values)
