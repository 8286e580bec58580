"""A realistic report and key pictures made by hand, for tests of what is rendered. All values are invented."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from dicom_io.geometry import Grid, SourceInstance, Volume
from inference.render.pictures import KeyPicture, axial_pictures, sagittal_picture
from inference.report import (
    Alternative,
    Concordance,
    Contradiction,
    Disagreement,
    Discrepancy,
    Evidence,
    ExamRead,
    Finding,
    FindingVerdict,
    LevelRead,
    Measurement,
    MissingItem,
    ModelUsed,
    Plane,
    Position,
    Report,
    ReportWarning,
    RootBelief,
    Runtime,
    SecondRead,
    Section,
    Sentence,
    SeriesRead,
    Software,
    StudyRead,
    Triage,
    TriageRule,
    Withheld,
)

AXIAL_UID = "2.25.100.{}"
LEVELS = ("L3-L4", "L4-L5", "L5-S1")
CENTRES = {"L3-L4": (0.0, -12.0, 36.0), "L4-L5": (0.0, -14.0, 0.0), "L5-S1": (0.0, -8.0, -36.0)}


def axial_volume() -> Volume:
    """Nine axial slices around L4-L5 (0.6 mm pixels, 4 mm apart) with a bright sac and a dark disc, stored head first."""
    rows = columns = 240
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 0] = (0, 0, -4.0)
    affine[:3, 1] = (0, 0.6, 0)
    affine[:3, 2] = (0.6, 0, 0)
    affine[:3, 3] = (-72.0, -80.0, 16.0)
    grid = Grid((9, rows, columns), affine)
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:rows, 0:columns] * 0.6 + np.array([-80.0, -72.0])[:, None, None]
    slice_ = 90 + 25 * np.sin(x / 9) * np.cos(y / 7)
    slice_[(x / 62) ** 2 + ((y + 8) / 66) ** 2 > 1] = 4
    slice_[(x / 26) ** 2 + ((y + 14) / 17) ** 2 < 1] = 45
    slice_[(x / 8) ** 2 + ((y - 10) / 6) ** 2 < 1] = 230
    array = np.stack([slice_ + rng.normal(0, 8, slice_.shape) for _ in range(9)]).astype(np.float32)
    instances = tuple(SourceInstance(AXIAL_UID.format(i + 1)) for i in range(9))
    return Volume(array, grid, instances, series_instance_uid="2.25.100")


def axial_labels(volume: Volume) -> np.ndarray:
    """Label map of `axial_volume` with the numbers of anatomy.toml, herniated material on the patient's right."""
    labels = np.zeros(volume.grid.shape, dtype=np.uint8)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in volume.grid.shape), indexing="ij"), axis=-1)
    lps = volume.grid.to_lps(index.astype(float))
    x, y, z = lps[..., 0], lps[..., 1], lps[..., 2]
    near = np.abs(z) < 6
    labels[near & ((x / 26) ** 2 + ((y + 14) / 17) ** 2 < 1)] = 1
    labels[near & ((x / 8) ** 2 + ((y - 10) / 6) ** 2 < 1)] = 3
    labels[near & (((x + 8) / 6) ** 2 + ((y - 3.5) / 3.6) ** 2 < 1) & (labels == 0)] = 2
    labels[near & (((x - 12) / 3.5) ** 2 + ((y - 8) / 3) ** 2 < 1) & (labels == 0)] = 4
    labels[near & (((x + 12) / 3.5) ** 2 + ((y - 10) / 1.6) ** 2 < 1) & (labels == 0)] = 5
    labels[near & (((np.abs(x) - 20) / 6) ** 2 + ((y - 16) / 7) ** 2 < 1) & (labels == 0)] = 6
    return labels


def sagittal_volume() -> tuple[Volume, np.ndarray]:
    """Seven sagittal slices stored from the patient's left to right, columns running front to back, and their labels."""
    rows, columns = 260, 200
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 0] = (-4.0, 0, 0)
    affine[:3, 1] = (0, 0, -0.7)
    affine[:3, 2] = (0, 0.7, 0)
    affine[:3, 3] = (12.0, -80.0, 90.0)
    grid = Grid((7, rows, columns), affine)
    y = np.arange(columns) * 0.7 - 80
    z = 90 - np.arange(rows)[:, None] * 0.7
    image = np.full((rows, columns), 60.0)
    labels = np.zeros((rows, columns), dtype=np.uint8)
    body = np.abs(y + 12) < 18
    for centre in range(-54, 91, 36):
        near = (np.abs(z - centre) < 12) & body
        image[near], labels[near] = 150, 1
    for centre in (36, 0, -36):
        near = (np.abs(z - centre) < 5) & (np.abs(y + 11) < 19)
        image[near], labels[near] = 40, 2
    canal = np.broadcast_to(np.abs(y - 14) < 6, image.shape)
    image[canal], labels[canal] = 210, 3
    rng = np.random.default_rng(3)
    array = np.stack([image + rng.normal(0, 6, image.shape) for _ in range(7)]).astype(np.float32)
    volume = Volume(array, grid, tuple(SourceInstance(f"2.25.200.{i + 1}") for i in range(7)), "2.25.200")
    return volume, np.stack([labels] * 7)


def level_reads() -> tuple[LevelRead, ...]:
    return tuple(
        LevelRead(
            name=name,
            basis="counted upward from the lumbosacral junction",
            confidence=0.93,
            disc_centre_lps=CENTRES[name],
            mid_plane=Plane(point=CENTRES[name], normal=(0.0, 0.1, 0.995)),
        )
        for name in LEVELS
    )


def findings() -> tuple[Finding, ...]:
    """Right L4-L5 extrusion with a narrow right recess; everything else that was read is not flagged."""
    here = Evidence(sop_instance_uid=AXIAL_UID.format(5), point_lps=(-8.0, 4.0, 0.0), series_instance_uid="2.25.100")

    def measured(
        name: str, value: float, unit: str, a: tuple[float, float, float], b: tuple[float, float, float]
    ) -> Any:
        return Measurement(
            name=name,
            value=value,
            unit=unit,
            uncertainty=0.6 if unit == "mm" else 9.0,
            points_lps=(a, b),
            source_instance=AXIAL_UID.format(5),
            borderline=1.5 < value < 2.5,
        )

    simulated = "simulated images only"
    return (
        Finding(
            id="L4-L5.herniation",
            level="L4-L5",
            side="right",
            zone="subarticular",
            kind="herniation",
            type="extrusion",
            severity="severe",
            probability=0.94,
            measurements=(measured("herniation_ap_mm", 7.2, "mm", (-8.0, 0.0, 0.0), (-8.0, 7.2, 0.0)),),
            evidence=(here,),
            basis="real images",
            roots_at_risk=("right:L5",),
        ),
        Finding(
            id="L4-L5.recess.right",
            level="L4-L5",
            side="right",
            zone="subarticular",
            kind="recess_stenosis",
            severity="severe",
            probability=0.88,
            interval=(0.71, 0.96),
            measurements=(measured("recess_mm", 1.9, "mm", (-12.0, 8.4, 0.0), (-12.0, 11.6, 0.0)),),
            evidence=(here,),
            basis=simulated,
            roots_at_risk=("right:L5",),
        ),
        Finding(
            id="L4-L5.recess.left",
            level="L4-L5",
            side="left",
            zone="subarticular",
            kind="recess_stenosis",
            severity="normal_mild",
            probability=0.06,
            measurements=(measured("recess_mm", 5.8, "mm", (12.0, 5.0, 0.0), (12.0, 10.8, 0.0)),),
            evidence=(here,),
            basis=simulated,
        ),
        Finding(
            id="L4-L5.canal",
            level="L4-L5",
            side="midline",
            zone="central",
            kind="canal_stenosis",
            severity="normal_mild",
            probability=0.12,
            measurements=(measured("area_mm2", 142.0, "mm2", (0.0, 4.0, 0.0), (0.0, 16.0, 0.0)),),
            evidence=(here,),
            basis=simulated,
        ),
        Finding(
            id="L5-S1.herniation",
            level="L5-S1",
            side="midline",
            zone="central",
            kind="herniation",
            type="none",
            severity="normal_mild",
            probability=0.08,
            basis="real images",
        ),
        Finding(
            id="L5-S1.canal",
            level="L5-S1",
            side="midline",
            kind="canal_stenosis",
            severity="normal_mild",
            basis=simulated,
        ),
    )


def sample_report(**changes: Any) -> Report:
    """A full report with an examination; `changes` replace top-level fields."""
    fields: dict[str, Any] = {
        "id": "b1c5e0f2a7d94c31",
        "created_at": datetime(2026, 3, 4, 9, 30, tzinfo=UTC),
        "result_key": "9f" * 32,
        "software": Software(
            version="0.1.0", commit="1bc6f7f", configs_sha256="ab" * 32, libraries={"torch": "2.13.0", "monai": "1.6.1"}
        ),
        "models": (
            ModelUsed(
                name="axial",
                version="1",
                sha256="cd" * 32,
                trained_on="phantoms and outlines",
                calibrated_on="phantoms",
            ),
        ),
        "runtime": Runtime(device="cpu", precision="float32", engine="torch"),
        "study": StudyRead(
            pseudonym="P-5f3a91c2",
            study_instance_uid="2.25.1",
            manifest_sha256="ef" * 32,
            numbering="certain",
            series=(
                SeriesRead(
                    role="sagittal_t2",
                    reason="sagittal by orientation; TE 102 ms and TR 3400 ms are those of T2",
                    series_instance_uid="2.25.200",
                    slices=7,
                    spacing_mm=(4.0, 0.7, 0.7),
                    orientation="sagittal",
                ),
                SeriesRead(
                    role="axial_t2",
                    reason="axial by orientation; the sac is brighter than fat",
                    series_instance_uid="2.25.100",
                    slices=9,
                    spacing_mm=(4.0, 0.6, 0.6),
                    orientation="axial",
                    warnings=("MODALITY_ABSENT",),
                ),
            ),
        ),
        "warnings": (
            ReportWarning(code="MODALITY_ABSENT", text="Modality is missing; judged by content.", series="2.25.100"),
        ),
        "levels": level_reads(),
        "findings": findings(),
        "withheld": (
            Withheld(
                level="L5-S1",
                side="left",
                kind="recess_stenosis",
                code="NOT_COVERED",
                reason="axial slices do not cover the level",
            ),
            Withheld(
                level="L5-S1",
                side="right",
                kind="recess_stenosis",
                code="NOT_COVERED",
                reason="axial slices do not cover the level",
            ),
        ),
        "exam": ExamRead(
            summary="Right: tibialis anterior 3, extensor hallucis longus 2; L5 light touch reduced.",
            derived={"foot_drop": "right"},
            not_examined=("left:mrc.peronei", "general:bb.anal_tone"),
            contradictions=(Contradiction(id="Q-01", fields=("right:mrc.tibialis_anterior", "right:fn.heel_walk")),),
        ),
        "concordance": Concordance(
            verdict="concordant",
            rules_fired=("DX-01", "V-01", "S-01"),
            per_finding=(
                FindingVerdict(
                    finding_id="L4-L5.herniation",
                    verdict="explains",
                    rules=("V-01",),
                    reasons=("lies on the route of the right L5 root",),
                ),
            ),
            roots=(
                RootBelief(root="L5", side="right", p_exam_only=0.71, p_with_imaging=0.837),
                RootBelief(root="S1", side="right", p_exam_only=0.05, p_with_imaging=0.023),
            ),
            roots_implicated=("right:L5",),
            alternatives=(
                Alternative.model_validate(
                    {
                        "name": "common peroneal neuropathy",
                        "p": 0.09,
                        "for": ("tibialis anterior weak",),
                        "against": ("tibialis posterior weak",),
                    }
                ),
            ),
            unexplained_deficits=("right:sen.S1",),
            missing=(MissingItem(field="right:mrc.gluteus_medius", expected_information=0.21),),
            next_tests=("needle study of tibialis posterior",),
            adequacy=0.78,
        ),
        "triage": Triage(
            tier="T2",
            rules=(
                TriageRule(
                    id="TR-06",
                    text="Fields recorded here are ones for which the sources ask for urgent specialist assessment within days.",
                    inputs={"right:mrc.tibialis_anterior": "3", "general:time.onset_days": 10},
                    source="S000, S003",
                ),
            ),
            disagreements=(
                Disagreement(
                    id="SD-01",
                    subject="operation timing, severe or progressive",
                    positions=(
                        Position(source="S002", says="hours to days"),
                        Position(source="S003", says="consultation within 2 weeks"),
                    ),
                    shown="the more urgent tier, all quoted",
                ),
            ),
        ),
        "second_read": SecondRead(
            agreements=({"level": "L4-L5", "side": "right", "kind": "herniation", "value": "severe"},),
            discrepancies=(
                Discrepancy(
                    id="DC-01",
                    level="L4-L5",
                    side="right",
                    kind="recess_stenosis",
                    theirs=None,
                    ours="severe",
                    weight=10.0,
                    direction="the program sees more",
                ),
            ),
            not_comparable=({"level": "L5-S1", "side": "left", "kind": "recess_stenosis", "reason": "withheld"},),
        ),
        "narrative": (
            Section(
                section="what must not wait", sentences=(Sentence(id="W-11", text="Triage T2: tibialis anterior 3."),)
            ),
            Section(
                section="does the image explain the deficit",
                sentences=(
                    Sentence(id="W-05", text="Imaging and examination: concordant."),
                    Sentence(id="W-01", text="Extrusion at L4-L5 lies on the route of the right L5 root."),
                ),
            ),
            Section(
                section="what stays unexplained",
                sentences=(
                    Sentence(id="W-07", text="Not accounted for by the imaging findings: right S1 light touch."),
                ),
            ),
            Section(
                section="what was not examined or not read",
                sentences=(
                    Sentence(id="W-09", text="Not examined: left peronei, anal tone."),
                    Sentence(id="W-10", text="L5-S1 left: value withheld: axial slices do not cover the level."),
                ),
            ),
        ),
        "disclaimer": "Research software, not a medical device. It does not diagnose and does not advise treatment.",
    }
    return Report.model_validate(fields | changes)


def quiet_report() -> Report:
    """A report without an examination and without any flag."""
    calm = tuple(finding for finding in findings() if not finding.flagged)
    return sample_report(
        findings=calm, exam=None, concordance=None, triage=None, second_read=None, narrative=(), warnings=()
    )


def abstained_report() -> Report:
    """A report on images that are not a lumbar spine."""
    return sample_report(
        status="abstained",
        abstained_reason="not a lumbar spine: no column of at least four discs was found",
        findings=(),
        withheld=(),
        levels=(),
        exam=None,
        concordance=None,
        triage=None,
        second_read=None,
        narrative=(),
    )


def sample_pictures(language: str = "en") -> tuple[KeyPicture, ...]:
    """The sagittal picture with disc names and the axial one of L4-L5."""
    axial = axial_volume()
    labels = axial_labels(axial)
    sagittal, sagittal_labels = sagittal_volume()
    levels = level_reads()
    return (
        sagittal_picture(sagittal, sagittal_labels, levels, language=language),
        *axial_pictures(axial, labels, levels[1], findings(), language=language),
    )
