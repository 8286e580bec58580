"""`recess send`: the DICOM results of an analysis to an archive, by C-STORE or by STOW-RS, and one line a file on what became of it."""

from __future__ import annotations

import ssl
from pathlib import Path

from dicom_io.dicomweb import DicomwebClient, DicomwebError, StoreAnswer
from dicom_io.send import Address, Outgoing, SendError, address_of, outgoing, send
from dicom_io.wire import client_tls
from inference.exit_codes import BadOptionError

TlsFiles = tuple[Path | None, Path | None, Path | None]
"""Authorities, own certificate, its key."""


def send_results(
    folder: Path, to: str, calling: str, tls: bool, tls_files: TlsFiles, confirm_s: float = 0.0
) -> tuple[list[str], bool]:
    """Lines on each file, and whether all were stored (and confirmed, when asked for). Raises BadOptionError."""
    if not folder.exists():
        raise BadOptionError(f"{folder}: no such folder or file")
    try:
        context = _context(tls or to.startswith("https://"), tls_files)
        files = outgoing(folder)
        if to.startswith(("http://", "https://")):
            return _by_web(files, to, context)
        address = address_of(to)
        if address is None:
            raise BadOptionError(f"--to {to}: say AE@host:port or the https:// address of a DICOMweb server")
        return _by_association(files, address, calling, context, confirm_s)
    except (SendError, DicomwebError, ValueError) as error:
        raise BadOptionError(str(error)) from error


def _context(wanted: bool, files: TlsFiles) -> ssl.SSLContext | None:
    if not wanted:
        if any(files):
            raise BadOptionError("TLS files are given, but --to is not called over TLS: add --tls")
        return None
    try:
        return client_tls(*files)
    except (OSError, ssl.SSLError) as error:
        raise BadOptionError(f"the TLS files cannot be used: {error.strerror or type(error).__name__}") from error


def _by_web(files: list[Outgoing], to: str, context: ssl.SSLContext | None) -> tuple[list[str], bool]:
    with DicomwebClient(to, context) as client:
        answer = client.store([file.path for file in files])
    lines = [f"{file.path.name}: {_said(file, answer)}" for file in files]
    return lines, all(file.sop_instance_uid in answer.stored for file in files)


def _said(file: Outgoing, answer: StoreAnswer) -> str:
    if file.sop_instance_uid in answer.stored:
        return "stored"
    reason = answer.failed.get(file.sop_instance_uid, answer.failed.get("", 0))
    return f"refused, 0x{reason:04X}" if reason else "not confirmed"


def _by_association(
    files: list[Outgoing], to: Address, calling: str, context: ssl.SSLContext | None, confirm_s: float
) -> tuple[list[str], bool]:
    lines: list[str] = []
    complete = True
    for one in send(files, to, calling, context, confirm_s):
        text = f"stored, 0x{one.status:04X}" if one.stored else f"refused, 0x{one.status:04X}"
        if one.confirmed is not None:
            text += ", confirmed" if one.confirmed else ", not confirmed"
        complete &= one.stored and one.confirmed is not False
        lines.append(f"{one.file.path.name}: {text}")
    return lines, complete
