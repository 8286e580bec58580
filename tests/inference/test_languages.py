"""German and Spanish from catalogues with the keys of the English one; what is never said is never said in any of them."""

from __future__ import annotations

import string
import tomllib
from pathlib import Path

import pytest

from configs.clinical import exam_table, languages, words
from inference.clinical import Assessment, assess
from inference.clinical_words import ForbiddenWordsError, entry, forbidden, quoted, say
from inference.exam import Exam
from inference.narrate import narrate_without_exam
from inference.roots import Imaging
from inference.triage import triage
from tests.inference.case_generator import random_exam, random_imaging
from tests.inference.test_correlate import L5, WELL, finding

OTHERS = ("de", "es")
PARTS = ("sentence", "section", "word", "reason", "withheld", "tier", "field", "value", "pattern", "cause", "next_test")


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


@pytest.mark.parametrize("language", OTHERS)
def test_verdict_tier_and_sentences_are_those_of_the_english_answer(language: str) -> None:
    here, english = judged(language, **{"rf.fever": True}), judged("en", **{"rf.fever": True})
    assert here.concordance == english.concordance
    assert here.triage == english.triage
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
    from configs.clinical import Words, _keys

    shipped = Path(__file__).parents[2] / "configs" / "clinical" / "words.de.toml"
    content = tomllib.loads(shipped.read_text(encoding="utf-8"))
    del content["sentence"]["W-10"]
    assert "sentence.W-10" in _keys(words()) - _keys(Words.model_validate(content))
