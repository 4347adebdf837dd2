"""Zero-shot classification: labels are texts, in any of the model's languages; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clara.apps.search import embedder, vectors
from clara.calibration import offsets
from clara.errors import ClaraError
from clara.text.prompts import label_texts, language_code
from clara.text.tokenizer import Tokenizer
from clara.zoo.embedder import Embedder


@dataclass(frozen=True)
class Prediction:
    """`label` is the best label and `scores` the softmax over all labels, best first. With a task, labels are its keys
    (the same in every language) and `name` is the best one's name in the classifier's language. `calibrated` tells that
    the scores were set right by unlabelled clips (`Classifier.calibrate`)."""

    label: str
    name: str
    scores: dict[str, float] = field(repr=False)
    calibrated: bool = False

    @property
    def score(self) -> float:
        """The best label's share of the softmax."""
        return self.scores[self.label]

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k best labels with their scores."""
        return list(self.scores.items())[:k]


class Classifier:
    """Names clips by the nearest label text.

    Args:
        zoo: the embedder (`clara.load(name)`).
        labels: the user's own label texts, in any language; or, with `task`, some of that task's keys (default: all).
        task: a task of the language files: emotion, sound, instrument, word, language, speaker, arousal, voice.
        language: of the label names and templates of a `task`: a code, a tag or a name ("de", "de-AT", "German",
            "Deutsch"). Own labels are used as they are.
        templates: texts with {} where the label goes (with a task also {adj}, {noun}, {adv}); default: the
            language's own for a task, the bare label otherwise. Their embeddings are averaged: one unit vector a label.

    Raises:
        ClaraError: neither labels nor task, fewer than two labels, equal or empty ones, a template without a slot, an
            unknown task, label or language.
    """

    def __init__(
        self,
        zoo: Embedder,
        labels: Sequence[str] | None = None,
        task: str | None = None,
        language: str = "en",
        templates: Sequence[str] | None = None,
    ) -> None:
        embedder(zoo)
        self.labels, self.names, self.prompts = label_texts(labels, task, language, templates)
        self.zoo, self.task, self.language = zoo, task, language_code(language)
        _check_distinct(self.labels, self.prompts, zoo.tokenizer)
        self.label_KD = self._embed_labels()
        self.bias_K: Tensor | None = None

    def __call__(
        self,
        sources: Any,
        batch_size: int = 16,
        progress: bool = False,
        window: float | None = None,
        hop: float | None = None,
    ) -> list[Prediction]:
        """One prediction a source (paths, encoded bytes, (array, rate), folders), in order. `window` and `hop` as of
        `Embedder.embed_audio`; the embeddings of windows are averaged, `windows` names each by itself."""
        return self.predict(self.zoo.embed_audio(sources, batch_size, progress, window=window, hop=hop))

    def predict(self, audio_BD: Tensor) -> list[Prediction]:
        """Predictions for embeddings that exist already."""
        return [self._prediction(p_K) for p_K in self.probabilities(audio_BD)]

    def probabilities(self, audio_BD: Tensor) -> Tensor:
        """Softmax over the labels of scale × cosine (less the calibration): (B, K) in the order of `labels`.

        Raises:
            ClaraError: no embeddings (B, D) of this model's width.
        """
        return self._logits(audio_BD).softmax(-1)

    def windows(
        self, source: Any, batch_size: int = 16, window: float | None = None, hop: float | None = None
    ) -> list[tuple[float, float, Prediction]]:
        """(start, end in seconds, prediction) for every window of one long recording; `window` and `hop` as of
        `Embedder.embed_audio`."""
        times_W2, audio_WD = self.zoo.embed_windows(source, batch_size, window, hop)
        return [(start, end, p) for (start, end), p in zip(times_W2.tolist(), self.predict(audio_WD))]

    def calibrate(self, sources: Any, method: str = "auto", batch_size: int = 16) -> Classifier:
        """Take away, from now on, what these unlabelled clips share with a label; returns self.

        Rooms, microphones and corpora shift all scores. Give as many clips of one kind as there are, 50 or more; they
        may be those to be classified. Predictions say so in `calibrated`; report both figures.

        Args:
            sources: paths, folders, encoded bytes or (array, rate).
            method: "mean" subtracts each label's mean score, and needs clips in which the labels are about equally
                frequent. "prior" is for folders in which some are much more frequent: it subtracts less and prefers
                the frequent labels. "auto" estimates which of the two a folder is. With fewer than 50 clips of unknown
                balance, or nearly all of one label, uncalibrated predictions are the safer ones.

        Raises:
            ClaraError: fewer than two clips, or an unknown method.
        """
        return self.calibrate_embeddings(self.zoo.embed_audio(sources, batch_size), method)

    def calibrate_embeddings(self, audio_BD: Tensor, method: str = "auto") -> Classifier:
        """`calibrate` on embeddings that exist already."""
        if len(vectors(audio_BD, self.label_KD.shape[1])) < 2:
            raise ClaraError(f"Got {len(audio_BD)} clips to calibrate on: expected many, at least two.")
        self.bias_K = offsets(self._scores(audio_BD), method)
        return self

    def _logits(self, audio_BD: Tensor) -> Tensor:
        scores_BK = self._scores(audio_BD)
        return scores_BK if self.bias_K is None else scores_BK - self.bias_K

    def _scores(self, audio_BD: Tensor) -> Tensor:
        return self.zoo.scale * vectors(audio_BD, self.label_KD.shape[1]) @ self.label_KD.T

    def _embed_labels(self) -> Tensor:
        """The mean of each label's unit prompt vectors, of unit length again (Radford et al. 2021, sec. 3.1.4)."""
        flat = [text for texts in self.prompts for text in texts]
        parts = self.zoo.embed_text(flat).split([len(texts) for texts in self.prompts])
        return normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)

    def _prediction(self, p_K: Tensor) -> Prediction:
        order = p_K.argsort(descending=True, stable=True).tolist()
        scores = {self.labels[i]: float(p_K[i]) for i in order}
        best = self.labels[order[0]]
        return Prediction(best, self.names[best], scores, self.bias_K is not None)


def _check_distinct(labels: Sequence[str], prompts: Sequence[Sequence[str]], tokenizer: Tokenizer) -> None:
    """Labels are told apart by their ids: letter case, width or what follows the model's context may not count."""
    seen: dict[str, str] = {}
    for label, texts in zip(labels, prompts):
        key = str(tokenizer.token_ids(texts))
        if key in seen:
            raise ClaraError(
                f"labels hold {seen[key]!r} and {label!r}, which are the same to the model: leave one out, or write "
                f"what tells them apart into their first {tokenizer.context_length} tokens."
            )
        seen[key] = label
