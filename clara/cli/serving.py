"""The verb that serves a model over HTTP: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, Device, Model, app, check_model, check_paths
from clara.cli.searching import ON_DISK, opened
from clara.errors import require
from clara.saving import safetensors_file


@app.command()
def serve(
    index: Annotated[Path | None, typer.Option(help="What `clara index` wrote, for /search.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8000,
    most_mib: Annotated[float, typer.Option(help="Largest upload, MiB.")] = 25.0,
    most_seconds: Annotated[float, typer.Option(help="Longest recording, seconds.")] = 600.0,
    timeout: Annotated[float, typer.Option(help="Most seconds that a request takes.")] = 60.0,
    batch: Annotated[int, typer.Option(min=1, help="Most clips embedded together.")] = 16,
    page: Annotated[bool, typer.Option(help="With the page at /ui.")] = True,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
) -> None:
    """Serve a model: embed, classify, search and find over HTTP (/docs), and a page in the browser (/ui)."""
    check_model(model)
    if index is not None:
        check_paths(index if index.suffix == ON_DISK else safetensors_file(index))
    for module in ("fastapi", "python_multipart", "prometheus_client", "uvicorn", *(["gradio"] if page else [])):
        require(module, "serve")
    import uvicorn

    from clara.apps.server import ServeConfig, create_app
    from clara.zoo.loading import load

    library = None if index is None else opened(index)
    config = ServeConfig(most_mib, most_seconds, timeout, batch)
    made = create_app(load(model, device), library, config)
    if page:
        from clara.apps.web_page import mount

        made = mount(made)
    typer.echo(f"{model} at http://{host}:{port}: /docs{', /ui' if page else ''}, /health, /metrics", err=True)
    uvicorn.run(made, host=host, port=port, log_level="warning")
