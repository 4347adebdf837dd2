"""Cut the vocabulary of a multilingual text encoder down to the pieces that its texts need.

    python recipes/vocabulary.py FOLDER OUT --texts captions_train.csv [--best 20000] [--fill names.json --pieces 64000]

FOLDER is a transformers folder with a Unigram tokenizer.json and a model.safetensors (XLM-R, multilingual e5). Kept are
special tokens, every piece that the given texts and all words of `clara/text/languages` use, every piece of a single
character, and the --best pieces by score; then those that the --fill texts use most, until there are --pieces. A text
made of kept pieces is segmented as before and has the same vector; others fall into shorter pieces. OUT is a folder of
the same kind, for `hf_text` and the 'hf' tokenizer. Minutes.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from safetensors.torch import load_file, save_file
from tokenizer import our_words
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from clara.errors import ClaraError
from clara.text.prompts import languages

COLUMNS = ("caption", "description", "title", "transcript", "text")
LANGUAGES = Path(__file__).parents[1] / "clara" / "text" / "languages"
BATCH = 10_000


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file: the columns of a csv that begin as in COLUMNS, every string of a json or yaml, the lines of
    any other."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield from (v for k, v in row.items() if k and v and k.startswith(COLUMNS))
    elif path.suffix in (".json", ".yaml"):
        text = path.read_text(encoding="utf-8")
        yield from _strings(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    else:
        yield from path.read_text(encoding="utf-8").splitlines()


def _strings(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value)


def used(folder: Path, texts: Iterable[str]) -> Counter[int]:
    """Ids of the pieces that the texts consist of, as they are written and in lower case, and how often each comes."""
    tokenizer, found, texts = Tokenizer.from_file(str(folder / "tokenizer.json")), Counter(), iter(texts)
    while batch := list(islice(texts, BATCH)):
        for encoding in tokenizer.encode_batch([*batch, *map(str.lower, batch)]):
            found.update(encoding.ids)
    return found


def kept(folder: Path, found: Iterable[int], best: int) -> list[int]:
    """Ids to keep, rising. ClaraError for a tokenizer of another kind."""
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = data["model"]
    if model.get("type") != "Unigram":
        raise ClaraError(f"{folder} has a tokenizer of type {model.get('type')!r}; expected 'Unigram'.")
    vocab = model["vocab"]
    if any(token["id"] >= len(vocab) for token in data["added_tokens"]):
        raise ClaraError(f"{folder}: its tokenizer has tokens beyond its pieces: expected none.")
    loaded = AutoTokenizer.from_pretrained(folder)
    # up to the padding all stay: XLM-R counts its positions from the padding's id
    keep = {*found, *loaded.all_special_ids, *range((loaded.pad_token_id or 0) + 1)}
    keep |= {token["id"] for token in data["added_tokens"]} | {model["unk_id"]} - {None}
    keep |= {i for i, (piece, _) in enumerate(vocab) if len(piece) == 1 or piece.startswith("<0x")}
    # the lowest score, from which that of an unknown character is counted
    keep.add(min(range(len(vocab)), key=lambda i: vocab[i][1]))
    keep.update(sorted(range(len(vocab)), key=lambda i: -vocab[i][1])[:best])
    return sorted(keep)


def prune(folder: Path, out: Path, keep: list[int]) -> None:
    """Write `folder` with only the pieces of ids `keep`, rising, into `out`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ClaraError(f"{folder} lacks model.safetensors: save the model into one file first.")
    tensors, rows, new = load_file(weights), config["vocab_size"], {old: i for i, old in enumerate(keep)}
    cut = [name for name, t in tensors.items() if t.shape[:1] == (rows,)]
    if not cut:
        raise ClaraError(f"{weights} has no tensor of {rows} rows, the vocab_size of its config.")
    tensors |= {name: tensors[name][keep].contiguous() for name in cut}
    model = data["model"]
    data["model"] = {**model, "vocab": [model["vocab"][i] for i in keep], "unk_id": new.get(model["unk_id"])}
    data["added_tokens"] = [{**token, "id": new[token["id"]]} for token in data["added_tokens"]]
    for token in ((data.get("post_processor") or {}).get("special_tokens") or {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    config = {k: new.get(v, v) if k.endswith("_token_id") else v for k, v in config.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    (out / "config.json").write_text(json.dumps({**config, "vocab_size": len(keep)}, indent=1), encoding="utf-8")
    (out / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def main(
    folder: Path,
    out: Path,
    texts: Annotated[list[Path], typer.Option()],
    languages_files: Annotated[list[Path] | None, typer.Option(help="Default: all of clara/text/languages.")] = None,
    best: Annotated[int, typer.Option(help="Also keep so many pieces of the highest scores.")] = 20000,
    fill: Annotated[list[Path] | None, typer.Option(help="Texts whose pieces fill what room is left.")] = None,
    pieces: Annotated[int, typer.Option(help="How many pieces there may be with --fill.")] = 64000,
) -> None:
    """Cut the vocabulary and say how many pieces are left."""
    files = [*texts, *(languages_files or sorted(LANGUAGES.glob("*.yaml")))]

    def everything() -> Iterator[str]:
        yield from ("query: ", "passage: ")  # before every text of e5
        for path in files:
            yield from texts_of(path)
        for code in languages() if languages_files is None else ():
            yield from our_words(code)

    found = used(folder, everything())
    keep = set(kept(folder, found, best))
    more = used(folder, (text for path in fill or () for text in texts_of(path)))
    keep.update([i for i, _ in more.most_common() if i not in keep][: max(0, pieces - len(keep))])
    prune(folder, out, sorted(keep))
    size = (out / "model.safetensors").stat().st_size / 1e6
    print(f"{out}: {len(keep)} pieces, of which the texts use {len(found)}; {size:.1f} MB of weights")


if __name__ == "__main__":
    typer.run(main)
