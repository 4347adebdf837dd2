"""What a classifier says of clips, one by one and as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clara.audio.sources import describe
from clara.errors import MissingDependency
from clara.report import notebook

if TYPE_CHECKING:
    import pandas

NONE = "none of these"  # the name of a prediction without a label
COLUMNS = ("source", "label", "name", "score")


@dataclass(frozen=True, repr=False)
class Prediction:
    """`label` is the best label, None where none reaches the classifier's `min_score`, and `scores` those of all
    labels, best first: a softmax, or each label's own probability where the classifier is `independent`. With a task,
    labels are its keys (the same in every language) and `name` is the best one's name in the classifier's language.
    `labels` are all that reach `min_score`, of a softmax the best one alone. `calibrated` tells that the scores were
    set right by unlabelled clips (`Classifier.calibrate`). `source` is the clip as it was given, None where only its
    embedding was."""

    label: str | None
    name: str
    scores: dict[str, float]
    calibrated: bool = False
    labels: tuple[str, ...] = ()
    source: Any = field(default=None, compare=False)  # arrays have no one truth to compare by

    @property
    def score(self) -> float:
        """The best label's score, whether it reaches `min_score` or not."""
        return next(iter(self.scores.values()))

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k best labels with their scores."""
        return list(self.scores.items())[:k]

    def __repr__(self) -> str:
        told = f"label={self.label!r}, name={self.name!r}, score={self.score:.3f}"
        told += ", calibrated=True" if self.calibrated else ""
        return f"Prediction({told}{'' if self.source is None else f', source={describe(self.source)!r}'})"

    def _repr_html_(self) -> str:
        return Predictions([self])._repr_html_()


class Predictions(list[Prediction]):
    """A list of predictions that notebooks show with players."""

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each, with the columns source (its path or description), label, name and score.

        Raises:
            MissingDependency: pandas is not installed.
        """
        return to_pandas(COLUMNS, [_cells(p) for p in self])

    def _repr_html_(self) -> str:
        heard = [notebook.player(p.source) for p in self[: notebook.MOST_PLAYERS] if p.source is not None]
        return notebook.table(COLUMNS, [_cells(p) for p in self], heard)


def to_pandas(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> pandas.DataFrame:
    """A DataFrame of rows. MissingDependency where pandas is not installed."""
    try:
        import pandas
    except ImportError as e:
        raise MissingDependency(f"to_pandas needs pandas ({e}): pip install 'clara[tables]'.") from e
    return pandas.DataFrame(rows, columns=list(columns))


def _cells(p: Prediction) -> tuple[Any, ...]:
    return (None if p.source is None else describe(p.source), p.label, p.name, p.score)
