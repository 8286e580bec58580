"""German and Spanish from catalogues with the keys of the English one; what is never said is never said in any of them."""

from __future__ import annotations

import html
import io
import json
import re
import string
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from configs.clinical import Words, exam_table, languages, words
from inference.clinical import Assessment, assess
from inference.clinical_words import ForbiddenWordsError, entry, forbidden, quoted, say
from inference.exam import Exam
from inference.exam_versions import ExamVersions
from inference.narrate import narrate_without_exam
from inference.render.html import render_html
from inference.render.page import page_of
from inference.render.pdf import compiler_of, render_pdf
from inference.render.roots_svg import draw_roots
from inference.render.text import correlation_summary, print_summary
from inference.report import Finding, Report
from inference.roots import Imaging, imaging_from_report
from inference.second_read import FirstRead
from inference.triage import triage
from tests.inference.case_generator import random_exam, random_imaging, strings
from tests.inference.sample_report import sample_pictures, sample_report
from tests.inference.test_correlate import L5, WELL, finding

OTHERS = ("de", "es")
PARTS = tuple(name for name in Words.model_fields if name != "forbidden")


def judged(language: str, **general: object) -> Assessment:
    exam = Exam.parse({"left": WELL, "right": L5, "general": general})
    images = {
        "assessed": ["L4-L5"],
        "findings": [
            finding(),
            {"level": "L5-S1", "side": "left", "condition": "recess_stenosis", "withheld": "motion artefact"},
        ],
    }
    return assess(exam, Imaging.parse(images), language=language)


def texts(result: Assessment) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for section in result.narrative:
        for item in section.sentences:
            out.setdefault(item.id, []).append(item.text)
    return out


def test_english_german_and_spanish_are_there() -> None:
    assert languages() == ("en", "de", "es")


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("part", PARTS)
def test_each_sentence_has_the_names_of_its_english_twin(language: str, part: str) -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, other = getattr(words(), part), getattr(words(language), part)
    assert {key: names(text) for key, text in other.items()} == {key: names(text) for key, text in english.items()}
    assert not [key for key, text in other.items() if forbidden(text, language)]


@pytest.mark.parametrize("language", OTHERS)
def test_every_field_of_the_form_has_a_name(language: str) -> None:
    assert set(words(language).field) == {field.id for field in exam_table().field}
    assert {item.rule for item in words(language).forbidden} == {item.rule for item in words().forbidden}


def _without_words(result: Assessment) -> tuple[Any, ...]:
    """What an answer says apart from its wording: verdicts, ids, beliefs, tier, and the inputs of every rule."""
    assert result.concordance is not None
    parts = result.concordance.model_dump(exclude={"patterns", "next_tests", "alternatives", "per_finding"})
    causes = [(item.name, item.side, item.p) for item in result.concordance.alternatives]
    verdicts = [(item.finding_id, item.verdict, item.rules) for item in result.concordance.per_finding]
    patterns = [(item.id, item.side) for item in result.concordance.patterns]
    rules = [(item.id, item.tier, set(item.inputs)) for item in result.triage.rules]
    return parts, causes, verdicts, patterns, result.triage.tier, rules


@pytest.mark.parametrize("language", OTHERS)
def test_verdict_tier_and_sentences_are_those_of_the_english_answer(language: str) -> None:
    here, english = judged(language, **{"rf.fever": True}), judged("en", **{"rf.fever": True})
    assert _without_words(here) == _without_words(english)
    assert list(texts(here)) == list(texts(english))
    assert texts(here)["W-01"] != texts(english)["W-01"]
    assert here.narrative[-1].sentences[-1].text == here.disclaimer == words(language).sentence["W-16"]


def test_a_german_answer_names_roots_fields_and_reasons_in_german() -> None:
    said = texts(judged("de"))
    assert said["W-01"][0].startswith(
        "L4-L5 Extrusion subartikulär rechts (schwer) liegt auf dem Weg von Wurzel L5 rechts"
    )
    assert said["W-10"] == ["L5-S1 Rezessusstenose links: Wert zurückgehalten: Bewegungsartefakt."]
    assert "Tibialis anterior rechts" in entry("right:mrc.tibialis_anterior", "3", "de")
    assert entry("left:pul.pedal", "absent", "de") == "Fußpulse links fehlt"


def test_a_spanish_answer_names_roots_fields_and_reasons_in_spanish() -> None:
    said = texts(judged("es"))
    assert "la raíz L5 a la derecha" in said["W-01"][0]
    assert said["W-10"] == [
        "L5-S1 estenosis del receso lateral a la izquierda: valor retenido: artefacto de movimiento."
    ]


@pytest.mark.parametrize(
    ("language", "text", "rule"),
    [
        ("de", "Damit ist ein Bandscheibenvorfall ausgeschlossen.", "F-01"),
        ("de", "Das Bild schließt eine Enge aus.", "F-01"),
        ("de", "Die Diagnose lautet Radikulopathie.", "F-02"),
        ("de", "Das Bein muss bald operiert werden.", "F-03"),
        ("de", "Die Untersuchung ist unauffällig.", "F-04"),
        ("de", "Das ist harmlos.", "F-05"),
        ("de", "Mit 80 % Wahrscheinlichkeit.", "F-06"),
        ("de", "Die Prognose ist gut.", "F-07"),
        ("de", "Der Wert wurde korrigiert auf 4.", "F-08"),
        ("de", "Ein Sequester ist nachgewiesen.", "F-09"),
        ("es", "Se descarta una hernia.", "F-01"),
        ("es", "El diagnóstico es radiculopatía.", "F-02"),
        ("es", "Se recomienda cirugía.", "F-03"),
        ("es", "La exploración es normal.", "F-04"),
        ("es", "Puede esperar.", "F-05"),
        ("es", "Con 80 % de probabilidad.", "F-06"),
        ("es", "Pronóstico bueno.", "F-07"),
        ("es", "El valor fue corregido.", "F-08"),
        ("es", "Lesión confirmada.", "F-09"),
    ],
)
def test_what_is_never_said_is_never_said_in_any_language(language: str, text: str, rule: str) -> None:
    assert rule in forbidden(text, language)
    assert quoted(text, language) == words(language).sentence["quote_withheld"]
    with pytest.raises(ForbiddenWordsError, match=rule):
        say("next_test", language, text=text)


@pytest.mark.parametrize("language", OTHERS)
def test_drawn_cases_can_be_told(language: str) -> None:
    for seed in range(150):
        result = assess(random_exam(seed), random_imaging(seed), language=language)
        said = texts(result)
        assert "W-16" in said, seed
        assert result.exam is not None
        assert ("W-09" in said) == bool(result.exam.not_examined), seed
        for text in (item for group in said.values() for item in group):
            assert not forbidden(text, language), (seed, text)


@pytest.mark.parametrize("language", languages())
def test_without_an_examination_the_tier_says_that_nothing_was_entered(language: str) -> None:
    images = Imaging.parse({"findings": [], "assessed": []})
    said = narrate_without_exam((), (), images, triage(Exam(), images), language)
    urgent = next(section for section in said if section.key == "urgent")
    assert "no_exam_tier" in [item.id for item in urgent.sentences]


def test_a_catalogue_with_a_missing_key_is_refused(tmp_path: Path) -> None:
    from configs.clinical import _keys

    shipped = Path(__file__).parents[2] / "configs" / "clinical" / "words.de.toml"
    content = tomllib.loads(shipped.read_text(encoding="utf-8"))
    del content["sentence"]["W-10"]
    assert "sentence.W-10" in _keys(words()) - _keys(Words.model_validate(content))


def _pieces(text: str) -> list[str]:
    """Wording between the filled-in names, without regard to case."""
    return [piece.strip(" .,:;()").lower() for piece in re.split(r"\{[^}]*\}", text)]


@cache
def _only_english(language: str) -> set[str]:
    """Pieces of English catalogue wording, two words or more, that the other catalogue holds nowhere."""
    own = " | ".join(text.lower() for part in PARTS for text in getattr(words(language), part).values())
    pieces = (piece for part in PARTS for text in getattr(words(), part).values() for piece in _pieces(text))
    return {piece for piece in pieces if " " in piece and len(piece) >= 8 and piece not in own}


def _leaks(said: Iterable[str], language: str) -> list[str]:
    english = _only_english(language)
    return [piece for text in said for piece in english if piece in " ".join(text.lower().split())]


@cache
def full_report(language: str) -> Report:
    """A report with everything a page can hold: flags, withheld values, contradictions, a panel, a first read, versions."""
    findings = (*sample_report().findings, _canal())
    withheld = sample_report().withheld
    imaging = imaging_from_report(findings, withheld)
    general = {"time.onset_days": 5, "rf.fever": True, "time.course": "stable", "emg.days_after_onset": 10}
    right = L5 | {"fn.heel_walk": "able", "umn.babinski": "present", "fn.flail_foot": True, "emg.paraspinal": "normal"}
    first = Exam.parse({"right": right, "general": general | {"meta.locked_at": "2026-01-05T10:00"}})
    exam = ExamVersions(
        versions=(first, Exam.parse({"right": right | {"mrc.gluteus_medius": "5"}, "general": general}))
    )
    read = FirstRead.parse(
        {
            "L4-L5": {
                "recess_stenosis": {"left": "severe"},
                "canal_stenosis": "moderate",
                "herniation": {"left": "severe"},
            }
        }
    )
    told = assess(exam, imaging, read, findings, withheld, language=language)
    names = ("language", "exam", "exam_versions", "concordance", "triage", "second_read", "narrative", "disclaimer")
    return sample_report(**{name: getattr(told, name) for name in names})


def _canal() -> Finding:
    data = {"id": "c", "level": "L3-L4", "side": "midline", "kind": "canal_stenosis", "severity": "severe"}
    return Finding.model_validate(data | {"basis": "real images"})


def _page_texts(report: Report) -> list[str]:
    """All that is read on the page: text, alternative texts and labels; and what a terminal prints."""
    page = re.sub(r"<style>.*?</style>", "", render_html(report, sample_pictures(report.language)), flags=re.DOTALL)
    # what the reader of the files and the models says of itself is not translated
    page = re.sub(r'<ul lang="en">.*?</ul>|<section class="provenance">.*?</section>', "", page, flags=re.DOTALL)
    page = re.sub(r"src=\"data:[^\"]*\"", "", page)
    stream = io.StringIO()
    print_summary(Console(file=stream, width=400), report)
    texts = re.findall(r">([^<>]+)<", page) + re.findall(r'(?:alt|aria-label)="([^"]*)"', page)
    return [html.unescape(text) for text in texts] + stream.getvalue().splitlines()


@pytest.mark.parametrize("language", OTHERS)
def test_no_english_wording_is_left_on_a_page_in_another_language(language: str) -> None:
    report = full_report(language)
    drawing = draw_roots(report)
    assert drawing is not None
    said = [*_page_texts(report), drawing.alt, *re.findall(r">([^<>]+)<", drawing.svg)]
    assert len(said) > 200
    assert _leaks(said, language) == []
    assert f'<html lang="{language}">' in render_html(report)


def test_an_english_page_would_be_found_out() -> None:
    assert len(set(_leaks(_page_texts(full_report("en")), "de"))) > 60


@pytest.mark.parametrize("language", OTHERS)
def test_no_english_wording_is_left_in_an_answer_in_another_language(language: str) -> None:
    """Everything that leaves as data: triage rules, reasons, causes, patterns, tests, differences and sentences."""
    report = full_report(language)
    assert report.second_read is not None
    assert report.triage is not None
    assert report.triage.disagreements
    parts = [part for part in (report.concordance, report.triage, report.second_read) if part is not None]
    said = [text for part in parts for text in strings(part.model_dump(mode="json"))]
    stream = io.StringIO()
    for seed in range(40):
        result = assess(random_exam(seed), random_imaging(seed), language=language).to_plain()
        said += strings(result)
        Console(file=stream, width=400).print(correlation_summary(result))
    said += stream.getvalue().splitlines()
    assert _leaks(set(said), language) == []


@pytest.mark.parametrize("language", languages())
def test_what_is_never_said_is_not_said_on_any_page(language: str) -> None:
    """Each page against the list of its own language and the English one, since notes of the reader are English."""
    report = full_report(language)
    for text in _page_texts(report):
        assert not forbidden(text, language), text
        assert not forbidden(text), text


@pytest.mark.parametrize("language", languages())
def test_a_pdf_says_its_language(language: str) -> None:
    pdf = render_pdf(full_report(language))
    assert f"/Lang ({language})".encode() in pdf or f"<dc:language><rdf:Bag><rdf:li>{language}".encode() in pdf


@pytest.mark.parametrize("language", languages())
def test_tier_verdict_reasons_and_gaps_stand_on_the_first_page_even_with_ten_flags(
    language: str, tmp_path: Path
) -> None:
    report = full_report(language)
    places = [(level, side) for level in ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1") for side in ("left", "right")]
    flag = next(item for item in report.findings if item.kind == "recess_stenosis" and item.flagged)
    many = [flag.model_copy(update={"id": f"{a}{b}", "level": a, "side": b}) for a, b in places]
    imaging = imaging_from_report(many, report.withheld)
    told = assess(Exam.parse({"right": L5, "left": L5}), imaging, None, many, report.withheld, language=language)
    names = ("exam", "concordance", "triage", "second_read", "narrative")
    crowded = report.model_copy(
        update={"findings": tuple(many), "exam_versions": ()} | {name: getattr(told, name) for name in names}
    )
    page = page_of(crowded)
    assert len(page.flags) == 10
    tier, verdict, _, gaps = page.answers
    assert tier.word == told.triage.tier
    assert told.concordance is not None
    assert verdict.word == words(language).word[told.concordance.verdict]
    assert words(language).judged["contributes"].lower() in verdict.line.lower()
    assert words(language).page["tell_most"].partition("{")[0] in gaps.line
    compiler = compiler_of(crowded, (), tmp_path)
    assert json.loads(compiler.query("<answers-end>", field="value", one=True)) == 1
