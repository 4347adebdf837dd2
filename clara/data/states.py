"""Stored states: the frozen part of an audio tower is run once over every clip, and training goes on from there.

Each clip is stored as several takes: take 0 is the clip as it is, the others are mixed and augmented as the recipe's
`data` says. A take is drawn from (seed, take, clip), so a store that was interrupted is filled up and holds what an
uninterrupted run would hold; clips of shards that were added later are mixed with any that are there by then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara.audio.features import pad_waves
from clara.config import to_dict
from clara.data.entries import BrokenClip, Entry, scan
from clara.data.loader import ClipPlan, DataConfig, Plan, TrainBatches, plan_clip, render
from clara.data.parallel import sole_writer
from clara.errors import ClaraError
from clara.layers import bf16_pays
from clara.model import DualEncoder
from clara.parsing import read_json
from clara.saving import whole_file
from clara.text.tokenizer import Tokenizer

PART = 256  # clips a file
SECONDS = 120.0  # of audio that is encoded at once
WAIT_SECONDS = 60.0  # for another run that looks whether the folder is complete
MARK, BROKEN = "states.json", "broken.json"


@dataclass(frozen=True)
class StatesConfig:
    """Training from stored states of the audio tower's frozen part."""

    folder: str
    """Where the states are kept; runs that leave out other corpora share it."""
    takes: int = 4
    """Versions stored per clip; the first has no mixing and no augmentation."""
    seed: int = 0
    """Draws the takes; independent of the run's seed, so that runs share one store."""


@dataclass(frozen=True)
class Take:
    """Where one take of a clip lies: `frames` frames from `start` of a file; how it was mixed, as `ClipPlan`; and
    `size`, the bytes of the clip, by which another clip of the same name is told."""

    number: int
    size: int
    file: str
    start: int
    frames: int
    partner: str | None
    compose: bool
    named: bool
    snr: float


def name_of(entry: Entry) -> str:
    """A clip's name in the store: its shard and key."""
    return f"{Path(entry.tar).name}::{entry.key}"


def signature(model: DualEncoder, config: DataConfig, states: StatesConfig) -> dict[str, object]:
    """What decides the stored numbers: front-end, frozen weights, augmentation."""
    digest = hashlib.sha256()
    for name, tensor in sorted({**model.front_end.state_dict(), **model.audio.encoder.state_dict()}.items()):
        # in the precision that checkpoints are saved in: a teacher that was loaded from one must fit; averaging weights
        # that stand still turns -0 into 0
        tensor = tensor.half() + 0.0 if tensor.is_floating_point() else tensor
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    options = {k: v for k, v in model.config.audio.options.items() if k in ("mix", "stride", "coarse", "full_window")}
    kept = {k: to_dict(config)[k] for k in ("crop_seconds", "augment", "mix")}
    return json.loads(json.dumps({"weights": digest.hexdigest(), "tower": options, "seed": states.seed, **kept}))


class StateStore:
    """The takes of a folder; `fill` computes what is missing."""

    def __init__(self, config: StatesConfig) -> None:
        self.config, self.folder = config, Path(config.folder)
        self.takes: dict[tuple[str, int], Take] = {}
        self.frames: dict[str, int] = {}  # of each file
        self.broken: dict[str, str] = {}  # why clips cannot be read, by name
        self._read_all()
        self._open: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: a loader's worker would be sent all that they hold."""
        return {**self.__dict__, "_open": {}}

    def _read_all(self) -> None:
        for path in sorted(self.folder.glob("take-*/*.json")):
            self._read(path)
        if (path := self.folder / BROKEN).is_file():
            found = read_json(path, "what is wrong with clips")
            self.broken = {str(name): str(why) for name, why in found.items()} if isinstance(found, dict) else {}

    def _read(self, path: Path) -> None:
        number, start = int(path.parent.name.removeprefix("take-")), 0
        file = str(path.with_suffix(".npy").relative_to(self.folder))
        try:
            for clip in read_json(path, "an index of states"):
                mixed = (clip["partner"], clip["compose"], clip["named"], clip["snr"])
                self.takes[clip["name"], number] = Take(number, clip["size"], file, start, clip["frames"], *mixed)
                start += clip["frames"]
        except (KeyError, TypeError) as e:
            raise ClaraError(
                f"{path} is not an index of states ({e!r}): delete it, and they are computed again."
            ) from e
        self.frames[file] = start

    def states(self, take: Take) -> np.ndarray:
        """The states of one take: (N, K, W), float16."""
        if take.file not in self._open:
            self._open[take.file] = self._mapped(take.file)
        return self._open[take.file][take.start : take.start + take.frames]

    def _mapped(self, file: str) -> np.ndarray:
        """The states of a file; they and their index are of one writing, which their number of frames tells."""
        path = self.folder / file
        try:
            found = np.load(path, mmap_mode="r")
            why = "" if found.ndim == 3 and len(found) == self.frames[file] else f"shape {found.shape}"
        except (OSError, ValueError) as e:
            why = str(e)
        if why:
            raise ClaraError(
                f"{path} does not hold the {self.frames[file]} frames of states that its index lists ({why}): delete "
                f"both, and they are computed again."
            )
        return found

    def fill(self, model: DualEncoder, data: DataConfig, bf16: bool, stop: Callable[[], bool]) -> Iterator[str]:
        """Compute the missing takes of all clips that `data` wants, left-out corpora included; yields a line of
        progress per file. Ends early, between two files, when `stop()`.

        Clips that cannot be read, `data.broken_most` of them at most, are told and left out.

        Raises:
            ClaraError: the folder holds states of other weights or settings, another process fills it now, or more
                clips cannot be read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.folder, WAIT_SECONDS):
            self._mark(signature(model, data, self.config))
            self._read_all()  # what another process wrote meanwhile
            yield from self._missing(model, data, bf16, stop)

    def _missing(self, model: DualEncoder, data: DataConfig, bf16: bool, stop: Callable[[], bool]) -> Iterator[str]:
        data = dataclasses.replace(data, exclude_corpora=(), sampling=type(data.sampling)())
        entries = scan(data)
        self.check(entries)
        plan, rate = Plan(entries, data, self.config.seed), model.front_end.sample_rate
        model.eval()
        names = {name_of(e) for e in entries}
        self.broken = {name: why for name, why in self.broken.items() if name not in names}  # they may be mended
        for number in range(self.config.takes):
            missing = [e for e in entries if (name_of(e), number) not in self.takes]
            missing.sort(key=lambda e: float(e.meta.get("seconds") or 0.0))
            left = len(missing)
            for part in (missing[i : i + PART] for i in range(0, len(missing), PART)):
                if stop():
                    return
                plans = [plan_clip(e, plan, data.mix, self._rng(number, e, 1)) if number else ClipPlan(e) for e in part]
                before = len(self.broken)
                read = [(p, w) for p in plans if (w := self._readable(p, number, rate, data, names)) is not None]
                yield from [f"left out: {why}" for why in list(self.broken.values())[before:]]
                if read:
                    waves = [w for _, w in read]
                    states = [s for w in _batches(waves, rate) for s in encode(model, w, bf16)]
                    self._write(number, [p for p, _ in read], states)
                left -= len(part)
                yield f"states: take {number + 1} of {self.config.takes}, {left} clips left"

        with whole_file(self.folder / BROKEN) as part_file:
            part_file.write_text(json.dumps(self.broken, indent=1), encoding="utf-8")

    def _readable(self, plan: ClipPlan, number: int, rate: int, data: DataConfig, names: set[str]) -> np.ndarray | None:
        """The wave of a take; None where its clip, or the one mixed with it, is broken and may be left out."""
        try:
            return self.wave(plan, number, rate, data)
        except BrokenClip as e:
            self.broken[name_of(e.entry)] = str(e)
            if len(found := names & self.broken.keys()) > data.broken_most:
                raise ClaraError(
                    f"{e} (data.broken_most={data.broken_most}; {len(found)} clips so far cannot be read.)"
                ) from e
            return None

    def check(self, entries: Sequence[Entry]) -> None:
        """ClaraError where a name stands for two clips, of `entries` or of these and the store."""
        names = Counter(map(name_of, entries))
        sizes = {(name, take.size) for (name, _), take in self.takes.items()}
        stored = {name for name, _ in sizes}
        for entry in entries:
            name = name_of(entry)
            if names[name] > 1 or (name in stored and (name, entry.size) not in sizes):
                raise ClaraError(
                    f"{self.folder}: {name!r} of {entry.tar} is the name of another clip too: shards that share a "
                    "states.folder need different names, and shards that were written anew another states.folder."
                )

    def wave(self, plan: ClipPlan, number: int, rate: int, data: DataConfig) -> np.ndarray:
        """The samples that a take's states were computed from: float32 (T,). `data` must be the store's."""
        config = data if number else dataclasses.replace(data, augment=None)
        return render(plan, rate, config, self._rng(number, plan.entry))

    def _rng(self, take: int, entry: Entry, *more: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, take, zlib.crc32(name_of(entry).encode()), *more])

    def _mark(self, made_by: dict[str, object]) -> None:
        path = self.folder / MARK
        if path.is_file():
            found = read_json(path, "what the states were made with")
            other = [k for k in {*found, *made_by} if found.get(k) != made_by.get(k)]
            if other:
                raise ClaraError(
                    f"{self.folder} holds states made with another {', '.join(sorted(other))}: choose another "
                    "states.folder, or delete this one."
                )
        else:
            with whole_file(path) as part:
                part.write_text(json.dumps(made_by, indent=1), encoding="utf-8")

    def _write(self, number: int, plans: Sequence[ClipPlan], states: Sequence[np.ndarray]) -> None:
        """One file of states and, once that is whole, its index."""
        folder = self.folder / f"take-{number}"
        folder.mkdir(exist_ok=True)
        path = folder / f"{len(list(folder.glob('*.json'))):05d}.npy"
        with whole_file(path) as part, part.open("wb") as file:
            np.save(file, np.concatenate(states))
        rows = [
            {
                "name": name_of(p.entry),
                "size": p.entry.size,
                "frames": len(s),
                "partner": None if p.partner is None else name_of(p.partner),
                "compose": p.compose,
                "named": p.named,
                "snr": p.snr,
            }
            for p, s in zip(plans, states)
        ]
        index = path.with_suffix(".json")
        with whole_file(index) as part:
            part.write_text(json.dumps(rows), encoding="utf-8")
        self._read(index)


def _batches(waves: Sequence[np.ndarray], rate: int) -> Iterator[Sequence[np.ndarray]]:
    """Consecutive waves, as many as SECONDS allow when padded to the longest."""
    start = 0
    for stop in range(1, len(waves) + 1):
        longest = max(len(w) for w in waves[start : stop + 1])
        if stop == len(waves) or longest * (stop + 1 - start) > SECONDS * rate:
            yield waves[start:stop]
            start = stop


@torch.inference_mode()
def encode(model: DualEncoder, waves: Sequence[np.ndarray], bf16: bool) -> list[np.ndarray]:
    """The frozen part's states of each wave: (N, K, W), float16. ClaraError when one is not finite."""
    device = next(model.parameters()).device
    wave_BT, len_B = pad_waves([torch.from_numpy(w) for w in waves])
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and bf16_pays(device.type)):
        states_BNKW, mask_BN = model.audio.states(*model.front_end(wave_BT.to(device), len_B.to(device)))
    out = [s[: int(m.sum())].half().cpu().numpy() for s, m in zip(states_BNKW, mask_BN)]
    if not all(np.isfinite(s).all() for s in out):
        raise ClaraError("States are not finite in float16: the tower's weights or a clip's samples are out of range.")
    return out


def padded(store: StateStore, takes: Sequence[Take]) -> tuple[Tensor, Tensor]:
    """The states of several takes (B, N, K, W), float16, and their lengths in frames (B,)."""
    states = [torch.from_numpy(np.array(store.states(take))) for take in takes]
    return pad_sequence(states, batch_first=True), torch.tensor([len(s) for s in states])


class StateBatches(TrainBatches):
    """As `TrainBatches`, with stored states instead of waves: each draw of a clip is one of its takes."""

    def __init__(
        self,
        config: DataConfig,
        tokenizer: Tokenizer,
        sample_rate: int,
        seed: int,
        ranks: tuple[int, int],
        store: StateStore,
    ) -> None:
        self.store = store
        super().__init__(config, tokenizer, sample_rate, seed, ranks)
        self.by_name = {name_of(e): e for e in self.entries}
        store.check(self.entries)
        numbers = range(store.config.takes)
        # a take whose partner this run leaves out would let it hear a clip that it must not
        self.usable = [[n for n in numbers if self._may_use(name_of(e), n)] for e in self.entries]
        if lacking := [e.key for e, takes in zip(self.entries, self.usable) if not takes]:
            raise ClaraError(
                f"{store.folder} lacks the states of {len(lacking)} clips, {lacking[0]!r} among them: train once "
                "without interruption, so that it is filled."
            )

    def _known(self, entries: list[Entry]) -> list[Entry]:
        """Without those that could not be read when the store was filled."""
        stored = {name for name, _ in self.store.takes}
        broken = [e for e in entries if name_of(e) in self.store.broken and name_of(e) not in stored]
        if len(broken) > self.config.broken_most:
            raise ClaraError(
                f"{self.store.folder} lacks {len(broken)} clips that cannot be read, {broken[0].key!r} among them "
                f"(data.broken_most={self.config.broken_most})."
            )
        gone = {name_of(e) for e in broken}
        return [e for e in entries if name_of(e) not in gone]

    def _may_use(self, name: str, number: int) -> bool:
        take = self.store.takes.get((name, number))
        return take is not None and (take.partner is None or take.partner in self.by_name)

    def _plan(self, index: int, rng: np.random.Generator) -> ClipPlan:
        numbers = self.usable[index]
        return self.stored_plan(index, numbers[rng.integers(len(numbers))])

    def stored_plan(self, index: int, number: int) -> StoredPlan:
        """One of the usable takes of a clip."""
        entry = self.entries[index]
        take = self.store.takes[name_of(entry), number]
        partner = None if take.partner is None else self.by_name[take.partner]
        return StoredPlan(entry, partner, take.compose, take.named, take.snr, take)

    def _audio(self, plans: Sequence[ClipPlan], step: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """States (B, N, K, W), float16, and their lengths in frames."""
        return padded(self.store, [p.take for p in plans])


class DistilBatches(StateBatches):
    """Waves of the stored takes, and what a teacher embeds them to: what a student learns from.

    `targets`: (name, take) -> row of `target_KD`, see `clara.train.distil`.
    """

    targets: dict[tuple[str, int], int]
    target_KD: Tensor

    def _audio(self, plans: Sequence[ClipPlan], step: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Waves (B, T) and their lengths in samples."""
        return TrainBatches._audio(self, plans, step, places)

    def _wave(self, plan: ClipPlan, rng: np.random.Generator) -> np.ndarray:
        """The samples that the take's states were computed from: float32 (T,)."""
        return self.store.wave(plan, plan.take.number, self.rate, self.config)

    def _target(self, plans: Sequence[ClipPlan]) -> Tensor:
        return self.target_KD[[self.targets[name_of(p.entry), p.take.number] for p in plans]]


@dataclass(frozen=True)
class StoredPlan(ClipPlan):
    """A clip as one of its takes."""

    take: Take | None = None
