"""The numbers of the simulated spine, read from configs/training/phantom.toml and checked.

Sources stand beside the numbers in that file.
"""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict

from configs.loader import config_path, load_toml


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BodySettings(_Strict):
    """Vertebral sizes, one entry per vertebra from cranial to caudal (mm, degrees)."""

    width: tuple[float, ...]
    depth: tuple[float, ...]
    posterior_height: tuple[float, ...]
    waist: tuple[float, ...]
    wedge_deg: tuple[float, ...]
    pedicle_width: tuple[float, ...]
    pedicle_height: tuple[float, ...]
    pedicle_angle_deg: tuple[float, ...]
    interpedicular: tuple[float, ...]
    canal_ap: tuple[float, ...]
    lamina_thickness: tuple[float, ...]
    spinous_length: tuple[float, ...]
    relative_sd: float


class DiscSettings(_Strict):
    """Disc sizes, one entry for the disc under each vertebra but the last (mm)."""

    height_anterior: tuple[float, ...]
    height_posterior: tuple[float, ...]
    width: tuple[float, ...]
    depth: tuple[float, ...]
    concavity: tuple[float, ...]
    concavity_sd: float
    height_anterior_sd: float
    height_posterior_sd: float


class CanalSettings(_Strict):
    """Sac, facets and flavum at disc level (mm, mm2, degrees)."""

    apex: tuple[float, ...]
    apex_sd: float
    sac_area: tuple[float, ...]
    sac_area_relative_sd: float
    sac_ratio: tuple[float, ...]
    anterior_fat: tuple[float, ...]
    anterior_fat_sd: tuple[float, ...]
    facet_angle_deg: tuple[float, ...]
    facet_angle_sd: float
    tropism_sd: float
    joint_length: tuple[float, ...]
    joint_u: tuple[float, ...]
    joint_v: tuple[float, ...]
    joint_sd: float
    sap_thickness: float
    iap_thickness: float
    flavum_thickness: tuple[float, ...]
    narrow_recess_probability: float
    narrow_recess_mm: float
    crowded_probability: float
    crowded_area: tuple[float, float]


class DiseaseSettings(_Strict):
    """How often and how large: probabilities per disc, herniation zones, types and sizes (mm)."""

    herniation_probability: tuple[float, ...]
    healthy_probability: float
    zone_probability: dict[str, float]
    type_probability: dict[str, float]
    extent_log_mean: float
    extent_log_sd: float
    extent_range: tuple[float, float]
    stenosis_intercept: float


class RecessSettings(_Strict):
    """The window in which the soft recess depth is the minimum (mm)."""

    window_sac_fraction: float
    window_beyond_tip: float
    plane_step: float
    deepest: float


class ScannerSettings(_Strict):
    """Ranges from which a scanner session and its series are drawn (ms, mm, Hz per pixel, relative signal)."""

    three_tesla_share: float
    t1_repetition: tuple[float, float]
    t2_repetition: tuple[float, float]
    t1_echo: tuple[float, float]
    t2_echo: tuple[float, float]
    relaxation_sd: float
    readout_pixel: tuple[float, float]
    phase_pixel: tuple[float, float]
    bandwidth: tuple[float, float]
    taper: tuple[float, float]
    normalised_share: float
    shading_normalised: tuple[float, float]
    shading: tuple[float, float]
    noise_median: float
    noise_log_sd: float
    ghost_share: float
    ghost: tuple[float, float]


class PhantomSettings(_Strict):
    """All numbers of the simulated spine and its scanner."""

    vertebrae: tuple[str, ...]
    body: BodySettings
    disc: DiscSettings
    canal: CanalSettings
    disease: DiseaseSettings
    recess: RecessSettings
    scanner: ScannerSettings


@cache
def phantom_settings(beyond: bool = False) -> PhantomSettings:
    """The shipped numbers; `beyond` those of the test set that lies outside the ranges of training.

    ConfigError names a key that does not fit.
    """
    path = config_path("training", "phantom.toml")
    if not beyond:
        return load_toml(path, PhantomSettings)
    changes = config_path("training", "phantom_beyond.toml")
    return load_toml(path, PhantomSettings, over=changes)
