"""The reader's table of contents: study -> discs and their names -> axial reading -> findings -> correlation -> report.

`analyze` reads like the mission; each step lives in a module of its own. Nothing is computed after the report was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_io.errors import NoUsableSeries
from dicom_io.study import Notice, Stack, Study
from inference.assemble import (
    level_read,
    merged_maps,
    outlined_as_decided,
    pictures_of,
    study_read,
    warnings_of,
    with_roots,
)
from inference.axial_t1 import T1_ROLE, T1Herniation, read_axial_t1
from inference.clinical import Assessment, assess
from inference.clinical_words import say
from inference.competence import REASONS, withhold_doubtful
from inference.continuity import continuous
from inference.doubts import study_doubts, too_poor
from inference.exam import Exam
from inference.exam_versions import ExamVersions, check_patient
from inference.first_read import FirstRead
from inference.grade import cut_short, read_levels, without_level
from inference.localize import Localization, completes, locate_discs
from inference.provenance import GRADER, NETWORKS, NOTES, result_key, software
from inference.report import ModelUsed, Report, ReportWarning, Runtime, Withheld
from inference.roots import Imaging, imaging_from_report
from inference.segment import AxialReading, LabelMap, reading, segment_axial
from inference.side_check import SideCheck, check_sides, withhold_at_gaps, withhold_unsafe
from inference.sizes import Missing

if TYPE_CHECKING:
    from inference.render.pictures import KeyPicture
    from models.grader import Grader
    from models.mirror_scores import MirrorReader
    from models.runtime import Segmenter

Progress = Callable[[str, float], None]
_SAGITTAL_ROLES = ("sagittal_t2", "sagittal_t2_fs", "sagittal_t1")
_AXIAL_ROLES = ("axial_t2",)


@dataclass(frozen=True)
class Engine:
    """The networks, loaded once and used for any number of studies."""

    sagittal: Segmenter
    axial: Segmenter
    recess: Segmenter
    notes: MirrorReader | None = None
    """Reads herniations on axial T1; None where its weights belong to another axial network."""
    grader: Grader | None = None
    """Grades discs on sagittal T2; `load` gives the shipped one."""

    @classmethod
    def load(cls, device: str = "auto") -> Engine:
        """The shipped networks on `device` ("auto", "cpu", "cuda", "cuda:N"). Raises WeightsError, DeviceUnavailableError."""
        from models.grader import Grader
        from models.mirror_scores import MirrorReader
        from models.runtime import Segmenter

        sagittal, axial, recess = (Segmenter.load(name, device) for name in NETWORKS)
        return cls(sagittal, axial, recess, MirrorReader.load_fitting(NOTES), Grader.load(GRADER, device))

    @property
    def models(self) -> tuple[ModelUsed, ...]:
        """What the networks learned from, as the report names it."""
        cards = [*self.sagittal.cards, *self.axial.cards, *self.recess.cards]
        cards += [reader.card for reader in (self.notes, self.grader) if reader]
        return tuple(
            ModelUsed(
                name=card.name,
                version=card.version,
                sha256=card.sha256,
                trained_on=card.trained_on,
                calibrated_on=card.calibrated_on,
            )
            for card in cards
        )

    @property
    def runtime(self) -> Runtime:
        """Device and precision that were used, and what had to give way."""
        fallbacks = dict.fromkeys((*self.sagittal.fallbacks, *self.axial.fallbacks, *self.recess.fallbacks))
        return Runtime(
            device=self.sagittal.device,
            precision=self.sagittal.precision,
            engine=self.sagittal.engine,
            fallbacks=tuple(fallbacks),
        )


@dataclass(frozen=True)
class Reading:
    """A report with what it was made from: the study, the pictures that show it and the label maps behind them."""

    report: Report
    study: Study | None = None
    pictures: tuple[KeyPicture, ...] = ()
    label_maps: tuple[LabelMap, ...] = ()

    def save(
        self,
        out_dir: Path | str,
        formats: tuple[str, ...] = ("json", "html", "pdf", "seg", "sr"),
        progress: Callable[[str], None] | None = None,
    ) -> tuple[Path, ...]:
        """Write the report in `formats` into `out_dir`, whole or not at all; returns the files. `progress` hears each step begin."""
        from inference.save import save_reading

        return save_reading(self, Path(out_dir), formats, progress)


class _Steps:
    """Tells a listener which step begins and how much is done (0..1)."""

    _names = ("levels", "axial slices", "findings", "correlation", "pictures")

    def __init__(self, listener: Progress | None) -> None:
        self._listener = listener

    def begin(self, name: str) -> None:
        if self._listener:
            self._listener(name, self._names.index(name) / len(self._names))


def analyze(
    study: Study,
    exam: Exam | ExamVersions | None = None,
    first_read: FirstRead | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
    language: str = "en",
) -> Reading:
    """Read one lumbar MR study and compare it with the examination and a first reading, where given.

    A study that is no lumbar MR, or has no sagittal series, gives a report that abstains with its reason and holds no finding.
    Raises WeightsError or DeviceUnavailableError when the networks cannot be loaded, ClinicalInputError for an examination that
    names another patient.
    """
    check_patient(exam, study.patient.pseudonym)
    engine = engine or Engine.load()
    steps = _Steps(progress)
    steps.begin("levels")
    study = continuous(study)
    sagittal = study.with_role(*_SAGITTAL_ROLES)
    if not sagittal:
        reason = "no usable sagittal series: levels cannot be named"
        withheld = without_level() if study.with_role(*_AXIAL_ROLES) else ()
        return _abstained(study, engine, exam, first_read, "NO_SAGITTAL", reason, language, withheld)
    spine, stack = _with_lumbosacral(*_find_spine(sagittal, engine), sagittal, engine)
    if not spine.lumbar:
        reason = f"not read as a lumbar spine: {spine.lumbar_reason}"
        notices, withheld = _too_poor(study) if too_poor(spine, stack) else ((), ())
        return _abstained(study, engine, exam, first_read, spine.scope_code, reason, language, withheld, notices)
    steps.begin("axial slices")
    axial_stacks = study.with_role(*_AXIAL_ROLES)
    axial = segment_axial(axial_stacks, spine.discs, engine.axial, engine.recess)
    steps.begin("findings")
    on_t1 = _read_axial_t1(study, spine, axial, engine)
    findings, withheld = read_levels(spine.discs, axial, engine.axial.card, axial_t2=bool(axial_stacks), axial_t1=on_t1)
    findings, withheld = withhold_at_gaps(findings, withheld, axial)
    findings, withheld, sides = withhold_unsafe(findings, withheld, _compare_planes(sagittal, axial_stacks))
    findings, withheld, doubted = withhold_doubtful(findings, withheld, study_doubts(study, spine, stack, axial))
    steps.begin("correlation")
    imaging = imaging_from_report(findings, withheld, numbering=spine.numbering)
    assessment = assess(exam, imaging, first_read, findings, withheld, language=language)
    report = Report(
        **_provenance(study.manifest_sha256, engine, exam, first_read, language),
        study=study_read(study, spine.numbering),
        warnings=warnings_of(
            (*study.warnings, *study.excluded, *stack.warnings, *spine.warnings, *sides, *doubted, *cut_short(findings))
        ),
        levels=tuple(level_read(disc) for disc in reversed(spine.discs)),
        findings=with_roots(findings, imaging),
        withheld=withheld,
        **_clinical(assessment),
    )
    steps.begin("pictures")
    axial = outlined_as_decided(axial, report.findings)
    maps = (LabelMap(spine.label_map, stack.volume.grid, "sagittal", stack.volume), *merged_maps(axial))
    return Reading(report, study, pictures_of(report, maps[0], stack, axial), maps)


def abstain(
    refusal: NoUsableSeries,
    exam: Exam | ExamVersions | None = None,
    first_read: FirstRead | None = None,
    language: str = "en",
) -> Reading:
    """The report on an input in which no series may be measured: its reason, what was left out, no finding."""
    manifest = hashlib.sha256(str(refusal).encode()).hexdigest()
    return Reading(_abstention(manifest, None, exam, first_read, refusal.code, str(refusal), refusal.notices, language))


def _too_poor(study: Study) -> tuple[tuple[Notice, ...], tuple[Withheld, ...]]:
    """What is told, and the axial values withheld, where the sagittal pictures are too poor to find a level on."""
    told = (Notice("LOW_QUALITY", "sagittal slices: too noisy or too blurred to find the column on"),)
    if not study.with_role(*_AXIAL_ROLES):
        return told, ()
    update = {"code": "LOW_QUALITY", "reason": REASONS["LOW_QUALITY"]}
    return told, tuple(item.model_copy(update=update) for item in without_level())


def _compare_planes(sagittal: Sequence[Stack], axial: Sequence[Stack]) -> SideCheck:
    """The side check, where both planes are T2-like; other pairs look too different to compare."""
    t2 = next((stack for stack in sagittal if stack.role != "sagittal_t1"), None)
    if not axial or t2 is None:
        return SideCheck(False, False, "there are no two T2-weighted planes to compare")
    return check_sides(t2.volume, [stack.volume for stack in axial])


def _read_axial_t1(
    study: Study, spine: Localization, axial: Sequence[AxialReading], engine: Engine
) -> dict[str, T1Herniation]:
    """By level, what axial T1 slices say of a herniation, for discs that no axial T2 slice was read for."""
    stacks = study.with_role(T1_ROLE)
    read = {item.disc.name for item in axial}
    left_out = [disc for disc in spine.discs if disc.name not in read and disc.name in reading().levels.taught]
    if engine.notes is None or not stacks or not left_out:
        return {}
    found = {
        item.disc.name: read_axial_t1(item, engine.notes)
        for item in segment_axial(stacks, left_out, engine.axial, engine.recess, alone=True)
    }
    return {name: seen for name, seen in found.items() if not isinstance(seen, Missing)}


def _find_spine(stacks: Sequence[Stack], engine: Engine) -> tuple[Localization, Stack]:
    """The first stack, in order of preference, that shows a lumbar spine to both sides of its middle; else one that shows it at all.

    Else one that leaves the scope in doubt, else what the first one gave.
    """
    tried = []
    for stack in stacks:
        spine = locate_discs(stack.volume, engine.sagittal, engine.grader)
        if spine.lumbar and not spine.middle_uncertain:
            return spine, stack
        tried.append((spine, stack))
    doubtful = [item for item in tried if item[0].lumbar] + [
        item for item in tried if item[0].scope_code != "NOT_LUMBAR"
    ]
    return (doubtful or tried)[0]


def _with_lumbosacral(
    spine: Localization, stack: Stack, stacks: Sequence[Stack], engine: Engine
) -> tuple[Localization, Stack]:
    """Where the lumbosacral disc seems missed on `stack`: what another one shows that has it below the same discs, else as given."""
    if spine.lumbosacral_missed:
        for other in stacks:
            if other is not stack:
                whole = locate_discs(other.volume, engine.sagittal, engine.grader)
                if completes(whole, spine):
                    return whole, other
    return spine, stack


def _abstained(
    study: Study,
    engine: Engine,
    exam: Exam | ExamVersions | None,
    first_read: FirstRead | None,
    code: str,
    reason: str,
    language: str,
    withheld: tuple[Withheld, ...] = (),
    notices: tuple[Notice, ...] = (),
) -> Reading:
    notices = (*notices, *study.warnings, *study.excluded)
    report = _abstention(study.manifest_sha256, engine, exam, first_read, code, reason, notices, language)
    update = {"study": study_read(study, "uncertain"), "withheld": withheld}
    return Reading(report.model_copy(update=update), study)


def _abstention(
    manifest: str,
    engine: Engine | None,
    exam: Exam | ExamVersions | None,
    first_read: FirstRead | None,
    code: str,
    reason: str,
    notices: Sequence[Notice],
    language: str,
) -> Report:
    """No finding; an entered examination is triaged all the same, since what must not wait does not depend on pictures."""
    nothing_read = Imaging(numbering="uncertain", assessed=(), findings=())
    silent = {"language": language, "disclaimer": say("W-16", language).text}
    return Report(
        **_provenance(manifest, engine, exam, first_read, language),
        status="abstained",
        abstained_reason=reason,
        warnings=(ReportWarning(code=code, text=reason), *warnings_of(notices)),
        **(_clinical(assess(exam, nothing_read, language=language)) if exam else silent),
    )


def _provenance(
    manifest: str,
    engine: Engine | None,
    exam: Exam | ExamVersions | None,
    first_read: FirstRead | None,
    language: str,
) -> dict[str, Any]:
    models = engine.models if engine else ()
    key = result_key(
        manifest,
        {model.name: model.sha256 for model in models},
        exam.model_dump_json() if exam else "",
        first_read.model_dump_json() if first_read else "",
        language,
    )
    runtime = engine.runtime if engine else None
    return {"id": key[:32], "result_key": key, "software": software(), "models": models, "runtime": runtime}


def _clinical(assessment: Assessment) -> dict[str, Any]:
    names = ("language", "exam", "exam_versions", "concordance", "triage", "second_read", "narrative", "disclaimer")
    return {name: getattr(assessment, name) for name in names}
