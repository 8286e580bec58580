"""The report as page, PDF and terminal text: what must be there, what must never be there."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pydantic
import pytest
from rich.console import Console

from configs.clinical import words as catalogue
from inference.clinical_words import forbidden
from inference.exam import Exam
from inference.render.answers import wait_answer
from inference.render.html import render_html
from inference.render.page import page_of
from inference.render.pdf import render_pdf
from inference.render.text import print_summary
from inference.render.wording import field_text, probability_text, value_of_field
from inference.report import Report, ReportWarning
from inference.roots import Imaging
from inference.triage import triage
from tests.inference.sample_report import abstained_report, quiet_report, sample_pictures, sample_report

NO_FLAG = catalogue().sentence["none_flagged"]


class _Visible(HTMLParser):
    """Text between tags, style left out, and what the page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._style = tag == "style"
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action", "data"}]

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)


def _visible(report: Report, pictures: bool = False) -> _Visible:
    parser = _Visible()
    parser.feed(render_html(report, sample_pictures() if pictures else ()))
    return parser


def _words(report: Report) -> str:
    return " ".join(" ".join(_visible(report).words).split())


def test_page_gives_each_flag_its_level_side_severity_millimetres_uncertainty_and_probability_with_basis() -> None:
    words = _words(sample_report())
    for expected in (
        "L4-L5 right lateral recess stenosis",
        "severe",
        "recess depth 1.9 ± 0.6 mm (borderline)",
        "0.88 (0.71 to 0.96) simulated images only",
    ):
        assert expected in words


def test_page_answers_before_it_explains() -> None:
    words = _words(sample_report())
    order = ["What must not wait", "Does the image explain the deficit", "What was flagged", "Flags", "Withheld"]
    places = [words.index(text) for text in order]
    assert places == sorted(places)
    assert "T2" in words
    assert "concordant" in words


def test_narrative_comes_in_the_order_of_the_report() -> None:
    report = sample_report()
    turned = report.model_copy(update={"narrative": report.narrative[::-1]})
    assert [part.heading for part in page_of(turned).parts if part.sentences] == [
        s.section for s in report.narrative[::-1]
    ]


def test_page_names_the_rule_and_the_fields_behind_the_tier() -> None:
    words = _words(sample_report())
    assert "TR-06" in words
    assert "right tibialis anterior MRC 3" in words
    assert "S000, S003" in words


def test_withheld_values_stand_apart_with_their_reason() -> None:
    page = page_of(sample_report())
    assert [(row.level, row.side, row.code) for row in page.withheld] == [
        ("L5-S1", "left", "NOT_COVERED"),
        ("L5-S1", "right", "NOT_COVERED"),
    ]
    assert "axial slices do not cover the level" in _words(sample_report())
    assert 'class="withheld"' in render_html(sample_report())


def test_study_without_flag_says_so_and_never_that_it_is_normal() -> None:
    for words in (_words(quiet_report()), _terminal(quiet_report())):
        assert NO_FLAG.lower().rstrip(".") in words.lower()
        assert not re.search(r"\bnormal\b(?! or mild)", words)


def test_study_in_which_every_value_is_withheld_is_not_called_free_of_flags() -> None:
    words = _words(sample_report(findings=(), concordance=None))
    assert NO_FLAG not in words
    assert "nothing read" in words
    assert "Values withheld: 2." in words


def test_abstained_study_has_a_reason_and_says_nothing_about_the_spine() -> None:
    words = _words(abstained_report())
    assert "not a lumbar spine: no column of at least four discs was found" in words
    assert NO_FLAG not in words
    assert "says nothing about the spine" in words


def test_report_without_examination_says_that_none_was_entered() -> None:
    assert _words(quiet_report()).count("No examination was entered.") == 2


def test_differences_from_the_first_read_are_listed_and_silence_is_not_read_as_normal() -> None:
    words = _words(sample_report())
    assert words.index("Against the first read") < words.index("Does the image explain the deficit", 400)
    assert "not mentioned" in words


def test_posterior_probabilities_of_roots_and_causes_are_not_printed() -> None:
    report = sample_report()
    assert report.concordance is not None
    printed = _words(report) + _terminal(report)
    for root in report.concordance.roots:
        assert f"{root.p_with_imaging:.2f}" not in printed
        assert f"{root.p_with_imaging:.0%}" not in printed


def test_text_from_outside_is_escaped() -> None:
    hostile = "<script>alert(1)</script> #emoji $x$ *bold* \\ \u202e"
    report = sample_report(warnings=(ReportWarning(code="X", text=hostile),))
    assert "<script" not in render_html(report)
    assert "alert(1)" in _words(report)
    assert render_pdf(report).startswith(b"%PDF")


def test_page_stands_alone_without_script_or_outside_address() -> None:
    seen = _visible(sample_report(), pictures=True)
    assert not {"script", "iframe", "object", "link", "form"} & set(seen.tags)
    assert seen.addresses
    assert all(address.startswith("data:image/png;base64,") for address in seen.addresses)


def test_every_image_on_the_page_has_a_text() -> None:
    page = render_html(sample_report(), sample_pictures())
    images = re.findall(r"<img [^>]*>", page)
    assert len(images) == len(sample_pictures())
    assert all(re.search(r'alt="[^"]{40,}"', image) for image in images)


def test_page_states_versions_hashes_and_disclaimer() -> None:
    report = sample_report()
    words = _words(report)
    for expected in (report.result_key, report.software.configs_sha256, report.models[0].sha256, report.disclaimer):
        assert expected in words


def test_report_json_is_read_again_as_the_same_report() -> None:
    for report in (sample_report(), quiet_report(), abstained_report()):
        assert Report.model_validate_json(report.to_json()) == report


def test_pdf_is_tagged_and_archivable_and_the_same_every_time() -> None:
    report, pictures = sample_report(), sample_pictures()
    pdf = render_pdf(report, pictures)
    assert pdf == render_pdf(report, pictures)
    assert b"pdfuaid" in pdf
    assert b"/StructTreeRoot" in pdf
    assert b"<pdfaid:part>2</pdfaid:part>" in pdf


def test_pdf_is_made_of_every_kind_of_report() -> None:
    for report in (quiet_report(), abstained_report(), sample_report(second_read=None, exam=None)):
        assert render_pdf(report).startswith(b"%PDF")


def _terminal(report: Report, files: tuple[Path, ...] = ()) -> str:
    stream = io.StringIO()
    print_summary(Console(file=stream, width=150), report, files)
    return " ".join(stream.getvalue().split())


def test_terminal_shows_flags_millimetres_verdict_triage_withheld_and_files() -> None:
    words = _terminal(sample_report(), (Path("out/report.html"),))
    for expected in ("L4-L5 right", "1.9 ± 0.6", "concordant", "T2", "NOT_COVERED", "out/report.html"):
        assert expected in words


def test_fields_of_the_examination_are_printed_in_words() -> None:
    assert field_text("right:mrc.tibialis_anterior") == "right tibialis anterior"
    assert "saddle" in field_text("general:bb.saddle")
    assert value_of_field("right:mrc.tibialis_anterior", "3") == "right tibialis anterior MRC 3"
    assert value_of_field("general:bb.anal_tone", None).endswith("not examined")


def test_nothing_that_the_program_may_never_say_is_on_the_page() -> None:
    for report in (sample_report(), quiet_report(), abstained_report()):
        for text in _visible(report).words:
            assert forbidden(text) == () or text == report.disclaimer, text


def test_probability_is_never_printed_as_certain() -> None:
    certain = sample_report().findings[0].model_copy(update={"probability": 1.0, "interval": (0.0, 1.0)})
    assert probability_text(certain) == ">0.99 (<0.01 to >0.99)"


def test_abstained_report_cannot_hold_a_finding() -> None:
    with pytest.raises(pydantic.ValidationError, match="abstained"):
        sample_report(status="abstained", abstained_reason="x")


def test_without_an_examination_the_first_answer_says_that_nothing_was_entered() -> None:
    images = Imaging.parse({"assessed": [], "findings": []})
    blank = wait_answer(triage(Exam(), images), examined=False)
    assert blank.word == "T3, nothing entered"
    assert "No examination was entered." in blank.line
    assert "fever" not in blank.line
    narrow = {"level": "L4-L5", "side": "midline", "condition": "canal_stenosis", "severity": "severe"}
    raised = wait_answer(triage(Exam(), Imaging.parse({"assessed": ["L4-L5"], "findings": [narrow]})), examined=False)
    assert raised.word == "T2"
    assert raised.line.startswith("No examination was entered. From the images: ")
