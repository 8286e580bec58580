"""The `recess` command: the reader's verbs, `serve` and `send`, each imported when it is called."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from inference.cli import app, run
from inference.exit_codes import DONE, FAULT, BadOptionError

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@app.command()
def serve(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Folder for studies, results and the index.")] = Path(
        "recess-data"
    ),
    host: Annotated[str, typer.Option("--host", help="Address to listen on; only loopback, there are no accounts.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    dicom_port: Annotated[
        int | None,
        typer.Option("--dicom-port", min=0, max=65535, help="Take DICOM objects on this port, too (C-STORE)."),
    ] = None,
    ae_title: Annotated[
        str, typer.Option("--ae-title", help="AE title under which DICOM objects are taken.")
    ] = "RECESS",
) -> int:
    """Run the HTTP API with one background worker, and a DICOM listener if it is asked for."""
    if host not in _LOOPBACK:
        raise BadOptionError(
            f"--host {host}: only a loopback address can be used, because the API has no accounts and no TLS"
        )
    import uvicorn
    from pydantic import ValidationError

    from service.app import create_app
    from service.settings import Settings

    given: dict[str, Any] = {"dicom_port": dicom_port} if dicom_port is not None else {}
    if ae_title != "RECESS":
        given["ae_title"] = ae_title
    try:
        settings = Settings(data_dir=data_dir, device=device, **given)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadOptionError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    application = create_app(settings)
    typer.echo(f"recess: http://{host}:{port}/v1, description at /openapi.json, data in {data_dir}", err=True)
    if settings.dicom_port is not None:
        where = f"{settings.ae_title}@{settings.dicom_host}:{settings.dicom_port}"
        typer.echo(f"recess: DICOM objects are taken as {where}", err=True)
    uvicorn.run(application, host=host, port=port, log_level="warning")
    return 0


@app.command()
def send(
    report_dir: Annotated[Path, typer.Argument(help="Folder with DICOM results, or one file.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="AE@host:port, or the https:// address of a DICOMweb server.")],
    calling: Annotated[str, typer.Option("--ae-title", help="AE title of this side.")] = "RECESS",
    tls: Annotated[bool, typer.Option("--tls", help="Call AE@host:port over TLS.")] = False,
    authorities: Annotated[Path | None, typer.Option("--tls-ca", help="Authorities to trust (PEM).")] = None,
    certificate: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate of this side (PEM).")] = None,
    key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    confirm_s: Annotated[
        float, typer.Option("--confirm", min=0, help="Ask for storage commitment; wait so many seconds for it.")
    ] = 0.0,
) -> int:
    """Send the DICOM results of an analysis to an archive: C-STORE or STOW-RS. Exit code 4 when it does not take all of them."""
    from service.sending import send_results

    lines, complete = send_results(report_dir, to, calling, tls, (authorities, certificate, key), confirm_s)
    for line in lines:
        typer.echo(line)
    return DONE if complete else FAULT


def main() -> None:
    """Entry point of the `recess` command."""
    code = run(app)
    gc.freeze()  # the process ends: to look once more through all that torch has loaded would take a second
    sys.exit(code)
