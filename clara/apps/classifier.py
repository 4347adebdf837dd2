"""Classification: labels are texts, in any of the model's languages; nothing is trained, or a linear map of embeddings
on a few labelled clips (`Classifier.fit`)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clara.apps import fitting
from clara.apps.predictions import NONE, Prediction, Predictions
from clara.apps.query import embedder
from clara.apps.search import vectors
from clara.audio.sources import expand
from clara.calibration import offsets
from clara.config import build
from clara.data.clip_tables import TABLE, read_rows
from clara.errors import ClaraError, unknown
from clara.layers import mean_directions
from clara.parsing import parse_json
from clara.saving import safetensors_file, whole_file
from clara.text.prompts import label_texts, language_code
from clara.text.tokenizer import Tokenizer
from clara.zoo.background import background_of
from clara.zoo.embedder import Embedder
from clara.zoo.loading import load

FORMAT = "clara-classifier 1"  # of the files that `Classifier.save` writes


class Classifier:
    """Names clips by the nearest label text.

    Args:
        zoo: the embedder (`clara.load(name)`).
        labels: the user's own label texts, in any language; or, with `task`, some of that task's keys (default: all).
        task: a task of the language files: emotion, sound, instrument, word, language, speaker, arousal, voice.
        language: of the label names and templates of a `task`: a code, a tag or a name ("de", "de-AT", "German",
            "Deutsch"). Own labels are used as they are.
        templates: texts with {} where the label goes (with a task also {adj}, {noun}, {adv}); default: the
            language's own for a task, the bare label otherwise. Each label's embeddings are averaged to a unit vector.
        independent: each label gets its own probability of being heard, calibrated by the checkpoint's background
            (`clara/zoo/background.py`): several may be heard, or none, and there may be one label alone. By default
            labels share 1 between them, so that one of them always wins.

    `min_score` may be set at any time: the score below which a label is not given, at first 0.5 for independent scores,
    else 0.

    Raises:
        ClaraError: neither labels nor task, fewer than two labels, equal or empty ones, a template without a slot, an
            unknown task, label or language; `independent` with a checkpoint that has no background.
    """

    def __init__(
        self,
        zoo: Embedder,
        labels: Sequence[str] | None = None,
        task: str | None = None,
        language: str = "en",
        templates: Sequence[str] | None = None,
        independent: bool = False,
    ) -> None:
        embedder(zoo)
        self.labels, self.names, self.prompts = label_texts(labels, task, language, templates, 1 if independent else 2)
        self.zoo, self.task, self.language = zoo, task, language_code(language)
        _check_distinct(self.labels, self.prompts, zoo.tokenizer)
        self.label_KD = self._embed_labels()
        self.bias_K: Tensor | None = None
        self.fitted: fitting.Fit | None = None
        self.background = background_of(zoo.name, zoo.sha256)
        self.independent, self.min_score = independent, 0.5 if independent else 0.0
        if independent and self.background is None:
            raise ClaraError(
                f"independent=True: {zoo.name} has no background to calibrate scores by. Use clara-base.v1, or measure "
                "one for your checkpoint's folder: python recipes/background.py."
            )

    def __call__(
        self,
        sources: Any,
        batch_size: int = 16,
        progress: bool = False,
        window: float | None = None,
        hop: float | None = None,
    ) -> Predictions:
        """One prediction a source (paths, encoded bytes, (array, rate), folders), in order. `window` and `hop` as of
        `Embedder.embed_audio`; the embeddings of windows are averaged, `windows` names each by itself."""
        items = expand(sources)
        audio_BD = self.zoo.embed_audio(items, batch_size, progress, window=window, hop=hop)
        return self.predict(audio_BD, items)

    def predict(self, audio_BD: Tensor, sources: Sequence[Any] | None = None) -> Predictions:
        """Predictions for embeddings that exist already; `sources`, what each is of, come back with them. ClaraError
        where there are not as many of them."""
        found = [self._prediction(p_K) for p_K in self.probabilities(audio_BD)]
        if sources is None:
            return Predictions(found)
        if len(sources) != len(found):
            raise ClaraError(f"Got {len(found)} embeddings and {len(sources)} sources: expected one for each.")
        return Predictions(dataclasses.replace(p, source=source) for p, source in zip(found, sources))

    def probabilities(self, audio_BD: Tensor) -> Tensor:
        """(B, K) in the order of `labels`: the softmax over them of scale × cosine (divided by the temperature of the
        checkpoint's background, where it has one), or of what was fitted, less the calibration; or independent
        probabilities.

        Raises:
            ClaraError: no embeddings (B, D) of this model's width.
        """
        if self.independent and self.background is not None:
            return self.background.probabilities(vectors(audio_BD, self.label_KD.shape[1]), self.label_KD)
        return self._logits(audio_BD).softmax(-1)

    def windows(
        self, source: Any, batch_size: int = 16, window: float | None = None, hop: float | None = None
    ) -> list[tuple[float, float, Prediction]]:
        """(start, end in seconds, prediction) for every window of one long recording; `window` and `hop` as of
        `Embedder.embed_audio`."""
        times_W2, audio_WD = self.zoo.embed_windows(source, batch_size, window, hop)
        found = self.predict(audio_WD, [source] * len(audio_WD))
        return [(start, end, p) for (start, end), p in zip(times_W2.tolist(), found)]

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
        self._check_shares("calibrate")
        if len(vectors(audio_BD, self.label_KD.shape[1])) < 2:
            raise ClaraError(f"Got {len(audio_BD)} clips to calibrate on: expected many, at least two.")
        self.bias_K = offsets(self._scores(audio_BD), method)
        return self

    def fit(
        self,
        sources: Any,
        labels: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        held: Sequence[bool] | None = None,
        batch_size: int = 16,
        progress: bool = False,
    ) -> Classifier:
        """Learn from a few labelled clips what the labels' texts do not say; returns self.

        A logistic regression over the frozen embeddings, pulled towards the texts: five clips per label often suffice,
        one is a start. `self.fitted.held_out` tells how it does on clips it was not fitted on. Fitting anew starts
        afresh, and takes back `calibrate`.

        Args:
            sources: paths, encoded bytes or (array, rate), one for each of `labels`; or, without `labels`, a table of
                clips as of `clara.data.clip_tables.read_rows`, whose columns `speaker` and `split` are `groups` and
                `held` where these are not given.
            labels: of this classifier's `labels`, each at least once.
            groups: what clips share that must not stand on both sides when they are judged, such as their speaker.
            held: which clips are to be judged on alone; default: each in its turn.

        Raises:
            ClaraError: as many labels as clips are not there, an unknown label, or one without a clip.
        """
        if labels is not None:
            return self.fit_embeddings(self.zoo.embed_audio(sources, batch_size, progress), labels, groups, held)
        with TemporaryDirectory() as folder:  # for audio that is in no file
            rows = read_rows(sources, Path(folder))
            audio_ND = self.zoo.embed_audio([row.audio for row in rows], batch_size, progress)
        names, _ = fitting.labels_of_rows(rows, str(TABLE))
        labels = [row.label if row.label in self.names else name for row, name in zip(rows, names)]
        groups = [row.speaker or row.audio for row in rows] if groups is None else groups
        held = [row.split != "train" for row in rows] if held is None else held
        return self.fit_embeddings(audio_ND, labels, groups, held)

    def fit_embeddings(
        self,
        audio_ND: Tensor,
        labels: Sequence[str],
        groups: Sequence[str] | None = None,
        held: Sequence[bool] | None = None,
    ) -> Classifier:
        """`fit` on embeddings that exist already."""
        self._check_shares("fit")
        audio_ND = vectors(audio_ND, self.label_KD.shape[1])
        for name, given in (("labels", labels), ("groups", groups), ("held", held)):
            if given is not None and len(given) != len(audio_ND):
                raise ClaraError(f"Got {len(audio_ND)} clips and {len(given)} {name}: expected one for each clip.")
        if strange := next((x for x in labels if x not in self.names), None):
            raise unknown("label", strange, self.labels)
        taught = {x for x, out in zip(labels, held if held is not None else [False] * len(labels)) if not out}
        if missing := [x for x in self.labels if x not in taught]:
            raise ClaraError(f"No clip to learn {missing[0]!r} from: expected at least one for each label.")
        truth = [self.labels.index(x) for x in labels]
        self.fitted = fitting.fit(audio_ND, truth, self.zoo.scale * self.label_KD, groups, held)
        self.bias_K = None
        return self

    def save(self, path: str | Path) -> Path:
        """Write what `fit` learned as PATH.safetensors, with the name and hash of the checkpoint that it goes with;
        returns it. ClaraError where nothing was fitted."""
        if self.fitted is None:
            raise ClaraError("Nothing was fitted: a classifier by texts is its checkpoint and its labels alone.")
        about = {
            "format": FORMAT,
            "model": self.zoo.name,
            "sha256": self.zoo.sha256,
            "labels": [{"label": k, "name": self.names[k], "prompts": p} for k, p in zip(self.labels, self.prompts)],
            "task": self.task,
            "language": self.language,
            "clips": self.fitted.clips,
            "strength": self.fitted.strength,
            "held_out": self.fitted.held_out and dataclasses.asdict(self.fitted.held_out),
        }
        tensors = {"weight": self.fitted.weight_KD, "bias": self.fitted.bias_K, "texts": self.label_KD}
        file = safetensors_file(path)
        with whole_file(file) as part:
            save_file(tensors, part, {"about": json.dumps(about, ensure_ascii=False)})
        return file

    @classmethod
    def load(
        cls,
        path: str | Path,
        zoo: Embedder | None = None,
        device: str | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Classifier:
        """Read what `save` wrote. `zoo`: its checkpoint, where that is loaded already, or is found by another name now;
        else it is loaded with `device`, `window` and `hop` as of `clara.load`.

        Raises:
            ClaraError: a file that is missing, damaged or something else, or a checkpoint of other weights.
        """
        file = safetensors_file(path)
        if not file.is_file():
            raise ClaraError(f"No fitted classifier at {path}: {file} is missing.")
        try:
            with safe_open(file, "pt") as tensors:
                about = dict(parse_json((tensors.metadata() or {}).get("about", "{}")))
                if about.get("format") != FORMAT:
                    raise ValueError(f"not a fitted classifier, {FORMAT}, as Classifier.save writes it")
                weight_KD, bias_K, text_KD = (tensors.get_tensor(n) for n in ("weight", "bias", "texts"))
            own = [(x["label"], x["name"], x["prompts"]) for x in about["labels"]]
            held = about["held_out"] and build(fitting.HeldOut, about["held_out"], file.name)
            fitted = fitting.Fit(weight_KD, bias_K, about["clips"], tuple(about["strength"]), held)
        except (SafetensorError, KeyError, TypeError, ValueError) as e:
            raise ClaraError(f"The classifier at {file} is damaged ({e}): fit it again.") from e
        zoo = zoo or load(about["model"], device, window=window, hop=hop)
        if embedder(zoo).sha256 != about["sha256"]:
            raise ClaraError(
                f"{file} was fitted on {about['model']} (weights {about['sha256'][:12]}), and {zoo.name} has "
                f"{zoo.sha256[:12]}: fit it again, or load that model."
            )
        found = cls.__new__(cls)
        found.labels, found.names = [k for k, _, _ in own], {k: name for k, name, _ in own}
        found.prompts, found.zoo = [p for _, _, p in own], zoo
        found.task, found.language = about["task"], about["language"]
        found.label_KD, found.bias_K, found.fitted = text_KD, None, fitted
        found.background, found.independent, found.min_score = None, False, 0.0
        return found

    def _logits(self, audio_BD: Tensor) -> Tensor:
        scores_BK = self._scores(audio_BD)
        return scores_BK if self.bias_K is None else scores_BK - self.bias_K

    def _check_shares(self, verb: str) -> None:
        if self.independent:
            raise ClaraError(f"{verb} compares labels with each other: make the classifier without independent=True.")

    def _scores(self, audio_BD: Tensor) -> Tensor:
        audio_BD = vectors(audio_BD, self.label_KD.shape[1])
        if self.fitted is not None:
            return self.fitted(audio_BD)
        cool = 1.0 if self.background is None else self.background.constants.temperature
        return self.zoo.scale / cool * audio_BD @ self.label_KD.T

    def _embed_labels(self) -> Tensor:
        """The mean of each label's unit prompt vectors, of unit length again (Radford et al. 2021, sec. 3.1.4)."""
        flat = [text for texts in self.prompts for text in texts]
        return mean_directions(self.zoo.embed_text(flat), [len(texts) for texts in self.prompts])

    def _prediction(self, p_K: Tensor) -> Prediction:
        order = p_K.argsort(descending=True, stable=True).tolist()
        scores = {self.labels[i]: float(p_K[i]) for i in order}
        heard = tuple(label for label, score in scores.items() if score >= self.min_score)
        best = heard[0] if heard else None
        name = self.names[best] if best is not None else NONE
        shown = heard if self.independent else heard[:1]
        return Prediction(best, name, scores, self.bias_K is not None, shown)


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
