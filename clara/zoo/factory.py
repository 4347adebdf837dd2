"""Models by name, and checkpoints as folders: clara.yaml, model.safetensors, tokenizer files, README.md.

Loading a folder reads nothing else, and weights load strictly or not at all.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clara.audio import waveform
from clara.config import ModelConfig, Spec, arch_config, build, to_dict
from clara.data.parallel import sole_writer
from clara.errors import ClaraError, unknown
from clara.hub import said
from clara.model import DualEncoder
from clara.parsing import parse_json
from clara.saving import MOVING, check_digests, digests, place_files, settle, sha256_of
from clara.text.tokenizer import HFTokenizer, Tokenizer, build_tokenizer
from clara.towers.base import weightless
from clara.zoo import catalog, convert
from clara.zoo.catalog import checkpoint_folder
from clara.zoo.storage import (
    CONFIG,
    TEXT,
    TEXT_FROM,
    WEIGHTS,
    TextFrom,
    own_config,
    read_tensors,
    stored,
    text_home,
    with_text_of,
)
from clara.zoo.unpickle import weights_sha256

CARD = "README.md"
SAVED_WITH = "saved_with"  # in the weights' metadata: JSON, file -> sha256 of what was saved beside them
PADDED_SHARE = 0.03  # of a table of token embeddings that no token has: their number is often rounded up
PADDED_ROWS = 8
WAIT_SECONDS = 60.0  # for another process that saves or settles the same folder
CONVERTED = """
Another project's checkpoint as a CLARA folder, its weights unchanged in float32 and its tokenizer beside them.
`sha256` is that of the file it was made from; `license` is what its publishers state of their own checkpoints.
"""


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory: the model in eval mode on the CPU, its tokenizer, and the sha256 of its weights file."""

    name: str
    model: DualEncoder
    tokenizer: Tokenizer
    sha256: str


def create_model(name: str | Path, pretrained: str | None = None) -> DualEncoder:
    """Build a model in eval mode on the CPU: random weights for an architecture, trained ones for every other name.

    Args:
        name: 'arch', 'arch.tag', 'hf:org/repo[@revision]' or 'dir:path'.
        pretrained: the tag, when `name` is an architecture.

    Raises:
        ClaraError: the name is none of these, or the checkpoint does not fit.
    """
    read = catalog.parse_name(name, pretrained)
    if read.kind == "arch":
        return DualEncoder(arch_config(read.value)).eval()
    return load_checkpoint(checkpoint_folder(read), name=str(name)).model


def get_tokenizer(name: str | Path, pretrained: str | None = None) -> Tokenizer:
    """The tokenizer of a model: texts -> ids_BL, mask_BL. Names as in `create_model`."""
    read = catalog.parse_name(name, pretrained)
    if read.kind == "arch":
        return build_tokenizer(arch_config(read.value).tokenizer)
    folder = checkpoint_folder(read)
    if family := _foreign_family(folder):
        return convert.read_foreign(folder, family).tokenizer
    config = read_config(folder)
    return _own_tokenizer(config.tokenizer, text_home(folder, catalog.CHECKPOINT_FOLDER))


@dataclass(frozen=True)
class Transform:
    """Reads audio as a model takes it; it can be pickled, for workers of a DataLoader. `sample_rate` in Hz."""

    sample_rate: int
    seconds: float

    def __call__(self, source: Any, start: float = 0.0) -> Tensor:
        """A path, encoded bytes or (array, rate) -> wave_T, from `start` seconds on for at most `seconds`."""
        return torch.from_numpy(waveform.read(source, self.sample_rate, start=start, seconds=self.seconds))


def create_model_and_transforms(
    name: str | Path, pretrained: str | None = None
) -> tuple[DualEncoder, Callable[..., Tensor], Tokenizer]:
    """(model, transform, tokenizer). `transform(source, start=0.0)` reads a path, encoded bytes or (array, rate) as
    wave_T, mono float32 at the model's sample rate, ready for `encode_audio`: at most `front_end.window_seconds` from
    `start` seconds on. For longer audio see `clara.load(name).embed_audio`. Names and errors as in `create_model`."""
    read = catalog.parse_name(name, pretrained)
    if read.kind == "arch":
        config = arch_config(read.value)
        model, tokenizer = DualEncoder(config).eval(), build_tokenizer(config.tokenizer)
    else:
        loaded = load_checkpoint(checkpoint_folder(read), name=str(name))
        model, tokenizer = loaded.model, loaded.tokenizer
    rate, seconds = model.front_end.sample_rate, model.front_end.window_seconds

    return model, Transform(rate, seconds), tokenizer


def read_config(folder: Path) -> ModelConfig:
    """The config of a checkpoint folder; ClaraError naming what a folder must hold when this is none."""
    catalog.existing(folder)
    if (folder / MOVING).is_dir():  # its writer was killed when all was written, and not all in its place
        with sole_writer(folder, WAIT_SECONDS):
            settle(folder)
    missing = [f for f in (CONFIG, WEIGHTS) if not (folder / f).is_file()]
    if missing:
        raise ClaraError(
            f"{folder} is not a checkpoint: it lacks {' and '.join(missing)}. "
            f"Expected {CONFIG}, {WEIGHTS}, the tokenizer's files and {CARD}."
        )
    return build(ModelConfig, own_config(folder), where=str(folder / CONFIG))


def load_checkpoint(folder: str | Path, name: str | None = None) -> Loaded:
    """Load a checkpoint folder strictly, in float32. A folder of another project that its config.json makes known
    (transformers' ClapModel) is converted in memory; nothing is written. One whose clara.yaml says `text_from` takes
    its text tower and tokenizer from that checkpoint, beside it or in the package.

    Raises:
        ClaraError: no checkpoint, a config that does not build, or missing, unexpected or mis-shaped tensors (listed).
    """
    folder = Path(folder)
    if family := _foreign_family(folder):
        return load_foreign(folder, family, name=name)
    config = read_config(folder)
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            saved_with = (file.metadata() or {}).get(SAVED_WITH)
    except SafetensorError as e:
        raise ClaraError(f"{path} is not a readable safetensors file ({e}): copy or download it again.") from e
    tensors, home = read_tensors(path), text_home(folder, catalog.CHECKPOINT_FOLDER)
    if home != folder:
        tensors = with_text_of(home, tensors, path)
    tokenizer = _own_tokenizer(config.tokenizer, home)
    if saved_with is not None:
        check_digests(folder, _saved_with(path, saved_with), WEIGHTS)
    model = build_around(config, tensors, str(path))
    check_vocabulary(model, tokenizer, str(folder))
    return Loaded(name or folder.name, model.eval(), tokenizer, sha256_of(path))


def _saved_with(path: Path, text: str) -> dict[str, str]:
    """Digests of the files that a checkpoint's weights were saved with."""
    try:
        stated = parse_json(text)
    except ClaraError:
        stated = None
    if not isinstance(stated, dict) or not all(isinstance(digest, str) for digest in stated.values()):
        raise ClaraError(f"{path} does not state the digests of the files beside it: copy or download it again.")
    return stated


def load_foreign(path: str | Path, family: str, tokenizer: str | None = None, name: str | None = None) -> Loaded:
    """Load a checkpoint of another project, a file or folder, by its converter; see `clara.zoo.convert.read_foreign`.

    Raises:
        ClaraError: unknown family, an unreadable file, or tensors that do not fit (listed).
    """
    foreign = convert.read_foreign(path, family, tokenizer)
    model = build_around(foreign.config, foreign.tensors, str(foreign.weights))
    check_vocabulary(model, foreign.tokenizer, str(path))
    return Loaded(name or Path(path).name, model.eval(), foreign.tokenizer, weights_sha256(foreign.weights))


def check_vocabulary(model: DualEncoder, tokenizer: Tokenizer, where: str) -> None:
    """ClaraError where the tokenizer is not the text tower's: it has more tokens than the tower has embeddings, or far
    fewer. A table may be a little longer, for some are padded."""
    modules: list[Any] = list(model.text.modules())
    own = next((m.get_input_embeddings() for m in modules if hasattr(m, "get_input_embeddings")), None)
    table = own or next(m for m in modules if isinstance(m, torch.nn.Embedding))
    rows, tokens = table.num_embeddings, tokenizer.vocab_size
    if tokens > rows or rows - tokens > max(PADDED_ROWS, PADDED_SHARE * rows):
        raise ClaraError(
            f"{where}: the tokenizer has {tokens} tokens, the text tower {rows} embeddings: it is another model's "
            "tokenizer, or lacks files. Put the one there that the model was trained with."
        )


def convert_checkpoint(
    path: str | Path,
    folder: str | Path,
    family: str | None = None,
    tokenizer: str | None = None,
    storage: str | None = None,
) -> Path:
    """Write a checkpoint of another project as a folder of ours, for `load('dir:folder')`; or one of ours in another
    storage, its card with it.

    Args:
        path: its file or folder.
        folder: where to write.
        family: which converter reads it; may be left out for a folder whose config.json says it, and for ours.
        tokenizer: a local folder or file, or a hub id, instead of the family's own.
        storage: as of `save_checkpoint`; without it float32.

    Raises:
        ClaraError: as `load_foreign`, a family that has to be named, or a folder that holds other things.
    """
    if not Path(path).exists():
        raise ClaraError(f"No such file or folder: {path}.")
    own = (Path(path) / CONFIG).is_file()
    if own and (family or tokenizer):
        raise ClaraError(f"{path} is a checkpoint of this project: it takes neither a converter nor another tokenizer.")
    family = family or (None if own else convert.detect(path))
    if family is None and not own:
        raise ClaraError(f"{path} does not say what it is: name the converter ({', '.join(convert.families())}).")
    if Path(folder).is_dir() and any(Path(folder).iterdir()) and not (Path(folder) / CONFIG).is_file():
        raise ClaraError(f"{folder} is not empty, and no checkpoint that could be replaced: name a new folder.")
    if family is None:
        mine = load_checkpoint(path)
        file = Path(path) / CARD
        card = file.read_text(encoding="utf-8") if file.is_file() else f"# {Path(folder).name}\n"
        return save_checkpoint(folder, mine.model, mine.tokenizer, card, torch.float32, storage)
    loaded = load_foreign(path, family, tokenizer)
    licence = convert.CONVERTERS[family].licence
    front = {"converted_from": Path(path).name, "converter": family, "sha256": loaded.sha256, "license": licence}
    card = f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n# {Path(folder).name}\n" + CONVERTED
    return save_checkpoint(folder, loaded.model, loaded.tokenizer, card, torch.float32, storage)


def _foreign_family(folder: Path) -> str | None:
    return None if (folder / CONFIG).is_file() else convert.detect(folder)


def load_strictly(model: torch.nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy `tensors` into `model`, cast to its types. ClaraError lists every tensor that is missing, unexpected or of
    another shape; nothing is copied then."""
    _check_fit(model.state_dict(), tensors, where)
    model.load_state_dict(dict(tensors), strict=True)


def build_around(config: ModelConfig, tensors: Mapping[str, Tensor], where: str) -> DualEncoder:
    """The model of `config` with `tensors` as its weights, not copied where their type is the model's own: no second
    set of weights is ever made, and a mapped file is read as far as it is used. ClaraError as `load_strictly`."""
    try:
        with weightless():
            model = DualEncoder(config)
    except (RuntimeError, MemoryError) as e:
        if "allocat" not in str(e):
            raise
        raise ClaraError(f"{where}: its config states a model that does not fit into memory ({said(e)}).") from e
    own = model.state_dict(keep_vars=True)
    _check_fit(own, tensors, where)
    filled: dict[int, Tensor] = {}  # by what is filled: weights that a model shares stay shared
    taken = set()
    for name, slot in own.items():
        if id(slot) in filled:
            continue
        tensor = tensors[name].detach().to(slot.dtype).contiguous()
        if tensor.data_ptr() in taken:  # and weights that only the file shares become two
            tensor = tensor.clone()
        taken.add(tensor.data_ptr())
        is_parameter = isinstance(slot, torch.nn.Parameter)
        filled[id(slot)] = torch.nn.Parameter(tensor, slot.requires_grad) if is_parameter else tensor
    model.load_state_dict({name: filled[id(slot)] for name, slot in own.items()}, strict=True, assign=True)
    return model


def _check_fit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    faults = [f"missing {n} {tuple(own[n].shape)}" for n in own if n not in tensors]
    faults += [f"unexpected {n} {tuple(tensors[n].shape)}" for n in tensors if n not in own]
    faults += [
        f"{n} is {tuple(tensors[n].shape)}, expected {tuple(t.shape)}"
        for n, t in own.items()
        if n in tensors and tensors[n].shape != t.shape
    ]
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise ClaraError(f"{where} does not fit its {CONFIG}: {shown}.")


def save_checkpoint(
    folder: str | Path,
    model: DualEncoder,
    tokenizer: Tokenizer,
    card: str,
    dtype: torch.dtype = torch.float16,
    storage: str | None = None,
) -> Path:
    """Write a checkpoint folder that `load` accepts as 'dir:folder'; an older checkpoint there is replaced.

    Matrices and kernels are stored as `dtype`; vectors and scalars (biases, norms, running statistics, temperature)
    keep float32, because they are small and some leave float16's range. `card` is the text of README.md.
    `storage='int8'`, instead of `dtype`, stores large matrices as int8 with a scale per row: half of float16's bytes.

    Raises:
        ClaraError: a weight is NaN or infinite, or becomes so in `dtype`; or there is no room. What was in
            the folder before is then as it was.
    """
    folder = Path(folder)
    if storage not in (None, "int8"):
        raise unknown("storage", storage, ("int8",))
    dtype = torch.int8 if storage == "int8" else dtype
    tensors = {k: v for n, t in model.state_dict().items() for k, v in stored(n, t, dtype).items()}
    part = folder / ".part"
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder, WAIT_SECONDS):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            spec = _save_tokenizer(tokenizer, model.config.tokenizer, part)
            config = to_dict(dataclasses.replace(model.config, tokenizer=spec))
            (part / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
            tied = {SAVED_WITH: json.dumps(digests(part))}  # of the config and the tokenizer; a card may be edited
            (part / CARD).write_text(card, encoding="utf-8")
            save_file(tensors, part / WEIGHTS, metadata=tied)
            place_files(part, folder)
        except (SafetensorError, OSError) as e:
            raise ClaraError(f"{folder} cannot be written ({e}): make room, or save elsewhere.") from e
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def share_text(folder: str | Path, other: str | Path) -> Path:
    """Let the checkpoint in `folder` take its text tower, text head and tokenizer from `other`, a checkpoint beside it
    or in the package: its own copies of them go.

    Raises:
        ClaraError: the text sides are not equal in every weight, or `other` is not a checkpoint that can be found
            again.
    """
    folder, other = Path(folder), Path(other)
    config, theirs = read_config(folder), read_config(other)
    mine, kept = read_tensors(folder / WEIGHTS), read_tensors(other / WEIGHTS)
    same = (config.text, config.text_head, config.tokenizer) == (theirs.text, theirs.text_head, theirs.tokenizer)
    texts = {n for n in {*mine, *kept} if n.startswith(TEXT)}
    if not same or not all(n in mine and n in kept and torch.equal(mine[n], kept[n]) for n in texts):
        raise ClaraError(f"{folder} and {other} have different text sides: only equal ones can be shared.")
    if other.resolve().parent not in (folder.resolve().parent, catalog.CHECKPOINT_FOLDER.resolve()):
        raise ClaraError(f"{other} would not be found again: it must lie beside {folder}, or in the package.")
    files = _own_tokenizer(config.tokenizer, folder).files
    shared = to_dict(TextFrom(other.name, sha256_of(other / WEIGHTS)))
    with safe_open(folder / WEIGHTS, "pt") as file:
        rest = {n: file.get_tensor(n) for n in file.keys() if not n.startswith(TEXT)}  # noqa: SIM118
    data, part = {**own_config(folder), TEXT_FROM: shared}, folder / ".part"
    with sole_writer(folder, WAIT_SECONDS):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        (part / CONFIG).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
        save_file(rest, part / WEIGHTS, metadata={SAVED_WITH: json.dumps(digests(part))})
        place_files(part, folder)
        shutil.rmtree(part, ignore_errors=True)
    for file in files:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    return folder


def _save_tokenizer(tokenizer: Tokenizer, spec: Spec, folder: Path) -> Spec:
    """Write the tokenizer's files into the checkpoint; returns the spec that finds them there."""
    if isinstance(tokenizer, HFTokenizer):
        tokenizer.tokenizer.save_pretrained(folder / "tokenizer")
        return Spec(spec.kind, {**spec.options, "name": "tokenizer"})
    for file in tokenizer.files:
        shutil.copyfile(file, folder / file.name)
    return spec


def _own_tokenizer(spec: Spec, folder: Path) -> Tokenizer:
    """The tokenizer from the checkpoint's own files; one found elsewhere would be another vocabulary."""
    tokenizer = build_tokenizer(spec, folder)
    if not tokenizer.files or any(f.parent.resolve() != folder.resolve() for f in tokenizer.files):
        raise ClaraError(f"{folder} lacks the files of its {spec.kind} tokenizer ({dict(spec.options)}).")
    return tokenizer
