"""The kinds of file that `fuzz.py` mutates: for each a good file, and what reads it as users do."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16000
AUDIO = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
         "mp3": ("MP3", None), "m4a": ("ipod", "aac")}  # fmt: skip
Case = tuple[bytes, Callable[[bytes], Any]]  # a good file, and what reads a mutated one


def tiny(folder: Path) -> Path:
    """A checkpoint folder of a small model with random weights: what is tried is the reading."""
    from clara.config import arch_config
    from clara.text.tokenizer import build_tokenizer
    from clara.zoo.factory import create_model, save_checkpoint

    card = "---\nlicense: cc0-1.0\n---\n# tiny\nRandom weights.\n"
    return save_checkpoint(folder, create_model("test-conv"), build_tokenizer(arch_config("test-conv").tokenizer), card)


def audio(kind: str, folder: Path) -> Case:
    """Two seconds of a siren; it is measured, read in part and embedded."""
    import soundfile as sf

    import clara
    from clara.apps.synth import siren
    from clara.audio import waveform

    wave = siren(np.random.default_rng(0), 2.0).astype(np.float32)
    wave *= 0.5 / np.abs(wave).max()
    buffer, (container, codec) = io.BytesIO(), AUDIO[kind]
    if kind == "m4a":
        import av

        with av.open(buffer, "w", format=container) as film:
            track = film.add_stream(codec, rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
            frame.sample_rate = RATE
            film.mux([*track.encode(frame), *track.encode(None)])
    else:
        sf.write(buffer, wave, RATE, format=container, subtype=codec)
    zoo, path = clara.load(f"dir:{tiny(folder / 'model')}", device="cpu"), folder / f"clip.{kind}"

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        waveform.info(path)
        waveform.read(data, RATE, start=0.5, seconds=1.0)
        return zoo.embed_audio(path)

    return buffer.getvalue(), read


def tar(folder: Path) -> Case:
    """A shard of two samples."""
    import soundfile as sf

    from clara.data.entries import scan
    from clara.data.loader import DataConfig
    from clara.data.samples import read_shard, verify_shards

    clip, buffer = io.BytesIO(), io.BytesIO()
    sf.write(clip, np.zeros(800), RATE, format="FLAC")
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for key in "ab":
            for suffix, data in (("flac", clip.getvalue()), ("json", b'{"text": ["rain"], "seconds": 0.05}')):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    path = folder / "0.tar"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        verify_shards(folder)
        scan(DataConfig((str(path),), 1))
        list(read_shard(path))

    return buffer.getvalue(), read


def json_rows(folder: Path) -> Case:
    """A manifest, a sample's description, and an index of shards."""
    from clara.data.manifest import Row, read_manifest, row_to_dict
    from clara.data.samples import read_index, row_from_meta
    from clara.errors import ClaraError
    from clara.parsing import parse_json

    row = Row("a.wav", "toy", seconds=1.5, text=("rain", "wind"), emotion="anger", original={"labels": ["dog"]})
    foreign = {
        "text": ["rain"],
        "tag": ["a", "b"],
        "original_data": {"class_names": ["Dog"], "age": 3},
        "split": "Train",
    }
    index = {"count": 1, "hours": 0.1, "shards": [{"name": "0.tar", "sha256": "0" * 64, "count": 1}]}

    def read(data: bytes) -> None:
        lines = data.split(b"\n")
        (folder / "m.jsonl").write_bytes(lines[0] + b"\n")
        (folder / "index.json").write_bytes(lines[-1])
        refused = []
        for attempt in (
            lambda: list(read_manifest(folder / "m.jsonl")),
            lambda: read_index(folder),
            lambda: row_from_meta(parse_json(lines[len(lines) // 2]), "a.tar::0.flac"),
        ):
            try:
                attempt()
            except ClaraError as e:
                refused.append(e)
        if refused:
            raise refused[0]

    return b"\n".join(json.dumps(x).encode() for x in (row_to_dict(row), foreign, index)), read


def csv(folder: Path) -> Case:
    """A table of clips, as fine-tuning and as the corpus `csv` read it."""
    from clara.data.clip_tables import read_rows
    from clara.data.manifest import rows_from_corpus
    from clara.errors import ClaraError

    for name in "abc":
        (folder / f"{name}.wav").touch()
    table = 'audio,text,label,task,split,language\na.wav,"rain, and ""wind""",dog,sound,train,de\n'
    table += 'b.wav,"two\nlines",,,test,\na.wav,wind,rain,sound,train,de\nc.wav,,cat,sound,,\n'
    path = folder / "t.csv"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_rows(path)
        except ClaraError:
            list(rows_from_corpus("csv", path))
            raise
        list(rows_from_corpus("csv", path))

    return table.encode(), read


def safetensors(folder: Path) -> Case:
    """The weights of a checkpoint."""
    import clara

    weights = tiny(folder / "model") / "model.safetensors"

    def read(data: bytes) -> Any:
        weights.write_bytes(data)
        return clara.load(f"dir:{folder / 'model'}", device="cpu").embed_text(["rain"])

    return weights.read_bytes(), read


def pickle(folder: Path) -> Case:
    """A checkpoint as torch saves it."""
    import torch

    from clara.zoo.unpickle import read_pickled

    path = folder / "weights.pt"
    torch.save(
        {"state_dict": {"a": torch.randn(4, 5), "b": torch.arange(3)}, "epoch": 3, "array": np.arange(4.0)}, path
    )
    good = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_pickled(path)

    return good, read


def yaml(folder: Path) -> Case:
    """The config of a checkpoint, and the front matter of its card."""
    import clara
    from clara.zoo.lineage import statement

    model = tiny(folder / "model")
    front = "license: cc0-1.0\ntrained_on: [{corpus: toy, clips: 3, folds: [1, 2]}]\nheld_out: {esc50: fold 5}\n"

    def read(data: bytes) -> Any:
        config, _, head = data.partition(b"\0")
        (model / "clara.yaml").write_bytes(config)
        (model / "README.md").write_bytes(b"---\n" + head + b"---\n# tiny\n")
        statement(f"dir:{model}")
        return clara.load(f"dir:{model}", device="cpu").embed_text(["rain"])

    return (model / "clara.yaml").read_bytes() + b"\0" + front.encode(), read


def index(folder: Path) -> Case:
    """A saved index of embeddings; it is searched."""
    import torch

    from clara.apps.search import Index

    rows = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    file = Index(rows, [f"{name}.wav" for name in "abcde"], "model", "0" * 64).save(folder / "i")

    def read(data: bytes) -> Any:
        file.write_bytes(data)
        found = Index.load(file)
        found.nearest(torch.ones(1, found.audio_ND.shape[1]), 3)
        return found.audio_ND

    return file.read_bytes(), read


def npz(folder: Path) -> Case:
    """What is kept between runs: a result's sample of embeddings, and the texts of a frozen tower."""
    import torch

    from clara.report.maps import read_sample, write_sample
    from clara.train.memo import TextMemo

    class Tower(torch.nn.Module):
        width = 2

        def forward(self, ids_UL: Any, mask_UL: Any) -> Any:
            return torch.stack([ids_UL.sum(1), mask_UL.sum(1)], 1).float()

    write_sample(folder / "s.npz", np.eye(4, 6), ["dog", "rain", "dog", "siren"])
    memo = TextMemo(Tower(), folder)
    memo(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.ones(2, 3, dtype=torch.bool))
    memo.save()
    sample, texts = (folder / "s.npz").read_bytes(), memo.path.read_bytes()

    def read(data: bytes) -> Any:
        (folder / "s.npz").write_bytes(data[: len(sample)])
        memo.path.write_bytes(data[len(sample) :])
        vectors, _ = read_sample(folder / "s.npz")
        TextMemo(Tower(), folder)
        return torch.from_numpy(vectors)

    return sample + texts, read


def tokenizer(folder: Path) -> Case:
    """The sentencepiece model of a checkpoint, whose digest is right: its writer means harm."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    import clara
    from clara.saving import digests

    model = tiny(folder / "model")
    (file,) = model.glob("*.model")
    with safe_open(model / "model.safetensors", "pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118

    def read(data: bytes) -> Any:
        file.write_bytes(data)
        stated = {k: v for k, v in digests(model).items() if k in ("clara.yaml", file.name)}
        save_file(tensors, model / "model.safetensors", metadata={"saved_with": json.dumps(stated)})
        return clara.load(f"dir:{model}", device="cpu").embed_text(["rain", "вітер і дощ"])

    return file.read_bytes(), read


CASES: dict[str, Callable[[Path], Case]] = {
    **{kind: (lambda folder, kind=kind: audio(kind, folder)) for kind in AUDIO},
    "tar": tar, "json": json_rows, "csv": csv, "safetensors": safetensors, "pickle": pickle,
    "yaml": yaml, "index": index, "npz": npz, "tokenizer": tokenizer,
}  # fmt: skip
