"""Shape of the examination form (exam.toml): scales, groups, fields and the cuts of what follows from them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Value = bool | int | str


class Strict(BaseModel):
    """A table as it stands in a file: nothing beside what is named, and never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(Strict):
    """Allowed values of a field and what each means at the bedside."""

    name: str
    text: str
    values: dict[str, str]


class FieldGroup(Strict):
    name: str
    block: Literal["side", "general"]
    label: str


class ExamField(Strict):
    """One item of the examination."""

    id: str
    block: Literal["side", "general"]
    group: str
    type: Literal["enum", "int", "int_or_negative", "bool", "list", "date", "datetime", "text"]
    label: str
    text: str = ""
    scale: str | None = None
    min: int | None = None
    max: int | None = None
    attest: Literal["motor", "sensory", "reflex", "tension", "umn"] | None = None
    normal: Value | None = None
    paired: tuple[str, ...] = ()
    safety: bool = False
    blank_matters: bool = True


class Derived(Strict):
    slr_positive_below_deg: int
    toe_raises_weak_below: int
    toe_raises_contradict_below: int
    residual_abnormal_from_ml: int
    residual_contradicts_from_ml: int
    reflex_reduced_to: int
    reflex_brisk_from: int
    reflex_clonic_from: int
    marked_weakness_to: float
    emg_needle_valid_from_days: int
    imaging_apart_over_days: int
    source: str


class ExamTable(Strict):
    """The whole examination form."""

    derived: Derived
    mrc_numeric: dict[str, float]
    scale: tuple[Scale, ...]
    group: tuple[FieldGroup, ...]
    field: tuple[ExamField, ...]

    @model_validator(mode="after")
    def _names_meet(self) -> ExamTable:
        scales = {scale.name for scale in self.scale}
        groups = {(group.name, group.block) for group in self.group}
        ids = [field.id for field in self.field]
        if len(set(ids)) != len(ids):
            raise ValueError("a field id stands twice")
        for field in self.field:
            if field.scale is not None and field.scale not in scales:
                raise ValueError(f"{field.id}: unknown scale {field.scale!r}")
            if (field.group, field.block) not in groups:
                raise ValueError(f"{field.id}: unknown group {field.group!r}")
            if field.type in {"enum", "list"} and field.scale is None:
                raise ValueError(f"{field.id}: a choice needs a scale")
            if set(field.paired) - set(ids):
                raise ValueError(f"{field.id}: paired with an unknown field")
        return self

    def block(self, name: Literal["side", "general"]) -> tuple[ExamField, ...]:
        """Fields of one block, in the order of the form."""
        return tuple(field for field in self.field if field.block == name)

    def scale_of(self, field: ExamField) -> Scale:
        """The scale of a choice. KeyError when the field has none."""
        for scale in self.scale:
            if scale.name == field.scale:
                return scale
        raise KeyError(field.id)

    def find(self, field_id: str) -> ExamField:
        """The field `field_id`. KeyError when there is none."""
        for field in self.field:
            if field.id == field_id:
                return field
        raise KeyError(field_id)
