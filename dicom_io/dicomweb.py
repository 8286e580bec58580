"""A small DICOMweb client: store (STOW-RS), search (QIDO-RS), retrieve (WADO-RS) over HTTPS, or over HTTP on this machine only.

Resources and media types: PS3.18 10.4 to 10.6. What a server answers is data, its texts are never put into an error or a log.
"""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from configs.loader import limits
from dicom_io.multipart import MultipartError, PartReader, boundary_of, write_parts

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_CHUNK = 1 << 20
_DICOM, _JSON = "application/dicom", "application/dicom+json"
_FAILED, _DONE, _OTHER_FAILED = "00081198", "00081199", "0008119A"
_INSTANCE, _REASON = "00081155", "00081197"


class DicomwebError(Exception):
    """A server that cannot be reached or answers otherwise than it should; the text holds the status, nothing it sent."""


@dataclass(frozen=True)
class StoreAnswer:
    """SOP Instance UIDs that the server says it has, and the failure reason of each it has not ("" where it names none)."""

    stored: frozenset[str]
    failed: dict[str, int]


class DicomwebClient:
    """A DICOMweb server by its root address. `tls` None: the system's authorities. Close it, or use it in a `with`."""

    def __init__(self, root: str, tls: ssl.SSLContext | None = None, timeout_s: float = 60.0) -> None:
        address = urlsplit(root)
        if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _LOOPBACK):
            raise ValueError("a DICOMweb address begins with https:// (or with http:// on this machine)")
        self._client = httpx.Client(
            base_url=root.rstrip("/") + "/", verify=tls or True, timeout=timeout_s, trust_env=False
        )

    def __enter__(self) -> DicomwebClient:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def store(self, paths: Sequence[Path]) -> StoreAnswer:
        """Store files. What is in neither part of the answer was not confirmed. Raises DicomwebError, OSError."""
        boundary = secrets.token_hex(16)
        response = self._send(
            "POST",
            "studies",
            content=write_parts(((_DICOM, _pieces(path)) for path in paths), boundary.encode()),
            headers={
                "Content-Type": f'multipart/related; type="{_DICOM}"; boundary={boundary}',
                "Accept": _JSON,
            },
        )
        if response.status_code not in (200, 202, 409):
            raise DicomwebError(f"the server answers {response.status_code} to a store request")
        answer = _json(response)
        content = answer[0] if isinstance(answer, list) and answer else answer
        if not isinstance(content, dict):
            raise DicomwebError("the server's answer to a store request is no DICOM JSON")
        refused = [*_items(content, _FAILED), *_items(content, _OTHER_FAILED)]
        if response.status_code == 409 and not refused:
            raise DicomwebError("the server refuses all objects")
        failed = {str(_value(item, _INSTANCE)): int(_value(item, _REASON) or 0) for item in refused}
        stored = frozenset(str(_value(item, _INSTANCE)) for item in _items(content, _DONE))
        return StoreAnswer(stored - set(failed), failed)

    def search(self, path: str, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Search below `path` ("studies", "studies/1.2/series", ...); returns DICOM JSON data sets. Raises DicomwebError."""
        response = self._send("GET", path, params=dict(query or {}), headers={"Accept": _JSON})
        if response.status_code == 204:
            return []
        if response.status_code != 200:
            raise DicomwebError(f"the server answers {response.status_code} to a search")
        found = _json(response)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise DicomwebError("the server's answer to a search is no DICOM JSON")
        return found

    def retrieve(self, study: str, series: str | None = None, instance: str | None = None) -> Iterator[bytes]:
        """The objects of a study, series or instance as files, in the transfer syntax they are kept in. Raises DicomwebError."""
        path = "/".join(
            f"{kind}/{uid}" for kind, uid in (("studies", study), ("series", series), ("instances", instance)) if uid
        )
        accept = f'multipart/related; type="{_DICOM}"; transfer-syntax=*'
        try:
            with self._client.stream("GET", path, headers={"Accept": accept}) as response:
                if response.status_code != 200:
                    raise DicomwebError(f"the server answers {response.status_code} to a retrieve request")
                boundary = boundary_of(response.headers.get("content-type", ""))
                reader = PartReader(boundary, limits().network.max_study_objects)
                for chunk in response.iter_bytes():
                    for _, content in reader.feed(chunk):
                        yield content
                reader.close()
        except MultipartError as error:
            raise DicomwebError("the server's answer to a retrieve request is not valid multipart") from error
        except httpx.HTTPError as error:
            raise DicomwebError(f"the server cannot be reached: {type(error).__name__}") from error

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise DicomwebError(f"the server cannot be reached: {type(error).__name__}") from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise DicomwebError("the server's answer is not JSON") from error


def _items(content: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    values = content.get(tag, {})
    found = values.get("Value", []) if isinstance(values, dict) else []
    return [item for item in found if isinstance(item, dict)]


def _value(item: Mapping[str, Any], tag: str) -> Any:
    values = item.get(tag, {})
    found = values.get("Value") if isinstance(values, dict) else None
    return found[0] if found else ""
