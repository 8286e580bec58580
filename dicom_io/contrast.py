"""Tells T1, T2 and fat-suppressed T2 apart by the pixels alone (placeholder numbers)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_io.geometry import Volume


@dataclass(frozen=True)
class Seen:
    weighting: str
    reason: str


def weigh(volume: Volume) -> Seen:
    return Seen("other", "content not judged")
