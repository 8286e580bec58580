"""Whether the images account for the examination: a verdict per finding, one for the study, roots, causes and what is open.

Rules V, CAP, S, RA, DX and N with the numbers of configs/clinical/model.toml, over the exact posterior of clinical_engine. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.clinical import CAUSES, LOCAL, ROOTS, Cuts, matrix, model, patterns
from inference import clinical_engine as engine
from inference.clinical_missing import missing_items, next_tests
from inference.clinical_patterns import Fired, double_lesion, fired_patterns, side_signs
from inference.clinical_signs import (
    Deficit,
    Observed,
    Recorded,
    adequacy,
    observed_signs,
    recorded,
    scored,
    study_adequacy,
)
from inference.clinical_words import verdict_reasons
from inference.exam import SIDES, Exam, Side
from inference.report import Alternative, Concordance, DeficitShare, FindingVerdict, PatternFired, RootBelief
from inference.roots import (
    ABOVE_MODEL,
    Imaging,
    ImagingFinding,
    Reach,
    RootKey,
    grade_of,
    imaging_from_report,
    narrows_canal,
    reach,
    root_ratios,
)

__all__ = ["Imaging", "correlate", "imaging_from_report"]

Shares = dict[str, float]
_RA07_SIGNS = ("mrc.iliopsoas", "mrc.quadriceps", "ref.patellar", "sen.L2", "sen.L3")


@dataclass(frozen=True)
class Case:
    """Everything the verdicts read: entries, signs, what is scored, both posteriors and who carries which sign."""

    seen: Recorded
    imaging: Imaging | None
    signs: tuple[Observed, ...]
    deficits: tuple[Deficit, ...]
    has_deficit: bool
    adequacy: float
    clinical: engine.Posterior
    joint: engine.Posterior
    base: engine.Priors
    shares: dict[Deficit, Shares]
    like: engine.Likelihood
    patterns: tuple[Fired, ...]

    @property
    def bladder_positive(self) -> bool:
        """Any bladder, bowel or saddle sign."""
        return any(item.side == "general" and item.state != "normal" for item in self.signs)

    @property
    def total_weight(self) -> float:
        return sum(item.weight for item in self.deficits)


def build_case(exam: Exam, imaging: Imaging | None) -> Case:
    """Run both posteriors, with and without the images."""
    seen = recorded(exam)
    signs = observed_signs(seen)
    deficits, has_deficit = scored(signs)
    like = engine.likelihood(signs, seen)
    base = engine.priors(seen, {}, canal_narrow=False)
    clinical = engine.posterior(like, base)
    joint = clinical
    if imaging is not None and imaging.present:
        with_images = engine.priors(seen, root_ratios(imaging), canal_narrow=narrows_canal(imaging))
        joint = engine.posterior(like, with_images)
    return Case(
        seen,
        imaging,
        signs,
        deficits,
        has_deficit,
        study_adequacy(seen, deficits if has_deficit else ()),
        clinical,
        joint,
        base,
        _shares(deficits, joint, like),
        like,
        fired_patterns(signs, seen),
    )


def _shares(deficits: tuple[Deficit, ...], joint: engine.Posterior, like: engine.Likelihood) -> dict[Deficit, Shares]:
    wanted: dict[Side, tuple[str, ...]] = {
        side: tuple(item.sign for item in deficits if item.side == side) for side in SIDES
    }
    by_sign = engine.responsibilities(joint, like, wanted)
    out: dict[Deficit, Shares] = {}
    for item in deficits:
        if item.side == "general":
            out[item] = engine.general_responsibilities(joint, item.sign)
        else:
            out[item] = by_sign[item.side, item.sign]
    return out


def _root_weight(sign: str, root: str) -> float:
    return next((row.w.get(root, 0.0) for row in matrix().sign if row.id == sign), 0.0)


def share_of(case: Case, deficit: Deficit, roots: tuple[RootKey, ...], with_cauda: bool) -> float:
    """Share of a deficit that some roots carry (and cauda equina involvement, for bladder, bowel and saddle signs)."""
    shares, cut = case.shares[deficit], model().verdict.root_counts_from_weight
    if deficit.side == "general":
        return shares["CES"] if with_cauda else 0.0
    return sum(shares[root] for side, root in roots if side == deficit.side and _root_weight(deficit.sign, root) >= cut)


def weighted_share(case: Case, roots: tuple[RootKey, ...], with_cauda: bool) -> float:
    """Share of all scored deficits, by weight, that some roots carry; 0 when nothing is scored."""
    if not case.deficits:
        return 0.0
    return sum(d.weight * share_of(case, d, roots, with_cauda) for d in case.deficits) / case.total_weight


@dataclass(frozen=True)
class Judged:
    """A finding with what decided its verdict."""

    finding: ImagingFinding
    grade: int | None
    reached: Reach
    verdict: str
    rules: tuple[str, ...]
    share: float
    with_cauda: bool

    @property
    def counts(self) -> bool:
        return self.verdict in {"explains", "contributes"}


@dataclass(frozen=True)
class _Belief:
    """Probabilities that the verdict of one finding reads, over the roots it endangers."""

    joint: float
    clinical: float
    joint_any: float
    clinical_any: float
    base_any: float


def _belief(case: Case, roots: tuple[RootKey, ...], with_cauda: bool) -> _Belief:
    def most(belief: engine.Posterior, start: int) -> float:
        return max((float(belief.root_state(side, root)[start:].sum()) for side, root in roots), default=0.0)

    start = 2 if case.has_deficit else 1
    base = max((float(case.base.root[side][ROOTS.index(root), 1:].sum()) for side, root in roots), default=0.0)
    joint = clinical = 0.0
    if with_cauda:
        joint, clinical = case.joint.cause("CES"), case.clinical.cause("CES")
        forms = [g for g, (name, _) in enumerate(engine.SHARED_STATES) if name == "CES"]
        base = max(base, float(case.base.shared[forms].sum()))
    return _Belief(
        joint=max(most(case.joint, start), joint),
        clinical=max(most(case.clinical, start), clinical),
        joint_any=max(most(case.joint, 1), joint),
        clinical_any=max(most(case.clinical, 1), clinical),
        base_any=base,
    )


def judge(case: Case, finding: ImagingFinding) -> Judged:
    """Verdict of one finding; the first rule that matches decides, caps are recorded beside it."""
    reached = reach(finding)
    roots = reached.endangered()
    if finding.withheld is not None:
        return Judged(finding, None, reached, "indeterminate", ("CAP-01",), 0.0, False)
    assert case.imaging is not None
    grade = grade_of(finding, case.imaging)
    with_cauda = finding.central and grade >= model().imaging.cauda_equina_from_grade
    share = weighted_share(case, roots, with_cauda)
    verdict, rules = _decide(case, finding, grade, reached, share, with_cauda)
    mirrored = _mirrored_root(case, finding, grade, roots)
    if mirrored:
        rules = (*rules, "V-07")
    return Judged(finding, grade, reached, verdict, rules, share, with_cauda)


def _decide(
    case: Case, finding: ImagingFinding, grade: int, reached: Reach, share: float, with_cauda: bool
) -> tuple[str, tuple[str, ...]]:
    cut = model().verdict
    if grade == 0:
        return "does_not_explain", ("V-05",)
    verdict, rules = _by_entries(case, finding, cut)
    if not rules:
        verdict, rules = _by_numbers(case, finding, grade, reached, share, with_cauda, cut)
    stenosis = finding.condition in {"canal_stenosis", "recess_stenosis"}
    claudication = case.seen.general.get("pain.claudication") == "neurogenic"
    if not case.has_deficit and stenosis and claudication and {"V-03", "V-06"} & set(rules):
        return "indeterminate", ("CAP-08",)
    return verdict, rules


def _by_entries(case: Case, finding: ImagingFinding, cut: Cuts) -> tuple[str, tuple[str, ...]]:
    """V-06 and CAP-04: nothing to explain, or too little examined. The sides of the finding must have been examined."""
    if not case.deficits:
        examined = min(adequacy(case.seen, side) for side in finding.sides)
        if examined >= cut.adequacy_for_nothing:
            return "does_not_explain", ("V-06",)
        return "indeterminate", ("CAP-04",)
    if case.adequacy < cut.adequacy_minimum:
        return "indeterminate", ("CAP-04",)
    return "", ()


def _by_numbers(
    case: Case, finding: ImagingFinding, grade: int, reached: Reach, share: float, with_cauda: bool, cut: Cuts
) -> tuple[str, tuple[str, ...]]:
    roots = reached.endangered()
    p = _belief(case, roots, with_cauda)
    if (
        grade >= cut.explains_grade
        and share >= cut.explains_share
        and p.joint >= cut.explains_p
        and p.clinical >= cut.explains_clinical
    ):
        caps = _caps(case, finding, roots, with_cauda, cut)
        return ("contributes", ("V-01", *caps)) if caps else ("explains", ("V-01",))
    if share >= cut.contributes_share and p.joint_any >= cut.contributes_p_any and p.clinical_any >= p.base_any:
        return "contributes", ("V-02",)
    if with_cauda and case.bladder_positive:
        return "indeterminate", ("CAP-09",)
    if share < cut.dismiss_share or p.joint_any < cut.dismiss_p_any or p.clinical_any < p.base_any:
        if _outside_model(case, finding, grade):
            return "indeterminate", ("RA-07",)
        if reached.unknown:
            return "indeterminate", ("RA-10",)
        if _numbering_uncertain(case):
            return "indeterminate", ("CAP-03",)
        return "does_not_explain", ("V-03",)
    return "indeterminate", ("V-04",)


def _numbering_uncertain(case: Case) -> bool:
    return case.imaging is not None and case.imaging.numbering == "uncertain"


def _outside_model(case: Case, finding: ImagingFinding, grade: int) -> bool:
    """RA-07: a finding at roots that the model does not hold, with deficits that such roots could give."""
    above = finding.level in ABOVE_MODEL
    foramen = finding.level == "L2-L3" and finding.effective_zone in {"foraminal", "extraforaminal"}
    if grade < model().verdict.explains_grade or not case.has_deficit or not (above or foramen):
        return False
    if above and finding.central:
        return True
    return any(item.sign in _RA07_SIGNS and item.side in finding.sides for item in case.deficits)


def _caps(
    case: Case, finding: ImagingFinding, roots: tuple[RootKey, ...], with_cauda: bool, cut: Cuts
) -> tuple[str, ...]:
    caps: list[str] = []
    if case.adequacy < cut.adequacy_for_explains:
        caps.append("CAP-02")
    if _numbering_uncertain(case):
        caps.append("CAP-03")
    if not case.has_deficit:
        caps.append("CAP-05")
    if not (with_cauda and case.bladder_positive) and any(
        _nerve_left_open(case, side) for side, root in roots if root == "L5"
    ):
        caps.append("CAP-06")
    if finding.post_op:
        caps.append("CAP-07")
    return tuple(caps)


def _nerve_left_open(case: Case, side: Side) -> bool:
    """A foot drop on a side where nothing that tells L5 from the peroneal nerve was examined."""
    s = side_signs(case.signs, case.seen, side)
    telling = ("emg.tibialis_posterior", "emg.gluteus_medius", "emg.paraspinal")
    return (
        s.weak("tibialis_anterior")
        and s.blank("tibialis_posterior")
        and s.blank("gluteus_medius")
        and not any(name in s.states for name in telling)
    )


def _mirrored_root(case: Case, finding: ImagingFinding, grade: int, roots: tuple[RootKey, ...]) -> bool:
    """V-07: a compressing finding on a side without deficit while the same root of the other side is suspected."""
    if grade < model().verdict.explains_grade or len(finding.sides) != 1 or not case.has_deficit:
        return False
    here = finding.sides[0]
    there: Side = "right" if here == "left" else "left"
    sides = {item.side for item in case.deficits}
    if here in sides or there not in sides:
        return False
    return any(
        float(case.clinical.root_state(there, root)[2]) >= model().verdict.mirrored_clinical for _, root in roots
    )


def correlate(exam: Exam, imaging: Imaging | None) -> Concordance:
    """Concordance of an examination with the images. Blank entries change nothing; withheld findings are never normal."""
    case = build_case(exam, imaging)
    return concordance(case, judge_all(case))


def judge_all(case: Case) -> tuple[Judged, ...]:
    """Verdict of every finding, in the order given."""
    return tuple(judge(case, finding) for finding in (case.imaging.findings if case.imaging else ()))


def matching_roots(judged: tuple[Judged, ...]) -> tuple[tuple[RootKey, ...], bool]:
    """Roots of all findings that explain or contribute, and whether one of them narrows the canal."""
    roots = {key for item in judged if item.counts for key in item.reached.endangered()}
    return tuple(sorted(roots)), any(item.with_cauda for item in judged if item.counts)


def concordance(case: Case, judged: tuple[Judged, ...]) -> Concordance:
    """Put the verdict of the study together."""
    roots, with_cauda = matching_roots(judged)
    withheld = {key for item in judged if item.finding.withheld is not None for key in item.reached.possible()}
    carried = {item: share_of(case, item, roots, with_cauda) for item in case.deficits}
    total = weighted_share(case, roots, with_cauda)
    held_back = weighted_share(case, tuple(sorted(withheld)), with_cauda=False)
    cut = model().verdict
    unexplained = tuple(item for item in case.deficits if case.has_deficit and carried[item] < cut.unexplained_below)
    verdict, study_rules = _study(case, judged, total, held_back, unexplained)
    implicated = _implicated(case)
    doubled = tuple(double_lesion(side) for side in SIDES if _double(case, side, cut))
    found = case.patterns + doubled
    rules = {rule for item in judged for rule in item.rules} | set(study_rules) | {item.id for item in found}
    missing, missing_rules = missing_items(case, capped="CAP-06" in rules)
    tests, test_rules = next_tests(case, verdict, found, judged)
    rules |= set(missing_rules) | set(test_rules) | _route_rules(judged, case)
    return Concordance(
        verdict=verdict,
        rules_fired=tuple(sorted(rules)),
        per_finding=tuple(_verdict_out(case, item) for item in judged),
        roots=tuple(_root_out(case, side, root) for side in SIDES for root in ROOTS),
        roots_implicated=implicated,
        alternatives=_alternatives(case, found),
        unexplained_deficits=tuple(item.key for item in unexplained),
        missing=missing,
        next_tests=tests,
        adequacy=round(case.adequacy, 3),
        share=round(total, 4),
        withheld_share=round(held_back, 4),
        deficits=tuple(
            DeficitShare(
                field=item.key,
                weight=item.weight,
                share=round(carried[item], 4),
                by_cause={name: round(value, 4) for name, value in case.shares[item].items() if value >= 0.005},
            )
            for item in case.deficits
        ),
        patterns=tuple(PatternFired(id=item.id, side=item.side, text=item.text) for item in found),
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
    uncertain = _numbering_uncertain(case)
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
    if _numbering_uncertain(case):
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


def _verdict_out(case: Case, item: Judged) -> FindingVerdict:
    return FindingVerdict.model_validate(
        {
            "finding_id": item.finding.id,
            "verdict": item.verdict,
            "rules": item.rules,
            "reasons": verdict_reasons(item.rules, item.finding.withheld),
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


def _alternatives(case: Case, found: tuple[Fired, ...]) -> tuple[Alternative, ...]:
    cut = model().verdict
    always = {name for item in found for name in item.always}
    listed = {name for item in found for name in item.lists}
    out: list[Alternative] = []
    for name in CAUSES:
        sides: tuple[Side | None, ...] = SIDES if name in LOCAL else (None,)
        p, side = max(((case.joint.cause(name, s), s) for s in sides), key=lambda pair: pair[0])
        if p >= cut.alternative_listed_from or name in always or (name in listed and p >= cut.pattern_lists_from):
            for_, against = _evidence(case, name, side)
            out.append(
                Alternative(
                    name=name,
                    p=round(p, 4),
                    for_=for_,
                    against=against,
                    label=patterns().cause[name],
                    side=side,
                    band=band(p),
                )
            )
    return tuple(sorted(out, key=lambda item: (-item.p, item.name)))


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
