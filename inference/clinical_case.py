"""One case, computed once: entries, signs, what is scored, both posteriors, and who carries which sign.

The examination alone and together with the images; shares are expected responsibilities under the exact posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.clinical import matrix, model
from inference import clinical_engine as engine
from inference.clinical_patterns import Fired, fired_patterns
from inference.clinical_signs import Deficit, Observed, Recorded, observed_signs, recorded, scored, study_adequacy
from inference.exam import SIDES, Exam, Side
from inference.roots import Imaging, RootKey, narrows_canal, root_ratios

Shares = dict[str, float]


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
    carried = (shares[root] for side, root in roots if side == deficit.side and _root_weight(deficit.sign, root) >= cut)
    return round(sum(carried), 9)  # the last digits depend on the order of summing


def weighted_share(case: Case, roots: tuple[RootKey, ...], with_cauda: bool) -> float:
    """Share of all scored deficits, by weight, that some roots carry; 0 when nothing is scored."""
    if not case.deficits:
        return 0.0
    return round(sum(d.weight * share_of(case, d, roots, with_cauda) for d in case.deficits) / case.total_weight, 9)
