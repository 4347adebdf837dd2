"""Shards -> samples, whoever wrote them; and what is wrong with a folder of shards.

Three layouts end in the same `Row`: our own (`clara.data.shards.meta_from_row`), LAION's audio-dataset (`text` a string
or a list, `tag`, `original_data`) and the original CLARA's (that in `DATASET/SPLIT/N.tar`, labels in `original_data`).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from clara.audio.sources import EXTENSIONS
from clara.audio.waveform import info, stream
from clara.data.manifest import TEXTS, Row, row_from_dict
from clara.data.tars import content, grouped, groups, tars_below
from clara.errors import ClaraError, MissingDependency
from clara.parsing import number_of_seconds, parse_json
from clara.saving import sha256_of
from clara.text.captions import facts_of, known

# Keys of `original_data` under which the published scripts keep what a Row names; the first that is there counts.
LABELS = ("class_names", "class_name", "category", "class", "label", "labels", "classname", "label_name", "sound_class")
# Keys under which captions lie, at the top (LAION: text; WavCaps, AudioSetCaps: caption) or in one of NESTED
CAPTIONS = ("text", "caption", "captions", "raw_text", "description", "title")
NESTED = ("original_data", "json", "meta", "metadata", "info", "annotation", "annotations", "data")
NUMBERED = re.compile(r"(?:caption|text)_?\d+")  # Clotho's and AudioCaps' caption_1 …
SPEAKERS = ("speaker", "speaker_id", "actor_id", "user_id")
AUGMENTED = ("text_augment_all", "text_augment_t5")
EMOTIONS = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "bored": "boredom",
}
GENDERS = {"man": "male", "woman": "female", "m": "male", "f": "female", "male": "male", "female": "female"}
SPLIT_NAMES = {"training": "train", "tr": "train"}
SPLITS = ("train", "valid", "validation", "val", "test", "unbalanced_train", "balanced_train", "eval")
AUDIO = tuple(e[1:] for e in EXTENSIONS)
NOTHING = f"no text under {', '.join(CAPTIONS)}, in a .txt, or as a label"
BLOCK = 30.0  # seconds decoded at a time


@dataclass(frozen=True)
class Sample:
    """One clip of a shard: its key, the encoded audio with its suffix (no dot), and what is known of it."""

    key: str
    suffix: str
    audio: bytes
    row: Row


@dataclass(frozen=True)
class Problem:
    """What `verify_shards` found: in which shard, at which key ("" = the shard itself), and what."""

    shard: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.shard}{f' {self.key}' if self.key else ''}: {self.what}"


def sample_from_wds(sample: Mapping[str, Any]) -> Sample:
    """A Sample from what `webdataset.WebDataset(url)` yields: `__key__`, `__url__`, audio bytes and json, undecoded.

    Raises:
        ClaraError: no audio, neither JSON nor text, or JSON that does not describe a clip.
    """
    key, url = str(sample.get("__key__", "?")), str(sample.get("__url__", ""))
    where = f"{url} sample {key!r}".strip()
    suffix = audio_suffix([s for s in sample if s[0] != "_"], where)
    meta = _description(sample, where)
    row = row_from_meta(meta, f"{url}::{key}.{suffix}" if url else f"{key}.{suffix}", where)
    return Sample(key, suffix, sample[suffix], row)


def audio_suffix(suffixes: Collection[str], where: str) -> str:
    """Which of a sample's `suffixes` is its audio.

    Raises:
        ClaraError: no audio, or neither JSON nor text beside it: what webdataset pairs has one key, and stands side by
            side.
    """
    found = [s for s in AUDIO if s in suffixes]
    if found and ("json" in suffixes or "txt" in suffixes):
        return found[0]
    what = "no JSON and no text beside the audio" if found else f"no audio ({', '.join(AUDIO)})"
    why = "A sample's members stand side by side."
    if any(s.rpartition(".")[2] in (*AUDIO, "json") for s in suffixes if "." in s):
        why = "A key ends at the first dot of a file's name: write '_' for the dots in it."
    raise ClaraError(f"{where}: {what}; found {sorted(suffixes)}. {why}")


def _description(parts: Mapping[str, Any], where: str) -> Any:
    """The JSON of a sample; its text, webdataset's way, where the JSON is missing or holds no caption."""
    meta = parts.get("json", {})
    meta = _parsed(meta, where) if isinstance(meta, bytes | str) else meta
    if "txt" in parts and isinstance(meta, Mapping) and not _captions(meta):
        text = parts["txt"]
        meta = {**meta, "text": text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text}
    return meta


def _parsed(text: bytes | str, where: str) -> Any:
    try:
        return parse_json(text)
    except ClaraError as e:
        raise ClaraError(f"{where}: invalid JSON ({e}).") from e


def row_from_meta(meta: Any, audio: str, where: str = "sample") -> Row:
    """A Row from the JSON of any of the three layouts; `audio` is `tar::member`, whose folders tell corpus and split if
    the JSON does not. Language tags keep their first part (zh-CN -> zh); emotion words become canonical keys.

    Raises:
        ClaraError: `meta` is not a mapping, or holds what no Row can.
    """
    if not isinstance(meta, Mapping):
        raise ClaraError(f"{where}: JSON holds {type(meta).__name__}, expected an object.")
    original = meta.get("original_data") or {}
    if not isinstance(original, Mapping):
        original = {"value": original}
    told = {} if "corpus" in meta else original  # our own JSON says all it knows at the top
    folders = Path(audio.partition("::")[0]).parts[:-1]
    split = folders[-1] if folders and folders[-1] in SPLITS else "train"
    above = [f for f in folders if f not in SPLITS]
    row = {name: _texts(meta.get(name)) for name in TEXTS} | {"text": _captions(meta)}
    row["text_augmented"] += [t for key in AUGMENTED for t in _texts(meta.get(key))]
    if isinstance(meta.get("captions"), Mapping):
        row["visual_captions"] += _texts(meta["captions"])  # of the frames of a film, by their number
    labels = _labels(meta, told)
    if not row["text"] and "corpus" not in meta:
        row["text"] = _said_by_labels(meta, original, labels)
    return row_from_dict(
        row
        | {
            "audio": audio,
            "corpus": str(meta.get("corpus") or (above[-1] if above else "unnamed")),
            "split": _split(str(meta.get("split") or split)),
            "seconds": number_of_seconds(meta.get("seconds")),
            "language": _language(_first(meta, told, ("language",))),
            "original": dict(original),
        }
        | labels
        | {k: str(meta[k]) for k in ("transcript", "license") if meta.get(k) is not None},
        where,
    )


def _labels(meta: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, str | None]:
    emotion = _first(meta, original, ("emotion",))
    emotion = EMOTIONS.get(emotion.lower(), emotion.lower()) if emotion else None
    label, task = _first(meta, original, LABELS), meta.get("task")
    tags = _texts(meta.get("tag") or meta.get("tags"))
    if label is None and emotion is None and len(tags) == 1:
        label = tags[0]
    if task is None and "corpus" not in meta:
        task = "emotion" if emotion else "sound" if label else "caption"
        label = label.replace("_", " ").lower() if label else None
    gender = _first(meta, original, ("gender", "actor"))
    return {
        "emotion": emotion,
        "label": label,
        "task": task,
        "speaker": _first(meta, original, SPEAKERS),
        "gender": GENDERS.get(gender.lower()) if gender else None,
        "age": _first(meta, original, ("age",)),
    }


def _first(meta: Mapping[str, Any], original: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first value there is, as text; of a list with one item, the item. Several classes are not a single label."""
    for source in (meta, original):
        for name in names:
            value = source.get(name)
            if isinstance(value, list | tuple) and len(value) == 1:
                value = value[0]
            if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
                return str(value).strip()
    return None


def _captions(meta: Mapping[str, Any]) -> list[str]:
    """The captions of a clip: under the first of CAPTIONS that has any, at the top or nested."""
    for source in (meta, *(meta[name] for name in NESTED if isinstance(meta.get(name), Mapping))):
        for name in CAPTIONS:
            value = None if name == "captions" and isinstance(source.get(name), Mapping) else source.get(name)
            keys = sorted(k for k in source if name == "caption" and isinstance(k, str) and NUMBERED.fullmatch(k))
            if found := _texts([value, *(source[k] for k in keys)]):
                return list(dict.fromkeys(found))
    return []


def _said_by_labels(meta: Mapping[str, Any], original: Mapping[str, Any], row: Mapping[str, str | None]) -> list[str]:
    """A caption for a clip that has none: its labels, where they are several or the language files lack them."""
    if row["label"] and not known((row["task"] or "sound", row["label"])):
        return [row["label"]]
    if row["label"] or row["emotion"]:
        return []
    several = [_texts(source.get(name)) for source in (meta, original) for name in (*LABELS, "tag", "tags")]
    found = next((texts for texts in several if texts), [])
    return [", ".join(text.replace("_", " ") for text in found)] if found else []


def _split(name: str) -> str:
    """Splits are compared by their names: 'Train' and 'training' are 'train'."""
    small = SPLIT_NAMES.get(name.lower(), name.lower())
    return small if small in SPLITS else name


def _texts(value: Any) -> list[str]:
    """The texts that are not empty in a string, a list, or a mapping (of its caption or text, if it has one)."""
    if isinstance(value, str):
        return [value.strip()] if value.strip() else []
    if isinstance(value, Mapping):
        own = [value[name] for name in ("caption", "text") if value.get(name)]
        value = own or list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []


def _language(tag: str | None) -> str | None:
    return tag.replace("_", "-").partition("-")[0].lower() if tag else None


def read_shard(path: str | Path) -> Iterator[Sample]:
    """The samples of one tar, in order. ClaraError at the first thing that `verify_shards` would report, naming it."""
    for key, audio, row in scan_rows(path):
        yield Sample(key, audio.name.rpartition(".")[2].lower(), content(Path(path), audio), row)


def scan_rows(path: str | Path) -> Iterator[tuple[str, tarfile.TarInfo, Row]]:
    """As `read_shard`, but where the audio of each sample lies instead of its bytes: key, member, row."""
    for key, parts in grouped(Path(path)):
        where = f"{path} sample {key!r}"
        audio = parts[audio_suffix(parts, where)]
        meta = _description({s: content(Path(path), parts[s]) for s in ("json", "txt") if s in parts}, where)
        yield key, audio, row_from_meta(meta, f"{path}::{audio.name}", where)


def says_something(row: Row) -> bool:
    """Whether a model can learn words from this clip: a text, or a label that the language files can put into one."""
    return bool(row.text or row.text_augmented or row.visual_captions or any(map(known, facts_of(vars(row)))))


def verify_shards(folder: str | Path) -> list[Problem]:
    """Everything wrong with the shards below `folder`; an empty list is what one wants.

    Looks for truncated tars, keys that occur twice, missing or invalid JSON, missing or undecodable audio and, where
    there is an `index.json`, for shards that are missing, not listed or changed since. ClaraError: no shard at all.
    """
    folder = Path(folder)
    paths = tars_below(folder)
    index = {e["name"]: e for e in read_index(folder)["shards"]} if (folder / "index.json").is_file() else None
    if not paths and not index:
        raise ClaraError(f"No shards (*.tar) below {folder}.")
    names = {str(p.relative_to(folder)) for p in paths}
    problems = [Problem(n, "", "listed in index.json, but missing") for n in sorted(set(index or ()) - names)]
    seen: dict[str, str] = {}
    for path in tqdm(paths, unit="shard", desc=str(folder), disable=None):
        name = str(path.relative_to(folder))
        if index is not None:
            problems += _against_index(path, name, index.get(name))
        keys: dict[str, str] = {} if index is None else seen  # foreign shards number their samples from 0 each
        problems += _verify_tar(path, name, keys)
    return problems


def _against_index(path: Path, name: str, entry: Mapping[str, Any] | None) -> list[Problem]:
    if entry is None:
        return [Problem(name, "", "not listed in index.json")]
    if sha256_of(path) != entry["sha256"]:
        return [Problem(name, "", "sha256 differs from index.json")]
    return []


def _verify_tar(path: Path, name: str, seen: dict[str, str]) -> list[Problem]:
    problems = []
    try:
        for group in groups(path):
            key = group["__key__"]
            if key in seen:
                problems.append(Problem(name, key, f"the key occurs twice, first in {seen[key]}"))
            seen.setdefault(key, name)
            try:
                sample = sample_from_wds({k: v for k, v in group.items() if k != "__url__"})
                _decode(sample)
                if not says_something(sample.row) and "corpus" not in _description(group, key):
                    problems.append(Problem(name, key, f"nothing to learn from: {NOTHING}"))
            except MissingDependency:
                raise
            except ClaraError as e:
                problems.append(Problem(name, key, str(e)))
    except MissingDependency:
        raise
    except ClaraError as e:
        problems.append(Problem(name, "", str(e)))
    return problems


def _decode(sample: Sample) -> None:
    """Decode every sample of the clip; a codec may end early without an error, so lengths are compared."""
    stored = info(sample.audio)
    length = sum(len(w) for _, w in stream(sample.audio, stored.sample_rate, window=BLOCK, hop=BLOCK))
    seconds = length / stored.sample_rate
    for expected in (stored.seconds, sample.row.seconds):
        if expected is not None and abs(seconds - expected) > 0.05:
            raise ClaraError(f"{seconds:.2f} s can be decoded of {expected:.2f} s.")


def read_index(folder: str | Path) -> dict[str, Any]:
    """`index.json` of a folder: count, hours and, per shard, name, count, hours, sha256, licences, skipped rows."""
    path = Path(folder) / "index.json"
    try:
        index = parse_json(path.read_text(encoding="utf-8"))
        if all(isinstance(s["name"], str) and isinstance(s["sha256"], str) for s in index["shards"]):
            return index
        reason = "a shard without name or sha256"
    except FileNotFoundError as e:
        raise ClaraError(f"{folder} has no index.json: expected a folder written by `clara shards`.") from e
    except (ValueError, KeyError, TypeError) as e:
        reason = repr(e)
    raise ClaraError(f"{path} is not an index of shards ({reason}): expected a folder written by `clara shards`.")
