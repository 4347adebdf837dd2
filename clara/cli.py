"""The `clara` command: thin verbs over the library. A user's mistake is one line on stderr and exit status 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from clara.config import CONFIGS
from clara.errors import ClaraError, unknown
from clara.zoo import catalog

if TYPE_CHECKING:
    from clara.zoo.embedder import Embedder

DEFAULT_MODEL = "clara-small.base"
RECIPES = Path(__file__).parent / "_recipes"


class Verbs(TyperGroup):
    """Turns a ClaraError into one line and exit status 2, Ctrl-C into 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except ClaraError as e:
            typer.echo(f"clara: {' '.join(str(e).split())}", err=True)
            raise typer.Exit(2) from e
        except KeyboardInterrupt as e:
            typer.echo("clara: interrupted", err=True)
            raise typer.Exit(130) from e


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Audio–text models.",
)

Sources = Annotated[list[str], typer.Argument(help="Audio files and folders.", show_default=False)]
Model = Annotated[str, typer.Option("--model", "-m", help="arch.tag, hf:org/repo[@revision] or dir:path.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps; default: the best there is.")]
BatchSize = Annotated[int, typer.Option(help="Windows a forward pass.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Settings = Annotated[list[str], typer.Option("--set", help="a.b=value: change a key of the recipe; may be repeated.")]


def main() -> None:
    """Entry point of the installed command."""
    app()


@app.command("list")
def list_verb(pattern: Annotated[str, typer.Argument(help="Shell wildcards.")] = "*") -> None:
    """Models by name: architectures and checkpoints."""
    names = catalog.list_models(pattern)
    if not names:
        raise unknown("model", pattern, catalog.list_models())
    for name in names:
        row = catalog.CHECKPOINTS.get(name)
        about = f"checkpoint, {len(row.languages)} languages, {row.license}" if row else "architecture, no weights"
        typer.echo(f"{name:<28} {about}")


@app.command()
def show(name: str) -> None:
    """One model: where it comes from, its licence, languages and card, or its configuration."""
    read = catalog.parse_name(name)
    if read.kind == "arch":
        typer.echo((CONFIGS / f"{read.value}.yaml").read_text(encoding="utf-8").rstrip())
        return
    if read.kind == "checkpoint":
        row = catalog.checkpoint(read.value)
        typer.echo(f"name: {row.name}\nsource: {row.source}\nlicense: {row.license}\nsample rate: {row.sample_rate} Hz")
        typer.echo(f"languages: {' '.join(row.languages)}\ntrained on: {'; '.join(row.corpora)}")
    from clara.zoo.factory import CARD, CONFIG, checkpoint_folder, read_config

    folder = checkpoint_folder(read)
    read_config(folder)
    typer.echo(f"folder: {folder}\n\n{(folder / CONFIG).read_text(encoding='utf-8')}")
    if (folder / CARD).is_file():
        typer.echo((folder / CARD).read_text(encoding="utf-8").rstrip())


@app.command()
def languages() -> None:
    """Languages with label names and templates, and what they name."""
    from clara.text.prompts import languages as codes
    from clara.text.prompts import load_language

    for code in codes():
        language = load_language(code)
        typer.echo(f"{code}  {language.english_name:<12} {language.name:<17} {' '.join(language.terms)}")


@app.command()
def embed(
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz file to write.")],
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
) -> None:
    """Embed audio into an .npz: audio (N, D) float32 of unit length, paths, model, sha256."""
    import numpy as np

    if out.suffix != ".npz":
        raise ClaraError(f"--out {out}: expected a name that ends in .npz.")
    zoo, items = _load(model, device), _expand(sources)
    audio_ND = zoo.embed_audio(items, batch_size, progress=sys.stderr.isatty()).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, audio=audio_ND, paths=np.array([str(i) for i in items]), model=zoo.name, sha256=zoo.sha256)
    typer.echo(f"{len(items)} clips -> {out}, {audio_ND.shape[1]} numbers each")


@app.command()
def classify(
    sources: Sources,
    task: Annotated[
        str | None, typer.Option(help="emotion, sound, instrument, word, language, speaker, arousal.")
    ] = None,
    language: Annotated[
        str, typer.Option(help="Code of the language of a task's labels (see clara languages).")
    ] = "en",
    labels: Annotated[str | None, typer.Option(help='Your own labels, or some of a task\'s: "dog,rain".')] = None,
    template: Annotated[list[str], typer.Option(help="Text with {} for the label; may be repeated.")] = [],  # noqa: B006
    top: Annotated[int, typer.Option(min=1, help="Labels shown.")] = 3,
    windows: Annotated[bool, typer.Option("--windows", help="One answer a window, with times.")] = False,
    calibrate: Annotated[Path | None, typer.Option(help="Folder of unlabelled clips of the same kind.")] = None,
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
) -> None:
    """Name what is heard, by a task's labels or your own."""
    from clara.apps.classifier import Classifier

    zoo = _load(model, device)
    own = None if labels is None else [x.strip() for x in labels.split(",")]
    classifier = Classifier(zoo, own, task, language, template or None)
    items = _expand(sources)
    if calibrate is not None:
        classifier.calibrate(calibrate, batch_size)
    if windows:
        found = [(i, s, e, p) for i in items for s, e, p in classifier.windows(i, batch_size)]
    else:
        predictions = classifier(items, batch_size, progress=sys.stderr.isatty())
        found = [(i, None, None, p) for i, p in zip(items, predictions)]
    records = []
    for item, start, end, p in found:
        scores = [{"label": k, "name": classifier.names[k], "score": round(s, 4)} for k, s in p.top(top)]
        span = {} if start is None else {"start": round(start, 3), "end": round(end, 3)}
        records.append({"file": str(item), **span, "calibrated": p.calibrated, "top": scores})
    if as_json:
        typer.echo(json.dumps(records, ensure_ascii=False, indent=1))
        return
    for r in records:
        span = f"  {r['start']:8.1f}–{r['end']:.1f} s" if "start" in r else ""
        names = ", ".join(f"{s['name']} {s['score']:.2f}" for s in r["top"])
        typer.echo(f"{r['file']}{span}  {names}{'  (calibrated)' if r['calibrated'] else ''}")


@app.command()
def retrieve(
    query: Annotated[
        str, typer.Argument(help="What to look for, in any of the model's languages; with --like a file.")
    ],
    folder: Annotated[list[str], typer.Option(help="Audio to search: folders or files; may be repeated.")] = [],  # noqa: B006
    index: Annotated[Path | None, typer.Option(help="Search a saved index instead.")] = None,
    save: Annotated[Path | None, typer.Option(help="Save the index of --folder for later.")] = None,
    like: Annotated[bool, typer.Option("--like", help="QUERY is an audio file: find what sounds like it.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Clips shown.")] = 5,
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
) -> None:
    """Find clips in folders (or a saved index) by a text or by another clip."""
    from clara.apps.search import Index

    if bool(folder) == (index is not None):
        raise ClaraError("Give --folder DIR (embedded now) or --index FILE (saved before), one of them.")
    zoo = _load(model, device)
    found = Index.load(index) if index is not None else Index.build(zoo, folder, progress=sys.stderr.isatty())
    if save is not None:
        found.save(save)
    hits = found.query(zoo, audio=query, top=top) if like else found.query(zoo, text=query, top=top)
    if as_json:
        records = [{"file": h.path, "score": round(h.score, 4)} for h in hits]
        typer.echo(json.dumps(records, ensure_ascii=False, indent=1))
        return
    for h in hits:
        typer.echo(f"{h.score:+.3f}  {h.path}")


@app.command()
def shards(
    out: Annotated[Path, typer.Argument(help="Folder of shards to write, or to verify.")],
    manifest: Annotated[Path | None, typer.Option(help="Rows as JSON Lines.")] = None,
    corpus: Annotated[str | None, typer.Option(help="A corpus by name, or the path of its .py file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpus in its official layout.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check shards: truncation, decoding, keys.")] = False,
    audio_format: Annotated[str, typer.Option("--format", help="flac, opus, ogg or wav.")] = "flac",
    sample_rate: Annotated[int, typer.Option(help="Hz.")] = 16000,
    samples: Annotated[int, typer.Option(help="Clips a shard.")] = 512,
    max_seconds: Annotated[float | None, typer.Option(help="Cut longer clips into equal parts.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave out what cannot be read.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Write webdataset shards from a manifest or a corpus (resumable), or verify them."""
    from clara.data.manifest import read_manifest, rows_from_corpus
    from clara.data.shards import ShardConfig, verify_shards, write_shards

    if verify:
        problems = verify_shards(out)
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{len(problems)} problems in {out}")
        raise typer.Exit(1 if problems else 0)
    if (manifest is None) == (corpus is None) or (corpus is None) != (data is None):
        raise ClaraError("Give --manifest ROWS.jsonl, or --corpus NAME with --data FOLDER, or --verify.")
    rows = read_manifest(manifest) if manifest is not None else rows_from_corpus(corpus, data)
    on_error = "skip" if skip_broken else "raise"
    index = write_shards(rows, out, ShardConfig(samples, audio_format, sample_rate, workers, max_seconds, on_error))
    typer.echo(f"{out / 'index.json'}: {index['count']} clips, {index['hours']:.2f} h, {len(index['shards'])} shards")


@app.command()
def train(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train by a recipe; the same call goes on from where an earlier one stopped."""
    from clara.train.trainer import train as run

    typer.echo(f"dir:{run(_recipe('train', recipe), settings)}")


@app.command()
def align(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train the text side alone: translations of one meaning become neighbours."""
    from clara.train.align import align as run

    typer.echo(f"dir:{run(_recipe('train', recipe), settings)}")


@app.command()
def finetune(
    csv: Annotated[Path, typer.Argument(help="Table of clips: column audio, and text, label or emotion.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("runs/finetune"),
    model: Model = DEFAULT_MODEL,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Fine-tune a checkpoint on a table of clips."""
    from clara.train.finetune import finetune as run

    typer.echo(f"dir:{run(csv, model, out, settings)}")


@app.command("eval")
def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")],
    data: Annotated[Path, typer.Option(help="Folder of the corpora.")],
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("results"),
    settings: Settings = [],  # noqa: B006
) -> None:
    """Evaluate a checkpoint by a recipe; results are JSON with the command, the hash and the prompts."""
    path = _recipe("eval", recipe)
    from clara.eval.runner import run

    run(path, model, data, out, settings)


@app.command()
def demo(
    files: Annotated[list[str] | None, typer.Argument(help="Your own audio, beside what the demo makes.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sounds and the picture.")] = Path("demo_out"),
    model: Model = DEFAULT_MODEL,
) -> None:
    """Name, search and picture sounds that it makes itself, and FILES."""
    from clara.apps.demo import run

    run(files or [], out, model)


def _load(model: str, device: str | None) -> Embedder:
    from clara.zoo.embedder import load

    return load(model, device)


def _expand(sources: Sequence[str]) -> list[Any]:
    from clara.zoo.embedder import expand

    return expand(sources)


def _recipe(kind: str, name: str) -> Path:
    """A recipe's file: the path given, or the one of that name that travels with the package."""
    if Path(name).is_file():
        return Path(name)
    known = {p.stem: p for p in sorted((RECIPES / kind).glob("*.yaml"))}
    if name not in known:
        raise unknown(f"{kind} recipe (no such file either)", name, known)
    return known[name]


if __name__ == "__main__":
    main()
