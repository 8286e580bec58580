"""Which software, configuration and inputs a report rests on: versions, hashes and the key that makes equal runs equal.

The result key is a SHA-256 over the digests of manifest, examination, first read, models, configuration and software version.
The findings digest is one over what was found: equal for two inputs that show the same body.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from configs import configs_sha256
from configs.clinical.site import rests_on_tables, site
from inference.report import Report, SiteNumbers, Software

NETWORKS = ("sagittal", "axial", "axial_recess")
"""The networks that segment, in the order of `Engine`."""
NOTES = "notes"
"""The network that radiologists' notes taught; it reads the maps of the axial one."""
GRADER = "disc_grades"
"""The network that grades discs."""
_LIBRARIES = ("torch", "monai", "numpy", "scipy", "pydicom", "highdicom", "pydantic")


@rests_on_tables
def software() -> Software:
    """Version of the package, commit where it runs from a checkout, hash of the configuration, a site's numbers, libraries."""
    used = site()
    return Software(
        version=importlib.metadata.version("recess"),
        commit=_commit(),
        configs_sha256=configs_sha256(),
        site=SiteNumbers.model_validate(used.model_dump()) if used else None,
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def result_key(
    manifest_sha256: str,
    models: Mapping[str, str],
    exam_json: str = "",
    first_read_json: str = "",
    language: str = "en",
) -> str:
    """Key of one result: equal for equal study, entries, models (name -> sha256), configuration, version and language."""
    used = software()
    parts = [
        manifest_sha256,
        hashlib.sha256(exam_json.encode()).hexdigest(),
        hashlib.sha256(first_read_json.encode()).hexdigest(),
        *(f"{name}={digest}" for name, digest in sorted(models.items())),
        used.configs_sha256,
        used.version,
        *([f"site={used.site.sha256}"] if used.site else []),
        *([f"language={language}"] if language != "en" else []),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def findings_digest(report: Report) -> str:
    """SHA-256 of what a report finds and withholds, with values and places but without names of objects, times and versions."""
    found = report.model_dump(mode="json", include={"status", "levels", "findings", "withheld"})
    found["numbering"] = report.study.numbering if report.study else None
    for finding in found["findings"]:
        for measurement in finding["measurements"]:
            del measurement["source_instance"]
        finding["evidence"] = [{"point_lps": item["point_lps"]} for item in finding["evidence"]]
    return hashlib.sha256(json.dumps(found, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(  # noqa: S603 - fixed arguments, own checkout
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
