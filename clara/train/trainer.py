"""Training: recipe -> checkpoint folder. One process, or as many as torchrun starts, give the same loss and gradients.

Everything random in step k comes from (seed, k, rank), so a resumed run makes the steps that an unbroken one makes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from clara import losses
from clara.audio.augment import SpecAugment
from clara.config import build, load_yaml, override, to_dict
from clara.data.entries import Entry
from clara.data.fact_texts import FactTexts, TextBatch, fact_vectors
from clara.data.facts import FactBatches
from clara.data.loader import Batch, TrainBatches, make_loader
from clara.data.parallel import main_hidden
from clara.data.states import DistilBatches, StateBatches, StateStore
from clara.errors import ClaraError, unknown
from clara.layers import bf16_pays
from clara.model import DualEncoder
from clara.text.tokenizer import Tokenizer
from clara.train import checkpoint, distil, readout
from clara.train.distributed import World, processes, seed_all
from clara.train.grad_cache import cached_step, plain_step
from clara.train.heritage import lineage
from clara.train.interrupt import Interrupt
from clara.train.log import RunLog, running, sole_run
from clara.train.memo import TextMemo
from clara.train.optim import EMA, build_optimizer, learning_rate, set_learning_rate, train_mode
from clara.train.recipe import TrainConfig, build_model, check
from clara.zoo import factory
from clara.zoo.lineage import with_front

MAX_LOG_SCALE = math.log(100.0)
Judge = Callable[[DualEncoder, int], bool]


def train(recipe: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Train by a recipe (YAML of `TrainConfig`), from the newest checkpoint in its `out` where there is one.

    Args:
        recipe: path of the YAML file.
        overrides: settings such as 'optim.lr=0.0005'; the key must stand in the recipe.

    Returns:
        The exported checkpoint folder, `out`/checkpoint: the averaged weights, for `clara.load('dir:…')`.

    Raises:
        ClaraError: a mistake in the recipe, no data, or a loss or gradient that is not finite.
        SystemExit: SIGINT or SIGTERM came; the state is saved and the same call goes on from it.
    """
    return run(build(TrainConfig, override(load_yaml(recipe), overrides), where=Path(recipe).name), Path(recipe).parent)


def run(config: TrainConfig, folder: Path = Path("."), held: bool = False, judge: Judge | None = None) -> Path:
    """`train` for a config in memory; tokenizer files of an inline model are looked up in `folder`. `held`: the caller
    writes to `out` alone already. ClaraError where another run does.

    `judge(model, step)` is asked at every save whether what would be exported is the best so far; only then it is.
    """
    check(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    with processes(config.device) as world, nullcontext() if held or not world.main else sole_run(Path(config.out)):
        torch.manual_seed(config.seed)
        model, tokenizer = build_model(config, folder)
        trainer = Trainer(config, world, model, tokenizer)
        trainer.judge = judge
        return trainer.run()


class Trainer:
    """One process's training: `run` makes the steps that are left and exports."""

    def __init__(self, config: TrainConfig, world: World, model: DualEncoder, tokenizer: Tokenizer) -> None:
        self.config, self.world, self.tokenizer, self.out = config, world, tokenizer, Path(config.out)
        if world.size > 1 and world.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        layout = torch.channels_last if config.channels_last else torch.preserve_format
        self.model = model.to(world.device, memory_format=layout)
        if config.spec_augment:
            augment = SpecAugment(config.spec_augment)
            self.model.front_end.register_forward_hook(lambda module, args, out: augment(*out))
        self.optimizer = build_optimizer(self.model, config.optim)
        train_mode(self.model)
        self.trainable = [p for p in self.model.parameters() if p.requires_grad]
        frozen_text = not any(p.requires_grad for p in self.model.text.parameters())
        folder = Path(config.states.folder if config.states else config.out) if world.main else None
        self.memo = TextMemo(self.model.text, folder) if frozen_text and not config.anchors else None
        self.ema = EMA(self.model, config.ema) if config.ema is not None else None
        self.recipe = to_dict(config)
        self.done, self.saved = 0, time.monotonic()
        self.entries: list[Entry] | None = None
        self.facts: losses.FactVectors | None = None
        self.stored: StateBatches | None = None
        self.judge: Judge | None = None

    def run(self) -> Path:
        """Resume, train, export; the exported folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        resumed, self.done = checkpoint.resume(self.out, self.config, self.model, self.optimizer, self.ema)
        with running(self.out, self.done, self.config.steps, self.world.main, resumed) as (log, interrupt):
            stopped = self.loop(log, interrupt)
        if stopped:
            interrupt.leave(self.done, self.out, self.world.main)
        return self.out / "checkpoint"

    def loop(self, log: RunLog, interrupt: Interrupt) -> bool:
        """Make the steps that are left, saving now and then and at the end; True when a signal ended it early."""
        c, world = self.config, self.world
        if self.done >= c.steps and not c.readout:  # a readout is fitted to the clips even then
            self.save()
            return False
        if c.states and not c.texts and not self.fill_states(interrupt):
            return True
        dataset = self.batches()
        self.entries = dataset.entries
        if c.readout:
            self.stored = dataset
            readout.classes_of(self.model, dataset, c.readout, readout.Takes.of(dataset))  # before steps are made
        if c.loss.tasks and not c.texts:
            self.aim(dataset)
        if self.done >= c.steps:
            self.save()
            return False
        with main_hidden():
            batches = iter(make_loader(dataset, steps=range(self.done, c.steps)))
        while self.done < c.steps:
            try:
                batch = next(batches)
            except ClaraError as e:
                raise _without_traceback(e) from e
            except RuntimeError:  # Ctrl-C in a terminal also ends the loader's workers
                if not interrupt.number:
                    raise
                batch = None
            if world.any(batch is None or bool(interrupt.number)):
                self.save()
                return True
            log.left_out(batch.broken, c.data.broken_most)
            values = self.step(batch)
            log.count(len(batch.texts) if c.texts else c.data.batch_size, self.seconds(batch) * world.size)
            if self.done % c.log_every == 0 or self.done == c.steps:
                log.write(self.done, values)
            if self.done % c.save_every == 0 or self.done == c.steps or world.any(self.overdue()):
                self.save()
        return False

    def seconds(self, batch: Batch | TextBatch) -> float:
        """Seconds of audio in this process's batch."""
        return float(batch.len_B.sum()) / self.rate if isinstance(batch, Batch) else 0.0

    def aim(self, dataset: TrainBatches) -> None:
        """Compute what audio is drawn to within each task. ClaraError for a task that is none, or a text side that
        learns."""
        if any(p.requires_grad for p in (*self.model.text.parameters(), *self.model.text_head.parameters())):
            raise ClaraError(
                "loss.tasks: the text side must be frozen, or the targets would stay behind it. Add {match: text*, "
                "lr_scale: 0.0} to optim.groups, or set loss.tasks to {}."
            )
        c, facts = self.config, dataset.fact_targets.facts
        if strange := sorted(set(c.loss.tasks) - {t for t, _ in facts}):
            raise unknown("task of loss.tasks", strange[0], sorted({t for t, _ in facts}))
        tasks = sorted(c.loss.tasks)
        number = {t: i for i, t in enumerate(tasks)}
        task_F = torch.tensor([number.get(t, -1) for t, _ in facts], device=self.world.device)
        vectors_FD = fact_vectors(
            self._autocast(self._encode_remembered),
            self.tokenizer,
            dataset.captioner,
            facts,
            c.loss.texts,
            self.world.device,
        )
        self.facts = losses.FactVectors(vectors_FD, task_F, {i: c.loss.tasks[t] for i, t in enumerate(tasks)})

    def overdue(self) -> bool:
        """Whether a kill would now lose more than `save_minutes`."""
        return time.monotonic() - self.saved > 60.0 * self.config.save_minutes

    @cached_property
    def rate(self) -> float:
        """Samples, or stored frames, per second: what a batch's lengths are counted in."""
        front_end = self.model.front_end
        if not self.config.states or self.config.distil:
            return front_end.sample_rate
        second = torch.zeros(1, front_end.sample_rate, device=self.world.device)
        length_1 = torch.tensor([front_end.sample_rate], device=self.world.device)
        return float(self.model.audio.frame_mask(front_end(second, length_1)[1]).sum())

    def batches(self) -> TrainBatches | FactTexts:
        """The data set of the run: item k is this process's share of batch k."""
        c, ranks = self.config, (self.world.rank, self.world.size)
        arguments = (c.data, self.tokenizer, self.model.front_end.sample_rate, c.seed, ranks)
        if c.distil:
            batches = DistilBatches(*arguments, StateStore(c.states))
            teacher = factory.create_model(c.distil.teacher).to(self.world.device)
            batches.targets, batches.target_KD = distil.targets(teacher, batches.store, c.precision == "bf16")
            return batches
        if c.states:
            return StateBatches(*arguments, StateStore(c.states))
        if c.texts:
            return FactTexts(c.texts, c.data, self.tokenizer, c.seed)
        return FactBatches(*arguments) if c.anchors else TrainBatches(*arguments)

    def fill_states(self, interrupt: Interrupt) -> bool:
        """Let the main process compute the states that the store lacks; False when a signal to any ended it early."""
        c, stopped = self.config, False
        if not c.distil and any(p.requires_grad for p in self.model.audio.encoder.parameters()):
            raise ClaraError(
                "states: the audio encoder is not frozen. Add {match: audio.encoder.*, lr_scale: 0.0} to optim.groups, "
                "or set states to null."
            )
        texts = (*self.model.text.parameters(), *self.model.text_head.parameters())
        if c.distil and any(p.requires_grad for p in texts):
            raise ClaraError(
                "distil: a student keeps its teacher's texts. Add {match: text*, lr_scale: 0.0} to optim.groups."
            )
        lines: Iterator[str] = iter(())
        if self.world.main:
            model = factory.create_model(c.distil.teacher).to(self.world.device) if c.distil else self.model
            lines = StateStore(c.states).fill(model, c.data, c.precision == "bf16", lambda: stopped)
        # the others follow file by file: filling takes longer than processes wait for each other at one place
        while self.world.any((line := next(lines, None)) is not None):
            if line:
                print(line, flush=True)
            stopped = self.world.any(bool(interrupt.number))
        train_mode(self.model)
        return not self.world.any(bool(interrupt.number))

    def step(self, batch: Batch | TextBatch) -> dict[str, float]:
        """One update; its loss, lr, scale and gradient norm. ClaraError, before any weight moved, when not finite."""
        c = self.config
        seed_all(c.seed, self.done, self.world.rank)
        lr = learning_rate(self.done, c.steps, c.optim)
        set_learning_rate(self.optimizer, lr)
        scale = float(self.model.scale.detach())
        loss = float(self.gradients(batch))
        norm = float(nn.utils.clip_grad_norm_(self.trainable, c.optim.grad_clip or math.inf))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            last = checkpoint.newest(self.out)
            raise ClaraError(
                f"Step {self.done}: loss {loss}, gradient norm {norm}. Batch: {', '.join(batch.names[:50])}. "
                f"Last good checkpoint: {last or 'none yet'}. Look at these, or lower optim.lr and run again."
            )
        self.optimizer.step()
        with torch.no_grad():  # beyond the ceiling the temperature would get no gradient to come back by
            self.model.log_scale.clamp_(max=MAX_LOG_SCALE)
        self.world.average_batch_norm(self.model)
        if self.ema:
            self.ema.update(self.model, self.done)
        self.done += 1
        return {"loss": loss, "lr": lr, "scale": scale, "grad_norm": norm}

    def gradients(self, batch: Batch | TextBatch) -> Tensor:
        """Loss of the global batch; its gradient, the same in every process, is left in the parameters."""
        self.optimizer.zero_grad(set_to_none=True)
        to = self.world.device
        text = self._autocast(self._encode_remembered if self.memo else self.model.encode_text)
        if isinstance(batch, TextBatch):
            return self._text_gradients(text, batch)
        inputs = [(batch.x.to(to), batch.len_B.to(to)), (batch.ids_UL.to(to), batch.mask_UL.to(to))]
        stored = self.config.states and not self.config.distil
        encoders = [self._autocast(self._encode_states if stored else self.model.encode_audio), text]

        def loss_of(audio_BD: Tensor, text_UD: Tensor) -> Tensor:
            audio_BD, text_UD = self.world.gather(audio_BD, text_UD)
            loss = self.loss(audio_BD, text_UD, batch)
            if batch.target_BD is None:
                return loss
            return loss + self.config.distil.weight * distil.distance(audio_BD, batch.target_BD)

        if self.config.grad_cache:
            loss = cached_step(encoders, inputs, loss_of, self.config.grad_cache, self.model)
        else:
            loss = plain_step(encoders, inputs, loss_of)
        self.world.average_gradients(self.trainable)
        return loss

    def _text_gradients(self, text: Any, batch: TextBatch) -> Tensor:
        to, c = self.world.device, self.config.texts

        def loss_of(text_UD: Tensor) -> Tensor:
            return losses.same_fact(text_UD, batch.fact_U.to(to), batch.task_U.to(to), c.scale, c.apart)

        return plain_step([text], [(batch.ids_UL.to(to), batch.mask_UL.to(to))], loss_of)

    def _encode_states(self, states_BNKW: Tensor, len_B: Tensor) -> Tensor:
        mask_BN = torch.arange(states_BNKW.shape[1], device=len_B.device) < len_B[:, None]
        return self.model.encode_states(states_BNKW, mask_BN)

    def _encode_remembered(self, ids_UL: Tensor, mask_UL: Tensor) -> Tensor:
        return nn.functional.normalize(self.model.text_head(self.memo(ids_UL, mask_UL)).float(), dim=-1)

    def _texts(self, texts: list[str]) -> Tensor:
        """Unit embeddings of texts by a frozen text side."""
        ids_UL, mask_UL = self.tokenizer(texts)
        return self._encode_remembered(ids_UL.to(self.world.device), mask_UL.to(self.world.device))

    def _autocast(self, encode: Any) -> Any:
        """bf16 in the towers only: front-ends and normalisation keep float32 themselves, the loss lies outside."""
        enabled = self.config.precision == "bf16" and bf16_pays(self.world.device.type)

        def call(*tensors: Tensor) -> Tensor:
            with torch.autocast(self.world.device.type, torch.bfloat16, enabled=enabled):
                return encode(*tensors)

        return call

    def loss(self, audio_BD: Tensor, text_UD: Tensor, batch: Batch) -> Tensor:
        """The recipe's loss of the whole batch, in float32."""
        c, scale = self.config.loss, self.model.scale
        loss = c.weight * self._caption_loss(audio_BD, text_UD, batch, scale) if c.weight else audio_BD.new_zeros(())
        if self.facts is not None:
            positive_BF, ignore_BF = (t.to(audio_BD.device) for t in (batch.fact_BF, batch.fact_ignore_BF))
            verdicts = (positive_BF, ignore_BF, c.facts_scale)
            loss = loss + losses.within_tasks(audio_BD, self.facts, *verdicts, c.smoothing)
            if c.facts:
                pairs = (positive_BF, c.facts_scale, ignore_BF)
                loss = loss + c.facts * losses.multi_positive(audio_BD, self.facts.vectors_FD, *pairs)
        return loss

    def _caption_loss(self, audio_BD: Tensor, text_UD: Tensor, batch: Batch, scale: Tensor) -> Tensor:
        kind = self.config.loss.kind
        positive_BU, ignore_BU = (t.to(audio_BD.device) for t in (batch.positive_BU, batch.ignore_BU))
        if kind == "info_nce":
            return losses.info_nce(audio_BD, text_UD[batch.text_index_B.to(text_UD.device)], scale)
        if kind == "audio_to_text":
            return losses.audio_to_text(audio_BD, text_UD, positive_BU, scale, ignore_BU)
        if kind == "sigmoid":
            return losses.sigmoid(audio_BD, text_UD, positive_BU, scale, self.model.bias, ignore_BU)
        return losses.multi_positive(audio_BD, text_UD, positive_BU, scale, ignore_BU)

    def save(self) -> None:
        """Write the training state and export what it would give as a model now."""
        if self.world.main:
            tensors = checkpoint.state_of(self.model, self.optimizer, self.ema)
            checkpoint.save(self.out, self.done, tensors, self.recipe, self.config.keep)
            model = copy.deepcopy(self.model)
            if self.ema:
                model.load_state_dict(self.ema.tensors)
            if self.stored is not None and self.done >= self.config.steps:
                for line in readout.fit(model, self.stored, self.config.readout, self._texts):
                    print(line, flush=True)
            if self.judge is None or self.judge(model, self.done):
                factory.save_checkpoint(self.out / "checkpoint", model, self.tokenizer, self.card())
            if self.memo:
                self.memo.save()
        self.world.wait()
        self.saved = time.monotonic()

    def card(self) -> str:
        """A first README.md for the exported checkpoint: what made it."""
        recipe = yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True)
        made = f"After {self.done} of {self.config.steps} steps of this recipe:"
        return with_front(
            lineage(self.config, self.out / "checkpoint", self.entries),
            f"# {self.out.name}\n\n{made}\n\n```yaml\n{recipe}```\n",
        )


def _without_traceback(error: ClaraError) -> ClaraError:
    """A loader's worker sends its error with its traceback as the message; only the last part is for the reader."""
    return ClaraError(str(error).rpartition("clara.errors.ClaraError: ")[2].strip())
