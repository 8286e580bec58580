"""The `recess` command: the reader's verbs and `serve`, each imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from inference.cli import BadOptionError, app, run

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
) -> int:
    """Run the HTTP API with one background worker."""
    if host not in _LOOPBACK:
        raise BadOptionError(
            f"--host {host}: only a loopback address can be used, because the API has no accounts and no TLS"
        )
    import uvicorn

    from service.app import create_app
    from service.settings import Settings

    application = create_app(Settings(data_dir=data_dir, device=device))
    typer.echo(f"recess: http://{host}:{port}/v1, description at /openapi.json, data in {data_dir}", err=True)
    uvicorn.run(application, host=host, port=port, log_level="warning")
    return 0


def main() -> None:
    """Entry point of the `recess` command."""
    sys.exit(run(app))
