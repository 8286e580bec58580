"""Writes a reading to a folder: report, page, PDF, key images and DICOM objects; all of them or none.

Everything is written into a hidden folder beside the target first. DICOM objects whose sources cannot be named are left out,
and the report says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from configs import anatomy
from dicom_io.errors import SourceNotReferable
from inference.level_parts import sagittal_parts
from inference.report import Finding, Measurement, Point, Report, ReportWarning

if TYPE_CHECKING:
    from dicom_io.geometry import SourceInstance, Volume
    from dicom_io.seg import SegmentReference, WrittenSegmentation
    from dicom_io.sr import MeasuredValue, Quantity, ReportedFinding
    from dicom_io.study import PatientContext
    from inference.analyze import Reading

_QUANTITY: dict[tuple[str, str], Quantity] = {
    ("recess_stenosis", "recess_mm"): "depth",
    ("recess_stenosis", "bony_mm"): "distance",
    ("canal_stenosis", "area_mm2"): "area",
    ("canal_stenosis", "ap_mm"): "diameter",
    ("herniation", "ap_mm"): "length",
}


_SHOWING = frozenset({"html", "pdf", "sc"})
"""Formats that show the key pictures."""


def save_reading(
    reading: Reading, folder: Path, formats: Sequence[str], progress: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """Write `reading` in `formats` (json, html, pdf, seg, sr, sc, fhir) into `folder`, whole or not at all; returns the files.

    Files of an earlier result in the folder are replaced. `progress` hears each step as it begins. Raises OSError when the
    folder cannot be written.
    """
    begin = progress or (lambda step: None)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".recess-", dir=folder))
    try:
        with ThreadPoolExecutor(1) as beside:  # pictures are drawn while DICOM objects are encoded
            drawn = beside.submit(_draw, reading) if _SHOWING & set(formats) else None
            report = _dicom_objects(reading, partial, formats, begin)
        if drawn is not None:
            drawn.result()
        begin("page and PDF")
        _documents(reading, report, partial, formats)
        written = sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())
        for name in written:
            (folder / name).parent.mkdir(exist_ok=True)
            (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tuple(folder / name for name in written)


def _draw(reading: Reading) -> None:
    """Have every key picture drawn: page, PDF and image files take them from there."""
    from inference.render.overlay import picture_png

    for picture in reading.pictures:
        picture_png(picture)


def _documents(reading: Reading, report: Report, folder: Path, formats: Sequence[str]) -> None:
    if "json" in formats:
        (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    if "fhir" in formats:
        from inference.fhir import bundle_text, report_bundle

        (folder / "report.fhir.json").write_text(bundle_text(report_bundle(report)), encoding="utf-8")
    if "html" in formats:
        from inference.render.html import render_html

        (folder / "report.html").write_text(render_html(report, reading.pictures), encoding="utf-8")
    if "pdf" in formats:
        from inference.render.pdf import render_pdf

        (folder / "report.pdf").write_bytes(render_pdf(report, reading.pictures))
    if _SHOWING & set(formats) and reading.pictures:
        from inference.render.overlay import picture_png

        (folder / "images").mkdir()
        for number, picture in enumerate(reading.pictures, start=1):
            name = f"{number:02d}_{picture.plane}_{picture.level or 'levels'}.png"
            (folder / "images" / name).write_bytes(picture_png(picture))


def _dicom_objects(reading: Reading, folder: Path, formats: Sequence[str], begin: Callable[[str], None]) -> Report:
    """Write SEG, SR and captures; returns the report, with a warning where they could not be written."""
    if not {"seg", "sr", "sc"} & set(formats) or reading.study is None or not reading.label_maps:
        return reading.report
    try:
        begin("segmentations")
        segmentations = _write_segs(reading, folder) if "seg" in formats else ()
        begin("structured report")
        if "sr" in formats:
            _write_sr(reading, folder, segmentations)
        if "sc" in formats:
            _write_captures(reading, folder)
    except SourceNotReferable as error:
        for path in folder.glob("*.dcm"):
            path.unlink()
        warning = ReportWarning(code=error.code, text=f"no DICOM results were written: {error}")
        return reading.report.model_copy(update={"warnings": (*reading.report.warnings, warning)})
    return reading.report


def _write_segs(reading: Reading, folder: Path) -> tuple[WrittenSegmentation, ...]:
    """One SEG a stack, since a SEG names one series: seg.dcm holds the stack of the lowest level, seg-2.dcm the next."""
    from dicom_io.seg import segments_by_level, segments_by_part, write_seg

    assert reading.study is not None
    made: list[WrittenSegmentation] = []
    for item in (*reading.label_maps[1:], reading.label_maps[0]):
        if not item.array.any():
            continue
        if item.plane == "axial":
            array, segments = segments_by_level(item.array, anatomy().axial, item.levels)
        else:
            parts = sagittal_parts(item.array, item.grid, reading.report.levels)
            array, segments = segments_by_part(item.array, anatomy().sagittal, parts)
        number = len(made) + 1
        path = folder / ("seg.dcm" if number == 1 else f"seg-{number}.dcm")
        made.append(
            write_seg(path, array, segments, item.source, reading.study, reading.report.result_key, number=number)
        )
    return tuple(made)


def _write_sr(reading: Reading, folder: Path, segmentations: Sequence[WrittenSegmentation]) -> None:
    from dicom_io.sr import write_sr

    if not reading.report.findings or reading.study is None:
        return
    volumes = [item.source for item in reading.label_maps]
    findings = [_reported(finding, reading, segmentations) for finding in reading.report.findings]
    key = reading.report.result_key
    write_sr(folder / "sr.dcm", findings, volumes, reading.study, key, segmentations=segmentations)


def _write_captures(reading: Reading, folder: Path) -> None:
    """The key images as secondary captures, and the PDF encapsulated."""
    from dicom_io.captures import write_capture, write_encapsulated_pdf
    from inference.render.overlay import draw_picture
    from inference.render.pdf import render_pdf

    assert reading.study is not None
    key = reading.report.result_key
    volumes = [item.source for item in reading.label_maps]
    for number, picture in enumerate(reading.pictures, start=1):
        pixels = np.asarray(draw_picture(picture).convert("RGB"))
        corner = picture.affine[:3, 3]
        place = _instance(volumes, picture.source_instance, (float(corner[0]), float(corner[1]), float(corner[2])))
        source = place[0] if place else None
        write_capture(folder / f"capture-{number:02d}.dcm", pixels, reading.study, key, number, picture.title, source)
    pdf = render_pdf(reading.report, reading.pictures, dated=_moment(reading.study.patient))
    write_encapsulated_pdf(folder / "report-pdf.dcm", pdf, reading.study, key)


def _moment(patient: PatientContext) -> datetime:
    """Date of the study: what a document that is kept in an archive is dated by, so that making it again gives the same bytes."""
    try:
        return datetime.strptime(patient.study_date, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return datetime(1900, 1, 1, tzinfo=UTC)


def _reported(finding: Finding, reading: Reading, segmentations: Sequence[WrittenSegmentation]) -> ReportedFinding:
    from dicom_io.sr import ReportedFinding

    volumes = [item.source for item in reading.label_maps]
    seen = [
        (point, place)
        for point, uid in _seen_at(finding, reading)
        if (place := _instance(volumes, uid, point)) is not None
    ]
    return ReportedFinding(
        identifier=finding.id,
        kind=finding.kind,
        level=finding.level,
        laterality=finding.side if finding.side in ("left", "right") else None,
        severity=finding.severity,
        probability=finding.probability,
        measurements=tuple(
            _measured(finding, item, volumes) for item in finding.measurements if (finding.kind, item.name) in _QUANTITY
        ),
        images=tuple(dict.fromkeys(instance for _, (instance, _) in seen)),
        segment=_segment_of(finding, segmentations, {instance for _, (instance, _) in seen}),
        place=(seen[0][0], seen[0][1][1]) if seen else None,
    )


def _seen_at(finding: Finding, reading: Reading) -> list[tuple[Point, str | None]]:
    """Where a finding was seen: its evidence, else the middle of its disc on the sagittal slice that lies nearest."""
    if finding.evidence:
        return [(item.point_lps, item.sop_instance_uid) for item in finding.evidence]
    return [(level.disc_centre_lps, None) for level in reading.report.levels if level.name == finding.level]


def _segment_of(
    finding: Finding, segmentations: Sequence[WrittenSegmentation], seen: set[SourceInstance]
) -> SegmentReference | None:
    """The segment that shows a finding, drawn on an image it was seen on where there is one; else the disc of its level."""
    if finding.kind == "recess_stenosis":
        structures = [f"recess_{finding.side}"]
    elif finding.kind == "canal_stenosis":
        structures = ["thecal_sac"]
    else:
        structures = ["herniated_material", "disc"] if finding.flagged else ["disc"]
    for structure in structures:
        found = [item for one in segmentations if (item := one.reference(structure, finding.level)) is not None]
        if found:
            return max(found, key=lambda item: len(seen & set(item.images)))
    return None


def _measured(finding: Finding, item: Measurement, volumes: Sequence[Volume]) -> MeasuredValue:
    from dicom_io.sr import MeasuredValue

    place = _instance(volumes, item.source_instance, item.points_lps[0] if item.points_lps else None)
    return MeasuredValue(
        quantity=_QUANTITY[finding.kind, item.name],
        value=item.value,
        unit="mm2" if item.unit == "mm2" else "mm",
        points_lps=item.points_lps,
        frame_of_reference_uid=place[1] if place else "",
        source=place[0] if place else None,
    )


def _instance(volumes: Sequence[Volume], uid: str | None, point: Point | None) -> tuple[SourceInstance, str] | None:
    """The source image with this UID and its frame of reference; of several frames, or without a UID, the one nearest `point`.

    Without a UID only sagittal images are looked at: what has no evidence of its own was seen there.
    """
    best: tuple[float, SourceInstance, str] | None = None
    for volume in volumes:
        if uid is None and volume.plane != "sagittal":
            continue
        at = 0.0 if point is None else float(volume.grid.to_index(np.array(point))[0])
        for index, instance in enumerate(volume.instances):
            if uid is not None and instance.sop_instance_uid != uid:
                continue
            distance = abs(index - at) if point is not None else 0.0
            if best is None or distance < best[0]:
                best = (distance, instance, volume.frame_of_reference_uid)
    return None if best is None else (best[1], best[2])
