"""What was not examined and would separate the causes most, by mutual information, and which tests would.

Never an order: items are named, nothing is asked for. Cuts in configs/clinical/model.toml, texts in patterns.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from configs.clinical import ROOTS, exam_table, matrix, model
from inference import clinical_engine as engine
from inference.clinical_case import Case
from inference.clinical_patterns import Fired
from inference.clinical_signs import BLADDER
from inference.clinical_verdicts import Judged
from inference.exam import SIDES, Side
from inference.report import MissingItem
from inference.roots import Imaging

_FIELD_OF = {"ten.slr": "ten.slr_deg", "bb.pvr": "bb.pvr_ml"}
_STUDY = ("emg.", "ncs.")


def missing_items(case: Case, capped: bool) -> tuple[tuple[MissingItem, ...], tuple[str, ...]]:
    """Unexamined entries, bedside items first, each by how many bits it is expected to tell; and the N rules that fired."""
    cut = model().verdict
    affected: tuple[Side, ...] = tuple(side for side in SIDES if any(d.side == side for d in case.deficits)) or SIDES
    bits: dict[str, float] = {}
    for side in affected:
        carrying = tuple(root for root in ROOTS if _carries(case, side, root, cut.missing_carries_from))
        for sign in matrix().sign:
            field = _field(sign.id)
            if field is None or sign.id in BLADDER or case.seen.side(side).get(field) is not None:
                continue
            key = f"{side}:{field}"
            told = engine.information(case.joint, case.like, side, sign.id, carrying, case.seen)
            bits[key] = max(bits.get(key, 0.0), told)
    for name in BLADDER:
        field = _FIELD_OF.get(name, name)
        if case.seen.general.get(field) is None:
            bits[f"general:{field}"] = engine.general_information(case.joint, name)
    lead = _leading(case, capped, affected)
    worth = [key for key, value in bits.items() if value >= cut.missing_worth_bits and key not in lead]
    order = sorted(worth, key=lambda key: (_is_study(key), -round(bits[key], 6), key.partition(":")[2], key))
    chosen = [key for key in lead if key in bits] + order
    rules = (["N-01"] if lead else []) + (["N-02"] if chosen else [])
    items = [MissingItem(field=key, expected_information=round(bits[key], 4)) for key in chosen]
    return first_missing(items, cut.missing_shown), tuple(rules)


def first_missing(items: Sequence[MissingItem], count: int) -> tuple[MissingItem, ...]:
    """The first `count` items; one more where the last is the same entry on the other side, so that no side is preferred."""
    shown = tuple(items[:count])
    if len(items) > count > 0 and _are_twins(shown[-1], items[count]):
        shown = (*shown, items[count])
    return shown


def _are_twins(one: MissingItem, other: MissingItem) -> bool:
    same = one.field.partition(":")[2] == other.field.partition(":")[2]
    return same and one.expected_information == other.expected_information


@cache
def _field(sign: str) -> str | None:
    """Entry that would give a sign; None for signs that only follow from others."""
    if sign == "umn.hyper":
        return None
    if sign.startswith("pain."):
        return "pain.distribution"
    name = _FIELD_OF.get(sign, sign)
    return name if any(field.id == name for field in exam_table().field) else None


def _is_study(key: str) -> bool:
    return key.partition(":")[2].startswith(_STUDY)


def _carries(case: Case, side: Side, root: str, cut: float) -> bool:
    return any(case.shares[item].get(root, 0.0) >= cut for item in case.deficits if item.side == side)


def _leading(case: Case, capped: bool, affected: tuple[Side, ...]) -> list[str]:
    """N-01: what tells L5 from the peroneal nerve leads where a foot drop was judged without it."""
    sides = [item.side for item in case.patterns if item.id == "DX-03" and item.side != "general"]
    if capped and not sides:
        sides = list(affected)
    return [f"{side}:{field}" for side in sides for field in ("mrc.tibialis_posterior", "mrc.gluteus_medius")]


def next_tests(
    case: Case, verdict: str, found: tuple[Fired, ...], judged: tuple[Judged, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the tests that would separate the causes, and N-03 where there is any."""
    ids = {item.id for item in found}
    wanted: list[str] = []
    nothing_there = case.imaging is not None and not any(item.grade for item in judged) and _all_given(case.imaging)
    if verdict == "discordant" and "DX-01" in ids and nothing_there:
        wanted.append("unexplained_l5")
    if "DX-09" in ids:
        wanted.append("central")
    if "DX-02" in ids:
        wanted.append("peroneal")
    if "DX-06" in ids:
        wanted.append("plexus")
    return tuple(wanted), ("N-03",) if wanted else ()


def _all_given(imaging: Imaging) -> bool:
    return not any(item.withheld for item in imaging.findings)
