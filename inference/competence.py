"""Knowing when not to: doubts about pictures, body and operation, each with its code, and what is withheld or told for it.

A doubt names what it touches (level, side, kinds); values it touches become withheld, all others stay. Measures come from the pictures
(inference/image_quality.py) and from what the networks labelled; limits and their source: configs/competence.toml.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict

from configs import anatomy, config_path, load_toml
from dicom_io.study import Notice
from inference.report import Finding, Kind, Withheld


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PictureLimits(_Part):
    least_snr_axial: float
    least_snr_sagittal: float
    least_sharp: float
    largest_stripe: float
    largest_dash: float
    largest_shift_axial: float
    largest_shift_sagittal: float
    largest_entropy: float
    motion_ripple: float
    smoothed_snr: float
    motion_sharp: float
    fold: float


class MetalLimits(_Part):
    dark_sagittal: float
    opening_mm: float
    largest_void_sagittal_mm2: float
    lateral_mm: float
    posterior_mm: float
    levels_beside: int


class OperationLimits(_Part):
    least_flavum_mm2: float
    midline_mm: float


class ColumnDoubtLimits(_Part):
    slip_mm: float
    scoliosis_deg: float
    oblique_deg: float
    wedge_ratio: float
    wedge_to_others: float
    marrow_to_disc: float
    canal_at_body: float
    fat_bright: float
    fat_to_neighbours: float
    least_fat_mm: float


class MimicLimits(_Part):
    cyst_mm2: float
    cyst_opening_mm: float
    cyst_bright: float
    fluid_bright: float
    fat_bright: float
    fat_share: dict[str, float]


class Competence(_Part):
    """Limits of the doubts; configs/competence.toml."""

    picture: PictureLimits
    metal: MetalLimits
    operation: OperationLimits
    column: ColumnDoubtLimits
    mimic: MimicLimits


@cache
def competence() -> Competence:
    """The shipped limits. ConfigError when the file does not fit."""
    return load_toml(config_path("competence.toml"), Competence)


STENOSIS: tuple[Kind, ...] = ("recess_stenosis", "canal_stenosis")
ALL: tuple[Kind, ...] = ("herniation", *STENOSIS)

REASONS = {
    "MOTION": "motion artefact",
    "METAL": "metal artefact",
    "ARTEFACT": "image artefact",
    "LOW_QUALITY": "image quality too low",
    "OOD": "out-of-distribution input",
    "POSTOP": "the level seems to have been operated on",
    "LEVEL_AMBIGUOUS": "numbering uncertain",
    "SCOLIOSIS": "slices too oblique to the curved spine",
    "SLIP": "uncovered disc beside a slipped vertebra",
    "MIMIC_UNCERTAIN": "what fills the canal is of uncertain kind",
}
"""The sentence of each code that withholds, as the catalogue (configs/clinical/words.*.toml, [withheld]) has it."""

SENTENCES = {
    "MOTION": "The patient moved or ghosts lie over the picture; values of that level or series are withheld. Repeat the series.",
    "METAL": "Metal hides or distorts the picture here; values of the level and its neighbours are withheld.",
    "ARTEFACT": "Stripes, a line of radio noise, folded tissue or displaced fat lie over the picture; values there are withheld.",
    "LOW_QUALITY": "The picture is too noisy or too blurred to measure on; values there are withheld.",
    "OOD": "The picture is unlike those that the networks learned from; values there are withheld.",
    "POSTOP": "The level seems to have been operated on; stenosis is not graded there and nothing is said of a recurrence.",
    "LEVEL_AMBIGUOUS": "Four or six vertebrae may be of lumbar type; both names of each disc are shown and values are withheld.",
    "SLIP": "A vertebra lies further forward or back than the next; uncovered disc is not called an extrusion there.",
    "SCOLIOSIS": "The spine is curved to the side by more than the limit; values on slices too oblique to it are withheld.",
    "OUTSIDE_SCOPE_FINDING": "Something is seen that the program does not read: body height, marrow or canal; look at the pictures.",
    "MIMIC_UNCERTAIN": "Something beside the sac looks like fluid or fat, not like disc; the values that it touches are withheld.",
}
"""What each code means and what to do, as docs/withholding.md prints it."""


@dataclass(frozen=True)
class Doubt:
    """One doubt: its code, what it touches, and a sentence for the report. `level` None: all levels; `side` None: both.

    `kinds` are withheld (empty: only told), with `types` only herniations of these types. `told` False: no warning of its own.
    """

    code: str
    text: str
    level: str | None = None
    side: str | None = None
    kinds: tuple[Kind, ...] = ()
    types: tuple[str, ...] = ()
    told: bool = True

    def touches(self, finding: Finding) -> bool:
        """Whether a finding must be withheld for it."""
        if finding.kind not in self.kinds or self.level not in (None, finding.level):
            return False
        if self.types and finding.type not in self.types:
            return False
        return self.side is None or finding.kind != "recess_stenosis" or finding.side == self.side


def withhold_doubtful(
    findings: Sequence[Finding], withheld: Sequence[Withheld], doubts: Iterable[Doubt]
) -> tuple[tuple[Finding, ...], tuple[Withheld, ...], tuple[Notice, ...]]:
    """Take back what the doubts touch; the first doubt of a finding gives its code. Returns also the warnings for the report."""
    doubts = tuple(doubts)
    kept, lost = [], []
    for finding in findings:
        reason = next((doubt for doubt in doubts if doubt.touches(finding)), None)
        if reason is None:
            kept.append(finding)
            continue
        lost.append(
            Withheld(
                level=finding.level,
                side=finding.side if finding.kind == "recess_stenosis" else None,
                kind=finding.kind,
                code=reason.code,
                reason=REASONS[reason.code],
            )
        )
    texts: dict[str, list[str]] = {}
    for doubt in doubts:
        if doubt.told:
            places = texts.setdefault(doubt.code, [])
            if doubt.text not in places:
                places.append(doubt.text)
    notices = tuple(Notice(code, "; ".join(told)) for code, told in texts.items())
    return tuple(kept), (*withheld, *lost), notices


def beside(level: str, reach: int) -> tuple[str, ...]:
    """A level and those up to `reach` above and below it."""
    names = list(anatomy().levels)
    place = names.index(level)
    return tuple(names[max(place - reach, 0) : place + reach + 1])
