"""Draws one simulated lumbar spine: sizes, degeneration, stenosis and herniations, all continuous, each side on its own.

Numbers: configs/training/phantom.toml. Correlations: a common body size, degeneration with age, and a part that
neighbouring levels and the two sides share.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan, exp, log, log1p, radians, tan

import numpy as np

from training.phantom.curve import SpineCurve, spine_curve
from training.phantom.settings import PhantomSettings, phantom_settings

_NEAREST_JOINT = 5.0  # mm behind the posterior margin, and how gradually it is approached (estimate)
_JOINT_SOFTNESS = 1.5
_LUMBAR = range(4, 9)  # the discs L1-L2 to L5-S1
SIDES = (1, -1)  # left, right: the sign of the lateral coordinate


@dataclass(frozen=True)
class FacetDraw:
    """Posterior elements of one side of one disc level (mm, radians); lateral coordinate counted away from the midline."""

    hypertrophy: float
    joint_u: float
    joint_v: float
    angle: float
    length: float
    sap: float
    iap: float
    cartilage: float
    fluid: float
    osteophyte: float
    flavum: float
    bow: float


@dataclass(frozen=True)
class HerniationDraw:
    """One focal herniation: where it leaves the disc, how far, how wide; `u` is lateral, + to the patient's left."""

    type: str
    zone: str
    side: int
    u: float
    extent: float
    base: float
    half_height: float
    migration: float
    apex_offset: float
    tilt: float
    t2_mix: float


@dataclass(frozen=True)
class DiscDraw:
    """One disc with the canal at its height; `t` is its mid-height along the curve."""

    name: str
    t: float
    height_posterior: float
    endplate_slope: float
    endplate_dome: float
    width: float
    depth: float
    concavity: float
    pfirrmann: float
    bulge: float
    bulge_tilt: float
    apex: float
    arch_u: float
    sac_area: float
    sac_width: float
    sac_ap: float
    anterior_fat: float
    posterior_fat: float
    stenosis: float
    modic: float
    fissure_u: float | None
    left: FacetDraw
    right: FacetDraw
    herniation: HerniationDraw | None

    def facet(self, side: int) -> FacetDraw:
        """Posterior elements of the left (1) or right (-1) side."""
        return self.left if side > 0 else self.right


@dataclass(frozen=True)
class VertebraDraw:
    """One vertebra; `top` and `bottom` are the posterior corners along the curve."""

    name: str
    top: float
    bottom: float
    width: float
    depth: float
    waist: float
    pedicle_width: float
    pedicle_height: float
    pedicle_angle: float
    interpedicular: float
    canal_ap: float
    lamina: float
    spinous: float
    arch_u: float
    apex: float
    spinous_tilt: float


@dataclass(frozen=True)
class RootDraw:
    """One nerve root and side: where it leaves the sac relative to the disc it crosses, radius, ganglion (mm)."""

    vertebra: int
    side: int
    exit_offset: float
    radius: float
    ganglion_radius: float
    lateral_jitter: float
    posterior_jitter: float


@dataclass(frozen=True)
class LesionDraw:
    """A place that is not as drawn: an ellipsoid about (u, v, t) with half axes (mm), filled with a tissue, or emptied of bone.

    `kind`: "solid" sac and roots give way to it; "filled" is painted only; "marrow" is painted where it lies in a body;
    "cut" takes bone, joints and flavum away (a box). `rim` is the share of a dark capsule.
    """

    kind: str
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    tissue: str = "fat"
    signal: float = 1.0
    share_of_fat: float = 0.0
    rim: float = 0.0


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One simulated person: curve, vertebrae T9..S4 and the discs under them, roots, and what surrounds the spine.

    `lesions` is empty as drawn; training.phantom.conditions adds some.
    """

    seed: int
    age: float
    male: bool
    size: float
    curve: SpineCurve
    vertebrae: tuple[VertebraDraw, ...]
    discs: tuple[DiscDraw, ...]
    roots: tuple[RootDraw, ...]
    sac_end: float
    conus: float
    bmi: float
    cortex: float
    muscle_fat: tuple[float, float]
    muscle_size: tuple[float, float, float]
    vessel_shift: tuple[float, float, float]
    settings: PhantomSettings
    lesions: tuple[LesionDraw, ...] = ()

    def disc_index(self, name: str) -> int:
        """Index of the disc `name` ("L4-L5"). KeyError when there is none."""
        for index, disc in enumerate(self.discs):
            if disc.name == name:
                return index
        raise KeyError(name)


def _normal(rng: np.random.Generator, mean: float, sd: float, low: float = -np.inf, high: float = np.inf) -> float:
    return float(np.clip(rng.normal(mean, sd), low, high))


def _choice(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    p = np.array([weights[name] for name in names])
    return str(rng.choice(names, p=p / p.sum()))


def _herniation(rng: np.random.Generator, s: PhantomSettings, sac_half: float, pedicle_u: float) -> HerniationDraw:
    """A focal herniation. Its side is a fair coin; size, type and signal are drawn apart from each other."""
    d = s.disease
    zone = _choice(rng, d.zone_probability)
    side = 1 if rng.random() < 0.5 else -1
    central = 0.5 * sac_half
    low, high = {
        "central": (0.0, central),
        "subarticular": (central, pedicle_u),
        "foraminal": (pedicle_u, pedicle_u + 9),
        "extraforaminal": (pedicle_u + 9, pedicle_u + 14),
    }[zone]
    offset = float(rng.uniform(low, high))
    kind = _choice(rng, d.type_probability)
    if zone in {"foraminal", "extraforaminal"} and kind == "sequestration":
        kind = "extrusion"
    extent = float(np.clip(exp(rng.normal(d.extent_log_mean, d.extent_log_sd)), *d.extent_range))
    if zone in {"foraminal", "extraforaminal"}:
        extent = min(extent, 7.0)
    if kind == "protrusion":
        base = extent * float(rng.uniform(1.6, 2.8))
        base = max(base, 6.0)
        migration = 0.0
    else:
        extent = max(extent, 3.0)
        base = max(extent * float(rng.uniform(0.75, 1.15)), 4.0)
        distance = float(np.clip(exp(rng.normal(log(5.0), 0.5)), 1.5, 16.0))
        if kind == "sequestration":
            distance = max(distance, 6.0)
        elif rng.random() < 0.3:
            distance = 0.0
        migration = distance if rng.random() < 0.35 else -distance
    return HerniationDraw(
        type=kind,
        zone=zone,
        side=side,
        u=side * offset,
        extent=extent,
        base=base,
        half_height=1.6 * float(rng.uniform(3.0, 5.5)),
        migration=migration,
        apex_offset=_normal(rng, 0, 1.5, -3, 3),
        tilt=_normal(rng, 0, 0.2, -0.5, 0.5),
        t2_mix=float(rng.uniform(0, 1)),
    )


def _kept_off(joint_v: float) -> float:
    """Joint position (mm) held back from the disc: processes grow towards it ever more slowly."""
    return _NEAREST_JOINT + _JOINT_SOFTNESS * log1p(exp((joint_v - _NEAREST_JOINT) / _JOINT_SOFTNESS))


def _facet(
    rng: np.random.Generator, s: PhantomSettings, i: int, size: float, shared: dict[str, float], sev: float
) -> FacetDraw:
    c = s.canal
    hyp = float(np.clip(shared["hyp"] + rng.normal(0, 0.18), 0, 1.25))
    narrow = float(rng.uniform(0, c.narrow_recess_mm)) if rng.random() < c.narrow_recess_probability else 0.0
    angle = radians(_normal(rng, shared["angle"], c.tropism_sd, 15, 75))
    return FacetDraw(
        hypertrophy=hyp,
        joint_u=(shared["ju"] + rng.normal(0, 0.6)) * size - 1.6 * hyp - 1.0 * sev,
        joint_v=_kept_off((shared["jv"] + rng.normal(0, 0.5)) * size - 2.4 * hyp**1.5 - narrow * min(1.0, sev + 0.6)),
        angle=angle,
        length=_normal(rng, c.joint_length[i], 1.2, 0.5 * c.joint_length[i]) * size,
        sap=(c.sap_thickness * min(1.0, c.joint_length[i] / 13) + rng.normal(0, 0.6)) * size + 2.2 * hyp,
        iap=(c.iap_thickness * min(1.0, c.joint_length[i] / 13) + rng.normal(0, 0.6)) * size + 1.8 * hyp,
        cartilage=max(1.1 - 0.6 * hyp + rng.normal(0, 0.12), 0.25),
        fluid=float(np.clip(0.5 + 0.6 * hyp + rng.normal(0, 0.5), 0.1, 2.6)),
        osteophyte=2.6 * hyp * float(rng.uniform(0.5, 1.3)),
        flavum=max(shared["flavum"] + rng.normal(0, 0.25), 0.4 * c.flavum_thickness[i]),
        bow=_normal(rng, 1.6, 0.6, 0, 3),
    )


def _disc(
    rng: np.random.Generator,
    s: PhantomSettings,
    i: int,
    size: float,
    dg: float,
    neighbour: float,
    healthy: bool,
    angles: tuple[float, float],
    t: float,
    heights: tuple[float, float],
    pfirrmann: float,
    crowded: float | None,
) -> DiscDraw:
    c = s.canal
    sev = float(np.clip(1.25 * dg + s.disease.stenosis_intercept + 0.25 * neighbour + rng.normal(0, 0.34), 0, 1.25))
    if healthy:
        sev *= 0.15
    bulge = float(np.clip(2.3 * dg + rng.normal(0, 0.75), 0, 3.6)) * (0.25 if healthy else 1.0)
    flavum = c.flavum_thickness[i]
    shared = {
        "hyp": float(np.clip(rng.normal(0.9 * dg + 0.25 * sev, 0.25), 0, 1.2)) * (0.5 if healthy else 1.0),
        "angle": _normal(rng, c.facet_angle_deg[i], c.facet_angle_sd),
        "ju": _normal(rng, c.joint_u[i], c.joint_sd),
        "jv": _normal(rng, c.joint_v[i], c.joint_sd * 0.9),
        "flavum": flavum * (1 + 0.25 * max(dg, 0) + 0.42 * sev) + rng.normal(0, 0.4) * flavum / 3.5,
    }
    area = c.sac_area[i] * size**1.2 * exp(rng.normal(0, c.sac_area_relative_sd)) * (1 - 0.16 * max(dg, 0))
    if crowded is not None:
        area = min(area, crowded)
    ratio = c.sac_ratio[i] * exp(rng.normal(0, 0.06))
    ap = (area / (0.845 * ratio)) ** 0.5
    width = s.disc.width[i] * size * exp(rng.normal(0, 0.04))
    apex = max((c.apex[i] + rng.normal(0, c.apex_sd)) * size**0.6, 0.8 * c.apex[i]) - 4.6 * sev * min(
        1.0, c.apex[i] / 20
    )
    facets = [_facet(rng, s, i, size**0.7, shared, sev) for _ in SIDES]
    arch_u = _normal(rng, 0, 0.8, -2, 2)
    chance = rng.random()
    hernia = _herniation(rng, s, ratio * ap / 2, s.body.interpedicular[i + 1] * size / 2)
    hp, ha = heights
    depth = s.disc.depth[i] * size * exp(rng.normal(0, 0.045))
    return DiscDraw(
        name=f"{s.vertebrae[i]}-{s.vertebrae[i + 1]}",
        t=t,
        height_posterior=hp,
        endplate_slope=tan(atan((ha - hp) / depth) / 2) - angles[1] * hp / 2,
        endplate_dome=_normal(rng, 1.6, 0.5, 0.3, 3.0) if i < 9 else 0.0,
        width=width,
        depth=depth,
        concavity=_normal(rng, s.disc.concavity[i], s.disc.concavity_sd, -1.5, 3.0) * (1 - 0.4 * max(dg, 0)),
        pfirrmann=pfirrmann,
        bulge=bulge if i < 9 else 0.0,
        bulge_tilt=float(rng.normal(0, 0.35)),
        apex=apex,
        arch_u=arch_u,
        sac_area=area,
        sac_width=ratio * ap,
        sac_ap=ap,
        anterior_fat=_normal(rng, c.anterior_fat[i], c.anterior_fat_sd[i], 0.5, 8.5),
        posterior_fat=_normal(rng, 4, 1.5, 0.5, 10),
        stenosis=sev,
        modic=_modic(rng, dg, pfirrmann),
        fissure_u=float(rng.uniform(-12, 12)) if pfirrmann > 2.6 and rng.random() < 0.15 else None,
        left=facets[0],
        right=facets[1],
        herniation=hernia if not healthy and chance < s.disease.herniation_probability[i] else None,
    )


def _crowded(seed: int, s: PhantomSettings) -> dict[int, float]:
    """Area (mm2) of the sac at rest by lumbar disc where fat crowds it; of draws apart, so that all else of a person is as without."""
    rng = np.random.default_rng([seed, 0xFA7])
    chances, areas = rng.random(len(_LUMBAR)), rng.uniform(*s.canal.crowded_area, len(_LUMBAR))
    drawn = zip(_LUMBAR, chances, areas, strict=True)
    return {i: float(area) for i, chance, area in drawn if chance < s.canal.crowded_probability}


def _modic(rng: np.random.Generator, dg: float, pfirrmann: float) -> float:
    """Change of the marrow beside a worn disc: + fatty (type II), - oedematous (type I), 0 none; strength up to 1."""
    if pfirrmann < 3 or rng.random() > 0.12 + 0.3 * dg:
        return 0.0
    return float(rng.uniform(0.4, 1.0)) * (1 if rng.random() < 0.7 else -1)


def draw_anatomy(seed: int, *, settings: PhantomSettings | None = None) -> Anatomy:
    """One simulated person. The same seed gives the same person; neighbouring seeds are unrelated.

    About one in six is healthy; herniations, facet and flavum overgrowth are more frequent than in a clinic, so that every
    severity occurs. Left and right share a part of their sizes and are otherwise drawn apart.
    """
    s = settings or phantom_settings()
    rng = np.random.default_rng([seed, 0xA11A])
    n = len(s.vertebrae)
    male = bool(rng.random() < 0.5)
    age = float(rng.uniform(20, 85))
    size = (1.04 if male else 0.94) * exp(rng.normal(0, 0.04))
    healthy = bool(rng.random() < s.disease.healthy_probability)
    base_dg = (age - 25) / 60
    common = rng.normal(0, 0.17)
    dg = np.clip(base_dg + common + rng.normal(0, 0.17, n - 1), 0, 1.2)
    dg[:6] *= 0.7
    neighbour = rng.normal(0, 0.5) + rng.normal(0, 0.5, n - 1)
    pfirrmann = np.clip(2.0 + 2.9 * dg + rng.normal(0, 0.7, n - 1), 1, 5)

    body_h = np.array(s.body.posterior_height) * size * np.exp(rng.normal(0, 0.035) + rng.normal(0, 0.02, n))
    loss = np.where(np.arange(n - 1) < 9, 1 - 0.10 * np.clip(pfirrmann - 2, 0, None) ** 1.25, 1)
    hp = np.clip(np.array(s.disc.height_posterior) + rng.normal(0, s.disc.height_posterior_sd, n - 1) * 0.8, 1, None)
    ha = np.clip(np.array(s.disc.height_anterior) + rng.normal(0, s.disc.height_anterior_sd, n - 1) * 0.8, 1, None)
    hp, ha = hp * size**0.5 * loss, np.maximum(ha, hp * 0.85) * size**0.5 * loss

    # along the curve: t = 0 at the lowest free disc's mid-height, growing to the head
    lumbosacral = s.vertebrae.index("S1") - 1
    t_disc = np.zeros(n - 1)
    for i in range(lumbosacral - 1, -1, -1):
        t_disc[i] = t_disc[i + 1] + hp[i + 1] / 2 + body_h[i + 1] + hp[i] / 2
    for i in range(lumbosacral + 1, n - 1):
        t_disc[i] = t_disc[i - 1] - hp[i - 1] / 2 - body_h[i] - hp[i] / 2

    depths = np.array(s.disc.depth) * size
    disc_wedge = np.arctan((ha - hp) / depths)
    body_wedge = np.radians(np.array(s.body.wedge_deg) + rng.normal(0, 1.6, n))
    lordosis = float(disc_wedge[4:9].sum() + body_wedge[4:9].sum())
    wanted = radians(_normal(rng, 45, 9, 22, 76))
    body_wedge[5:9] += (wanted - lordosis) / 4
    slope = radians(_normal(rng, 38, 7, 22, 58))
    angle = np.zeros(n - 1)
    angle[lumbosacral] = slope - disc_wedge[lumbosacral] / 2
    for i in range(lumbosacral - 1, -1, -1):
        angle[i] = angle[i + 1] - disc_wedge[i + 1] / 2 - body_wedge[i + 1] - disc_wedge[i] / 2
    for i in range(lumbosacral + 1, n - 1):
        angle[i] = angle[i - 1] + disc_wedge[i - 1] / 2 + body_wedge[i] + disc_wedge[i] / 2
    # lying on the table the lumbar spine as a whole is level
    angle -= float(np.average(angle[3:9])) * 0.9 + rng.normal(0, radians(2.5))
    angle = np.clip(angle, radians(-30), radians(58))

    order = np.argsort(t_disc)
    curve = spine_curve(
        t_disc[order],
        angle[order],
        scoliosis_mm=float(rng.normal(0, 4)),
        span=(float(t_disc[lumbosacral]), float(t_disc[4] + body_h[4])),
        coupled_rotation=radians(0.4) * float(rng.choice([-1, 1])),
        rotation=float(rng.normal(0, radians(2.0))),
        origin=np.array([rng.normal(0, 4), rng.normal(0, 8), rng.normal(0, 10)]),
    )
    gradient = -np.gradient(angle, t_disc)
    crowded = _crowded(seed, s)
    discs = tuple(
        _disc(
            rng,
            s,
            i,
            size,
            float(dg[i]),
            float(neighbour[i]),
            healthy,
            (float(angle[i]), float(gradient[i])),
            float(t_disc[i]),
            (float(hp[i]), float(ha[i])),
            float(pfirrmann[i]),
            crowded.get(i),
        )
        for i in range(n - 1)
    )
    vertebrae = tuple(_vertebra(rng, s, k, size, t_disc, hp, body_h, discs) for k in range(n))
    roots = tuple(_root(rng, s, k, side, size) for k in range(4, 11) for side in SIDES)
    s2 = vertebrae[s.vertebrae.index("S2")]
    l1 = vertebrae[s.vertebrae.index("L1")]
    fat = float(np.clip(0.10 + 0.16 * (age - 20) / 60 + (0.0 if male else 0.04) + rng.normal(0, 0.06), 0.03, 0.5))
    return Anatomy(
        seed=seed,
        age=age,
        male=male,
        size=size,
        curve=curve,
        vertebrae=vertebrae,
        discs=discs,
        roots=roots,
        sac_end=(s2.top + s2.bottom) / 2 + _normal(rng, 0, 8, -18, 18),
        conus=l1.bottom + _normal(rng, 8, 16, -25, 50),
        bmi=_normal(rng, 27, 4.5, 19, 42),
        cortex=exp(_normal(rng, 0, 0.31, log(0.5), log(2.0))),
        muscle_fat=(fat, float(np.clip(fat * rng.uniform(0.3, 0.6), 0.02, 0.2))),
        muscle_size=(_normal(rng, 1, 0.12, 0.7, 1.3), _normal(rng, 1, 0.06, 0.85, 1.15), _normal(rng, 0, 1.5)),
        vessel_shift=(float(rng.normal(0, 4)), float(rng.normal(0, 3)), float(rng.uniform(-12, 8))),
        settings=s,
    )


def _vertebra(
    rng: np.random.Generator,
    s: PhantomSettings,
    k: int,
    size: float,
    t_disc: np.ndarray,
    hp: np.ndarray,
    body_h: np.ndarray,
    discs: tuple[DiscDraw, ...],
) -> VertebraDraw:
    b = s.body
    top = float(t_disc[k - 1] - hp[k - 1] / 2) if k > 0 else float(t_disc[0] + hp[0] / 2 + body_h[0])
    bottom = float(t_disc[k] + hp[k] / 2) if k < len(t_disc) else float(t_disc[-1] - hp[-1] / 2 - body_h[k])
    above, below = discs[max(k - 1, 0)], discs[min(k, len(discs) - 1)]

    def near(mean: float) -> float:
        return mean * size * exp(rng.normal(0, b.relative_sd))

    return VertebraDraw(
        name=s.vertebrae[k],
        top=top,
        bottom=bottom,
        width=0.4 * near(b.width[k]) + 0.3 * (above.width + below.width) - 0.5,
        depth=0.3 * near(b.depth[k]) + 0.35 * (above.depth + below.depth) - 0.2,
        waist=float(np.clip(b.waist[k] + rng.normal(0, 0.02), 0.78, 1.0)),
        pedicle_width=near(b.pedicle_width[k]),
        pedicle_height=near(b.pedicle_height[k]),
        pedicle_angle=radians(b.pedicle_angle_deg[k] + rng.normal(0, 3)),
        interpedicular=near(b.interpedicular[k]),
        canal_ap=near(b.canal_ap[k]),
        lamina=near(b.lamina_thickness[k]),
        spinous=near(b.spinous_length[k]),
        arch_u=0.5 * (above.arch_u + below.arch_u),
        apex=below.apex + 0.5,
        spinous_tilt=float(rng.normal(0, 0.06)),
    )


def _root(rng: np.random.Generator, s: PhantomSettings, k: int, side: int, size: float) -> RootDraw:
    # where the root leaves the sac relative to the disc it crosses: Suh 2005
    name = s.vertebrae[k]
    exit_offset = {"L5": (-4.5, 6.0), "S1": (9.0, 6.0), "S2": (12.0, 5.0)}.get(name, (-8.0, 3.5))
    radius = {"L1": 1.8, "L2": 1.9, "L3": 2.0, "L4": 2.1, "L5": 2.1, "S1": 2.2, "S2": 1.7}[name]
    ganglion = {"L1": 2.3, "L2": 2.5, "L3": 2.8, "L4": 3.0, "L5": 3.1, "S1": 3.2, "S2": 2.4}[name]
    return RootDraw(
        vertebra=k,
        side=side,
        exit_offset=_normal(rng, *exit_offset, -16, 22),
        radius=radius * size * exp(rng.normal(0, 0.1)),
        ganglion_radius=ganglion * size * exp(rng.normal(0, 0.1)),
        lateral_jitter=_normal(rng, 0, 0.6),
        posterior_jitter=_normal(rng, 0, 0.6),
    )
