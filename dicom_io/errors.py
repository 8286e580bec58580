"""What can go wrong with an input, one class per thing a caller would do differently.

Every text is one line that names the file or the series and says what to do about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_io.study import Notice


class InputError(Exception):
    """Base of everything that is wrong with what was handed in; `code` is stable, the text is for people."""

    def __init__(self, text: str, *, code: str = "INPUT", notices: tuple[Notice, ...] = ()) -> None:
        super().__init__(" ".join(text.split()))
        self.code = code
        self.notices = notices


class UnreadableInput(InputError):  # noqa: N818 (the name says what happened)
    """Nothing in the input is a readable DICOM object (or the archive itself was refused)."""


class NoUsableSeries(InputError):  # noqa: N818 (the name says what happened)
    """DICOM was read, but header and geometry leave no MR series that may be measured.

    `code` says why (for instance PATIENT_CONFLICT or NO_MR), `notices` lists every exclusion.
    """

    def __init__(
        self, text: str, *, code: str, notices: tuple[Notice, ...] = (), study_instance_uid: str | None = None
    ) -> None:
        super().__init__(text, code=code, notices=notices)
        self.study_instance_uid = study_instance_uid


class SeveralStudies(InputError):  # noqa: N818 (the name says what happened)
    """The input holds more than one study where one was asked for."""


class SourceNotReferable(InputError):  # noqa: N818 (the name says what happened)
    """The source objects' UIDs cannot be named in derived DICOM objects (invalid, or one UID for several images)."""


class ReadBackError(Exception):
    """A written object, read back by other code, differs from what was to be written; it has not been kept."""
