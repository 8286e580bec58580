"""Writes a reading to a folder: report, page, PDF, key images and DICOM objects; all of them or none.

Everything is written into a hidden folder beside the target first. DICOM objects whose sources cannot be named are left out,
and the report says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from configs import anatomy
from dicom_io.errors import SourceNotReferable
from inference.report import Finding, Measurement, Report, ReportWarning

if TYPE_CHECKING:
    from dicom_io.geometry import SourceInstance, Volume
    from dicom_io.sr import MeasuredValue, Quantity, ReportedFinding
    from inference.analyze import Reading

_QUANTITY: dict[tuple[str, str], Quantity] = {
    ("recess_stenosis", "recess_mm"): "depth",
    ("recess_stenosis", "bony_mm"): "distance",
    ("canal_stenosis", "area_mm2"): "area",
    ("canal_stenosis", "ap_mm"): "diameter",
    ("herniation", "ap_mm"): "length",
}


def save_reading(reading: Reading, folder: Path, formats: Sequence[str]) -> tuple[Path, ...]:
    """Write `reading` in `formats` (json, html, pdf, seg, sr, sc, fhir) into `folder`, whole or not at all; returns the files.

    Files of an earlier result in the folder are replaced. Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".recess-", dir=folder))
    try:
        report = _dicom_objects(reading, partial, formats)
        _documents(reading, report, partial, formats)
        written = sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())
        for name in written:
            (folder / name).parent.mkdir(exist_ok=True)
            (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tuple(folder / name for name in written)


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
    if {"html", "pdf", "sc"} & set(formats) and reading.pictures:
        from inference.render.overlay import picture_png

        (folder / "images").mkdir()
        for number, picture in enumerate(reading.pictures, start=1):
            name = f"{number:02d}_{picture.plane}_{picture.level or 'levels'}.png"
            (folder / "images" / name).write_bytes(picture_png(picture))


def _dicom_objects(reading: Reading, folder: Path, formats: Sequence[str]) -> Report:
    """Write SEG, SR and captures; returns the report, with a warning where they could not be written."""
    if not {"seg", "sr", "sc"} & set(formats) or reading.study is None or not reading.label_maps:
        return reading.report
    try:
        segmentations = _write_segs(reading, folder) if "seg" in formats else ()
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


def _write_segs(reading: Reading, folder: Path) -> tuple[Path, ...]:
    """One SEG a stack, since a SEG names one series: seg.dcm holds the stack of the lowest level, seg-2.dcm the next."""
    from dicom_io.seg import segments_by_level, write_seg

    assert reading.study is not None
    paths: list[Path] = []
    for item in (*reading.label_maps[1:], reading.label_maps[0]):
        if not item.array.any():
            continue
        axial = item.plane == "axial"
        labels = anatomy().axial if axial else anatomy().sagittal
        array, segments = segments_by_level(item.array, labels, item.levels if axial else (None,) * item.array.shape[0])
        number = len(paths) + 1
        path = folder / ("seg.dcm" if number == 1 else f"seg-{number}.dcm")
        write_seg(path, array, segments, item.source, reading.study, reading.report.result_key, number=number)
        paths.append(path)
    return tuple(paths)


def _write_sr(reading: Reading, folder: Path, segmentations: Sequence[Path]) -> None:
    from dicom_io.sr import write_sr

    if not reading.report.findings or reading.study is None:
        return
    volumes = [item.source for item in reading.label_maps]
    findings = [_reported(finding, volumes) for finding in reading.report.findings]
    key = reading.report.result_key
    write_sr(folder / "sr.dcm", findings, volumes, reading.study, key, segmentations=segmentations)


def _write_captures(reading: Reading, folder: Path) -> None:
    """The key images as secondary captures, and the PDF encapsulated."""
    from dicom_io.captures import write_capture, write_encapsulated_pdf
    from inference.render.overlay import draw_picture
    from inference.render.pdf import render_pdf

    assert reading.study is not None
    key = reading.report.result_key
    for number, picture in enumerate(reading.pictures, start=1):
        pixels = np.asarray(draw_picture(picture).convert("RGB"))
        write_capture(folder / f"capture-{number:02d}.dcm", pixels, reading.study, key, number, picture.title)
    pdf = render_pdf(reading.report, reading.pictures)
    write_encapsulated_pdf(folder / "report-pdf.dcm", pdf, reading.study, key)


def _reported(finding: Finding, volumes: Sequence[Volume]) -> ReportedFinding:
    from dicom_io.sr import ReportedFinding

    places = [_instance(volumes, item.sop_instance_uid) for item in finding.evidence]
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
        images=tuple(dict.fromkeys(place[0] for place in places if place is not None)),
    )


def _measured(finding: Finding, item: Measurement, volumes: Sequence[Volume]) -> MeasuredValue:
    from dicom_io.sr import MeasuredValue

    place = _instance(volumes, item.source_instance)
    return MeasuredValue(
        quantity=_QUANTITY[finding.kind, item.name],
        value=item.value,
        unit="mm2" if item.unit == "mm2" else "mm",
        points_lps=item.points_lps,
        frame_of_reference_uid=place[1] if place else "",
        source=place[0] if place else None,
    )


def _instance(volumes: Sequence[Volume], uid: str | None) -> tuple[SourceInstance, str] | None:
    """The source image with this UID and its frame of reference."""
    for volume in volumes:
        for instance in volume.instances:
            if instance.sop_instance_uid == uid:
                return instance, volume.frame_of_reference_uid
    return None
