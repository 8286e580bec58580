"""Who the patient is by the headers of all objects: conflicts, spellings, age, and what may be printed.

A majority never decides; attributes are those of PS3.3 C.7.1.1 and C.7.2.1. No value is ever put into a message.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from datetime import date

from dicom_io.header import Header
from dicom_io.study import PatientContext


def _fold(name: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return re.sub(r"[\s^=]+", " ", plain).strip().casefold()


def patient_conflict(headers: Sequence[Header]) -> str:
    """What says that two patients share the study UID ("" = nothing). No value is printed."""
    for keyword, values in (
        ("Patient ID", {header.patient_id for header in headers}),
        ("Issuer of Patient ID", {header.issuer_of_patient_id for header in headers}),
        ("Patient's Name", _names(headers)),
        ("Patient's Birth Date", {header.birth_date for header in headers} - {""}),
        ("Patient's Sex", {header.sex for header in headers} - {"", "O"}),
    ):
        if len(values) > 1:
            return f"{len(values)} values of {keyword}"
    return ""


def _names(headers: Sequence[Header]) -> set[str]:
    """Different persons among the names: equal bytes are one name whatever character set they claim."""
    if len({header.patient_name_bytes for header in headers}) == 1 and headers[0].patient_name_bytes:
        return {headers[0].patient_name}
    return {_fold(header.patient_name) for header in headers}


def age_years(header: Header) -> float | None:
    """Age at the study in years, by Patient's Age, else by the dates; None when neither is told."""
    told = re.fullmatch(r"(\d{3})([DWMY])", header.age)
    if told:
        return int(told.group(1)) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[told.group(2)]
    born, examined = date_of(header.birth_date), date_of(header.study_date)
    if born is None or examined is None or not born < examined:
        return None
    return examined.year - born.year - ((examined.month, examined.day) < (born.month, born.day))


def date_of(text: str) -> date | None:
    """A DICOM date (also with the dots of old objects), or None."""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", text)
    try:
        return date(*(int(part) for part in match.groups())) if match else None
    except ValueError:
        return None


def patient_context(headers: Sequence[Header], study: str) -> PatientContext:
    """Patient and study attributes of all objects, the first known value of each in order of the alphabet."""

    def known(values: list[str]) -> str:
        return min((value for value in values if value), default="")

    identity = "\0".join(
        (known([h.issuer_of_patient_id for h in headers]), known([h.patient_id for h in headers]), study)
    )
    age = re.fullmatch(r"(\d{3})Y", known([h.age for h in headers]))
    return PatientContext(
        pseudonym="P-" + hashlib.sha256(identity.encode()).hexdigest()[:10],
        patient_id=known([h.patient_id for h in headers]),
        issuer_of_patient_id=known([h.issuer_of_patient_id for h in headers]),
        patient_name=known([h.patient_name for h in headers]),
        birth_date=known([h.birth_date for h in headers]),
        sex=known([h.sex for h in headers]),
        age_years=int(age.group(1)) if age else None,
        study_date=known([h.study_date for h in headers]),
        study_time=known([h.study_time for h in headers]),
        accession_number=known([h.accession_number for h in headers]),
        study_id=known([h.study_id for h in headers]),
        referring_physician=known([h.referring_physician for h in headers]),
    )
