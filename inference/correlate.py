"""Whether the images account for the examination: the verdict of the study, roots, causes and what is open.

Rules S, DX and N with the numbers of configs/clinical/model.toml, over the exact posterior of clinical_engine. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.clinical import CAUSES, LOCAL, ROOTS, Cuts, matrix, model, words
from inference.clinical_case import Case, build_case, share_of, weighted_share
from inference.clinical_missing import missing_items, next_tests
from inference.clinical_patterns import Fired, double_lesion
from inference.clinical_signs import Deficit
from inference.clinical_verdicts import Judged, judge_all, numbering_uncertain
from inference.clinical_words import verdict_reasons
from inference.exam import SIDES, Exam, Side
from inference.report import Alternative, Concordance, DeficitShare, FindingVerdict, PatternFired, RootBelief
from inference.roots import Imaging, RootKey, imaging_from_report

__all__ = ["Imaging", "build_case", "concordance", "correlate", "imaging_from_report", "judge_all"]


def correlate(exam: Exam, imaging: Imaging | None) -> Concordance:
    """Concordance of an examination with the images. Blank entries change nothing; withheld findings are never normal."""
    case = build_case(exam, imaging)
    return concordance(case, judge_all(case))


def matching_roots(judged: tuple[Judged, ...]) -> tuple[tuple[RootKey, ...], bool]:
    """Roots of all findings that explain or contribute, and whether one of them narrows the canal."""
    roots = {key for item in judged if item.counts for key in item.reached.endangered()}
    return tuple(sorted(roots)), any(item.with_cauda for item in judged if item.counts)


@dataclass(frozen=True)
class Study:
    """The verdict of the study with the shares that it rests on."""

    verdict: str
    rules: tuple[str, ...]
    share: float
    withheld_share: float
    carried: dict[Deficit, float]
    unexplained: tuple[Deficit, ...]
    implicated: tuple[str, ...]


def judge_study(case: Case, judged: tuple[Judged, ...]) -> Study:
    """Verdict of the study and the roots that the entries point to, without what else a report says."""
    roots, with_cauda = matching_roots(judged)
    withheld = {key for item in judged if item.finding.withheld is not None for key in item.reached.possible()}
    carried = {item: share_of(case, item, roots, with_cauda) for item in case.deficits}
    total = weighted_share(case, roots, with_cauda)
    held_back = weighted_share(case, tuple(sorted(withheld)), with_cauda=False)
    cut = model().verdict
    unexplained = tuple(item for item in case.deficits if case.has_deficit and carried[item] < cut.unexplained_below)
    verdict, rules = _study(case, judged, total, held_back, unexplained)
    return Study(verdict, rules, total, held_back, carried, unexplained, _implicated(case))


def concordance(case: Case, judged: tuple[Judged, ...], language: str = "en") -> Concordance:
    """Put the verdict of the study together with causes, what is missing and what would tell more, in a language."""
    study = judge_study(case, judged)
    doubled = tuple(double_lesion(side) for side in SIDES if _double(case, side, model().verdict))
    found = case.patterns + doubled
    rules = {rule for item in judged for rule in item.rules} | set(study.rules) | {item.id for item in found}
    missing, missing_rules = missing_items(case, capped="CAP-06" in rules)
    tests, test_rules = next_tests(case, study.verdict, found, judged)
    rules |= set(missing_rules) | set(test_rules) | _route_rules(judged, case)
    texts = words(language)
    return Concordance(
        verdict=study.verdict,
        rules_fired=tuple(sorted(rules)),
        per_finding=tuple(_verdict_out(case, item, language) for item in judged),
        roots=tuple(_root_out(case, side, root) for side in SIDES for root in ROOTS),
        roots_implicated=study.implicated,
        alternatives=_alternatives(case, found, language),
        unexplained_deficits=tuple(item.key for item in study.unexplained),
        missing=missing,
        next_tests=tuple(texts.next_test[name] for name in tests),
        adequacy=round(case.adequacy, 3),
        share=round(study.share, 4),
        withheld_share=round(study.withheld_share, 4),
        deficits=tuple(
            DeficitShare(
                field=item.key,
                weight=item.weight,
                share=round(study.carried[item], 4),
                by_cause={name: round(value, 4) for name, value in case.shares[item].items() if value >= 0.005},
            )
            for item in case.deficits
        ),
        patterns=tuple(PatternFired(id=item.id, side=item.side, text=texts.pattern[item.id]) for item in found),
        deficit_recorded=case.has_deficit,
    )


def _study(
    case: Case, judged: tuple[Judged, ...], total: float, held_back: float, unexplained: tuple[Deficit, ...]
) -> tuple[str, tuple[str, ...]]:
    cut = model().verdict
    if not case.deficits:
        return "indeterminate", ("S-06",)
    if case.imaging is None or not case.imaging.present or case.adequacy < cut.adequacy_minimum:
        return "indeterminate", ("S-05",)
    if total < cut.unexplained_below and held_back >= cut.study_withheld_share:
        return "indeterminate", ("S-04",)
    heavy = any(item.weight >= cut.unexplained_weight for item in unexplained)
    explains = any(item.verdict == "explains" for item in judged)
    uncertain = numbering_uncertain(case)
    if case.has_deficit and total >= cut.study_concordant_share and explains and not heavy:
        return ("partly_concordant", ("S-01", "CAP-03")) if uncertain else ("concordant", ("S-01",))
    if total >= cut.study_partly_share:
        return "partly_concordant", ("S-02",)
    open_finding = any(item.verdict == "indeterminate" for item in judged)
    if open_finding or case.adequacy < cut.adequacy_for_explains or not case.has_deficit:
        return "indeterminate", ("S-05",)
    return ("indeterminate", ("S-03", "CAP-03")) if uncertain else ("discordant", ("S-03",))


def _implicated(case: Case) -> tuple[str, ...]:
    """Roots that the entries point to; with pain or tension signs only, a mildly affected root is enough."""
    cut = model().verdict
    start = 2 if case.has_deficit else 1
    out: list[str] = []
    for side in SIDES:
        weight = sum(item.weight for item in case.deficits if item.side == side)
        for root in ROOTS:
            joint, clinical = case.joint.root_state(side, root), case.clinical.root_state(side, root)
            compromised = (
                joint[start:].sum() >= cut.root_implicated_p and clinical[start:].sum() >= cut.root_implicated_clinical
            )
            mild = joint[1:].sum() >= cut.root_mild_p_any and clinical[1:].sum() >= cut.root_mild_clinical_any
            if mild and weight:
                carried = sum(
                    item.weight * share_of(case, item, ((side, root),), False)
                    for item in case.deficits
                    if item.side == side
                )
                mild = carried / weight >= cut.root_mild_side_share
            if case.deficits and (compromised or (mild and weight)):
                out.append(f"{side}:{root}")
    return tuple(out)


def _double(case: Case, side: Side, cut: Cuts) -> bool:
    root = case.joint.root_state(side, "L5")[2] >= cut.double_root_p
    return bool(root and case.joint.cause("CPN", side) >= cut.double_nerve_p)


def _route_rules(judged: tuple[Judged, ...], case: Case) -> set[str]:
    """Routes that were used to name roots, for the reader who wants to know why."""
    out: set[str] = set()
    for item in judged:
        finding = item.finding
        if finding.withheld is not None or not item.grade:
            continue
        zone = finding.effective_zone
        if zone == "subarticular":
            out.add("RA-01")
        if zone in {"foraminal", "extraforaminal"}:
            out.add("RA-02")
        if finding.migration is not None:
            out.add("RA-03")
        if finding.central:
            out.add("RA-04")
    if case.imaging is not None and case.imaging.scoliosis_convex is not None:
        out.add("RA-06")
    if numbering_uncertain(case):
        out |= {"RA-08", "CAP-03"}
    return out


def band(p: float) -> str:
    """Display band of a posterior: unlikely, possible, favoured or strongly favoured."""
    name = "unlikely"
    for key, start in model().verdict.bands.items():
        if p > start or (p == start and key != "strongly_favoured"):
            name = key
    return name


def _root_out(case: Case, side: Side, root: str) -> RootBelief:
    states = [belief.root_state(side, root) for belief in (case.clinical, case.joint)]
    clinical, joint = (float(state[2]) for state in states)
    any_clinical, any_joint = (float(state[1:].sum()) for state in states)
    return RootBelief(
        root=root,
        side=side,
        p_exam_only=round(clinical, 4),
        p_with_imaging=round(joint, 4),
        band_exam_only=band(clinical),
        band_with_imaging=band(joint),
        band_any_exam_only=band(any_clinical),
        band_any_with_imaging=band(any_joint),
    )


def _verdict_out(case: Case, item: Judged, language: str) -> FindingVerdict:
    return FindingVerdict.model_validate(
        {
            "finding_id": item.finding.id,
            "verdict": item.verdict,
            "rules": item.rules,
            "reasons": verdict_reasons(item.rules, item.finding.withheld, language),
            "grade": item.grade,
            "roots": tuple(f"{side}:{root}" for side, root in item.reached.endangered()),
            "carrying_roots": _carrying(case, item),
            "share": round(item.share, 4),
        }
    )


_NAMED_BESIDE_BEST = 0.25
"""A root is named beside the one that carries most when it carries at least a quarter as much."""


def _carrying(case: Case, item: Judged) -> tuple[str, ...]:
    """Roots of a finding that carry the recorded deficits, and the cauda equina (general:CES) where it does."""
    shares = {
        f"{side}:{root}": weighted_share(case, ((side, root),), False) for side, root in item.reached.endangered()
    }
    if item.with_cauda:
        shares["general:CES"] = weighted_share(case, (), True)
    best = max(shares.values(), default=0.0)
    return tuple(key for key, share in shares.items() if share > 0 and share >= _NAMED_BESIDE_BEST * best)


def _alternatives(case: Case, found: tuple[Fired, ...], language: str) -> tuple[Alternative, ...]:
    """Other causes worth naming; a nerve or the plexus on each side where it is, by the patterns of that side."""
    out = [
        _alternative(case, name, side, language)
        for name in CAUSES
        for side in (SIDES if name in LOCAL else (None,))
        if _is_listed(case, found, name, side)
    ]
    return tuple(sorted(out, key=lambda item: (-item.p, item.name, item.side or "")))


def _is_listed(case: Case, found: tuple[Fired, ...], name: str, side: Side | None) -> bool:
    cut = model().verdict
    p = round(case.joint.cause(name, side), 9)
    here = [item for item in found if side is None or item.side == side]
    if any(name in item.always for item in here) or p >= cut.alternative_listed_from:
        return True
    return p >= cut.pattern_lists_from and any(name in item.lists for item in here)


def _alternative(case: Case, name: str, side: Side | None, language: str) -> Alternative:
    p = case.joint.cause(name, side)
    for_, against = _evidence(case, name, side)
    return Alternative(
        name=name, p=round(p, 4), for_=for_, against=against, label=words(language).cause[name], side=side, band=band(p)
    )


_TELLING_WEIGHT = 0.5
"""A recorded normal sign counts against a cause that would show it at least every second time."""
_TELLING_SHARE = 0.2
"""A deficit counts for a cause that carries at least a fifth of it."""


def _evidence(case: Case, name: str, side: Side | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    weights = {row.id: row.w.get(name, 0.0) for row in matrix().sign}
    for_ = tuple(
        item.key
        for item in case.deficits
        if side in (None, item.side) and case.shares[item].get(name, 0.0) >= _TELLING_SHARE
    )
    against = tuple(
        f"{item.side}:{item.field}"
        for item in case.signs
        if item.state == "normal" and side in (None, item.side) and weights.get(item.sign, 0.0) >= _TELLING_WEIGHT
    )
    return for_, against
