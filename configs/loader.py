"""Reads, checks and hashes the configuration files that ship with the package.

Each file is TOML; unknown keys are an error; the hash over all files goes into every report. Numbers: the files themselves.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

_ROOT = Path(__file__).parent
_SUFFIXES = {".toml", ".yaml", ".json"}


class ConfigError(Exception):
    """A configuration file that cannot be used; the text names the file, the key and what is wrong."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Strict):
    """One class of a label map: its number, colour for overlays, DICOM code and side (the patient's)."""

    name: str
    value: int
    colour: tuple[int, int, int]
    code: tuple[str, str, str] | None = None
    laterality: str | None = None


class LabelSet(_Strict):
    label: tuple[Label, ...]

    def value(self, name: str) -> int:
        """Number of the class `name`. KeyError when there is none."""
        for label in self.label:
            if label.name == name:
                return label.value
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their numbers, background left out."""
        return tuple(label.name for label in sorted(self.label, key=lambda label: label.value))


class Anatomy(_Strict):
    """Levels from cranial to caudal, the levels that are read fully, and the two label sets."""

    levels: tuple[str, ...]
    read_levels: tuple[str, ...]
    disc_codes: dict[str, tuple[str, str, str]]
    finding_codes: dict[str, tuple[str, str, str]]
    severity_codes: dict[str, tuple[str, str, str]]
    sagittal: LabelSet
    axial: LabelSet


class DepthBand(_Strict):
    unit: str
    moderate_at_or_below: float
    severe_at_or_below: float
    borderline: float


class SizeBand(_Strict):
    unit: str
    moderate_below: float
    severe_below: float
    borderline: float


class HerniationBand(_Strict):
    unit: str
    moderate_at_or_above: float
    severe_at_or_above: float
    present_at_or_above: float


class Grading(_Strict):
    """Cuts from millimetres to severity."""

    recess: DepthBand
    canal_area: SizeBand
    canal_ap: SizeBand
    herniation: HerniationBand


class ObjectLimits(_Strict):
    max_bytes: int
    max_rows_columns: int
    max_frames: int
    max_decoded_bytes: int
    max_elements: int
    max_element_bytes: int
    max_depth: int
    max_inflate_ratio: int
    inflate_floor_bytes: int


class ArchiveLimits(_Strict):
    max_entries: int
    max_bytes_out: int
    max_ratio_entry: int
    max_ratio_overall: int
    ratio_floor_bytes: int


class ChildLimits(_Strict):
    memory_bytes: int
    cpu_seconds: int
    wall_seconds: int
    open_files: int
    cpu_share: float
    max_restarts: int
    max_message_bytes: int


class NetworkLimits(_Strict):
    """What one peer, and all of them together, may take up while they send."""

    max_pdu_bytes: int
    max_command_bytes: int
    max_associations: int
    max_associations_per_peer: int
    max_connections: int
    max_commitment_bytes: int
    max_commitment_depth: int
    max_in_flight_bytes: int
    header_seconds: float
    idle_seconds: float
    min_bytes_per_second: int
    max_study_objects: int
    max_study_bytes: int
    max_part_header_bytes: int


class GeometryLimits(_Strict):
    orthogonality: float
    orthogonality_rounded: float
    same_stack_angle_deg: float
    pixel_spacing_relative: float
    step_absolute_mm: float
    thickness_over_step: float
    step_relative: float
    pixel_spacing_mm: tuple[float, float]
    step_mm: tuple[float, float]
    field_of_view_mm: tuple[float, float]
    plane_angle_deg: float
    min_slices: int


class ContrastLimits(_Strict):
    """What tells the weightings apart: header times in ms, and the pixel features of dicom_io.roles."""

    t1_echo_below_ms: float
    t1_repetition_below_ms: float
    t1_inversion_ms: tuple[float, float]
    t2_echo_from_ms: float
    t2_repetition_from_ms: float
    stir_inversion_ms: tuple[float, float]


class AnatomyLimits(_Strict):
    body_ap_mm: tuple[float, float]
    body_height_mm: tuple[float, float]


class SideLimits(_Strict):
    """How the planes are compared to tell sides apart: mm of blur, sampling and movement, correlations."""

    smooth_mm: float
    field_mm: float
    sample_mm: float
    min_samples: int
    nudge_mm: tuple[float, ...]
    slide_mm: tuple[float, ...]
    least_agreement: float
    mirror_margin: float
    turned_margin: float
    shift_margin: float
    swapped_margin: float
    warn_shift_mm: float
    withhold_shift_mm: float


class ContinuityLimits(_Strict):
    """When neighbouring slices do not continue each other."""

    pixel_mm: float
    least_slices: int
    least_pixels: int
    least_agreement: float
    drift_mm: float
    seen_drift: float
    margin: float
    outlier_share: float
    end_share: float
    broken_share: float
    exchange_margin: float
    most_outliers: float


class ScopeLimits(_Strict):
    """Whom and what the program is made for."""

    min_age_years: int
    field_strength_tesla: tuple[float, float]
    saturated_fraction: float
    saturated_least_range: int
    text_pixels: int
    text_fraction: float
    text_contrast: float
    text_window_percentiles: tuple[float, float]
    text_far_above: float
    text_percentile: float
    text_filled: float


class Limits(_Strict):
    """Bytes, time and tolerances."""

    object: ObjectLimits
    archive: ArchiveLimits
    child: ChildLimits
    network: NetworkLimits
    geometry: GeometryLimits
    contrast: ContrastLimits
    anatomy: AnatomyLimits
    sides: SideLimits
    continuity: ContinuityLimits
    scope: ScopeLimits


_Model = TypeVar("_Model", bound=BaseModel)


def config_path(*parts: str) -> Path:
    """Path of a shipped configuration file. ConfigError when it is not there."""
    path = _ROOT.joinpath(*parts)
    if not path.is_file():
        raise ConfigError(f"{path}: no such configuration file")
    return path


def load_toml(path: Path, model: type[_Model], *, over: Path | None = None) -> _Model:
    """Read one TOML file into `model`; keys of the tables in the file `over` replace those of the first.

    ConfigError names the file and every key that does not fit.
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for table, values in tomllib.loads(over.read_text(encoding="utf-8")).items() if over else ():
            data[table] = {**data.get(table, {}), **values}
        return model.model_validate(data)
    except (tomllib.TOMLDecodeError, ValidationError, OSError) as error:
        raise ConfigError(f"{path}: {error}") from error


@cache
def anatomy() -> Anatomy:
    """Levels, structures, label numbers, codes and colours."""
    return load_toml(config_path("anatomy.toml"), Anatomy)


@cache
def grading() -> Grading:
    """Millimetres to severity."""
    return load_toml(config_path("grading.toml"), Grading)


@cache
def limits() -> Limits:
    """Bytes, time and tolerances."""
    return load_toml(config_path("limits.toml"), Limits)


@cache
def configs_sha256() -> str:
    """Hash over all shipped configuration files that a reading can depend on (training recipes left out)."""
    digest = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*")):
        if path.suffix in _SUFFIXES and "training" not in path.relative_to(_ROOT).parts:
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
