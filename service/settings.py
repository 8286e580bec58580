"""Settings of the service: from arguments or from environment variables that begin with RECESS_. An unknown name is an error.

Limits are those of the upload door; limits on DICOM objects and archives stand in configs/limits.toml.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    max_json_bytes: int = 1024**2
    """Largest JSON body."""
    low_water_bytes: int = 1024**3
    """With less free disk than this nothing new is taken in."""
