"""The examination: what is accepted, what is refused and how, and that a blank never becomes a value."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from configs.clinical import exam_table, model
from inference.clinical_checks import contradictions, derived_values
from inference.clinical_input import ClinicalInputError, load_text
from inference.clinical_signs import adequacy, blanks, observed_signs, recorded, scored
from inference.exam import Exam, allowed_text, check, exam_schema, exam_template


def right(**values: Any) -> Exam:
    return Exam.parse({"right": {key.replace("__", "."): value for key, value in values.items()}})


def refusal(data: object) -> ClinicalInputError:
    with pytest.raises(ClinicalInputError) as caught:
        Exam.parse(data, today=dt.date(2024, 6, 1))
    return caught.value


@pytest.mark.parametrize(
    ("block", "field", "given"),
    [
        ("right", "mrc.tibialis_anterior", "4.5"),
        ("right", "mrc.tibialis_anterior", 4.5),
        ("right", "mrc.tibialis_anterior", 6),
        ("right", "mrc.tibialis_anterior", True),
        ("right", "mrc.tibialis_anterior", "5-"),
        ("right", "ref.achilles", 5),
        ("right", "ref.achilles", "2"),
        ("right", "fn.flail_foot", "yes"),
        ("right", "umn.babinski", False),
        ("right", "ten.slr_deg", 91),
        ("right", "pain.distribution", "L5"),
        ("right", "pain.distribution", ["L9"]),
        ("general", "time.exam_date", "2024-06-02"),
        ("general", "time.exam_date", "01.06.2024"),
        ("general", "time.onset_days", -1),
        ("general", "bb.retention", 1),
        ("general", "meta.locked_at", "noon"),
    ],
)
def test_a_value_off_its_scale_is_refused_with_path_given_and_allowed(block: str, field: str, given: Any) -> None:
    error = refusal({block: {field: given}})
    assert error.path == f"{block}.{field}"
    assert error.given == given
    entry = exam_table().find(field)
    assert allowed_text(entry) in error.allowed
    assert entry.label in str(error)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"right": {"mrc.tibialis_anteror": "5"}}, "right.mrc.tibialis_anteror"),
        ({"general": {"mrc.quadriceps": "5"}}, "general.mrc.quadriceps"),
        ({"middle": {}}, "middle"),
        ([1], "exam"),
        ({"right": ["mrc"]}, "right"),
    ],
)
def test_unknown_keys_are_refused(data: object, path: str) -> None:
    assert refusal(data).path == path


def test_a_misspelt_field_names_its_neighbour() -> None:
    assert "mrc.tibialis_anterior" in refusal({"right": {"mrc.tibialis_anteror": "5"}}).allowed


def test_an_unquoted_whole_grade_is_the_same_grade() -> None:
    assert right(mrc__quadriceps=4) == right(mrc__quadriceps="4")
    assert right(mrc__quadriceps=4.0) == right(mrc__quadriceps="4")


@pytest.mark.parametrize("word", ["no", "off", "yes", "on", "n"])
def test_yaml_words_are_not_turned_into_booleans(word: str) -> None:
    data = load_text(f"right:\n  umn.babinski: {word}\n", "exam.yaml")
    assert data == {"right": {"umn.babinski": word}}
    assert refusal(data).given == word


def test_yaml_dates_and_clock_like_numbers_stay_what_was_typed() -> None:
    data = load_text("a: 2024-01-02\nb: 12:30\nc: 0o17\nd: 010\ne: 1_000\nf: .5", "x.yaml")
    assert data == {"a": "2024-01-02", "b": "12:30", "c": "0o17", "d": "010", "e": "1_000", "f": ".5"}
    exam = Exam.parse(load_text("general:\n  time.exam_date: 2024-01-02\n", "x.yaml"))
    assert exam.general["time.exam_date"] == "2024-01-02"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("right: {a: 1, a: 2}", "e.yaml"),
        ('{"right": {}, "right": {}}', "e.json"),
        ("a: &x [1]\nb: *x", "e.yaml"),
        ("right: [", "e.yaml"),
        ("{", "e.json"),
        ("!!python/object/apply:os.system [ls]", "e.yaml"),
        ("[" * 5000, "e.yaml"),
    ],
)
def test_files_that_are_not_plain_data_are_refused(text: str, name: str) -> None:
    with pytest.raises(ClinicalInputError):
        load_text(text, name)


def test_a_file_that_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    for name, content in (("big.yaml", b"#" * 2_000_001), ("bytes.yaml", b"\xff\xfe\x00a"), ("no.yaml", None)):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ClinicalInputError):
            check(path)


@pytest.mark.parametrize("name", ["exam.yaml", "exam.json"])
def test_what_is_written_reads_back_the_same(tmp_path: Path, name: str) -> None:
    exam = Exam.parse(
        {
            "general": {"time.exam_date": "2024-01-02", "bb.retention": False, "pt.age": 61},
            "left": {"mrc.quadriceps": "4+", "pain.distribution": [], "ten.slr_deg": "negative"},
            "right": {"attest.remaining_normal": ["all"]},
        }
    )
    exam.save(tmp_path / name)
    assert Exam.load(tmp_path / name) == exam


def test_the_template_names_every_field_and_is_a_blank_examination() -> None:
    text = exam_template()
    assert Exam.parse(load_text(text, "exam.yaml")) == Exam()
    for field in exam_table().field:
        assert text.count(f"  {field.id}:") == (2 if field.block == "side" else 1), field.id
    assert "MRC" in text
    assert "blank means not examined" in text


def test_the_schema_holds_every_field_with_its_anchors() -> None:
    schema = exam_schema()
    json.dumps(schema)
    for block, kind in (("left", "side"), ("right", "side"), ("general", "general")):
        listed = schema["properties"][block]["properties"]
        assert set(listed) == {field.id for field in exam_table().field if field.block == kind}
    assert schema["properties"]["left"]["properties"]["mrc.peronei"]["x-anchors"]["4-"] == "slight resistance"


def test_plain_data_is_checked_by_every_door() -> None:
    with pytest.raises(ValueError, match=r"mrc\.quadriceps"):
        Exam.model_validate({"left": {"mrc.quadriceps": "9"}})


def test_a_null_is_a_blank() -> None:
    """M-01, M-02."""
    assert Exam.parse({"right": {"mrc.quadriceps": None}}) == Exam()
    assert observed_signs(recorded(Exam())) == ()
    assert "right:mrc.quadriceps" in blanks(recorded(Exam()))


def test_a_blanket_statement_fills_blanks_only_and_counts_less() -> None:
    """M-03."""
    seen = recorded(right(attest__remaining_normal=["motor", "reflex"], mrc__quadriceps="4", ref__achilles=0))
    assert seen.right["mrc.quadriceps"] == "4"
    assert seen.right["ref.achilles"] == 0
    assert seen.right["mrc.peronei"] == "5"
    assert "sen.L5" not in seen.right
    assert "sen.saddle" not in recorded(right(attest__remaining_normal=["all"])).right
    assert ("right", "mrc.peronei") in seen.attested
    assert ("right", "mrc.quadriceps") not in seen.attested


def test_a_blanket_statement_does_not_contradict_a_failed_test_of_the_same_function() -> None:
    seen = recorded(right(attest__remaining_normal=["motor"], fn__heel_walk="unable", fn__toe_raise_count=3))
    assert "mrc.tibialis_anterior" not in seen.right
    assert "mrc.gastrocnemius" not in seen.right
    assert seen.right["mrc.gluteus_medius"] == "5"


def test_a_test_that_was_impossible_is_left_blank() -> None:
    """M-05: there is no value for it, and zero means no contraction."""
    assert right(mrc__tibialis_anterior="0") != Exam()


CONTRADICTIONS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "Q-01",
        {"right": {"mrc.tibialis_anterior": "5", "fn.heel_walk": "unable"}},
        {"right": {"mrc.tibialis_anterior": "5", "fn.heel_walk": "difficult"}},
    ),
    (
        "Q-01",
        {"right": {"mrc.tibialis_anterior": "3", "fn.heel_walk": "able"}},
        {"right": {"mrc.tibialis_anterior": "4-", "fn.heel_walk": "able"}},
    ),
    (
        "Q-02",
        {"right": {"mrc.gastrocnemius": "5", "fn.toe_raise_count": 4}},
        {"right": {"mrc.gastrocnemius": "5", "fn.toe_raise_count": 5}},
    ),
    (
        "Q-02",
        {"right": {"mrc.gastrocnemius": "3", "fn.toe_raise_count": 10}},
        {"right": {"mrc.gastrocnemius": "4", "fn.toe_walk": "able"}},
    ),
    (
        "Q-03",
        {"right": {"fn.flail_foot": True, "mrc.peronei": "3"}},
        {"right": {"fn.flail_foot": True, "mrc.peronei": "2"}},
    ),
    (
        "Q-04",
        {"right": {"mrc.gluteus_medius": "5", "fn.trendelenburg": True}},
        {"right": {"mrc.gluteus_medius": "4", "fn.trendelenburg": False}},
    ),
    (
        "Q-05",
        {"right": {"umn.tone": "increased", "ref.patellar": 1, "ref.achilles": 0}},
        {"right": {"umn.tone": "increased", "ref.patellar": 1}},
    ),
    (
        "Q-06",
        {"right": {"pain.distribution": ["L5"], "pain.leg_nrs": 0}},
        {"right": {"pain.distribution": [], "pain.leg_nrs": 0}},
    ),
    ("Q-07", {"general": {"bb.pvr_ml": 300, "attest.safety_negative": True}}, {"general": {"bb.pvr_ml": 300}}),
    (
        "Q-08",
        {"general": {"time.course": "worsening_weeks"}},
        {"general": {"time.course": "worsening_weeks"}, "left": {"mrc.quadriceps": "4"}},
    ),
    (
        "Q-09",
        {"general": {"emg.days_after_onset": 20}, "right": {"emg.paraspinal": "normal"}},
        {"general": {"emg.days_after_onset": 21}, "right": {"emg.paraspinal": "normal"}},
    ),
    (
        "Q-10",
        {"general": {"time.exam_date": "2024-01-01", "time.onset_date": "2024-01-02"}},
        {"general": {"time.exam_date": "2024-01-02", "time.onset_date": "2024-01-02"}},
    ),
    (
        "Q-11",
        {"general": {"bb.saddle": False}, "left": {"sen.saddle": "reduced"}},
        {"general": {"bb.saddle": False}, "left": {"sen.saddle": "normal"}},
    ),
    ("Q-12", {"general": {"time.imaging_days_after_exam": -91}}, {"general": {"time.imaging_days_after_exam": -90}}),
]


@pytest.mark.parametrize(("rule", "clash", "fits"), CONTRADICTIONS)
def test_contradictions_are_named_and_change_nothing(rule: str, clash: dict[str, Any], fits: dict[str, Any]) -> None:
    exam = Exam.parse(clash)
    seen = recorded(exam)
    assert rule in {item.id for item in contradictions(seen)}
    assert seen.raw == Exam.parse(clash)
    assert rule not in {item.id for item in contradictions(recorded(Exam.parse(fits)))}


def test_a_quiet_needle_before_three_weeks_is_not_used() -> None:
    early = {"general": {"emg.days_after_onset": 10}, "right": {"emg.paraspinal": "normal"}}
    assert observed_signs(recorded(Exam.parse(early))) == ()
    early["right"]["emg.paraspinal"] = "denervation"  # type: ignore[index]
    assert [item.sign for item in observed_signs(recorded(Exam.parse(early)))] == ["emg.paraspinal"]


def test_derived_values_of_a_foot_drop() -> None:
    """D-01, D-02, D-04, D-06, D-07."""
    values = derived_values(
        recorded(
            Exam.parse(
                {
                    "general": {"time.course": "worsening_days"},
                    "right": {"mrc.tibialis_anterior": "4", "fn.heel_walk": "unable"},
                    "left": {"ref.patellar": 3},
                }
            )
        )
    )
    assert values["right"]["dorsiflexion"] == 3.0
    assert values["right"]["foot_drop"] is True
    assert values["right"]["foot_drop_severity"] == "moderate"
    assert values["right"]["motor_deficit"] is True
    assert values["left"]["foot_drop"] is None
    assert values["bilateral_foot_drop"] is None
    assert values["progressive"] is True
    assert values["left"]["hyper_reflexia"] is True


@pytest.mark.parametrize(
    ("grade", "severity"),
    [
        ("0", "severe"),
        ("2", "severe"),
        ("3", "moderate"),
        ("4-", "moderate"),
        ("4", "mild"),
        ("4+", "mild"),
        ("5", None),
    ],
)
def test_severity_of_a_foot_drop(grade: str, severity: str | None) -> None:
    """D-03."""
    assert derived_values(recorded(right(mrc__tibialis_anterior=grade)))["right"]["foot_drop_severity"] == severity


def test_deficits_carry_the_weights_of_the_table() -> None:
    """D-09."""
    exam = Exam.parse(
        {
            "general": {"bb.pvr_ml": 250, "bb.anal_tone": "reduced"},
            "right": {
                "mrc.quadriceps": "4",
                "mrc.peronei": "3",
                "fn.heel_walk": "difficult",
                "ref.medial_hamstring": 1,
            },
            "left": {
                "ref.achilles": 0,
                "ref.patellar": 3,
                "sen.pin.L5": "absent",
                "sen.L5": "normal",
                "umn.tone": "increased",
            },
        }
    )
    found, deficit = scored(observed_signs(recorded(exam)))
    assert deficit
    assert {item.key: item.weight for item in found} == {
        "general:bb.pvr_ml": 3,
        "general:bb.anal_tone": 2,
        "right:mrc.quadriceps": 2,
        "right:mrc.peronei": 3,
        "right:fn.heel_walk": 2,
        "right:ref.medial_hamstring": 0.5,
        "left:ref.achilles": 1,
        "left:umn.hyper": 1,
        "left:sen.L5": 1,
        "left:umn.tone": 2,
    }


def test_pain_and_tension_are_scored_only_when_nothing_else_is() -> None:
    irritated = {"pain.distribution": ["L5", "S1"], "ten.slr_deg": 50}
    found, deficit = scored(observed_signs(recorded(Exam.parse({"left": irritated}))))
    assert not deficit
    assert {item.key: item.weight for item in found} == {"left:pain.L5": 1, "left:pain.S1": 1, "left:ten.slr_deg": 0.5}
    found, deficit = scored(observed_signs(recorded(Exam.parse({"left": irritated | {"sen.L5": "reduced"}}))))
    assert deficit
    assert [item.key for item in found] == ["left:sen.L5"]


def test_saddle_numbness_found_on_a_side_counts_as_recorded() -> None:
    """D-10."""
    found, _ = scored(observed_signs(recorded(Exam.parse({"left": {"sen.saddle": "reduced"}}))))
    assert [item.key for item in found] == ["general:bb.saddle"]
    assert observed_signs(recorded(Exam.parse({"left": {"sen.saddle": "normal"}}))) == ()


def test_straight_leg_raise_is_positive_below_seventy_degrees() -> None:
    state = {angle: observed_signs(recorded(right(ten__slr_deg=angle)))[0].state for angle in (69, 70, "negative")}
    assert state == {69: "abnormal", 70: "normal", "negative": "normal"}


def test_a_brisk_reflex_is_scored_as_brisk_only() -> None:
    signs = {item.sign: item.state for item in observed_signs(recorded(right(ref__achilles=3, ref__patellar=2)))}
    assert signs == {"ref.patellar": "normal", "umn.hyper": "abnormal"}


def test_adequacy_is_the_examined_share() -> None:
    """D-08."""
    total = sum(item.weight for item in model().adequacy)
    assert total == 16
    seen = recorded(right(fn__heel_walk="able", sen__pin__L5="normal"))
    assert adequacy(seen, "right") == pytest.approx(3 / 16)
    assert adequacy(seen, "left") == 0


def test_q02_names_the_entries_that_clash_and_no_others() -> None:
    case = Exam.parse({"right": {"mrc.gastrocnemius": "5", "fn.toe_walk": "able", "fn.toe_raise_count": 3}})
    (found,) = contradictions(recorded(case))
    assert found.fields == ("right:mrc.gastrocnemius", "right:fn.toe_raise_count")
