"""Exact enumeration of causes: four roots in three states and one local nerve cause per side, one shared cause for both sides.

A noisy-OR links causes to signs (configs/clinical/matrix.toml, model.toml). 11 x 2 x 5 x 81 terms, no sampling; arrays only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from configs.clinical import LOCAL, ROOTS, matrix, model
from configs.clinical.site import rests_on_tables
from inference.clinical_signs import Observed, Recorded, State
from inference.exam import SIDES, Side
from inference.roots import RootKey

Array = NDArray[np.float64]

SHARED_STATES: tuple[tuple[str, str], ...] = (
    ("none", "both"),
    ("PN", "both"),
    ("MND", "left"),
    ("MND", "right"),
    ("MND", "both"),
    ("CEN", "left"),
    ("CEN", "right"),
    ("CEN", "both"),
    ("CES", "whole"),
    ("CES", "sacral"),
    ("MYO", "both"),
)
LOCAL_STATES = ("none", *LOCAL)
ROOT_STATES = np.array(list(product(range(3), repeat=len(ROOTS))))
_TINY = 1e-12
"""Floor of a probability before its logarithm; far below any product of leaks."""


@dataclass(frozen=True)
class Strengths:
    """-log(1 - w k) of every cause state on every side sign: roots (4, 3, D), local (5, D), shared per side (11, D), leak (D,)."""

    names: tuple[str, ...]
    root: Array
    local: Array
    shared: dict[Side, Array]
    leak: Array

    def roots_together(self) -> Array:
        """Sum over the roots for each of the 81 joint root states, shape (81, D)."""
        return np.asarray(sum(self.root[r][ROOT_STATES[:, r]] for r in range(len(ROOTS))))


def _lam(weight: Array) -> Array:
    return -np.log1p(-np.minimum(weight, 1 - _TINY))


@rests_on_tables
def _strengths(elderly: bool, marked: bool) -> Strengths:
    numbers = model()
    signs = [sign for sign in matrix().sign if sign.kind != "general"]
    names = tuple(sign.id for sign in signs)
    hard = numbers.marked_weakness
    mild = np.array([numbers.mild_root[sign.kind] for sign in signs])
    root = np.zeros((len(ROOTS), 3, len(signs)))
    for r, name in enumerate(ROOTS):
        w = np.array([sign.w.get(name, 0.0) for sign in signs])
        root[r, 1] = _lam(w * (hard["irritated"] if marked else mild))
        root[r, 2] = _lam(w * (hard["compromised"] if marked else 1.0))
    local = np.zeros((len(LOCAL_STATES), len(signs)))
    for a, name in enumerate(LOCAL_STATES[1:], 1):
        w = np.array([sign.w.get(name, 0.0) for sign in signs])
        local[a] = _lam(w * (hard["local"] if marked else 1.0))
    shared = {side: np.zeros((len(SHARED_STATES), len(signs))) for side in SIDES}
    for g, (name, form) in enumerate(SHARED_STATES):
        w = np.array([sign.w.get(name, 0.0) for sign in signs])
        if form == "sacral":
            kept = np.array([sign.id in numbers.sacral_form.kept for sign in signs])
            w = np.where(kept, w, w * numbers.sacral_form.leg_factor)
        for side in SIDES:
            if form in {"left", "right"} and form != side:
                continue
            shared[side][g] = _lam(w * (hard.get(name, 1.0) if marked else 1.0))
    leak = np.array([_leak(sign.id, sign.leak, elderly) for sign in signs])
    return Strengths(names, root, local, shared, _lam(leak * (hard["leak"] if marked else 1.0)))


def _leak(sign: str, leak: float, elderly: bool) -> float:
    rule = model().elderly
    if elderly and sign in rule.leak:
        return rule.leak[sign]
    if elderly and sign in rule.doubled:
        return max(leak, min(2 * leak, rule.doubled_at_most))
    return leak


@dataclass(frozen=True)
class Likelihood:
    """What the signs say about every state: per side (11, 5, 81) log-likelihood, shared (11,), and the strengths used."""

    side: dict[Side, Array]
    shared: Array
    strengths: Strengths


@rests_on_tables
def _no_sign(elderly: bool, marked: bool, side: Side) -> Array:
    """Probability that each sign is absent in every state, shape (D, 11, 5, 81); the same for all cases."""
    table = _strengths(elderly, marked)
    total = (
        table.shared[side].T[:, :, None, None]
        + table.local.T[:, None, :, None]
        + table.roots_together().T[:, None, None, :]
        + table.leak[:, None, None, None]
    )
    absent = np.exp(-total)
    absent.setflags(write=False)
    return absent


def is_elderly(seen: Recorded) -> bool:
    """Whether the leaks of old age apply; a blank age leaves them out."""
    age = seen.general.get("pt.age")
    return age is not None and age >= model().elderly.from_age


def exponent(item: Observed, seen: Recorded) -> float:
    """How much a sign counts in the likelihood (1 = fully)."""
    numbers = model().exponent
    out = numbers.get(item.sign, 1.0)
    if item.attested:
        out *= numbers["attested"]
    if (
        item.sign in {"ten.slr", "ten.slump"}
        and item.state == "normal"
        and seen.general.get("pain.claudication") == "neurogenic"
    ):
        out *= numbers["negative_tension_with_neurogenic_claudication"]
    return out


@rests_on_tables
def _log_of_abnormal(elderly: bool, side: Side) -> Array:
    """Logarithm of the probability of every abnormal way a sign can be seen, in every state: (3, D, 11 * 5 * 81), as `_SEEN`."""
    q_all, q_marked = _no_sign(elderly, False, side), _no_sign(elderly, True, side)
    seen = np.stack([1 - q_all, q_marked - q_all, 1 - q_marked])
    table: Array = np.log(np.maximum(seen, _TINY)).reshape(len(_SEEN), len(q_all), -1)
    table.setflags(write=False)
    return table


_SEEN: tuple[State, ...] = ("abnormal", "mild", "marked")


def likelihood(signs: tuple[Observed, ...], seen: Recorded) -> Likelihood:
    """Log-likelihood of the recorded signs for every combination of causes."""
    elderly = is_elderly(seen)
    table = _strengths(elderly, False)
    place = {name: d for d, name in enumerate(table.names)}
    shape = (len(SHARED_STATES), len(LOCAL_STATES), len(ROOT_STATES))
    out: dict[Side, Array] = {}
    for side in SIDES:
        quiet = np.zeros(len(table.names))  # exponents of normal signs: their logarithms add over the causes
        ways, rows, weights = [], [], []
        for item in signs:
            if item.side != side:
                continue
            if item.state == "normal":
                quiet[place[item.sign]] += exponent(item, seen)
            else:
                ways.append(_SEEN.index(item.state))
                rows.append(place[item.sign])
                weights.append(exponent(item, seen))
        absent = (
            (table.shared[side] @ quiet)[:, None, None]
            + (table.local @ quiet)[None, :, None]
            + (table.roots_together() @ quiet)[None, None, :]
            + table.leak @ quiet
        )
        present = np.array(weights) @ _log_of_abnormal(elderly, side)[ways, rows] if rows else np.zeros(1)
        out[side] = present.reshape(shape if rows else (1, 1, 1)) - absent
    return Likelihood(out, _shared_likelihood(signs), table)


def shared_strength(sign: str) -> tuple[Array, float]:
    """-log(1 - w) of a general sign for each shared state (11,), and of its leak."""
    row = next(item for item in matrix().sign if item.id == sign)
    weights = np.array([row.w.get(name, 0.0) for name, _ in SHARED_STATES])
    return _lam(weights), float(_lam(np.array(row.leak)))


def _shared_likelihood(signs: tuple[Observed, ...]) -> Array:
    out = np.zeros(len(SHARED_STATES))
    for item in signs:
        if item.side == "general":
            causes, leak = shared_strength(item.sign)
            log_q = -(causes + leak)
            tau = model().exponent["attested"] if item.attested else 1.0
            out += tau * (log_q if item.state == "normal" else np.log(np.maximum(1 - np.exp(log_q), _TINY)))
    return out


@dataclass(frozen=True)
class Priors:
    """Prior of the shared states (11,), and per side of local causes (5,) and roots (4, 3)."""

    shared: Array
    local: dict[Side, Array]
    root: dict[Side, Array]


def priors(seen: Recorded, ratios: Mapping[RootKey, float], canal_narrow: bool) -> Priors:
    """Priors of one case. `ratios` of 1 and `canal_narrow` False give the examination alone."""
    numbers = model()
    shared = dict(numbers.shared_prior)
    local = {side: dict(numbers.local_prior) for side in SIDES}
    for factor in numbers.prior_factor:
        for side in SIDES:
            if factor.cause in local[side] and _applies(
                factor.field, factor.equals, factor.onset_within_days, seen, side
            ):
                local[side][factor.cause] *= factor.factor
        if factor.cause in shared and _applies(factor.field, factor.equals, factor.onset_within_days, seen, None):
            shared[factor.cause] *= factor.factor
    if canal_narrow:
        shared["CES"] *= numbers.imaging.cauda_equina_ratio
    floor = numbers.prior_limits.none_at_least
    for side in SIDES:
        local[side]["CPN"] = min(local[side]["CPN"], numbers.prior_limits.cpn_at_most)
    forms = {name: sum(1 for other, _ in SHARED_STATES if other == name) for name, _ in SHARED_STATES}
    g = np.array(
        [
            max(1 - sum(shared.values()), floor) if name == "none" else shared[name] / forms[name]
            for name, _ in SHARED_STATES
        ]
    )
    a = {
        side: np.array([max(1 - sum(local[side].values()), floor), *(local[side][name] for name in LOCAL)])
        for side in SIDES
    }
    roots: dict[Side, Array] = {}
    for side in SIDES:
        table = np.array([numbers.root_prior[root] for root in ROOTS])
        ratio = np.array([ratios.get((side, root), 1.0) for root in ROOTS])
        table = table * np.stack([np.ones(len(ROOTS)), np.sqrt(ratio), ratio], axis=1)
        roots[side] = table / table.sum(axis=1, keepdims=True)
    return Priors(g / g.sum(), {side: a[side] / a[side].sum() for side in SIDES}, roots)


def _applies(field: str | None, equals: object, within_days: int | None, seen: Recorded, side: Side | None) -> bool:
    if field is None:
        return within_days is not None and seen.onset_days is not None and seen.onset_days <= within_days
    if side is not None and field in seen.side(side):
        return bool(seen.side(side)[field] == equals)
    return bool(seen.general.get(field) == equals)


@dataclass(frozen=True)
class Posterior:
    """Belief over shared states (11,) and, per side, over shared x local x roots (11, 5, 81)."""

    shared: Array
    side: dict[Side, Array]

    def root_state(self, side: Side, root: str) -> Array:
        """Probabilities (3,) of none, irritated, compromised."""
        by_state = self.side[side].sum(axis=(0, 1))
        column = ROOT_STATES[:, ROOTS.index(root)]
        return np.array([by_state[column == k].sum() for k in range(3)])

    def cause(self, name: str, side: Side | None = None) -> float:
        """Probability of a local cause on a side, or of a shared cause in any of its forms."""
        if name in LOCAL and side is not None:
            return float(self.side[side].sum(axis=(0, 2))[LOCAL_STATES.index(name)])
        return float(sum(self.shared[g] for g, (other, _) in enumerate(SHARED_STATES) if other == name))


def posterior(like: Likelihood, prior: Priors) -> Posterior:
    """Exact posterior; given the shared state the sides are independent."""
    joint: dict[Side, Array] = {}
    evidence = np.log(prior.shared) + like.shared
    for side in SIDES:
        roots = np.prod([prior.root[side][r][ROOT_STATES[:, r]] for r in range(len(ROOTS))], axis=0)
        log_prior = np.log(prior.local[side])[:, None] + np.log(roots)[None, :]
        log_side = like.side[side] + log_prior
        top = log_side.max(axis=(1, 2), keepdims=True)
        weight = np.exp(log_side - top)
        total = weight.sum(axis=(1, 2), keepdims=True)
        joint[side] = weight / total
        evidence = evidence + top[:, 0, 0] + np.log(total[:, 0, 0])
    shared = np.exp(evidence - evidence.max())
    shared /= shared.sum()
    return Posterior(shared, {side: shared[:, None, None] * joint[side] for side in SIDES})


def responsibilities(
    belief: Posterior, like: Likelihood, wanted: Mapping[Side, tuple[str, ...]]
) -> dict[tuple[Side, str], dict[str, float]]:
    """Expected share of every cause in each wanted side sign; causes are root names, local and shared causes, and leak."""
    out: dict[tuple[Side, str], dict[str, float]] = {}
    table = like.strengths
    together = table.roots_together()
    for side in SIDES:
        for sign in wanted.get(side, ()):
            d = table.names.index(sign)
            total = (
                table.shared[side][:, d][:, None, None]
                + table.local[:, d][None, :, None]
                + together[:, d][None, None, :]
                + table.leak[d]
            )
            weight = belief.side[side] / total
            by_root, by_local, by_shared = weight.sum(axis=(0, 1)), weight.sum(axis=(0, 2)), weight.sum(axis=(1, 2))
            share = {root: float(by_root @ table.root[r][ROOT_STATES[:, r], d]) for r, root in enumerate(ROOTS)}
            share |= {name: float(by_local[a] * table.local[a, d]) for a, name in enumerate(LOCAL_STATES) if a}
            for g, (name, _) in enumerate(SHARED_STATES):
                if name != "none":
                    share[name] = share.get(name, 0.0) + float(by_shared[g] * table.shared[side][g, d])
            share["leak"] = float(weight.sum() * table.leak[d])
            out[side, sign] = share
    return out


def general_responsibilities(belief: Posterior, sign: str) -> dict[str, float]:
    """Expected share of every shared cause, and of the leak, in a general sign."""
    causes, leak = shared_strength(sign)
    weight = belief.shared / (causes + leak)
    out: dict[str, float] = {"leak": float(weight.sum() * leak)}
    for g, (name, _) in enumerate(SHARED_STATES):
        if name != "none":
            out[name] = out.get(name, 0.0) + float(weight[g] * causes[g])
    return out


def information(
    belief: Posterior, like: Likelihood, side: Side, sign: str, carrying: tuple[str, ...], seen: Recorded
) -> float:
    """Mutual information in bits between an unexamined side sign and (local cause, shared cause, carrying roots compromised)."""
    d = like.strengths.names.index(sign)
    p = 1 - _no_sign(is_elderly(seen), False, side)[d]
    joint = belief.side[side]
    columns = [ROOTS.index(root) for root in carrying]
    key = np.zeros(len(ROOT_STATES), dtype=int)
    for column in columns:
        key = key * 2 + (ROOT_STATES[:, column] == 2)
    groups = 2 ** len(columns)
    member = (key[:, None] == np.arange(groups)).astype(float)
    mass, hits = joint @ member, (joint * p) @ member
    return _information(mass, hits)


def general_information(belief: Posterior, sign: str) -> float:
    """Mutual information in bits between an unexamined general sign and the shared cause."""
    causes, leak = shared_strength(sign)
    return _information(belief.shared, belief.shared * (1 - np.exp(-(causes + leak))))


def _information(mass: Array, hits: Array) -> float:
    within = np.divide(hits, mass, out=np.zeros_like(hits), where=mass > _TINY)
    return max(float(_entropy(np.array(hits.sum())) - (mass * _entropy(within)).sum()), 0.0)


def _entropy(p: Array) -> Array:
    p = np.clip(p, _TINY, 1 - _TINY)
    return np.asarray(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)))
