"""Whatever is written into an exam, a findings file or a first read is taken or refused with its path, never a crash."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.clinical import exam_table
from inference.clinical_input import ClinicalInputError, load_text
from inference.exam import Exam
from inference.first_read import FirstRead
from inference.roots import Imaging

SCALARS = st.none() | st.booleans() | st.integers(-5, 5000) | st.floats() | st.text(max_size=8)
IDS = st.sampled_from([field.id for field in exam_table().field])
WORDS = st.sampled_from(
    [
        "level",
        "side",
        "condition",
        "severity",
        "type",
        "zone",
        "L4-L5",
        "left",
        "severe",
        "herniation",
        "cells",
        "findings",
    ]
)
ANY = st.recursive(
    SCALARS | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | IDS, inner, max_size=4)
)
BLOCKS = st.dictionaries(
    st.sampled_from(["left", "right", "general", "exam"]), st.dictionaries(IDS, ANY, max_size=3) | ANY, max_size=3
)
CELL = st.dictionaries(WORDS, SCALARS | WORDS | ANY, max_size=6)
FINDINGS = st.fixed_dictionaries(
    {}, optional={"findings": st.lists(CELL, max_size=3), "assessed": ANY, "numbering": ANY}
)
GRIDS = st.fixed_dictionaries(
    {}, optional={"cells": st.lists(CELL, max_size=3), "mentions": ANY, "L4-L5": ANY, "reader": ANY}
)


def _taken_or_refused(parse: Any, data: object) -> None:
    refusal: ClinicalInputError | None = None
    try:
        parse(data)
    except ClinicalInputError as error:
        refusal = error
    assert refusal is None or (refusal.path and refusal.allowed)


@settings(max_examples=150, deadline=None)
@given(BLOCKS | ANY)
def test_any_examination_is_taken_or_refused(data: object) -> None:
    _taken_or_refused(Exam.parse, data)


@settings(max_examples=150, deadline=None)
@given(FINDINGS | ANY)
def test_any_findings_are_taken_or_refused(data: object) -> None:
    _taken_or_refused(Imaging.parse, data)


@settings(max_examples=150, deadline=None)
@given(GRIDS | ANY)
def test_any_first_read_is_taken_or_refused(data: object) -> None:
    _taken_or_refused(FirstRead.parse, data)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["a.yaml", "a.json"]))
def test_any_text_is_parsed_or_refused(text: str, name: str) -> None:
    _taken_or_refused(lambda content: load_text(content, name), text)


@pytest.mark.parametrize("number", ["1e999", "-.inf", ".nan", "9" * 5000, "0x1f"])
def test_numbers_beyond_any_scale_are_refused(number: str) -> None:
    with pytest.raises(ClinicalInputError):
        Exam.parse(load_text(f"general: {{bb.pvr_ml: {number}}}", "e.yaml"))


@pytest.mark.parametrize("size", [float("nan"), float("inf"), -1.0, 61.0])
def test_a_size_that_is_no_size_is_refused(size: float) -> None:
    found = {"level": "L4-L5", "side": "left", "condition": "recess_stenosis", "severity": "severe", "ap_mm": size}
    with pytest.raises(ClinicalInputError, match="ap_mm"):
        Imaging.parse({"findings": [found]})
