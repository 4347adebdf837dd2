"""The Typer application, the options that verbs share, and how a user's mistake is reported.

Arguments are checked here and in the verbs before torch is imported: a mistake is reported within half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import clara
from clara.errors import ClaraError
from clara.zoo import catalog

DEFAULT_MODEL = catalog.DEFAULT


class Verbs(TyperGroup):
    """Turns a ClaraError, or the system's refusal of a file, into one line and exit status 2, Ctrl-C into 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except ClaraError as e:
            typer.echo(f"clara: {' '.join(str(e).split())}", err=True)
            raise typer.Exit(2) from e
        except BrokenPipeError:  # `clara … | head`: Click ends it without a word
            raise
        except OSError as e:  # no permission, no room, a folder where a file should be
            about = f"{e.strerror}: {e.filename}" if e.strerror and e.filename else str(e)
            typer.echo(f"clara: {' '.join(about.split())}", err=True)
            raise typer.Exit(2) from e
        except KeyboardInterrupt as e:
            typer.echo("clara: interrupted", err=True)
            raise typer.Exit(130) from e


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"clara {clara.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Name, search and embed sounds by text in many languages; train and evaluate such models."""


Sources = Annotated[list[str], typer.Argument(help="Audio files and folders.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="arch.tag, hf:org/repo[@revision] or dir:path.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps; default: the best there is.")]
BatchSize = Annotated[int, typer.Option(help="Windows per forward pass.")]
Window = Annotated[float | None, typer.Option(help="Seconds heard at once; default: as long as the model takes.")]
Hop = Annotated[float | None, typer.Option(help="Seconds from window to window; below --window they overlap.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out what cannot be read.")]
Settings = Annotated[list[str], typer.Option("--set", help="a.b=value: change a key of the recipe; may be repeated.")]


def left_out(skip: bool) -> Callable[[str], None] | None:
    """With --skip-broken, the function that reports a clip that is left out."""
    return (lambda why: typer.echo(f"left out: {' '.join(why.split())}", err=True)) if skip else None


def check_paths(*paths: Path | None) -> None:
    """ClaraError for the first of `paths` that does not exist; None stands for an option that was not given."""
    for path in paths:
        if path is not None and not path.exists():
            raise ClaraError(f"No such file or folder: {path}.")


def room_for(file: Path) -> None:
    """Find out before the work whether its outcome can be written. OSError where it cannot."""
    file.parent.mkdir(parents=True, exist_ok=True)
    there = file.exists()
    file.open("ab").close()
    if not there:
        file.unlink()


def check_model(name: str) -> None:
    """ClaraError for an unknown model, one without weights, or a missing folder. The hub is not asked."""
    read = catalog.parse_name(name)
    if read.kind == "hf" or (read.kind == "checkpoint" and _downloadable(read.value)):
        return
    catalog.checkpoint_folder(read)


def _downloadable(name: str) -> bool:
    from clara.zoo.fetch import place

    return place(catalog.checkpoint(name)) == "downloadable"


def audio_items(sources: Sequence[str], skip_broken: bool = False) -> list[Any]:
    """Files and folders -> the clips they stand for. ClaraError when there are none, or, without `skip_broken`, when a
    file does not exist."""
    from clara.audio.sources import audio_file, expand  # numpy comes along

    items = expand(sources)
    for item in items:
        if isinstance(item, str) and not skip_broken:  # what was found in a folder is a Path, and exists
            audio_file(item)
    return items
