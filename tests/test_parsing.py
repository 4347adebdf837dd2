"""JSON and YAML made to hurt end in one line of error, wherever they are read."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import save_tiny

from clara.config import load_yaml
from clara.data.annotate import work_through
from clara.data.manifest import read_manifest
from clara.data.samples import read_index, read_shard, verify_shards
from clara.errors import ClaraError
from clara.parsing import DEEPEST, parse_json, parse_yaml
from clara.report.maps import read_sample, write_sample
from clara.results import read_results
from clara.train.memo import TextMemo
from clara.zoo.factory import load_checkpoint
from clara.zoo.lineage import statement
from clara.zoo.unpickle import load_tensors

DEEP = "[" * 100_000 + "]" * 100_000
BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
LONG = "9" * 400  # as a number of JSON, more than a float holds


def test_what_people_write_is_read() -> None:
    """Nesting up to the bound, and aliases that stand for little."""
    nested = "[" * DEEPEST + "]" * DEEPEST
    assert parse_json(nested) == parse_yaml(nested) == json.loads(nested)
    assert parse_json(nested.encode()) == json.loads(nested)
    assert parse_yaml("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n") == {"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}] * 2}
    assert parse_yaml("a: '" + "[" * 200 + "'") == {"a": "[" * 200}


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        '{"a":' * 50_000 + "1" + "}" * 50_000,
        "9" * 5000,
        '"\\u12"',
        "[1,",
    ],
)
def test_json_made_to_hurt(text: str) -> None:
    with pytest.raises(ClaraError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        *(DEEP, "{a: " * 50_000 + "1" + "}" * 50_000, "- " * 50_000 + "1", "? " * 50_000 + "1"),
        "".join(" " * i + "a:\n" for i in range(5000)),
        *(BOMB, "a: &a [*a]", "a: &a\n  <<: *a\n"),
        *("a: 2020-13-45", "a: 2020-02-30 10:00:00", "a: " + "9" * 5000, "{[a]: 1}", "a: !!python/name:os.system x"),
    ],
)
def test_yaml_made_to_hurt(text: str) -> None:
    """libyaml itself ends the process at the first of these."""
    with pytest.raises(ClaraError):
        parse_yaml(text)


def shard(folder: Path, meta: str) -> Path:
    """A shard of one sample."""
    clip, path = io.BytesIO(), folder / "0.tar"
    sf.write(clip, np.full(800, 0.1), 16000, format="FLAC")
    with tarfile.open(path, "w") as out:
        for name, data in (("a.flac", clip.getvalue()), ("a.json", meta.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


READERS: dict[str, Callable[[Path], Any]] = {
    "x.yaml": load_yaml,
    "m.jsonl": lambda path: list(read_manifest(path)),
    "r.json": read_results,
    "w.safetensors.index.json": load_tensors,
    "c.jsonl": lambda path: work_through(["a"], path, lambda keys: [(k, 1) for k in keys], 1),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", [DEEP, '{"a": ' + DEEP + "}", "9" * 5000])
def test_every_reader_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text + "\n")
    with pytest.raises(ClaraError, match=name.split(".")[0]):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("value", [LONG, "1e999", "NaN"])
def test_a_length_is_a_finite_number(tmp_path: Path, value: str) -> None:
    """Of our own manifests an error; what others state and cannot be is not known."""
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "corpus": "x", "seconds": ' + value + "}\n")
    with pytest.raises(ClaraError, match=r"m\.jsonl:1: 'seconds'"):
        list(read_manifest(tmp_path / "m.jsonl"))
    (sample,) = read_shard(shard(tmp_path, '{"text": "rain", "seconds": ' + value + "}"))
    assert sample.row.seconds is None


def test_shards_whose_json_is_deep(tmp_path: Path) -> None:
    path = shard(tmp_path, '{"text": ' + DEEP + "}")
    with pytest.raises(ClaraError, match="sample 'a': invalid JSON"):
        list(read_shard(path))
    (problem,) = verify_shards(tmp_path)
    assert "invalid JSON" in problem.what


@pytest.mark.parametrize(
    "text", [DEEP, "[]", '{"shards": 3}', '{"shards": [1]}', '{"shards": [{"name": "0.tar"}]}',
             '{"shards": [{"name": ["0.tar"], "sha256": ""}]}'],
)  # fmt: skip
def test_an_index_of_shards_states_names_and_digests(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ClaraError, match="not an index of shards"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "front", [BOMB, "a: " + DEEP, "license: x\ntrained_on: 3", "license: x\nheld_out: [a]", "\xff: ["]
)
def test_cards_made_to_hurt(tmp_path: Path, front: str) -> None:
    """A card that cannot be read states nothing, and that is said; one of other kinds of values is an error."""
    (tmp_path / "README.md").write_bytes(f"---\n{front}\n---\n# a\n".encode("latin-1"))
    if front.startswith("license"):
        with pytest.raises(ClaraError, match="trained_on"):
            statement(f"dir:{tmp_path}")
    else:
        with pytest.warns(UserWarning, match="not stated"):
            assert statement(f"dir:{tmp_path}") is None


@pytest.mark.parametrize("stated", ["", "[]", '{"clara.yaml": 3}', DEEP])
def test_digests_in_the_metadata_of_weights(tmp_path: Path, stated: str) -> None:
    from safetensors.torch import load_file, save_file

    path = save_tiny(tmp_path / "m") / "model.safetensors"
    save_file(load_file(path), path, metadata={"saved_with": stated})
    with pytest.raises(ClaraError, match="digests"):
        load_checkpoint(path.parent)


class Tower(torch.nn.Module):
    """Counts instead of meanings."""

    width = 2

    def forward(self, ids_UL: torch.Tensor, mask_UL: torch.Tensor) -> torch.Tensor:
        """The sums of both."""
        return torch.stack([ids_UL.sum(1), mask_UL.sum(1)], 1).float()


@pytest.mark.parametrize("at", [0, 40, 400, -30])
def test_what_is_kept_between_runs_is_whole(tmp_path: Path, at: int) -> None:
    """A damaged .npz is one line of error, which says what to do."""
    write_sample(tmp_path / "s.npz", np.eye(20), ["dog"] * 20)
    memo: Any = TextMemo(Tower(), tmp_path)  # type: ignore[arg-type]
    memo(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.ones(2, 3, dtype=torch.bool))
    memo.save()
    assert len(TextMemo(Tower(), tmp_path).known) == 2  # type: ignore[arg-type]
    for path, read in ((tmp_path / "s.npz", read_sample), (memo.path, lambda p: TextMemo(Tower(), p.parent))):  # type: ignore[arg-type]
        data = bytearray(path.read_bytes())
        data[at : (at + 30) or None] = bytes(30)
        path.write_bytes(data)
        with pytest.raises(ClaraError, match=path.name):
            read(path)
