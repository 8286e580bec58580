"""The drawing of roots, findings and deficits: each on its own side and root, told apart by shape, and in words for who cannot see it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from inference.clinical import assess
from inference.exam import Exam
from inference.render.html import render_html
from inference.render.pdf import render_pdf
from inference.render.roots_svg import CENTRE, draw_roots, explained, root_of
from inference.report import Finding, Report, Withheld
from inference.roots import imaging_from_report
from tests.inference.sample_report import abstained_report, sample_report
from tests.inference.test_correlate import L5, WELL

SVG = "{http://www.w3.org/2000/svg}"
MATCH = "#b3460b"


def report(side: str = "right", language: str = "en", with_exam: bool = True) -> Report:
    other = "left" if side == "right" else "right"
    base = {"level": "L4-L5", "basis": "test", "severity": "severe"}
    found = tuple(
        Finding.model_validate(item)
        for item in (
            base | {"id": "h", "side": side, "kind": "herniation", "type": "extrusion", "zone": "subarticular"},
            base | {"id": "s", "level": "L5-S1", "side": other, "kind": "foraminal_stenosis"},
        )
    )
    held = (Withheld(level="L5-S1", side=side, kind="recess_stenosis", code="MOTION", reason="motion artefact"),)
    exam = Exam.parse(
        {side: L5 | {"umn.babinski": "present"}, other: WELL, "general": {"bb.retention": True, "time.onset_days": 9}}
    )
    result = assess(exam if with_exam else None, imaging_from_report(found, held), None, found, held, language=language)
    return sample_report(
        findings=found,
        withheld=held,
        exam=result.exam,
        concordance=result.concordance,
        triage=result.triage,
        narrative=result.narrative,
        language=language,
        disclaimer=result.disclaimer,
    )


def drawn(made: Report) -> ET.Element:
    drawing = draw_roots(made)
    assert drawing is not None
    return ET.fromstring(drawing.svg)


def marks(top: ET.Element) -> dict[str, tuple[float, str]]:
    """x and fill of the finding marks: the herniation's circle and the foramen's square."""
    circle = next(item for item in top.iter(f"{SVG}circle") if item.get("r") == "9.5")
    square = next(item for item in top.iter(f"{SVG}rect") if item.get("width") == "16")
    return {
        "herniation": (float(circle.get("cx", 0)), circle.get("fill", "")),
        "foramen": (float(square.get("x", 0)) + 8, square.get("fill", "")),
    }


@pytest.mark.parametrize(("side", "way"), [("left", 1), ("right", -1)])
def test_seen_from_the_front_the_patients_left_is_on_the_right(side: str, way: int) -> None:
    placed = marks(drawn(report(side)))
    assert (placed["herniation"][0] - CENTRE) * way > 0
    assert (placed["foramen"][0] - CENTRE) * way < 0


def test_a_matching_finding_is_filled_and_the_other_is_open() -> None:
    placed = marks(drawn(report()))
    assert placed["herniation"][1] == MATCH
    assert placed["foramen"][1] == "#ffffff"


def test_only_the_root_that_the_examination_points_to_is_thick() -> None:
    made = report()
    assert made.concordance is not None
    thick = [item for item in drawn(made).iter(f"{SVG}path") if item.get("stroke-width") == "4.5"]
    assert made.concordance.roots_implicated == ("right:L5",)
    assert len(thick) == 2  # the root and its line in the legend


def test_deficits_are_marked_by_whether_they_are_accounted_for() -> None:
    made = report()
    assert made.concordance is not None
    by_field = {item.field: item for item in made.concordance.deficits}
    assert explained(by_field["right:mrc.tibialis_anterior"])
    assert not explained(by_field["right:umn.babinski"])
    assert not explained(by_field["general:bb.retention"])
    rings = [item for item in drawn(made).iter(f"{SVG}circle") if item.get("r") == "4.2" and item.get("fill") != MATCH]
    assert len(rings) == len(made.concordance.unexplained_deficits) + 1  # and one in the legend


def test_a_deficit_stands_beside_its_root_and_an_upper_motor_neuron_sign_beside_none() -> None:
    made = report()
    assert made.concordance is not None
    roots = {item.field: root_of(item) for item in made.concordance.deficits}
    assert roots["right:mrc.tibialis_anterior"] == "L5"
    assert roots["right:umn.babinski"] is None


def test_the_words_say_what_the_drawing_shows() -> None:
    drawing = draw_roots(report())
    assert drawing is not None
    assert "Roots that the examination points to: right L5 root." in drawing.alt
    assert "L4-L5 right subarticular extrusion: " in drawing.alt
    assert "Withheld: L5-S1 right lateral recess stenosis." in drawing.alt
    assert "not accounted for: " in drawing.alt
    assert "urinary retention" in drawing.alt.partition("not accounted for: ")[2]


@pytest.mark.parametrize("language", ["de", "es"])
def test_the_drawing_speaks_the_language_of_the_report(language: str) -> None:
    drawing, english = draw_roots(report(language=language)), draw_roots(report())
    assert drawing is not None
    assert english is not None
    assert drawing.title != english.title
    assert "tibial" in drawing.alt.lower()


def test_nothing_is_drawn_without_an_examination() -> None:
    assert draw_roots(report(with_exam=False)) is None
    assert draw_roots(abstained_report()) is None


def test_page_and_pdf_carry_the_drawing_with_its_words() -> None:
    made = report()
    drawing = draw_roots(made)
    assert drawing is not None
    page = render_html(made)
    assert "data:image/svg+xml;base64," in page
    assert page.count('class="scheme"') == 1
    assert drawing.title in page
    without = report(with_exam=False)
    assert 'class="scheme"' not in render_html(without)
    assert len(render_pdf(made)) > len(render_pdf(without))


@pytest.mark.parametrize(("side", "way"), [("left", 1), ("right", -1)])
def test_roots_and_deficits_stand_on_the_side_of_the_patient(side: str, way: int) -> None:
    top = drawn(report(side))
    said = next(item for item in top.iter(f"{SVG}text") if item.text == "tibialis anterior")
    assert (float(said.get("x", 0)) - CENTRE) * way > 0
    thick = [item.get("d", "") for item in top.iter(f"{SVG}path") if item.get("stroke-width") == "4.5"]
    start = float(thick[0].removeprefix("M").partition(",")[0])
    assert (start - CENTRE) * way > 0
