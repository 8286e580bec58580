"""The verdict of one finding: rules V, caps and route rules in their order; the first that matches decides.

Cuts in configs/clinical/model.toml. Evidence that is missing leaves a finding open, it never dismisses it.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.clinical import ROOTS, Cuts, model
from inference import clinical_engine as engine
from inference.clinical_case import Case, weighted_share
from inference.clinical_patterns import side_signs
from inference.clinical_signs import adequacy
from inference.exam import Side
from inference.roots import ABOVE_MODEL, ImagingFinding, Reach, RootKey, grade_of, reach

_RA07_SIGNS = ("mrc.iliopsoas", "mrc.quadriceps", "ref.patellar", "sen.L2", "sen.L3")


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
        joint=_level(max(most(case.joint, start), joint)),
        clinical=_level(max(most(case.clinical, start), clinical)),
        joint_any=_level(max(most(case.joint, 1), joint)),
        clinical_any=_level(max(most(case.clinical, 1), clinical)),
        base_any=_level(base),
    )


def _level(value: float) -> float:
    """A probability without the last digits, which depend on the order of summing: a limit that is just met is met on either side."""
    return round(value, 9)


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
        if numbering_uncertain(case):
            return "indeterminate", ("CAP-03",)
        return "does_not_explain", ("V-03",)
    return "indeterminate", ("V-04",)


def numbering_uncertain(case: Case) -> bool:
    """Whether the names of the levels may be off by one."""
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
    if numbering_uncertain(case):
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


def judge_all(case: Case) -> tuple[Judged, ...]:
    """Verdict of every finding, in the order given."""
    return tuple(judge(case, finding) for finding in (case.imaging.findings if case.imaging else ()))
