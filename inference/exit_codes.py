"""What a command answers when it ends, and the refusal of an option: shared by the verbs of study, examination and service."""

from __future__ import annotations

from pathlib import Path

DONE, BAD_INPUT, ABSTAINED, FAULT, INTERRUPTED = 0, 2, 3, 4, 130


class BadOptionError(Exception):
    """An option or a combination of options that cannot be used; the text says which and what is allowed."""


def write_file(file: Path, text: str) -> None:
    """Write a text file that a command was asked for. BadOptionError when it cannot be written."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadOptionError(f"{file}: cannot be written ({error.strerror})") from error
