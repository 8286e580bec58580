"""Signed distances (mm) of everything in and around the canal, as functions of (lateral, posterior, along the canal).

Disc and body are superellipses, facets rounded boxes along a bowed joint, the flavum a chain of capsules. Both image planes
and the truth in millimetres are taken from these functions alone.
"""

from __future__ import annotations

from math import cos, sin

import numpy as np

from training.phantom.anatomy import SIDES, Anatomy, DiscDraw, FacetDraw, HerniationDraw, LesionDraw, VertebraDraw
from training.phantom.shapes import (
    Field,
    capsule,
    ellipsoid,
    interval,
    rounded_box,
    smooth_max,
    smooth_min,
    superellipse,
)

_FAR = np.float32(99.0)
_OUTLINE_N = 2.35
_POSTERIOR_K = 5.0
_JOINT_UP, _JOINT_DOWN = 11.0, 11.0
_SACRAL_WING = {
    "S1": (46.0, 13.0),
    "S2": (40.0, 12.0),
    "S3": (28.0, 9.0),
}  # lateral reach and half thickness (estimate)


def disc_outline(disc: DiscDraw, u: Field, v: Field) -> Field:
    """Distance to the unbulged margin of a disc; the posterior margin crosses the midline at v = 0."""
    shifted = v - np.float32(_POSTERIOR_K / 4)
    ellipse = superellipse(u, shifted + 0.53 * disc.depth, disc.width / 2, 0.53 * disc.depth, _OUTLINE_N)
    posterior = shifted - disc.concavity * np.minimum((u / (0.31 * disc.width)) ** 2, 1.4)
    return smooth_max(ellipse, posterior.astype(np.float32), _POSTERIOR_K)


def endplate_half_height(disc: DiscDraw, u: Field, v: Field) -> Field:
    """Half the height of the disc at (u, v), in mm along the canal: wedge and concave endplates included."""
    radius2 = (u / (disc.width / 2)) ** 2 + ((v + 0.53 * disc.depth) / (0.53 * disc.depth)) ** 2
    dome = disc.endplate_dome * np.clip(1 - radius2, 0, 1)
    return np.asarray(
        disc.height_posterior / 2 - disc.endplate_slope * np.minimum(v, 4) * 0.85 + dome, dtype=np.float32
    )


def _bulge(disc: DiscDraw, u: Field, w: Field) -> Field:
    size = disc.bulge * np.exp(-((w / 6) ** 2)) * np.clip(1 + disc.bulge_tilt * np.tanh(u / 12), 0.2, 2)
    return np.asarray(size, dtype=np.float32)


def disc_field(disc: DiscDraw, u: Field, v: Field, t: Field, outline: Field) -> Field:
    """Disc with its circumferential bulge; `outline` is `disc_outline` at the same points."""
    w = t - np.float32(disc.t)
    half = endplate_half_height(disc, u, v)
    solid = np.maximum(outline, np.abs(w) - half)
    if disc.bulge <= 0:
        return np.asarray(solid)
    weight = np.clip((v + disc.depth * 0.8) / 10, 0.3, 1)
    # over the edges of the bodies the bulge thins out within a few mm
    beyond = np.maximum(np.abs(w) - half, 0)
    rim = np.maximum(outline - weight * _bulge(disc, u, w), beyond - outline - 1)
    return np.asarray(np.minimum(solid, rim), dtype=np.float32)


def body_field(
    vertebra: VertebraDraw, above: DiscDraw | None, below: DiscDraw | None, u: Field, v: Field, t: Field
) -> Field:
    """Vertebral body: waisted, posterior wall slightly hollow, endplates those of the discs next to it."""
    middle, half = (vertebra.top + vertebra.bottom) / 2, (vertebra.top - vertebra.bottom) / 2
    tau = np.clip((t - middle) / half, -1, 1)
    taper = (vertebra.waist + (1 - vertebra.waist) * np.abs(tau) ** 2.5).astype(np.float32)
    hollow = ((1 - vertebra.waist) * vertebra.depth * 0.22 * (1 - tau**2)).astype(np.float32)
    b = 0.53 * vertebra.depth
    shifted = v - np.float32(0.75)
    ellipse = superellipse(u, shifted + b, vertebra.width / 2 * taper, b * (0.35 + 0.65 * taper), 2.3)
    wall = smooth_max(ellipse, shifted + hollow, 3.0)
    slab = interval(t, vertebra.bottom, vertebra.top)
    if above is not None:
        slab = np.maximum(t - (np.float32(above.t) - endplate_half_height(above, u, v)), np.float32(middle) - t - half)
    if below is not None:
        lower = (np.float32(below.t) + endplate_half_height(below, u, v)) - t
        slab = np.maximum(slab if above is not None else t - np.float32(vertebra.top), lower)
        if above is not None:
            slab = np.maximum(t - (np.float32(above.t) - endplate_half_height(above, u, v)), lower)
    return smooth_max(wall, slab.astype(np.float32), 1.2)


def _joint_frame(facet: FacetDraw, us: Field, v: Field) -> tuple[Field, Field]:
    """Along the joint from its anteromedial end, and across it towards the superior articular process."""
    pu, pv = us - np.float32(facet.joint_u), v - np.float32(facet.joint_v)
    along = pu * np.float32(sin(facet.angle)) + pv * np.float32(cos(facet.angle))
    across = pu * np.float32(cos(facet.angle)) - pv * np.float32(sin(facet.angle))
    half = facet.length / 2
    bowed = across - np.float32(facet.bow) * np.clip(1 - ((along - half) / half) ** 2, -0.5, 1)
    return along, np.asarray(bowed, dtype=np.float32)


def sap_tip(facet: FacetDraw) -> tuple[float, float]:
    """Lateral (away from the midline) and posterior position of the anteromedial end of the superior process, roughly."""
    gap = facet.cartilage + facet.fluid / 2
    reach = -0.5 * facet.osteophyte
    across = gap + 0.25 * facet.sap
    u = facet.joint_u + reach * sin(facet.angle) + across * cos(facet.angle)
    v = facet.joint_v + reach * cos(facet.angle) - across * sin(facet.angle)
    return u, v


def facet_fields(disc: DiscDraw, facet: FacetDraw, us: Field, v: Field, t: Field) -> tuple[Field, Field, Field]:
    """Superior process, inferior process and the joint space (cartilage and fluid) of one side."""
    along, across = _joint_frame(facet, us, v)
    half = facet.length / 2
    gap = np.float32(facet.cartilage + facet.fluid / 2)
    w = t - np.float32(disc.t)
    thickness = (facet.sap * (0.55 + 0.45 * np.clip(along / 6, 0, 1))).astype(np.float32)
    radius = np.minimum(np.float32(2.9), thickness / 2 - 0.1)
    sap = rounded_box(along - half, across - gap - thickness / 2, half, thickness / 2, radius)
    if facet.osteophyte > 0.3:
        reach = facet.osteophyte + 1.5
        spur = superellipse(along - 1.0, across - gap - 0.3 * facet.sap, reach, 1.9, 2.0)
        sap = smooth_min(sap, spur, 1.5)
    iap = rounded_box(along - half, across + gap + facet.iap / 2, half, facet.iap / 2, min(2.9, facet.iap / 2 - 0.2))
    joint = np.maximum(np.abs(across) - gap, np.abs(along - half) - np.float32(half - 0.6))
    # the superior process rises from its pedicle, the inferior hangs from its lamina
    sap = smooth_max(sap, interval(w, -16.0, _JOINT_UP), 3.0)
    iap = smooth_max(iap, interval(w, -_JOINT_DOWN, 16.0), 3.0)
    joint = np.maximum(joint, interval(w, -_JOINT_DOWN, _JOINT_UP))
    return sap, iap, joint.astype(np.float32)


def flavum_field(disc: DiscDraw, facet: FacetDraw, us: Field, v: Field, t: Field) -> Field:
    """Ligamentum flavum of one side: capsules from beside the midline to the tip of the superior process."""
    apex, ju, jy = disc.apex, facet.joint_u, facet.joint_v
    tip = sap_tip(facet)
    chain = [(1.0, apex), (0.36 * ju, apex - 0.22 * (apex - jy)), (0.71 * ju, jy + 0.56 * (apex - jy)), (ju, jy), tip]
    r = [0.5 * facet.flavum * f for f in (0.7, 0.95, 1.08, 0.95, 0.45)]
    field: Field | None = None
    for a, b, ra, rb in zip(chain[:-1], chain[1:], r[:-1], r[1:], strict=True):
        piece = capsule(us, v, a, b, ra, rb)
        field = piece if field is None else smooth_min(field, piece, 1.3)
    assert field is not None
    return np.maximum(field, interval(t - np.float32(disc.t), -13.0, 13.0))


def arch_field(vertebra: VertebraDraw, u: Field, v: Field, t: Field, *, with_spinous: bool = True) -> Field:
    """Pedicles, transverse processes, laminae and spinous process of one vertebra."""
    uc = u - np.float32(vertebra.arch_u)
    top = vertebra.top - 0.5
    pedicle_mid = top - vertebra.pedicle_height / 2
    half = vertebra.pedicle_width / 2
    au = np.abs(uc)
    slope = sin(vertebra.pedicle_angle)
    axis = au - np.float32(vertebra.interpedicular / 2 + half) - np.clip(v + 2, 0, 20) * np.float32(0.35 * slope)
    pedicle = rounded_box(axis, v - 3.0, half, 12.0, min(half - 0.3, 3.0))
    wt = t - np.float32(pedicle_mid)
    out = smooth_max(pedicle, np.abs(wt) - np.float32(vertebra.pedicle_height / 2), 3.0)
    inner = vertebra.interpedicular / 2
    process = capsule(au, v, (inner + 2 * half, 12.0), (inner + 2 * half + 22, 17.0), 4.0, 3.0)
    out = np.minimum(out, smooth_max(process, np.abs(wt) - 4.5, 3.0))
    if vertebra.name in _SACRAL_WING:
        reach, thick = _SACRAL_WING[vertebra.name]
        wing = capsule(au, v, (inner + half - 2, 4.0), (reach, 12.0), thick, thick * 0.8)
        out = smooth_min(out, smooth_max(wing, interval(t, vertebra.bottom - 2, vertebra.top - 3), 5.0), 3.0)
    # lamina slopes backwards on its way down, from mid-pedicle to below the lower disc's height
    low, high = vertebra.bottom - 8.0, pedicle_mid + 1.0
    lean = (np.float32(high) - t) * np.float32(0.10)
    apex = np.float32(vertebra.apex - 1.5)
    r = 0.5 * vertebra.lamina
    vl = v - lean
    lamina = smooth_min(
        capsule(au, vl, (0.5, float(apex) + 4.3), (inner - 1.0, 0.55 * float(apex) + 2.5), r, r),
        capsule(au, vl, (inner - 1.0, 0.55 * float(apex) + 2.5), (inner + half, 10.0), r + 0.6, r + 0.8),
        2.0,
    )
    out = smooth_min(out, smooth_max(lamina, interval(t, low, high), 3.0), 2.0)
    if with_spinous and vertebra.spinous > 4:
        start, end = float(apex) + 3.5, float(apex) + 4.5 + vertebra.spinous
        tilt = np.float32(vertebra.spinous_tilt) * (v - start)
        flat = rounded_box(uc - tilt, v - (start + end) / 2, 2.9, (end - start) / 2, 2.4)
        drop = np.clip(v - start, 0, None) * np.float32(0.28)
        high_s, low_s = pedicle_mid - 4.0, vertebra.bottom - 6.0
        out = smooth_min(out, smooth_max(flat, interval(t + drop, low_s, high_s), 4.0), 2.5)
    return out


def posterior_margin(disc: DiscDraw, u: float) -> float:
    """v of the bulged posterior margin at lateral position u, at mid-height."""
    v = np.linspace(-0.9 * disc.depth, 8, 400, dtype=np.float32)
    uu = np.full_like(v, u)
    f = disc_outline(disc, uu, v) - _bulge(disc, uu, np.zeros_like(v))
    inside = np.nonzero(f < 0)[0]
    if len(inside) == 0:
        return float(-0.5 * disc.depth)
    j = min(int(inside[-1]), len(v) - 2)
    return float(v[j] + (v[j + 1] - v[j]) * f[j] / (f[j] - f[j + 1]))


def herniation_field(disc: DiscDraw, h: HerniationDraw, u: Field, v: Field, t: Field) -> Field:
    """Focal herniated material, anchored on the bulged margin at its column and turned outwards laterally."""
    limit = 0.49 * disc.width
    u0 = float(np.clip(h.u, -limit, limit))
    v0 = posterior_margin(disc, u0)
    turn = float(np.clip((abs(h.u) - 9) / 14, 0, 1)) * 0.9 * float(np.sign(h.u)) + h.tilt * 0.5
    du, dv = u - np.float32(u0), v - np.float32(v0)
    x = du * np.float32(cos(turn)) - dv * np.float32(sin(turn))
    y = du * np.float32(sin(turn)) + dv * np.float32(cos(turn))
    w = t - np.float32(disc.t + h.apex_offset)
    if h.type == "protrusion":
        return ellipsoid(x, y, w, h.base / 2, h.extent, h.half_height)
    dome_a = max(0.62 * h.base, 0.55 * h.extent)
    dome_h = 0.48 * h.extent
    dome_w = w - np.float32(h.migration)
    if h.type == "sequestration":
        centre = dome_h + 1.0
        return ellipsoid(x, y - np.float32(centre), dome_w, dome_a, dome_h, h.half_height * 0.9)
    centre = 0.52 * h.extent
    dome = ellipsoid(x, y - np.float32(centre), dome_w, dome_a, dome_h, h.half_height * 0.8)
    neck = ellipsoid(x, y, w, 0.42 * h.base, 0.62 * h.extent, min(h.half_height * 0.7, 5.5))
    if abs(h.migration) > 1:
        # the stalk: herniated material between the hole in the annulus and the migrated part
        part = np.clip(w / np.float32(h.migration), 0, 1)
        sx, sy = x, y - np.float32(0.35 * h.extent) - part * np.float32(0.1 * h.extent)
        stalk = np.sqrt((sx / 1.3) ** 2 + sy**2 + (w - part * np.float32(h.migration)) ** 2) - np.float32(
            0.3 * h.extent
        )
        neck = smooth_min(neck, stalk.astype(np.float32), 1.5)
    return smooth_min(dome, neck, 2.0)


def lesion_field(lesion: LesionDraw, u: Field, v: Field, t: Field) -> Field:
    """Distance to a lesion: a box where bone was taken away, else an ellipsoid."""
    x, y, z = (part - np.float32(middle) for part, middle in zip((u, v, t), lesion.centre, strict=True))
    a, b, c = lesion.half
    if lesion.kind == "cut":
        box = np.maximum(np.maximum(np.abs(x) - np.float32(a), np.abs(y) - np.float32(b)), np.abs(z) - np.float32(c))
        return np.asarray(box, dtype=np.float32)
    return ellipsoid(x, y, z, a, b, c)


def zone_of(anatomy: Anatomy, t: Field) -> tuple[np.ndarray, ...]:
    """Boolean masks, one per disc: the points nearer to it than to any other disc (cut at mid-vertebra)."""
    cuts = [(v.top + v.bottom) / 2 for v in anatomy.vertebrae]
    masks = []
    for i in range(len(anatomy.discs)):
        high = np.inf if i == 0 else cuts[i]
        low = -np.inf if i == len(anatomy.discs) - 1 else cuts[i + 1]
        masks.append((t <= high) & (t > low))
    return tuple(masks)


def solids(anatomy: Anatomy, u: Field, v: Field, t: Field, *, level: int | None = None) -> dict[str, Field]:
    """Distances of body, disc, hernia, arch, sap, iap, joint, flavum at points of any one shape.

    `level` says that all points belong to this disc's zone. "outline" is the distance to the unbulged margin of the zone's disc,
    "bone" the union of arch and processes, "disc_index" is not a distance but the zone.
    """
    if level is not None:
        return _zone_solids(anatomy, level, u, v, t)
    out: dict[str, Field] = {}
    zones = zone_of(anatomy, t)
    for i, mask in enumerate(zones):
        if not mask.any():
            continue
        if mask.all():
            return _zone_solids(anatomy, i, u, v, t)
        part = _zone_solids(anatomy, i, u[mask], v[mask], t[mask])
        for name, field in part.items():
            if name not in out:
                out[name] = np.full(t.shape, _FAR, dtype=np.float32)
            out[name][mask] = field
    return out


def _zone_solids(anatomy: Anatomy, i: int, u: Field, v: Field, t: Field) -> dict[str, Field]:
    disc = anatomy.discs[i]
    upper, lower = anatomy.vertebrae[i], anatomy.vertebrae[i + 1]
    above = anatomy.discs[i - 1] if i > 0 else None
    below = anatomy.discs[i + 1] if i + 1 < len(anatomy.discs) else None
    outline = disc_outline(disc, u, v)
    out: dict[str, Field] = {"outline": outline}
    out["disc"] = disc_field(disc, u, v, t, outline)
    # each body is needed only on its own side of the disc
    body = np.full(t.shape, _FAR, dtype=np.float32)
    high = t > np.float32(disc.t)
    if high.any():
        body[high] = body_field(upper, above, disc, u[high], v[high], t[high])
    if not high.all():
        body[~high] = body_field(lower, disc, below, u[~high], v[~high], t[~high])
    out["body"] = body
    hernia: Field | None = None
    for j in (i - 1, i, i + 1):
        if 0 <= j < len(anatomy.discs):
            other = anatomy.discs[j]
            if other.herniation is not None and (j == i or abs(other.herniation.migration) > 1):
                f = herniation_field(other, other.herniation, u, v, t)
                hernia = f if hernia is None else np.minimum(hernia, f)
    out["hernia"] = hernia if hernia is not None else np.full(t.shape, _FAR, dtype=np.float32)
    uc = u - np.float32(disc.arch_u)
    sap, iap, joint, flavum = (np.full(t.shape, _FAR, dtype=np.float32) for _ in range(4))
    for side in SIDES:
        facet = disc.facet(side)
        us = uc * np.float32(side)
        half = us > -3.0
        s = np.full(t.shape, _FAR, dtype=np.float32)
        fields = [s, s.copy(), s.copy(), s.copy()]
        if half.any():
            uh, vh, th = us[half], v[half], t[half]
            parts = (*facet_fields(disc, facet, uh, vh, th), flavum_field(disc, facet, uh, vh, th))
            for target, value in zip(fields, parts, strict=True):
                target[half] = value
        sap, iap = np.minimum(sap, fields[0]), np.minimum(iap, fields[1])
        joint, flavum = np.minimum(joint, fields[2]), np.minimum(flavum, fields[3])
    arch = arch_field(lower, u, v, t)
    near_upper = t > np.float32(upper.bottom - 16)
    if near_upper.all():
        arch = np.minimum(arch, arch_field(upper, u, v, t))
    elif near_upper.any():
        arch[near_upper] = np.minimum(arch[near_upper], arch_field(upper, u[near_upper], v[near_upper], t[near_upper]))
    out["arch"], out["sap"], out["iap"], out["joint"], out["flavum"] = arch, sap, iap, joint, flavum
    for lesion in anatomy.lesions:
        if lesion.kind == "cut":
            for name in ("arch", "sap", "iap", "joint", "flavum"):
                out[name] = np.maximum(out[name], -lesion_field(lesion, u, v, t))
        elif lesion.kind == "solid":
            solid = lesion_field(lesion, u, v, t)
            out["lesion"] = np.minimum(out["lesion"], solid) if "lesion" in out else solid
    out["bone"] = np.minimum(out["arch"], np.minimum(out["sap"], out["iap"]))
    return out
