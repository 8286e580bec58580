"""Walks the element structure of a DICOM data set without interpreting it, so that nothing is lost in silence.

General readers return what they got when a file is cut short, repeats a tag or goes on after its end; here each of
these has a code. Encoding: PS3.5 sections 7.1 and 7.5; the limits come from configs/limits.toml, [object].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct

_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT"}
    | {b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_UNIT = {b"US": 2, b"SS": 2, b"OW": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"AT": 4, b"OF": 4, b"OL": 4, b"FD": 8, b"OD": 8}
# attributes that say how pixels are read; each is one unsigned short (PS3.3 C.7.6.3.3)
_SHORTS = frozenset({0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PADDING_TAG = 0xFFFCFFFC


class StructureError(Exception):
    """The bytes are not a whole data set; `code` says how, `refused` whether the object is worth keeping."""

    def __init__(self, code: str, *, refused: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.refused = refused


@dataclass
class Structure:
    """Top-level tags in file order, where and how the pixel data stand (-1 length: fragments), and warnings."""

    tags: list[int] = field(default_factory=list)
    pixel_tags: set[int] = field(default_factory=set)
    pixel_vr: bytes = b""
    pixel_offset: int | None = None
    pixel_length: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StructureLimits:
    max_elements: int
    max_element_bytes: int
    max_depth: int


class _Walk:
    def __init__(self, data: bytes, little: bool, limits: StructureLimits) -> None:
        order = "<" if little else ">"
        self.data = data
        self.limits = limits
        self.elements = 0
        self.pair = Struct(order + "HH")
        self.short = Struct(order + "H")
        self.long = Struct(order + "I")

    def tag(self, at: int) -> int:
        group, element = self.pair.unpack_from(self.data, at)
        return int(group) << 16 | int(element)

    def element(self, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty when implicit), value length and where the value begins."""
        if at + 8 > len(self.data):
            raise StructureError("TRUNCATED")
        self.elements += 1
        if self.elements > self.limits.max_elements:
            raise StructureError("TOO_MANY_ELEMENTS")
        tag = self.tag(at)
        if implicit or tag >> 16 == 0xFFFE:
            return tag, b"", int(self.long.unpack_from(self.data, at + 4)[0]), at + 8
        vr = self.data[at + 4 : at + 6]
        if vr in _SHORT_VRS:
            return tag, vr, int(self.short.unpack_from(self.data, at + 6)[0]), at + 8
        if vr in _LONG_VRS:
            if at + 12 > len(self.data):
                raise StructureError("TRUNCATED")
            return tag, vr, int(self.long.unpack_from(self.data, at + 8)[0]), at + 12
        raise StructureError("VR_INVALID", refused=False)

    def past_items(self, at: int, implicit: bool, depth: int, fragments: bool) -> int:
        """Position after a sequence (or fragments) of undefined length whose items begin at `at`."""
        if depth > self.limits.max_depth:
            raise StructureError("DEPTH")
        while True:
            tag, _, length, value = self.element(at, implicit)
            if tag == _SEQUENCE_END:
                return value
            if tag != _ITEM:
                raise StructureError("LENGTH_INVALID")
            if length == _UNDEFINED:
                at = self.past_elements(value, implicit, depth)
                continue
            at = value + length
            if at > len(self.data):
                raise StructureError("TRUNCATED")
            if not fragments:
                self.fill_item(value, at, implicit, depth)

    def past_elements(self, at: int, implicit: bool, depth: int) -> int:
        """Position after the item of undefined length whose elements begin at `at`."""
        while True:
            tag, vr, length, value = self.element(at, implicit)
            if tag == _ITEM_END:
                return value
            at = self.past_value(tag, vr, length, value, implicit, depth)

    def past_value(self, tag: int, vr: bytes, length: int, value: int, implicit: bool, depth: int) -> int:
        if length == _UNDEFINED:
            # PS3.5 6.2.2: an unknown element of undefined length holds items in implicit encoding
            return self.past_items(value, implicit or vr == b"UN", depth + 1, tag in _PIXEL_TAGS)
        end = value + length
        if end > len(self.data):
            raise StructureError("LENGTH_INVALID" if length > len(self.data) else "TRUNCATED")
        if tag in _PIXEL_TAGS:
            return end
        if vr == b"SQ" or (implicit and length >= 8 and self.tag(value) == _ITEM):
            self.inside_items(value, end, implicit, depth + 1)
            return end
        if length > self.limits.max_element_bytes:
            raise StructureError("ELEMENT_TOO_LARGE")
        if length % _UNIT.get(vr, 2) or (tag in _SHORTS and vr not in (b"US", b"")):
            raise StructureError("VR_INVALID", refused=False)
        return end

    def inside_items(self, at: int, end: int, implicit: bool, depth: int) -> None:
        """Check the items of a sequence of known length, which must fill it exactly."""
        if depth > self.limits.max_depth:
            raise StructureError("DEPTH")
        while at < end:
            tag, _, length, value = self.element(at, implicit)
            if tag != _ITEM:
                raise StructureError("LENGTH_INVALID")
            if length == _UNDEFINED:
                at = self.past_elements(value, implicit, depth)
                continue
            at = value + length
            if at <= end:
                self.fill_item(value, at, implicit, depth)
        if at != end:
            raise StructureError("LENGTH_INVALID")

    def fill_item(self, at: int, end: int, implicit: bool, depth: int) -> None:
        """Check the elements of an item of known length, which must fill it exactly."""
        while at < end:
            at = self.past_value(*self.element(at, implicit), implicit, depth)
        if at != end:
            raise StructureError("LENGTH_INVALID")


def walk(data: bytes, start: int, *, implicit: bool, little: bool, limits: StructureLimits) -> Structure:
    """Check the data set of `data` from `start` to the end. Raises StructureError with the code of what is wrong."""
    walker = _Walk(data, little, limits)
    result = Structure()
    at, last = start, -1
    _check_syntax(data, start, implicit)
    while at < len(data):
        rest = len(data) - at
        if result.pixel_offset is not None and (rest < 8 or walker.tag(at) >> 16 > 0x7FE0):
            _check_trailing(data, at, walker, result)
            break
        tag, vr, length, value = walker.element(at, implicit)
        if tag >> 16 in (0xFFFE, 0xFFFF):
            raise StructureError("LENGTH_INVALID")
        if tag == last:
            raise StructureError("TAG_DUPLICATE", refused=False)
        if tag < last and "TAG_ORDER" not in result.warnings:
            if tag in result.tags:
                raise StructureError("TAG_DUPLICATE", refused=False)
            result.warnings.append("TAG_ORDER")
        if tag in _PIXEL_TAGS:
            result.pixel_tags.add(tag)
            result.pixel_offset, result.pixel_vr = value, vr
            result.pixel_length = -1 if length == _UNDEFINED else length
            if length != _UNDEFINED and value + length > len(data):
                raise StructureError("PIXEL_LENGTH", refused=False)
        at = walker.past_value(tag, vr, length, value, implicit, 0)
        result.tags.append(tag)
        last = tag
    if len(set(result.tags)) != len(result.tags):
        raise StructureError("TAG_DUPLICATE", refused=False)
    return result


def _check_syntax(data: bytes, start: int, implicit: bool) -> None:
    looks_explicit = data[start + 4 : start + 6] in _SHORT_VRS | _LONG_VRS
    if len(data) - start >= 8 and looks_explicit == implicit:
        raise StructureError("SYNTAX_MISMATCH", refused=False)


def _check_trailing(data: bytes, at: int, walker: _Walk, result: Structure) -> None:
    """After the pixel data only Data Set Trailing Padding (FFFC,FFFC) may follow; zeros alone are told, not hidden."""
    if len(data) - at >= 8 and walker.tag(at) == _PADDING_TAG:
        return
    if any(data[at:]):
        raise StructureError("TRAILING_BYTES", refused=False)
    result.warnings.append("PIXEL_TRAILING")
