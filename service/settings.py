"""Settings of the service: from arguments or from environment variables that begin with RECESS_. An unknown name is an error.

Limits are those of the upload door; limits on DICOM objects and archives stand in configs/limits.toml.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DicomPeer(BaseModel):
    """Where a known application entity listens; with `tls` it is called over TLS, with the listener's own certificate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int = Field(ge=1, le=65535)
    tls: bool = False


class Settings(BaseSettings):
    """Where data lie, what is listened to, and how much is taken in."""

    model_config = SettingsConfigDict(env_prefix="RECESS_", extra="forbid", frozen=True)

    data_dir: Path = Path("recess-data")
    """Folder with originals, results and the index; made when absent."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the networks run: auto, cpu, cuda or cuda:N."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    """Names under which the service answers; a request for another host, or sent from a page of one, is refused."""
    max_body_bytes: int = 2 * 1024**3
    """Largest request body."""
    max_parts: int = 5000
    """Most parts of one upload."""
    max_uploads: int = Field(default=32, ge=1)
    """Most DICOMweb uploads at a time; further ones are told to come again."""
    max_json_bytes: int = 1024**2
    """Largest JSON body."""
    low_water_bytes: int = 1024**3
    """With less free disk than this nothing new is taken in."""
    dicom_host: str = "127.0.0.1"
    """Address that the DICOM listener takes; another than loopback needs the three TLS files."""
    dicom_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the DICOM listener; without one there is none."""
    ae_title: str = Field(default="RECESS", pattern=r"^[A-Za-z0-9_.\-]{1,16}$")
    """AE title of the DICOM listener."""
    dicom_tls_certificate: Path | None = None
    """Certificate of the listener (PEM)."""
    dicom_tls_key: Path | None = None
    """Key to the certificate (PEM)."""
    dicom_tls_clients: Path | None = None
    """Authorities whose certificates clients show (PEM); a certificate's common name is the client's AE title."""
    dicom_peers: dict[str, DicomPeer] = {}
    """Where known AE titles listen, for storage commitment: {"PACS": {"host": "...", "port": 104}}."""
    study_quiet_s: float = Field(default=60.0, ge=0)
    """A study that comes in object by object is complete after so many seconds without a further object."""

    @model_validator(mode="after")
    def _listener_is_private_or_secured(self) -> Settings:
        files = (self.dicom_tls_certificate, self.dicom_tls_key, self.dicom_tls_clients)
        if any(files) and not all(files):
            raise ValueError("TLS of the DICOM listener needs a certificate, its key and the clients' authorities")
        if self.dicom_host not in _LOOPBACK and not all(files):
            raise ValueError("dicom_host is no loopback address: the DICOM listener needs its three TLS files there")
        return self
