"""Which part each stack plays: plane from geometry, weighting from TE, TR and TI, else from the pixels themselves.

Header times: configs/limits.toml, [contrast]. The series description never decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.loader import limits
from dicom_io.header import Header
from dicom_io.study import Stack

if TYPE_CHECKING:
    from dicom_io.contrast import Weighting

_FAT_SATURATED = frozenset({"FS", "FATSAT", "SPAIR", "SPIR", "FS_GEMS"})


@dataclass(frozen=True)
class Judged:
    """A role with its reason, and codes of what is doubtful about it."""

    role: str
    reason: str
    codes: tuple[str, ...] = ()


def judge(stacks: Sequence[Stack], header: Header) -> list[Judged]:
    """Roles of the stacks of one series. Stacks of one plane are weighed together: they are one acquisition."""
    seen: dict[str, Weighting] = {}
    judged: list[Judged] = []
    for stack in stacks:
        plane = stack.volume.plane
        if plane == "coronal":
            judged.append(Judged("other", "coronal slices: no part of the reading"))
            continue
        weighting, reason = _by_times(stack, header)
        if weighting is None:
            if plane not in seen:
                from dicom_io.contrast import weighting_of

                seen[plane] = weighting_of([other.volume for other in stacks if other.volume.plane == plane])
            weighting, reason = seen[plane].name, f"no usable TE and TR; {seen[plane].reason}"
            if not seen[plane].certain:
                # an axial stack is measured by what its weighting shows; a sagittal one only tells where the levels are
                role = "other" if plane == "axial" else _role(plane, weighting)
                judged.append(Judged(role, f"{plane} slices; {reason}, in doubt", ("WEIGHTING_UNCERTAIN",)))
                continue
        role = _role(plane, weighting)
        told = ("CONTRAST_TYPE",) if role == "other" or (weighting == "t1" and header.contrast_agent) else ()
        judged.append(Judged(role, f"{plane} slices; {reason}", told))
    return judged


def _role(plane: str, weighting: str) -> str:
    """The part that a weighting plays in a plane. STIR tells where the levels are; axial slices are measured on T2 alone."""
    if plane == "sagittal":
        known = {"t1": "sagittal_t1", "t2": "sagittal_t2", "t2_fs": "sagittal_t2_fs", "stir": "sagittal_t2_fs"}
        return known.get(weighting, "other")
    return {"t1": "axial_t1", "t2": "axial_t2", "t2_fs": "axial_t2"}.get(weighting, "other")


def _by_times(stack: Stack, header: Header) -> tuple[str | None, str]:
    """Weighting from header times with its reason; None when TE or TR is absent."""
    cuts = limits().contrast
    echo, repetition, inversion = stack.echo_time_ms, stack.repetition_time_ms, stack.inversion_time_ms
    if echo is None or repetition is None:
        return None, ""
    told = f"TE {echo:.0f} ms, TR {repetition:.0f} ms" + (f", TI {inversion:.0f} ms" if inversion else "")
    if inversion is not None and cuts.stir_inversion_ms[0] <= inversion <= cuts.stir_inversion_ms[1]:
        return "stir", f"STIR by {told}"
    if echo < cuts.t1_echo_below_ms:
        inverted = inversion is not None and cuts.t1_inversion_ms[0] <= inversion <= cuts.t1_inversion_ms[1]
        if repetition < cuts.t1_repetition_below_ms or inverted:
            agent = " after contrast agent" if header.contrast_agent else ""
            return "t1", f"T1-weighted{agent} by {told}"
        return "other", f"neither T1 nor T2 by {told}"
    if echo >= cuts.t2_echo_from_ms and repetition >= cuts.t2_repetition_from_ms:
        if _FAT_SATURATED & {option.upper() for option in header.scan_options}:
            return "t2_fs", f"T2-weighted with fat suppression by {told} and scan options"
        return "t2", f"T2-weighted by {told}"
    return "other", f"neither T1 nor T2 by {told}"


def rank(stacks: Sequence[Stack]) -> dict[str, tuple[Stack, ...]]:
    """Stacks by role, best first: more slices, then finer pixels, then series UID and place, never file order."""
    groups: dict[str, list[Stack]] = defaultdict(list)
    for stack in stacks:
        groups[stack.role].append(stack)
    return {role: tuple(sorted(group, key=_rank_key)) for role, group in sorted(groups.items())}


def _rank_key(stack: Stack) -> tuple[object, ...]:
    grid = stack.volume.grid
    origin = tuple(float(value) for value in grid.affine[:3, 3])
    return (-grid.shape[0], max(grid.spacing[1:]), stack.series_instance_uid, origin)
