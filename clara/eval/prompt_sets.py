"""Prompts for emotions as others publish them, by name; figures of one checkpoint move by ten points with them.

A set has the words its authors print, in their template. Where they have none for a label, the word in `added` is ours
in their form, and a result says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clara.errors import unknown


@dataclass(frozen=True)
class PromptSet:
    """`words`: label -> what fills the template, as published; `added`: ours; `corpora`: corpus -> its own template and
    words, where the authors change them."""

    source: str
    template: str
    words: Mapping[str, str]
    added: Mapping[str, str]
    corpora: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)

    def prompts(self, labels: Sequence[str], corpus: str = "") -> tuple[list[list[str]], list[str]]:
        """One prompt per label, and the labels whose word is ours."""
        template, own = self.corpora.get(corpus, (self.template, {}))
        words = {**self.words, **own}
        for label in labels:
            if label not in words and label not in self.added:
                raise unknown("emotion without a word in this prompt set", label, [*words, *self.added])
        texts = [[template.replace("{}", words.get(label) or self.added[label])] for label in labels]
        return texts, [label for label in labels if label not in words]


CLARA = "a person talking in a {} voice"
FEELING = "this person is feeling {}"
ADJECTIVES = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}

SETS = {
    "clara": PromptSet(
        "knoriy/CLARA, config/classification/emotion",
        CLARA,
        {**ADJECTIVES, "disgust": "disgusted", "surprise": "surprised", "calm": "calm"},
        {"boredom": "bored"},
        {
            "ravdess": ("a person talking in an {} voice", {"disgust": "disgust"}),
            "emns": (CLARA, {"disgust": "disgust"}),
        },
    ),
    "paraclap": PromptSet(
        "KeiKinn/ParaCLAP, Data/*.py: bare labels",
        "{}",
        {**ADJECTIVES, "disgust": "disgust", "surprise": "surprised", "calm": "calm"},
        {"boredom": "bored"},
        {
            "crema_d": ("{}", {"fear": "fear"}),
            "tess": ("{}", {"fear": "fear", "sadness": "sadness", "surprise": "pleasant surprise"}),
            "iemocap": (FEELING + ".", {"anger": "anger", "sadness": "sadness"}),
        },
    ),
    "mteb": PromptSet(
        "embeddings-benchmark/mteb, RavdessZeroshot",
        FEELING,
        {**ADJECTIVES, "disgust": "disgust", "surprise": "surprised", "calm": "calm"},
        {"boredom": "bored"},
    ),
    "evar": PromptSet(
        "nttcslab/eval-audio-repr, zeroshot.py",
        "{} can be heard",
        {
            "anger": "angry person talking",
            "disgust": "someone talking in disgust",
            "fear": "someone talking with a sense of fear",
            "happiness": "someone talking happily and joyfully",
            "neutral": "someone talking calmly",
            "sadness": "someone talking sadly",
        },
        {
            "boredom": "someone talking with boredom",
            "calm": "someone talking in a relaxed way",
            "surprise": "someone talking with surprise",
        },
    ),
}


def prompt_set(name: str) -> PromptSet:
    """A set by its name; ClaraError for another."""
    if name not in SETS:
        raise unknown("prompt set", name, SETS)
    return SETS[name]
