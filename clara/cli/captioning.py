"""Verbs about captions, and speech made for them: captions acoustic, rewrite, scenes, visual; speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import SkipBroken, Verbs, app, check_paths
from clara.errors import ClaraError
from clara.text.prompts import language_code

captions = typer.Typer(cls=Verbs, no_args_is_help=True, help="Make captions: of voices, of pictures, of captions.")
app.add_typer(captions, name="captions")

Workers = Annotated[int, typer.Option(min=1, help="Processes.")]


@captions.command()
def acoustic(
    source: Annotated[Path, typer.Argument(help="Manifest (.jsonl) or folder of shards.")],
    out: Annotated[Path, typer.Argument(help="The same again, with captions of how each voice sounds.")],
    outer: Annotated[float, typer.Option(help="Share of clips at each end of a measure that may get a word.")] = 0.2,
    least_clips: Annotated[int, typer.Option(help="A speaker or corpus with fewer says nothing.")] = 20,
    workers: Workers = 1,
) -> None:
    """Measure voices and say which are clearly high, low, loud, quiet, fast, slow … (resumable)."""
    check_paths(source)
    from clara.data.acoustics import AcousticConfig, annotate

    counts = annotate(source, out, AcousticConfig(outer, least_clips, workers))
    said = ", ".join(f"{word} {n}" for word, n in counts.items() if word != "clips")
    typer.echo(f"{out}: {counts['clips']} voices; {said or 'no word for any'}")


@captions.command()
def rewrite(
    source: Annotated[Path, typer.Argument(help="Manifest (.jsonl) or folder of shards.")],
    out: Annotated[Path, typer.Argument(help="The same again, with text_augmented.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A text-to-text model: folder, or name on the hub.")],
    prompt: Annotated[str, typer.Option(help="What it is asked.")] = "{keywords}",
    number: Annotated[int, typer.Option("--captions", min=1, help="Captions per clip.")] = 1,
    longest: Annotated[int, typer.Option(min=1, help="Tokens of a caption.")] = 48,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 16,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
) -> None:
    """Write captions from each clip's keywords by a text-to-text model of transformers (resumable)."""
    check_paths(source)
    from clara.data.rewrite import RewriteConfig
    from clara.data.rewrite import rewrite as run

    counts = run(source, out, RewriteConfig(model, prompt, number, longest, batch_size, device))
    typer.echo(f"{out}: {counts['captions']} captions for {counts['clips']} clips")


@captions.command()
def scenes(
    events: Annotated[Path, typer.Argument(help="JSON Lines of captions and their events.", show_default=False)],
    shards: Annotated[Path, typer.Argument(help="Folder of shards with clips of such events.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of shards to write.", show_default=False)],
    split: Annotated[list[str], typer.Option(help="Of the clips: train, esc50:train …; may be repeated.")] = ["train"],  # noqa: B006
    without: Annotated[list[str], typer.Option(help="A corpus to take no clip of; may be repeated.")] = [],  # noqa: B006
    counts: Annotated[str, typer.Option(help="At most so many scenes with one event, two …: 400,2600,1000.")] = "",
    most_events: Annotated[int, typer.Option(min=1, help="Captions with more events are left out.")] = 4,
    seconds: Annotated[tuple[float, float], typer.Option(help="Of the shortest and of the longest scene.")] = (5, 10),
    seed: Annotated[int, typer.Option(help="Of clips, levels and lengths.")] = 0,
    workers: Workers = 1,
) -> None:
    """Mix clips into scenes that captions tell of, event by event, as shards (resumable)."""
    if not all(n.strip().isdecimal() for n in counts.split(",") if counts):
        raise ClaraError(f"--counts {counts!r}: expected numbers separated by commas, such as 400,2600,1000.")
    check_paths(events, shards)
    from clara.data.scenes import SceneConfig, mix_scenes
    from clara.data.shards import ShardConfig

    config = SceneConfig(
        splits=tuple(split),
        exclude_corpora=tuple(without),
        seconds=seconds,
        most_events=most_events,
        counts=tuple(int(n) for n in counts.split(",") if counts),
        seed=seed,
        audio=ShardConfig(256, workers=workers),
    )
    made = mix_scenes(events, shards, out, config)
    typer.echo(f"{out / 'index.json'}: {made['scenes']} scenes, {made['hours']:.2f} h")
    for what, found in (("facts", made["facts"]), ("captions left out for want of a clip", made["lacking"])):
        if found:
            typer.echo(f"{what}: {', '.join(f'{name} {n}' for name, n in found.most_common())}")


@app.command()
def speak(
    out: Annotated[Path, typer.Argument(help="Folder of the clips and of manifest.jsonl.")],
    language: Annotated[list[str], typer.Option(help="May be repeated. Default: all that have a voice.")] = [],  # noqa: B006
    kind: Annotated[list[str], typer.Option(help="words, labels or sentences; may be repeated.")] = ["words"],  # noqa: B006
    only: Annotated[str | None, typer.Option(help="Words wanted, by key, separated by commas.")] = None,
    takes: Annotated[int, typer.Option(min=1, help="Clips of each text, each in another voice.")] = 8,
    seed: Annotated[int, typer.Option(help="Of voices, rates and pitches.")] = 0,
    workers: Workers = 1,
) -> None:
    """Speak words and sentences of languages with espeak-ng, as a manifest for `clara shards` (resumable)."""
    for name in language:
        language_code(name)
    from clara.data.synth_speech import SpeechConfig, summary, synthesise

    keys = tuple(k.strip() for k in only.split(",")) if only else ()
    config = SpeechConfig(tuple(language), tuple(kind), keys, takes, seed=seed, workers=workers)
    made = synthesise(out, config)
    typer.echo(f"{out / 'manifest.jsonl'}: {made['clips']} clips, {made['seconds'] / 60:.1f} min")
    if made["skipped"]:
        typer.echo(f"texts that its voices cannot read: {summary(made['skipped'])}")


@captions.command()
def visual(
    videos: Annotated[list[Path], typer.Argument(help="Video files.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of shards: one a video.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A CoCa of open_clip, hf-hub:org/repo or local-dir:path.")
    ] = "coca_ViT-L-14",
    pretrained: Annotated[str, typer.Option(help="Tag, or file of weights.")] = "mscoco_finetuned_laion2b_s13b_b90k",
    frames: Annotated[int, typer.Option(min=1, help="Pictures of a scene that are captioned.")] = 1,
    change: Annotated[float, typer.Option(help="Mean difference of two pictures that is a cut, 0 to 1.")] = 0.12,
    least_seconds: Annotated[float, typer.Option(help="Shorter scenes join the one before.")] = 2.0,
    most_seconds: Annotated[float, typer.Option(help="Longer scenes are cut into equal parts.")] = 10.0,
    skip_broken: SkipBroken = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps.")] = "cpu",
    workers: Workers = 1,
) -> None:
    """Caption what videos show, scene by scene, with the sound of the same span, as shards (resumable)."""
    check_paths(*videos)
    from clara.data.captioner import CocaConfig
    from clara.data.video import VideoConfig, caption_videos

    config = VideoConfig(
        CocaConfig(model, pretrained, device=device),
        change=change,
        least_seconds=least_seconds,
        most_seconds=most_seconds,
        frames=frames,
        workers=workers,
    )
    index = caption_videos(videos, out, config, "skip" if skip_broken else "raise")
    skipped = [s for e in index["shards"] for s in e["skipped"]]
    for s in skipped:
        typer.echo(f"{s['audio']}: {s['why']}", err=True)
    typer.echo(f"{out / 'index.json'}: {index['count']} scenes, {index['hours']:.2f} h, {len(skipped)} videos left out")
