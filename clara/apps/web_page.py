"""The page of a server, in Gradio: name a recording, find moments in it, search the index with players."""

from __future__ import annotations

from typing import Any

import numpy as np

from clara.apps.server import Service
from clara.audio import waveform
from clara.errors import ClaraError, require

PATH = "/ui"
PLAYERS = 6  # hits that are shown with a player
PLAYED = 30.0  # seconds of a hit that can be heard


def mount(app: Any) -> Any:
    """Put the page of an application that `clara.apps.server.create_app` made at /ui, and lead / there."""
    gradio = require("gradio", "serve")
    from fastapi.responses import RedirectResponse

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse(PATH)

    return gradio.mount_gradio_app(app, build_page(app.state.service), path=PATH)


def build_page(service: Service) -> Any:
    """The page itself, a gradio.Blocks."""
    gradio = require("gradio", "serve")
    page = Page(service)
    with gradio.Blocks(title="CLARA", analytics_enabled=False) as blocks:
        gradio.Markdown(f"# CLARA\n{service.zoo.name}: record or drop a clip, write in any language.")
        with gradio.Tab("Name"):
            clip = gradio.Audio(type="filepath", label="Recording")
            labels = gradio.Textbox("a dog barks, Regen, une sirène, 拍手", label="Labels, between commas")
            gradio.Button("Name it", variant="primary").click(
                page.name, [clip, labels], gradio.Label(), api_name="name"
            )
        with gradio.Tab("Find"):
            clip = gradio.Audio(type="filepath", label="Recording")
            texts = gradio.Textbox("a siren, ein Hund bellt", label="What to listen for, between commas")
            threshold = gradio.Slider(0.01, 1, 0.6, label="Score at which an event begins")
            shown = [gradio.Plot(label="Timeline"), gradio.Dataframe(headers=["start", "end", "score", "text"])]
            gradio.Button("Find it", variant="primary").click(
                page.find, [clip, texts, threshold], shown, api_name="find"
            )
        if service.index is not None:
            with gradio.Tab("Search"):
                text = gradio.Textbox("", label="What to look for")
                clip = gradio.Audio(type="filepath", label="And, or instead: a recording that it sounds like")
                weight = gradio.Slider(0, 1, 0.5, label="The text's share")
                unlike = gradio.Textbox("", label="Not like, between commas")
                button = gradio.Button("Search", variant="primary")
                players = [gradio.Audio(visible=False, interactive=False) for _ in range(PLAYERS)]
                button.click(page.search, [text, clip, weight, unlike], players, api_name="search")
    return blocks


class Page:
    """What the buttons do. Errors of ours are shown as they are written."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.gradio = require("gradio", "serve")

    def _done(self, future: Any) -> Any:
        return future.result(self.service.config.timeout)

    def _wave(self, clip: str | None) -> np.ndarray:
        if not clip:
            raise ClaraError("Record or drop a clip first.")
        return self.service.read(clip)

    def name(self, clip: str | None, labels: str) -> dict[str, float]:
        """Scores by label."""
        try:
            chosen = tuple(_listed(labels))
            embedding_D = self._done(self.service.batcher.embed(self._wave(clip)))
            named = self._done(
                self.service.batcher.run(lambda: self.service.named(embedding_D, chosen, None, "en", 20))
            )
        except ClaraError as e:
            raise self.gradio.Error(str(e)) from e
        return {s["name"]: s["score"] for s in named["top"]}

    def find(self, clip: str | None, texts: str, threshold: float) -> tuple[Any, list[list[Any]]]:
        """The timeline's picture, and a row for each event."""
        from clara.report.drawing import timeline

        try:
            wave, wanted = self._wave(clip), _listed(texts)
            line = self._done(self.service.batcher.run(lambda: self.service.timeline(wave, wanted, threshold)))
        except ClaraError as e:
            raise self.gradio.Error(str(e)) from e
        return timeline(line), [[e.start, e.end, round(e.score, 3), e.text] for e in line.events()]

    def search(self, text: str, clip: str | None, weight: float, unlike: str) -> list[Any]:
        """A player for each hit, which plays the window that was found."""
        try:
            wave = self.service.read(clip) if clip else None
            asked = (text, wave, _listed(unlike), weight, PLAYERS, None)
            hits = self._done(self.service.batcher.run(lambda: self.service.hits(*asked)))
        except ClaraError as e:
            raise self.gradio.Error(str(e)) from e
        rate, players = 24000, []
        for hit in hits:
            start, end = hit.start or 0.0, hit.end
            heard = waveform.read(hit.path, rate, start=start, seconds=min(PLAYED, end - start) if end else PLAYED)
            fits = " (does not fit)" if hits.fits(hit) is False else ""
            label = f"{hit.score:+.3f}  {hit.path}  {start:.1f} s{fits}"
            value = (rate, (heard.clip(-1, 1) * 32767).astype(np.int16))
            players.append(self.gradio.Audio(value=value, label=label, visible=True))
        return players + [self.gradio.Audio(value=None, visible=False)] * (PLAYERS - len(players))


def _listed(line: str) -> list[str]:
    return [part.strip() for part in line.split(",") if part.strip()]
