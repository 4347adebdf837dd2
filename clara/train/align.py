"""The text stage: translations and rewordings of one meaning become neighbours before any audio is heard.

A text tower that starts at random is label noise for the audio tower: the same class arrives as hundreds of unrelated
strings. Here texts that claim the same facts, in any language and template, are each other's positives (InfoNCE between
two verbalisations of every fact of a batch), which costs minutes and needs no recording.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from clara.config import arch_config, build, load_yaml, override
from clara.data.facts import named_fact
from clara.errors import ClaraError, unknown
from clara.losses import multi_positive
from clara.model import DualEncoder
from clara.text.captions import CaptionConfig, Captioner, Fact, join, verbalize
from clara.text.prompts import TASKS, languages, load_language, task_labels
from clara.text.tokenizer import FactsTokenizer, SentencePiece, Tokenizer, build_tokenizer
from clara.train.optim import OptimConfig, build_optimizer, learning_rate, set_learning_rate
from clara.zoo.factory import create_model, get_tokenizer, load_strictly, save_checkpoint


@dataclass(frozen=True)
class NamesConfig:
    """CLDR's names and keywords of emoji: `folder` of <locale>.json files ({"annotations": {emoji: [name, [keyword,
    …]]}}), `count` of emoji a batch. Two locales' words for one emoji mean the same."""

    folder: str
    count: int = 48


@dataclass(frozen=True)
class AlignConfig:
    """`counts`: so many facts of each task a batch, several times over where the task has fewer; `pairs`: so many pairs
    of sounds, said in one sentence. Every fact is said twice, in languages drawn by `captions`. `weights`: of each
    task's own loss, 1 where not named; `names`: more translations; `init`: a checkpoint whose text side to go on from.

    `anchors`: a checkpoint trained against anchors, whose audio side the result gets: what is said of a fact is drawn
    to its anchor with weight `pull`, except in `far_languages`, which know of it by their translations alone.
    `unheard`: facts without an anchor that get one between others ('emotion/boredom': ['emotion/sadness', …]), of which
    it shares `unheard_share`: every clip between two anchors is nearest to a point between them, and with 1 it would
    take theirs; the rest of its length lies where no anchor is."""

    model: str
    steps: int
    out: str
    counts: dict[str, int] = field(default_factory=dict)
    pairs: int = 24
    weights: dict[str, float] = field(default_factory=dict)
    names: NamesConfig | None = None
    init: str | None = None
    anchors: str | None = None
    unheard: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unheard_share: float = 1.0
    pull: float = 1.0
    far_languages: tuple[str, ...] = ()
    captions: CaptionConfig = CaptionConfig()
    optim: OptimConfig = OptimConfig()
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class Pair:
    """Two texts that mean `facts`, each with its language, and the task whose classes they are told apart from."""

    one: str
    two: str
    task: str
    facts: frozenset[Fact]
    languages: tuple[str, str] = ("", "")


def facts_of_task(task: str) -> list[Fact]:
    """Every fact of a task that the language files can say; a word is another fact in each language it is spoken in."""
    if task not in TASKS:
        raise unknown("task in counts", task, TASKS)
    if task == "word":
        return [("word", f"{code}:{key}") for code in languages() for key in load_language(code).terms["word"]]
    return [(task, key) for key in task_labels(task)]


class Names:
    """CLDR's words for emoji, one list a locale."""

    def __init__(self, config: NamesConfig) -> None:
        self.count, self.texts = config.count, []
        files = sorted(Path(config.folder).glob("*.json"))
        if not files:
            raise ClaraError(f"names.folder {config.folder!r} holds no <locale>.json files of CLDR.")
        found: dict[str, list[list[str]]] = {}
        for path in files:
            notes = json.loads(path.read_text(encoding="utf-8")).get("annotations", {})
            for emoji, (name, keywords) in notes.items():
                found.setdefault(emoji, []).append([x for x in (name, *keywords[:3]) if x and x.strip()])
        self.texts = [[ws for ws in locales if ws] for _, locales in sorted(found.items())]
        self.texts = [locales for locales in self.texts if len(locales) > 1]

    def draw(self, rng: np.random.Generator) -> list[Pair]:
        """`count` emoji, each in the words of two locales."""
        out = []
        for i in rng.permutation(len(self.texts))[: self.count]:
            locales = self.texts[i]
            a, b = (locales[j] for j in rng.permutation(len(locales))[:2])
            # a name names one thing; a keyword, one time in four, may name several
            one, two = (ws[0] if rng.random() < 0.75 else ws[rng.integers(len(ws))] for ws in (a, b))
            out.append(Pair(one, two, "name", frozenset()))
        return out


def draw(
    config: AlignConfig, captioner: Captioner, step: int, more: Mapping[str, list[Fact]], names: Names | None = None
) -> list[Pair]:
    """The pairs of batch `step`, sorted by task. `more`: the words that have anchors; without any, all."""
    rng = np.random.default_rng([config.seed, step])
    chosen: list[frozenset[Fact]] = []
    for task, count in config.counts.items():
        # a word is its own translation: one that nobody recorded has nothing to be drawn to
        known = sorted(more[task]) if task == "word" and more.get(task) else facts_of_task(task)
        rounds = [rng.permutation(len(known)) for _ in range(-(-count // len(known)))]
        chosen += [frozenset({known[i]}) for i in np.concatenate(rounds)[:count]] if count else []
    sounds = facts_of_task("sound")
    pairs = {frozenset({sounds[i], sounds[j]}) for i, j in rng.integers(len(sounds), size=(config.pairs, 2)) if i != j}
    chosen += sorted(pairs, key=sorted)

    def say(facts: frozenset[Fact]) -> tuple[str, str]:
        language = captioner.language(rng)
        text = join(facts, language, rng) if len(facts) > 1 else verbalize(next(iter(facts)), language, rng)
        return text, language

    said = [(say(f), say(f), f) for f in chosen]
    out = [Pair(one, two, min(f)[0], f, (a, b)) for (one, a), (two, b), f in said]
    return sorted(out + (names.draw(rng) if names else []), key=lambda pair: pair.task)


def loss_of(
    one_UD: Tensor, two_UD: Tensor, pairs: Sequence[Pair], weights: Mapping[str, float], scale: Tensor
) -> Tensor:
    """InfoNCE over all pairs (those of the same facts are each other's positives), plus the weighted mean of InfoNCE
    within each task: nine emotions in one template differ by one word, and among two hundred facts nothing would ask
    for more."""
    first: dict[object, int] = {}
    group_U = torch.tensor([first.setdefault(p.facts or i, i) for i, p in enumerate(pairs)])
    same_UU, parts, total = group_U[:, None] == group_U[None], [], 0.0
    for task in sorted({p.task for p in pairs}):
        rows = torch.tensor([p.task == task for p in pairs])
        weight = weights.get(task, 1.0)
        parts.append(weight * multi_positive(one_UD[rows], two_UD[rows], same_UU[rows][:, rows], scale))
        total += weight
    return multi_positive(one_UD, two_UD, same_UU, scale) + torch.stack(parts).sum() / total


class Goals:
    """Anchors as what texts are drawn to: fact -> unit vector."""

    def __init__(
        self, source: DualEncoder, facts: Sequence[str], unheard: Mapping[str, Sequence[str]], share: float = 1.0
    ) -> None:
        if not 0.0 < share <= 1.0:
            raise ClaraError(f"unheard_share={share}: expected more than 0, at most 1.")
        table_KD = normalize(source.text.vectors.weight.detach(), dim=-1)
        known = {name: table_KD[i] for i, name in enumerate(facts)}
        for name, parts in unheard.items():
            missing = [p for p in parts if p not in known]
            if missing:
                raise unknown(f"fact in unheard.{name}", missing[0], facts)
            between = normalize(torch.stack([known[p] for p in parts]).sum(0), dim=-1)
            known.setdefault(name, share * between + math.sqrt(1 - share**2) * _aside(list(known.values()), len(known)))
        self.facts = [named_fact(name) for name in known]
        self.vector_KD, self.row = torch.stack(list(known.values())), {f: k for k, f in enumerate(self.facts)}
        self.tasks = [task for task, _ in self.facts]

    def by_task(self) -> dict[str, list[Fact]]:
        """The facts that have an anchor."""
        return {t: [f for f in self.facts if f[0] == t] for t in set(self.tasks) & set(TASKS)}

    def loss(self, text_UD: Tensor, facts: Sequence[frozenset[Fact]], scale: Tensor) -> Tensor:
        """Of the texts whose facts all have anchors: cross-entropy among all anchors and, for one fact, among those of
        its task, plus four times the cosine distance: onto the anchor, not merely nearest to it."""
        rows = [u for u, f in enumerate(facts) if f and all(x in self.row for x in f)]
        text_UD, goals = text_UD[rows], [sorted(facts[u]) for u in rows]
        goal_UD = normalize(torch.stack([self.vector_KD[[self.row[f] for f in g]].sum(0) for g in goals]), dim=-1)
        single = torch.tensor([len(g) == 1 for g in goals])
        target = torch.tensor([self.row[g[0]] for g in goals])[single]
        logits = scale * text_UD[single] @ self.vector_KD.T
        same = torch.tensor([[self.tasks[k] == t for k in range(len(self.tasks))] for t in sorted(set(self.tasks))])
        index = {t: i for i, t in enumerate(sorted(set(self.tasks)))}
        mine = same[[index[self.tasks[k]] for k in target.tolist()]]
        among = cross_entropy(logits, target) + cross_entropy(logits.masked_fill(~mine, -1e4), target)
        return among + 4.0 * (1.0 - (text_UD * goal_UD).sum(1)).mean()


def align(recipe: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Train the text side of a model by a recipe (YAML of `AlignConfig`) and save it as a checkpoint folder, `out`.

    Without `anchors` its audio side is as at initialisation (or as in `init`): start `clara train` from it with
    `init: dir:OUT`.

    Raises:
        ClaraError: a mistake in the recipe, or a loss that is not finite.
    """
    config = build(AlignConfig, override(load_yaml(recipe), overrides), where=Path(recipe).name)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    model, tokenizer, goals = _start(config)
    names = Names(config.names) if config.names else None
    captioner, more = Captioner(config.captions, {}), goals.by_task() if goals else {}
    side = nn.ModuleDict({"text": model.text, "text_head": model.text_head})
    if goals is None:
        side.register_parameter("log_scale", model.log_scale)
    optimizer = build_optimizer(side, config.optim)
    progress = tqdm(range(config.steps), unit="step")
    for step in progress:
        set_learning_rate(optimizer, learning_rate(step, config.steps, config.optim))
        pairs = draw(config, captioner, step, more, names)
        with torch.autocast("cpu", torch.bfloat16):
            text_UD = model.encode_text(*tokenizer([p.one for p in pairs] + [p.two for p in pairs]))
        loss = loss_of(*text_UD.split(len(pairs)), pairs, config.weights, model.scale)
        if goals:
            near = [
                p.facts if p.languages[i] not in config.far_languages else frozenset() for i in (0, 1) for p in pairs
            ]
            loss = loss + config.pull * goals.loss(text_UD, near, model.scale)
        if not torch.isfinite(loss):
            raise ClaraError(f"Step {step}: the loss is {float(loss)}. Lower optim.lr and run again.")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(side.parameters(), config.optim.grad_clip or float("inf"))
        optimizer.step()
        progress.set_postfix(loss=f"{float(loss.detach()):.3f}", scale=f"{float(model.scale.detach()):.1f}")
    audio = f"the audio side of {config.anchors}" if config.anchors else "no audio"
    card = f"# {Path(config.out).name}\n\nText side after {config.steps} steps of {Path(recipe).name}; {audio}.\n"
    return save_checkpoint(config.out, model, tokenizer, card, torch.float32)


def _start(config: AlignConfig) -> tuple[DualEncoder, Tokenizer, Goals | None]:
    """The model as it starts out, its tokenizer, and the anchors if there are any."""
    spec = arch_config(config.model)
    model, tokenizer = DualEncoder(spec), build_tokenizer(spec.tokenizer)
    if config.init:
        tensors = create_model(config.init).state_dict()
        if (old := get_tokenizer(config.init)).vocab_size != tokenizer.vocab_size:
            tensors["text.tokens.weight"] = carried_over(tensors["text.tokens.weight"], old, tokenizer)
        load_strictly(model, tensors, f"init {config.init!r}")
    if config.anchors is None:
        return model, tokenizer, None
    source, facts = create_model(config.anchors), get_tokenizer(config.anchors)
    if not isinstance(facts, FactsTokenizer):
        raise ClaraError(
            f"anchors {config.anchors!r} has no anchors: expected a checkpoint of a recipe with `anchors`."
        )
    audio = {n: t for n, t in source.state_dict().items() if not n.startswith(("text.", "text_head."))}
    text = {n: t for n, t in model.state_dict().items() if n not in audio}
    load_strictly(model, {**text, **audio}, f"anchors {config.anchors!r}")
    return model, tokenizer, Goals(source, facts.facts, config.unheard, config.unheard_share)


def _aside(known: Sequence[Tensor], seed: int) -> Tensor:
    """A unit vector as far from all `known` as their number allows: a drawn one less what the strongest directions
    of theirs hold of it."""
    drawn = torch.randn(len(known[0]), generator=torch.Generator().manual_seed(seed))
    _, strength, basis = torch.linalg.svd(torch.stack(list(known)), full_matrices=True)
    taken = basis[: min(len(strength), len(drawn) // 2)]
    return normalize(drawn - (taken @ drawn) @ taken, dim=0)


def carried_over(table_VW: Tensor, old: Tokenizer, new: Tokenizer) -> Tensor:
    """Token embeddings for another sentencepiece vocabulary: a piece that both have keeps its own, a new one starts as
    the mean of the old pieces that it is made of."""
    if not (isinstance(old, SentencePiece) and isinstance(new, SentencePiece)):
        raise ClaraError("init: its tokenizer is another, and only sentencepiece vocabularies can be carried over.")
    known = {old.processor.id_to_piece(i): i for i in range(old.vocab_size)}
    rows = []
    for i in range(new.vocab_size):
        piece = new.processor.id_to_piece(i)
        ids = [known[piece]] if piece in known else old.processor.encode(piece.replace("▁", " ")) or [old.pad_id]
        rows.append(table_VW[ids].mean(0))
    return torch.stack(rows)
