"""How soon somebody should look: tiers T1 to T4 from recorded fields, every rule with its inputs and who asks for it.

Reads raw entries, never posteriors; images may raise a tier and never lower one. Rules, cuts, sources: configs/clinical/triage.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from configs.clinical import sources, triage_rules, words
from inference.clinical_checks import foot_drop, scores
from inference.clinical_signs import (
    REFLEXES,
    SAFETY,
    brisk,
    recorded,
    reduced,
    residual_high,
    saddle,
    slr_positive,
)
from inference.clinical_words import quoted, word
from inference.exam import SIDES, Exam
from inference.report import Disagreement, FindingVerdict, Position, Tier, Triage, TriageRule
from inference.roots import Imaging, ImagingFinding, grade_of, severity_of
from inference.triage_facts import Facts

TIERS: tuple[Tier, ...] = ("T1", "T2", "T3", "T4")

Fires = tuple[Tier, dict[str, Any]] | None
_Rule = Callable[[Facts], Fires]


def _tr01(f: Facts) -> Fires:
    general = f.seen.general
    names = ("bb.retention", "bb.urinary_incontinence", "bb.bowel_incontinence")
    inputs: dict[str, Any] = {f"general:{name}": True for name in names if general.get(name) is True}
    if saddle(f.seen) is True:
        inputs |= {"general:bb.saddle": True} if general.get("bb.saddle") is True else {}
        for side in SIDES:
            found = f.seen.side(side).get("sen.saddle")
            inputs |= {f"{side}:sen.saddle": found} if found not in (None, "normal") else {}
    if general.get("bb.anal_tone") in {"reduced", "absent"}:
        inputs["general:bb.anal_tone"] = general["bb.anal_tone"]
    if residual_high(general):
        inputs["general:bb.pvr_ml"] = general["bb.pvr_ml"]
    return ("T1", inputs) if inputs else None


def _both_drop(f: Facts) -> bool:
    return all(foot_drop(f.seen, side) for side in SIDES)


def _both_weak(f: Facts) -> bool:
    weak_to = triage_rules().cut.weak_to
    return all(foot_drop(f.seen, side) or f.weak_fields(side, weak_to) for side in SIDES)


def _tr02(f: Facts) -> Fires:
    if f.improving:
        return None
    if (_both_drop(f) and f.new("twelve_weeks")) or (_both_weak(f) and f.new("fortnight")):
        return "T1", f.weak_inputs() | f.timing()
    return None


def _tr02b(f: Facts) -> Fires:
    if _tr02(f) is not None:
        return None
    if _both_drop(f) or (_both_weak(f) and f.new("twelve_weeks") and not f.improving):
        return "T2", f.weak_inputs() | f.timing()
    return None


def _tr03(f: Facts) -> Fires:
    fast = f.course in {"worsening_hours", "worsening_days"} or (f.course == "sudden" and f.new("week"))
    return ("T1", f.weak_inputs() | f.timing()) if f.motor and fast else None


def _tr04(f: Facts) -> Fires:
    return ("T2", f.weak_inputs() | f.timing()) if f.motor and f.course == "worsening_weeks" else None


def _tr05(f: Facts) -> Fires:
    key, cut = f.key_strength(), triage_rules().cut.near_paralysis_to
    if key is not None and key <= cut and f.new("fortnight") and not f.improving:
        return "T1", f.weak_inputs(cut) | f.timing()
    return None


def _tr06(f: Facts) -> Fires:
    marked = f.marked_fields()
    recent = f.new("six_weeks") or f.course in {None, "unknown"}
    if marked and recent and not f.improving and _tr05(f) is None:
        return "T2", f.inputs(marked) | f.timing()
    return None


def _tr07(f: Facts) -> Fires:
    key, cut = f.key_strength(), triage_rules().cut
    if key is None:
        return None
    old = key <= cut.marked_to and not f.improving and _tr05(f) is None and _tr06(f) is None
    if old or (key <= cut.near_paralysis_to and f.improving):
        return "T2", f.weak_inputs(cut.marked_to) | f.timing()
    return None


def _tr08(f: Facts) -> Fires:
    flail = {f"{side}:fn.flail_foot": True for side in SIDES if f.seen.side(side).get("fn.flail_foot") is True}
    if not flail:
        return None
    old = not f.new("quarter") and f.course in {"stable", "improving"}
    return "T2" if old else "T1", flail | f.timing()


def _tr09(f: Facts) -> Fires:
    if f.seen.general.get("rf.fever") is not True:
        return None
    return "T1" if f.deficit else "T2", {"general:rf.fever": True}


def _tr10(f: Facts) -> Fires:
    if f.seen.general.get("rf.cancer") is not True:
        return None
    return "T1" if f.deficit and f.new("six_weeks") else "T2", {"general:rf.cancer": True} | f.timing()


def _tr11(f: Facts) -> Fires:
    if f.seen.general.get("rf.trauma") is not True:
        return None
    return "T1" if f.deficit else "T2", {"general:rf.trauma": True}


def _tr12(f: Facts) -> Fires:
    cord = {key: value for side in SIDES for key, value in f.cord(side).items()}
    if cord:
        fast = f.new("week") or f.course in {"sudden", "worsening_hours", "worsening_days"}
        return "T1" if fast else "T2", cord | f.timing()
    lively = {
        f"{side}:{field}": f.seen.side(side)[field]
        for side in SIDES
        for field in REFLEXES
        if brisk(f.seen.side(side), field)
    }
    return ("T2", lively | f.weak_inputs()) if f.motor and lively else None


def _tr13(f: Facts) -> Fires:
    if f.seen.general.get("rf.anticoagulation") is True and f.motor and f.new("week"):
        return "T1", {"general:rf.anticoagulation": True} | f.weak_inputs() | f.timing()
    return None


def _tr14(f: Facts) -> Fires:
    names = [name for name in ("rf.weight_loss", "rf.immunosuppression") if f.seen.general.get(name) is True]
    return ("T2", {f"general:{name}": True for name in names}) if names and f.deficit else None


def _tr15(f: Facts) -> Fires:
    lift, cut = f.lowest_lift(), triage_rules().cut
    if lift is not None and cut.marked_to < lift < cut.foot_drop_below and f.new("six_weeks") and not f.improving:
        return "T2", f.inputs(f"{side}:mrc.tibialis_anterior" for side in SIDES) | f.timing()
    return None


def _tr16(f: Facts) -> Fires:
    lift = f.lowest_lift()
    stronger = (lift is None or lift > triage_rules().cut.marked_to) and _tr15(f) is None
    return ("T3", f.weak_inputs() | f.timing()) if f.motor and (stronger or f.improving) else None


def _tr17(f: Facts) -> Fires:
    if f.motor or not f.deficit:
        return None
    inputs: dict[str, Any] = {}
    for side in SIDES:
        values = f.seen.side(side)
        inputs |= {f"{side}:{k}": v for k, v in values.items() if k.startswith("sen.") and v in _SKIN_ABNORMAL}
        inputs |= {f"{side}:{k}": values[k] for k in REFLEXES if reduced(values, k)}
    return ("T3", inputs) if inputs else None


_SKIN_ABNORMAL = ("reduced", "absent", "hyperaesthetic", "present")


def _tr18(f: Facts) -> Fires:
    blank = [name for name in SAFETY if f.seen.general.get(name) is None]
    return ("T3", {f"general:{name}": None for name in blank}) if blank else None


def _tr19(f: Facts) -> Fires:
    cut = triage_rules().cut.weak_to
    weak = {field for side in SIDES for field in f.weak_fields(side, cut)}
    thigh = bool(weak & {"mrc.quadriceps", "mrc.iliopsoas"})
    l5 = bool(weak & {"mrc.extensor_hallucis_longus", "mrc.tibialis_posterior", "mrc.gluteus_medius"})
    shin = l5 or ("mrc.tibialis_anterior" in weak and not thigh)
    levels = thigh + shin + ("mrc.gastrocnemius" in weak)
    if levels < 2 or f.improving:
        return None
    return "T1" if f.new("fortnight") else "T2", f.weak_inputs(cut) | f.timing()


def _tr20(f: Facts) -> Fires:
    return ("T3", pain) if (pain := _severe_pain(f)) else None


def _severe_pain(f: Facts) -> dict[str, Any]:
    cut = triage_rules().cut.severe_leg_pain_from
    found = {f"{side}:pain.leg_nrs": f.seen.side(side).get("pain.leg_nrs") for side in SIDES}
    return {key: value for key, value in found.items() if value is not None and value >= cut}


def _tr21(f: Facts) -> Fires:
    since = f.seen.general.get("com.lumbar_surgery_days")
    if since is None or since > triage_rules().days["after_operation"] or not f.motor or f.improving:
        return None
    onset = f.seen.onset_days
    if onset is not None and onset > since:
        return None
    return "T1", {"general:com.lumbar_surgery_days": since} | f.weak_inputs() | f.timing()


def _leg_pain_both(f: Facts) -> bool:
    return all(f.seen.side(s).get("pain.distribution") or f.seen.side(s).get("pain.leg_nrs") for s in SIDES)


def _tr22(f: Facts) -> Fires:
    if f.imaging is None:
        return None
    given = [item for item in f.imaging.findings if item.withheld is None]
    found: list[tuple[Tier, dict[str, Any]]] = []
    severe = [i for i in given if i.central and f.imaging and severity_of(i, f.imaging)[0] == "severe"]
    if severe:
        raised = _severe_canal(f)
        if raised is not None:
            found.append((raised, _on_image(severe, "severe_central")))
    matching = [
        item
        for item in given
        if grade_of(item, f.imaging) >= triage_rules().cut.finding_grade_from
        and f.verdicts.get(item.id) in {"explains", "contributes"}
    ]
    if matching and f.motor and f.new("twelve_weeks") and not f.improving:
        found.append(("T2", _on_image(matching, "matching") | f.weak_inputs() | f.timing()))
    if not found:
        return None
    tier = min((tier for tier, _ in found), key=TIERS.index)
    return tier, {key: value for _, inputs in found for key, value in inputs.items()}


def _severe_canal(f: Facts) -> Tier | None:
    open_safety = _tr18(f) is not None
    deficits = all(f.side_deficit(side) for side in SIDES)
    if open_safety or deficits:
        return "T2"
    if not _leg_pain_both(f):
        return None
    old = not f.new("twelve_weeks") and f.course in {"stable", "improving"}
    return "T3" if old else "T2"


@dataclass(frozen=True)
class _OnImage:
    """What on the images raises a tier: a phrase of the catalogue with its level, or a reader's own words."""

    text: str
    phrase: str | None = None

    def told(self, language: str) -> str:
        return word(self.phrase, language).format(level=self.text) if self.phrase else quoted(self.text, language)


def _on_image(findings: Sequence[ImagingFinding], phrase: str) -> dict[str, Any]:
    return {f"imaging:{item.id}": _OnImage(item.level, phrase) for item in findings}


def _tr23(f: Facts) -> Fires:
    cut = triage_rules()
    onset = f.seen.onset_days
    pulseless: dict[str, Any] = {}
    for side in SIDES:
        values = f.seen.side(side)
        if values.get("pul.pedal") != "absent":
            continue
        moving = bool(f.weak_fields(side)) and f.new("week")
        painful = (values.get("pain.leg_nrs") or 0) >= cut.cut.severe_leg_pain_from
        feeling = (f.sensory(side) or painful) and onset is not None and onset <= cut.days["fortnight"]
        if moving or feeling:
            pulseless[f"{side}:pul.pedal"] = "absent"
    return ("T1", pulseless | f.weak_inputs() | _severe_pain(f) | f.timing()) if pulseless else None


def _tr24(f: Facts) -> Fires:
    if f.seen.general.get("time.pain_better_deficit_persists") is not True or not f.motor:
        return None
    lowest = min(grade for side in SIDES for grade in f.strength[side].values())
    tier: Tier = "T2" if lowest <= triage_rules().cut.weak_to else "T3"
    return tier, {"general:time.pain_better_deficit_persists": True} | f.weak_inputs()


def _tr26(f: Facts) -> Fires:
    found = [item for item in (f.imaging.findings if f.imaging else ()) if item.red_flag_lesion]
    if not found:
        return None
    return "T1" if f.deficit else "T2", {f"imaging:{item.id}": _OnImage(item.red_flag_lesion or "") for item in found}


def _tr27(f: Facts) -> Fires:
    sides = [f.seen.side(side) for side in SIDES]
    if not all(values.get("pain.distribution") or slr_positive(values) for values in sides):
        return None
    blank_counts = f.seen.general.get("pain.claudication") != "neurogenic"
    new = blank_counts if f.seen.onset_days is None else f.new("fortnight")
    if not new or f.improving:
        return None
    inputs: dict[str, Any] = {}
    for side in SIDES:
        values = f.seen.side(side)
        inputs |= {f"{side}:pain.distribution": values["pain.distribution"]} if values.get("pain.distribution") else {}
        inputs |= {f"{side}:ten.slr_deg": values["ten.slr_deg"]} if slr_positive(values) else {}
    return "T2", inputs | f.timing()


RULES: dict[str, _Rule] = {
    "TR-01": _tr01,
    "TR-02": _tr02,
    "TR-02b": _tr02b,
    "TR-03": _tr03,
    "TR-04": _tr04,
    "TR-05": _tr05,
    "TR-06": _tr06,
    "TR-07": _tr07,
    "TR-08": _tr08,
    "TR-09": _tr09,
    "TR-10": _tr10,
    "TR-11": _tr11,
    "TR-12": _tr12,
    "TR-13": _tr13,
    "TR-14": _tr14,
    "TR-15": _tr15,
    "TR-16": _tr16,
    "TR-17": _tr17,
    "TR-18": _tr18,
    "TR-19": _tr19,
    "TR-21": _tr21,
    "TR-22": _tr22,
    "TR-23": _tr23,
    "TR-24": _tr24,
    "TR-26": _tr26,
    "TR-27": _tr27,
}
"""Rules on entries and images; TR-20 and TR-25 follow from what these gave."""


def _facts(exam: Exam, imaging: Imaging | None, verdicts: dict[str, str]) -> Facts:
    seen = recorded(exam)
    return Facts(seen, {side: scores(seen.side(side)) for side in SIDES}, imaging, verdicts)


def tier_of(exam: Exam, imaging: Imaging | None, verdicts: dict[str, str]) -> Tier:
    """The tier alone, from verdicts by finding id; what a study of many cases asks for."""
    facts = _facts(exam, imaging, verdicts)
    given = [result[0] for rule in RULES.values() if (result := rule(facts)) is not None]
    if not given and (pain := _tr20(facts)) is not None:
        given = [pain[0]]
    return min(given, key=TIERS.index) if given else "T4"


def triage(
    exam: Exam,
    imaging: Imaging | None = None,
    per_finding: Sequence[FindingVerdict] = (),
    earlier: Tier | None = None,
    language: str = "en",
) -> Triage:
    """Tier of a case with every rule that fired. `earlier` is the tier of the locked first version: edits only raise it."""
    facts = _facts(exam, imaging, {item.finding_id: item.verdict for item in per_finding})
    fired = [_out(name, *result, language) for name, rule in RULES.items() if (result := rule(facts)) is not None]
    if not fired and (pain := _tr20(facts)) is not None:
        fired.append(_out("TR-20", *pain, language))
    if not fired:
        fired.append(_out("TR-25", "T4", {}, language))
    tiers = [item.tier for item in fired if item.tier is not None]
    tier = min([*tiers, earlier] if earlier is not None else tiers, key=TIERS.index)
    return Triage(tier=tier, rules=tuple(fired), disagreements=_panel(fired, language))


def _out(name: str, tier: Tier, inputs: dict[str, Any], language: str) -> TriageRule:
    rule = triage_rules().find(name)
    if tier not in rule.tiers:
        raise ValueError(f"{name} may not give {tier}")
    return TriageRule(
        id=name,
        text=words(language).rule[name],
        inputs={key: _shown(value, language) for key, value in inputs.items()},
        source=words(language).rule_source[name],
        tier=tier,
        confidence=rule.confidence,
    )


def _shown(value: Any, language: str) -> Any:
    if isinstance(value, _OnImage):
        return value.told(language)
    return list(value) if isinstance(value, tuple) else value


def disputed(fired: Iterable[TriageRule]) -> tuple[TriageRule, ...]:
    """Fired rules on whose timing the sources disagree, where they gave T1 or T2."""
    return tuple(item for item in fired if item.id in triage_rules().panel.rules and item.tier in {"T1", "T2"})


def _panel(fired: Sequence[TriageRule], language: str) -> tuple[Disagreement, ...]:
    if not disputed(fired):
        return ()
    texts = words(language).panel
    return tuple(
        Disagreement(
            id=item.id,
            subject=texts[f"{item.id}.subject"],
            positions=tuple(
                Position(source=_source(one.source, language), says=texts[f"{item.id}.{n}"])
                for n, one in enumerate(item.positions, start=1)
            ),
            shown=texts[f"{item.id}.shown"],
        )
        for item in triage_rules().panel.subject
    )


def _source(source: str, language: str) -> str:
    return words(language).source_name.get(source) or sources().name(source)
