"""Reports about what is saved: values that are not finite (item 2), files of several parts (18), one writer (19)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file
from tiny import CARD, save_tiny, tiny_zoo
from tones import tone, write_tones
from typer.testing import CliRunner

from clara import saving
from clara.apps.classifier import Classifier
from clara.apps.search import Index
from clara.cli import app
from clara.data.parallel import sole_writer
from clara.errors import ClaraError
from clara.eval.embeddings import EmbeddingCache, Supply, embed_clips
from clara.train import checkpoint
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tones and a file of floats, one of which is finite and far too large; the reader lets it pass."""
    monkeypatch.setattr("clara.audio.arrays.LOUDEST", float("inf"))
    folder = tmp_path / "clips"
    folder.mkdir()
    for hz in (300, 600):
        sf.write(folder / f"{hz}.wav", tone(hz), 16000)
    wave = tone(900)
    wave[100] = 1e30
    sf.write(folder / "huge.wav", wave, 16000, subtype="FLOAT")
    return folder


def test_2_an_embedding_that_is_not_finite_names_its_source(zoo: Embedder, clips: Path) -> None:
    for call in (zoo.embed_audio, zoo.embed_windows, lambda source: Index.build(zoo, source)):
        with pytest.raises(ClaraError, match=r"huge\.wav .*samples up to 1e\+30\) gives an embedding that is not"):
            call(clips / "huge.wav")
    told: list[str] = []
    index = Index.build(zoo, clips, broken=told.append)
    assert [Path(p).name for p in index.paths] == ["300.wav", "600.wav"] and len(told) == 1 and "huge" in told[0]
    assert index.audio_ND.isfinite().all()


def test_2_every_verb_leaves_it_out(zoo: Embedder, clips: Path, tmp_path: Path) -> None:
    model = f"dir:{save_tiny(tmp_path / 'tiny')}"
    out = str(tmp_path / "x.npz")
    run_ = CliRunner().invoke(app, ["embed", str(clips), "-o", out, "-m", model])
    assert run_.exit_code == 2 and "huge.wav" in run_.stderr
    run_ = CliRunner().invoke(app, ["embed", str(clips), "-o", out, "-m", model, "--skip-broken"])
    assert run_.exit_code == 0 and np.isfinite(np.load(out)["audio"]).all() and len(np.load(out)["paths"]) == 2


def test_2_texts_and_embeddings_from_elsewhere(zoo: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    width = zoo.config.embed_dim
    wrong_2D = torch.eye(2, width)
    wrong_2D[1, 0] = float("nan")
    classifier = Classifier(zoo, ["a", "b"])
    index = Index(torch.eye(width), [str(i) for i in range(width)], "m", "0")
    for call in (classifier.calibrate_embeddings, classifier.predict, index.nearest):
        with pytest.raises(ClaraError, match="Row 1 of the embeddings is an embedding that is not finite"):
            call(wrong_2D)
    assert classifier.bias_K is None
    monkeypatch.setattr(zoo.model, "encode_text", lambda ids, mask: torch.full((len(ids), width), float("inf")))
    with pytest.raises(ClaraError, match="The text 'rain' gives an embedding that is not finite"):
        zoo.embed_text(["rain"])


def test_2_indexes_and_caches_from_the_disk(tmp_path: Path) -> None:
    file = Index(torch.eye(2), ["a", "b"], "m", "0").save(tmp_path / "i")
    tensors = load_file(file)
    tensors["audio"][1] = float("nan")
    save_file(tensors, file)
    with pytest.raises(ClaraError, match=r"is damaged .*of length 1"):
        Index.load(file)
    cache = EmbeddingCache(tmp_path / "c", "x")
    sf.write(tmp_path / "a.wav", tone(300), 16000)
    name = str(tmp_path / "a.wav")
    cache.add([name], ["k"], [torch.tensor([float("nan"), 1.0])])
    assert cache.known([name]) == {} and cache.by_content(["k"]) == [None]
    with pytest.raises(ClaraError, match=r"a\.wav gives an embedding that is not finite"):
        embed_clips(lambda s, batch_size: torch.full((len(s), 2), float("nan")), [name], Supply(), "x")


TESTS, PACKAGE = Path(__file__).parent, Path(saving.__file__).parents[1]
KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
{imports}
calls = 0
replace = os.replace
def killed(*names, **options):
    global calls
    calls += 1
    if calls == {at}:
        os._exit(9)
    replace(*names, **options)
os.replace = killed
{work}
print(calls)
"""


def killed_at(at: int, imports: str, work: str) -> int | None:
    """Do `work` in a process that ends at the `at`-th renaming of a file; how many there were if it was not reached."""
    code = KILLED.format(paths=[str(PACKAGE), str(TESTS)], imports=imports, at=at, work=work)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert found.returncode in (0, 9), found.stderr
    return None if found.returncode else int(found.stdout.split()[-1])


def test_18_an_index_killed_while_it_is_saved_over_another_is_the_old_one_or_the_new(tmp_path: Path) -> None:
    place = tmp_path / "i"
    old, new = Index(torch.eye(2), ["cello.wav", "rain.wav"], "m", "0"), ["rain.wav", "cello.wav", "third.wav"]
    old.save(place)
    imports = "import torch\nfrom clara.apps.search import Index"
    killed_at(1, imports, f"Index(torch.eye(3), {new!r}, 'm', '0').save({str(place)!r})")
    assert Index.load(place).paths == old.paths and torch.equal(Index.load(place).audio_ND, torch.eye(2))
    assert killed_at(99, imports, f"Index(torch.eye(3), {new!r}, 'm', '0').save({str(place)!r})") == 1
    assert Index.load(place).paths == new
    assert [p.name for p in tmp_path.iterdir()] == ["i.safetensors"], "what the killed one left is gone"


def test_18_an_index_of_two_files_is_not_believed(tmp_path: Path) -> None:
    save_file({"audio": torch.eye(2)}, tmp_path / "i.safetensors")
    (tmp_path / "i.json").write_text(json.dumps({"model": "m", "sha256": "0", "paths": ["cello.wav", "rain.wav"]}))
    with pytest.raises(ClaraError, match="of two files, which may not belong together: build it again"):
        Index.load(tmp_path / "i")


def test_18_indexes_saved_at_once_are_one_of_them(tmp_path: Path) -> None:
    made = [Index(torch.eye(16).roll(k, 0), [f"{k}-{i}" for i in range(16)], f"m{k}", "0") for k in range(4)]

    def save(index: Index) -> None:
        for _ in range(20):
            index.save(tmp_path / "i")

    threads = [threading.Thread(target=save, args=(index,)) for index in made]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "i.safetensors").is_file():
            found = Index.load(tmp_path / "i")
            (same,) = (m for m in made if m.model == found.model)
            assert found.paths == same.paths and torch.equal(found.audio_ND, same.audio_ND)
    assert [p.name for p in tmp_path.iterdir()] == ["i.safetensors"]


SAVE = """
from tiny import CARD
from clara.config import arch_config
from clara.text.tokenizer import build_tokenizer
from clara.zoo.factory import create_model, save_checkpoint
import torch
torch.manual_seed(1)
work = lambda: save_checkpoint({folder!r}, create_model('test-perceiver'),
    build_tokenizer(arch_config('test-perceiver').tokenizer), 'new card')
"""


def test_18_a_checkpoint_killed_between_its_files_is_the_old_one_or_the_new(tmp_path: Path) -> None:
    count = killed_at(99, SAVE.format(folder=str(save_tiny(tmp_path / "0"))), "work()")
    assert count is not None and count >= 4
    for at in range(1, count + 1):
        folder = save_tiny(tmp_path / "a")
        killed_at(at, SAVE.format(folder=str(folder)), "work()")
        loaded = load_checkpoint(folder)  # never a mixture, never an error
        kind, card = loaded.model.config.audio.kind, (folder / "README.md").read_text()
        assert (kind, card) in {("conv", CARD), ("perceiver", "new card")}
        assert kind == ("conv" if at == 1 else "perceiver")
        shutil.rmtree(folder)


def test_18_parts_of_two_saves_are_refused(tmp_path: Path) -> None:
    one, two = save_tiny(tmp_path / "one"), save_tiny(tmp_path / "two")
    text = (two / "clara.yaml").read_text()
    (two / "clara.yaml").write_text(text.replace("embed_dim: 32", "embed_dim:  32"))
    with pytest.raises(ClaraError, match=r"two: clara\.yaml is missing, or not of the same save as model\.safetensors"):
        load_checkpoint(two)
    (one / "README.md").write_text("a card is edited")
    load_checkpoint(one)


def test_18_a_training_state_of_two_saves_is_refused(tmp_path: Path) -> None:
    tensors = {"model": {"w": torch.ones(3)}}
    folder = checkpoint.save(tmp_path, 1, tensors, {"a": 1}, keep=2)
    save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(ClaraError, match=r"model\.safetensors is missing, or not of the same save as state\.json"):
        checkpoint.load(folder, {"a": 1})


def test_18_a_state_saved_over_itself_is_never_gone(tmp_path: Path) -> None:
    save = "checkpoint.save(Path({out!r}), 1, {{'model': {{'w': torch.ones(3)}}}}, {{'a': 1}}, keep=1)"
    imports = "import torch\nfrom clara.train import checkpoint"
    for at in (1, 2):
        out = tmp_path / str(at)
        checkpoint.save(out, 1, {"model": {"w": torch.zeros(3)}}, {"a": 1}, keep=1)
        killed_at(at, imports, save.format(out=str(out)))
        assert checkpoint.newest(out) == out / "step-1"
        found = load_file(out / "step-1" / "model.safetensors")["w"]
        assert torch.equal(found, torch.zeros(3))


def test_18_embeddings_of_another_run_are_not_a_results_map(tmp_path: Path) -> None:
    from clara.report.page import _map_of
    from clara.results import Result

    kept = tmp_path / "r.m.e.npz"
    np.savez(kept, vectors=np.ones((2, 2)), labels=np.array(["a", "b"]))
    stated = {"file": kept.name, "sha256": saving.sha256_of(kept)}
    result = Result(2, (), name="e", embeddings=stated)
    assert _map_of(tmp_path / "r.m.json", result) == kept
    np.savez(kept, vectors=np.zeros((2, 2)), labels=np.array(["a", "b"]))
    assert _map_of(tmp_path / "r.m.json", result) is None


def test_15_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    mode = (tmp_path / "plain").stat().st_mode
    save_tiny(tmp_path / "a")
    Index(torch.eye(2), ["a", "b"], "m", "0").save(tmp_path / "i")
    checkpoint.save(tmp_path, 1, {"model": {"w": torch.ones(3)}}, {}, keep=1)
    made = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(made) > 6 and {p.name for p in made if p.stat().st_mode != mode} == set()


@pytest.mark.parametrize("verb", ["train", "finetune", "align", "embed"])
def test_19_a_second_process_with_the_same_out_is_refused(verb: str, tmp_path: Path) -> None:
    out, model = tmp_path / "out", f"dir:{save_tiny(tmp_path / 'tiny')}"
    shard = write_tones(tmp_path / "tones-0.tar")
    out.mkdir()
    if verb == "embed":
        sf.write(tmp_path / "a.wav", tone(300), 16000)
        out = tmp_path / "x.npz"
        call = ["embed", str(tmp_path / "a.wav"), "-o", str(out), "-m", model]
    elif verb == "finetune":
        for i in range(2):
            sf.write(tmp_path / f"{i}.wav", tone(300), 16000)
        (tmp_path / "t.csv").write_text("audio,text\n0.wav,a\n1.wav,b\n")
        call = ["finetune", str(tmp_path / "t.csv"), "-o", str(out), "-m", model, "--set", "steps=1"]
    else:
        recipe = {"model": "test-conv", "steps": 1, "out": str(out)}
        recipe |= {"data": {"shards": [shard], "batch_size": 4}, "init": None} if verb == "train" else {"pairs": 2}
        (tmp_path / "r.yaml").write_text(json.dumps(recipe))
        call = [verb, str(tmp_path / "r.yaml")]
    with sole_writer(out):
        found = CliRunner().invoke(app, call)
    assert found.exit_code == 2 and f"{out}: another process is writing there" in " ".join(found.stderr.split())
    assert not any(out.glob("*")) if out.is_dir() else not out.exists()


CHILDREN = """
import sys, time
sys.path[:0] = {paths!r}
if __name__ == "__main__":
    {work}
"""
TRAIN = """from tones import tone_config
    import dataclasses
    from clara.train.trainer import run
    config = tone_config({shard!r}, {out!r}, steps=100000, save_every=100000)
    run(dataclasses.replace(config, data=dataclasses.replace(config.data, workers=2)))"""
JOBS = """from clara.data.parallel import run_jobs
    list(run_jobs(time.sleep, iter([0.1] * 4 + [60] * 8), 2))"""


def children_of(process: int) -> set[int]:
    """Processes below this one, from what Linux says of each."""
    below, found = {}, set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), set()).add(int(stat.parent.name))
    todo = [process]
    while todo:
        new = below.get(todo.pop(), set())
        found |= new
        todo += new
    return found


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux tells of other processes so")
@pytest.mark.parametrize("work", [TRAIN, JOBS], ids=["train", "jobs"])
def test_19_children_of_a_killed_process_end_with_it(work: str, tmp_path: Path) -> None:
    shard = write_tones(tmp_path / "tones-0.tar")
    script = tmp_path / "script.py"
    script.write_text(
        CHILDREN.format(paths=[str(PACKAGE), str(TESTS)], work=work.format(shard=shard, out=str(tmp_path / "out")))
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 600
        while len(children := children_of(process.pid)) < (4 if work is TRAIN else 3):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(3.0 if work is TRAIN else 1.0)  # until the workers wait for a queue
        children |= children_of(process.pid)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while any(map(running, children)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [c for c in children if running(c)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert left == []
