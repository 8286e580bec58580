"""Conditions of a drawn spine that the reader must notice rather than measure away: slip, curve, extra or missing segments, surgery ...

Each takes a person and gives another one, who differs in the condition alone. Sizes: anatomy sections of the sources named beside them;
the rest are estimates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from training.phantom.anatomy import Anatomy, DiscDraw, LesionDraw
from training.phantom.curve import SpineCurve

Condition = Callable[[Anatomy, np.random.Generator], Anatomy]


def _t(curve: SpineCurve) -> NDArray[np.float64]:
    """Position along the curve (mm) of every table entry."""
    return np.linspace(curve.start, curve.end, len(curve.table), dtype=np.float64)


def _rise(t: NDArray[np.float64], middle: float, width: float) -> NDArray[np.float64]:
    """0 below, 1 above, smooth over `width`."""
    part = np.clip((t - middle) / width + 0.5, 0, 1)
    return part * part * (3 - 2 * part)


def bent(
    curve: SpineCurve,
    *,
    pitch: NDArray[np.float64] | None = None,
    lateral: NDArray[np.float64] | None = None,
    roll: NDArray[np.float64] | None = None,
    step: NDArray[np.float64] | None = None,
) -> SpineCurve:
    """The curve with, per table entry, `pitch` (radians, forwards +), a `lateral` offset (mm), an axial `roll` (radians) and a
    forward `step` (mm) of everything there. The middle of the table stays where it is."""
    table, spacing = curve.table.astype(np.float64), float(np.diff(_t(curve)[:2])[0])
    centre, u, v, w = table[:, :3], table[:, 3:6], table[:, 6:9], table[:, 9:12]
    if pitch is not None:
        cos, sin = np.cos(pitch)[:, None], np.sin(pitch)[:, None]
        w = cos * w - sin * v
        v = np.cross(w, u)
    if lateral is not None:
        w = w + np.gradient(lateral, spacing)[:, None] * u
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        u = u - (u * w).sum(1, keepdims=True) * w
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        v = np.cross(w, u)
    if roll is not None:
        cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
        u, v = cos * u + sin * v, cos * v - sin * u
    middle = len(table) // 2
    if pitch is not None or lateral is not None:
        path = np.concatenate([np.zeros((1, 3)), np.cumsum((w[1:] + w[:-1]) * (spacing / 2), axis=0)])
        centre = path - path[middle] + centre[middle]
    if step is not None:
        centre = centre - step[:, None] * v
    rows = np.concatenate([centre, u, v, w, np.gradient(w, spacing, axis=0)], axis=1)
    return SpineCurve(curve.start, rows.astype(np.float32))


def _with_disc(anatomy: Anatomy, index: int, disc: DiscDraw) -> Anatomy:
    discs = list(anatomy.discs)
    discs[index] = disc
    return replace(anatomy, discs=tuple(discs))


def _disc_of_height(anatomy: Anatomy, name: str, height: float, **changed: object) -> Anatomy:
    """A disc of another posterior height (mm), its endplates moved, and further changes."""
    index = anatomy.disc_index(name)
    disc = replace(anatomy.discs[index], height_posterior=height, **changed)  # type: ignore[arg-type]
    vertebrae = list(anatomy.vertebrae)
    vertebrae[index] = replace(vertebrae[index], bottom=disc.t + height / 2)
    vertebrae[index + 1] = replace(vertebrae[index + 1], top=disc.t - height / 2)
    return replace(_with_disc(anatomy, index, disc), vertebrae=tuple(vertebrae))


def slip(anatomy: Anatomy, rng: np.random.Generator, *, millimetres: float | None = None) -> Anatomy:
    """The vertebra above L4-L5 (or L5-S1) with all that stands on it lies 3.5 to 9 mm (or `millimetres`) further forward."""
    size = float(rng.uniform(3.5, 9.0)) if millimetres is None else millimetres
    disc = anatomy.discs[anatomy.disc_index("L4-L5" if rng.random() < 0.7 else "L5-S1")]
    step = size * _rise(_t(anatomy.curve), disc.t, max(disc.height_posterior, 4.0))
    return replace(anatomy, curve=bent(anatomy.curve, step=step))


def scoliosis(anatomy: Anatomy, rng: np.random.Generator, *, cobb_deg: float | None = None) -> Anatomy:
    """A curve of 25 to 40 degrees (Cobb, or `cobb_deg`) to one side between the sacrum and T12, with rotation of the vertebrae."""
    angle = np.radians(float(rng.uniform(25, 40)) if cobb_deg is None else cobb_deg)
    t = _t(anatomy.curve)
    low, high = anatomy.discs[anatomy.disc_index("L5-S1")].t, anatomy.discs[anatomy.disc_index("T12-L1")].t
    part = np.clip((t - low) / (high - low), 0, 1)
    # both ends lean by half of the angle; the curve is level in its middle
    lateral = np.tan(angle / 2) * (high - low) / np.pi * np.sin(np.pi * part)
    beyond = np.where(t > high, -(t - high), np.where(t < low, t - low, 0.0)) * np.tan(angle / 2) * np.exp(-2.0)
    side = 1.0 if rng.random() < 0.5 else -1.0
    offset = side * (lateral + np.where((t < low) | (t > high), beyond, 0.0))
    roll = side * np.radians(float(rng.uniform(8, 18))) * np.sin(np.pi * part)
    return replace(anatomy, curve=bent(anatomy.curve, lateral=offset, roll=roll))


def short_pedicles(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Congenitally short pedicles: canal, laminae and joints lie a fifth to a third nearer to the bodies (Verbiest: under 12 mm)."""
    share = float(rng.uniform(0.66, 0.8))
    discs = []
    for disc in anatomy.discs:
        facets = [
            replace(facet, joint_v=max(facet.joint_v * share, 4.5), flavum=facet.flavum * 0.9)
            for facet in (disc.left, disc.right)
        ]
        discs.append(
            replace(
                disc, apex=disc.apex * share, sac_ap=disc.sac_ap * share, sac_area=disc.sac_area * share,
                posterior_fat=disc.posterior_fat * share, left=facets[0], right=facets[1],
            )
        )  # fmt: skip
    vertebrae = tuple(
        replace(item, canal_ap=item.canal_ap * share, apex=item.apex * share) for item in anatomy.vertebrae
    )
    return replace(anatomy, discs=tuple(discs), vertebrae=vertebrae)


def sixth_lumbar(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A lumbarised S1: a full disc below a square first sacral segment (O'Driscoll type 4), so that six seem lumbar."""
    l5, s1 = (anatomy.discs[anatomy.disc_index(name)] for name in ("L5-S1", "S1-S2"))
    made = _disc_of_height(
        anatomy,
        "S1-S2",
        float(rng.uniform(4.5, 6.5)),
        width=0.92 * l5.width,
        depth=float(rng.uniform(0.85, 0.97)) * l5.depth,
        endplate_slope=0.6 * l5.endplate_slope,
        endplate_dome=0.8,
        bulge=0.0,
        pfirrmann=float(rng.uniform(1.5, 3.5)),
        t=s1.t,
    )
    vertebrae = list(made.vertebrae)
    place = made.settings.vertebrae.index("S1")
    vertebrae[place] = replace(vertebrae[place], depth=0.95 * l5.depth, waist=0.9)
    vertebrae[place + 1] = replace(vertebrae[place + 1], depth=0.85 * l5.depth, width=0.85 * l5.width)
    # the sacrum begins one segment lower: above it the column bends less
    t = _t(made.curve)
    pitch = -np.radians(float(rng.uniform(4, 10))) * _rise(t, s1.t, 20.0)
    return replace(made, vertebrae=tuple(vertebrae), curve=bent(made.curve, pitch=pitch))


def fourth_lumbar(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A sacralised L5: its lower disc is a short, low remnant, so that four seem lumbar."""
    disc = anatomy.discs[anatomy.disc_index("L5-S1")]
    made = _disc_of_height(
        anatomy,
        "L5-S1",
        float(rng.uniform(1.6, 2.6)),
        width=0.7 * disc.width,
        depth=float(rng.uniform(0.5, 0.66)) * disc.depth,
        endplate_slope=0.01,
        endplate_dome=0.2,
        bulge=0.0,
        pfirrmann=float(rng.uniform(2.5, 4.0)),
        herniation=None,
    )
    vertebrae = list(made.vertebrae)
    place = made.settings.vertebrae.index("L5")
    vertebrae[place] = replace(vertebrae[place], depth=0.93 * vertebrae[place].depth, waist=0.93)
    return replace(made, vertebrae=tuple(vertebrae))


def laminectomy(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Lamina, spinous process and flavum taken away at L4-L5 (and sometimes L5-S1), scar and some fluid behind a wider sac."""
    levels = ("L4-L5",) if rng.random() < 0.6 else ("L4-L5", "L5-S1")
    lesions = []
    for level in levels:
        disc = anatomy.discs[anatomy.disc_index(level)]
        wide = float(rng.uniform(9.0, 12.0))
        lesions.append(LesionDraw("cut", (disc.arch_u, 36.0, disc.t + 5.0), (wide, 29.0, 22.0)))
        scar = (disc.arch_u, disc.apex + 14.0, disc.t + 5.0)
        lesions.append(
            LesionDraw("filled", scar, (wide - 1, 12.0, 21.0), tissue="muscle", signal=0.9, share_of_fat=0.25)
        )
        if rng.random() < 0.5:
            lesions.append(LesionDraw("filled", scar, (wide - 4, 6.0, 12.0), tissue="fluid", signal=0.8))
    return replace(anatomy, lesions=(*anatomy.lesions, *lesions))


def synovial_cyst(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A fluid-filled cyst of 7 to 11 mm on the inner side of a facet joint at L4-L5, with a dark capsule."""
    disc = anatomy.discs[anatomy.disc_index("L4-L5")]
    side = 1 if rng.random() < 0.5 else -1
    facet, radius = disc.facet(side), float(rng.uniform(3.5, 5.5))
    place = (disc.arch_u + side * (facet.joint_u - 0.55 * radius - 1.0), facet.joint_v + 0.15 * radius, disc.t)
    cyst = LesionDraw("solid", place, (radius, radius, 1.15 * radius), tissue="fluid", signal=0.95, rim=0.8)
    return replace(_with_disc(anatomy, anatomy.disc_index("L4-L5"), replace(disc, herniation=None)), lesions=(cyst,))


def lipomatosis(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """Epidural lipomatosis: the sac has 35 to 50 % of its room, the rest of the canal is fat."""
    share = float(rng.uniform(0.35, 0.5))
    discs = [
        replace(
            disc,
            sac_area=share * disc.sac_area, sac_width=share**0.5 * disc.sac_width, sac_ap=share**0.5 * disc.sac_ap,
            anterior_fat=disc.anterior_fat + 0.25 * (1 - share**0.5) * disc.sac_ap,
        )
        if anatomy.settings.vertebrae[index] in ("L2", "L3", "L4", "L5", "S1")
        else disc
        for index, disc in enumerate(anatomy.discs)
    ]  # fmt: skip
    return replace(anatomy, discs=tuple(discs))


def wedge_fracture(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A lumbar body has lost a third or more of its anterior height and its marrow is oedematous; the column bends forwards there."""
    name = str(rng.choice(["L1", "L2", "L3"]))
    vertebra = anatomy.vertebrae[anatomy.settings.vertebrae.index(name)]
    angle = float(rng.uniform(0.35, 0.5)) * (vertebra.top - vertebra.bottom) / vertebra.depth
    t, middle = _t(anatomy.curve), (vertebra.top + vertebra.bottom) / 2
    pitch = angle * _rise(t, middle, vertebra.top - vertebra.bottom)
    # seen from its middle, the column is turned back by half on either side
    curve = bent(anatomy.curve, pitch=pitch - angle / 2)
    return replace(anatomy, curve=curve, lesions=(*anatomy.lesions, _marrow(anatomy, name, 0.55)))


def marrow_replacement(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """The fat of one or two lumbar bodies is replaced by cells."""
    names = list(rng.choice(["L2", "L3", "L4", "L5"], size=int(rng.integers(1, 3)), replace=False))
    return replace(anatomy, lesions=(*anatomy.lesions, *(_marrow(anatomy, str(name), 1.0) for name in names)))


def _marrow(anatomy: Anatomy, name: str, share: float) -> LesionDraw:
    vertebra = anatomy.vertebrae[anatomy.settings.vertebrae.index(name)]
    height = vertebra.top - vertebra.bottom
    middle = (vertebra.top + vertebra.bottom) / 2 + (1 - share) * 0.4 * height
    half = (0.75 * vertebra.width, 0.75 * vertebra.depth, (0.35 + 0.45 * share) * height)
    return LesionDraw(
        "marrow", (0.0, -0.5 * vertebra.depth, middle), half, tissue="marrow_water", signal=1.1, share_of_fat=0.04
    )


def epidural_mass(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    """A collection or mass of 30 to 50 mm in the canal behind or in front of the sac, at L3 or L4, bright or of soft tissue."""
    vertebra = anatomy.vertebrae[anatomy.settings.vertebrae.index(str(rng.choice(["L3", "L4"])))]
    behind = rng.random() < 0.6
    depth = float(rng.uniform(4.0, 5.5))
    v = vertebra.apex - depth - 0.5 if behind else depth - 0.5
    middle = (vertebra.top + vertebra.bottom) / 2 - 4.0
    bright = rng.random() < 0.5
    lesion = LesionDraw(
        "solid", (0.0, v, middle), (9.0, depth, float(rng.uniform(15, 25))),
        tissue="fluid" if bright else "ganglion", signal=0.85 if bright else 0.9, rim=0.5,
    )  # fmt: skip
    return replace(anatomy, lesions=(*anatomy.lesions, lesion))


CONDITIONS: dict[str, Condition] = {
    "slip": slip,
    "scoliosis": scoliosis,
    "short pedicles": short_pedicles,
    "six lumbar vertebrae": sixth_lumbar,
    "four lumbar vertebrae": fourth_lumbar,
    "laminectomy": laminectomy,
    "synovial cyst": synovial_cyst,
    "lipomatosis": lipomatosis,
    "wedge fracture": wedge_fracture,
    "marrow replacement": marrow_replacement,
    "epidural mass": epidural_mass,
}
"""By name; screws and disc replacements come as metal on finished pictures: training.phantom.spoil."""
