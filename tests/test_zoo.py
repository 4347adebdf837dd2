"""Names, checkpoint folders and the embedder: strict loading, batch independence, windows, bad input."""

from __future__ import annotations

import hashlib
import math
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny import CARD, save_tiny

import clara
from clara import hub
from clara.audio import waveform
from clara.audio.sources import expand
from clara.errors import ClaraError
from clara.zoo import catalog, embedder
from clara.zoo.embedder import Embedder
from clara.zoo.factory import create_model, create_model_and_transforms, get_tokenizer, save_checkpoint

BASE = catalog.CHECKPOINT_FOLDER / "clara-small.base"
RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("zoo") / "tiny")


@pytest.fixture(scope="module")
def zoo(folder: Path) -> Embedder:
    return clara.load(f"dir:{folder}", device="cpu")


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> tuple[np.ndarray, int]:
    """Noise whose level and colour change over time, so that windows differ."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(max(1, round(seconds * rate))).astype(np.float32)
    wave = np.convolve(wave, rng.uniform(-1, 1, 32), mode="same")[: len(wave)]
    return (0.1 * wave / max(1e-6, np.abs(wave).max())).astype(np.float32), rate


# names


def test_names_are_read_one_way(folder: Path) -> None:
    assert catalog.parse_name("clara-small").kind == "arch"
    assert catalog.parse_name("clara-small", "base") == catalog.parse_name("clara-small.base")
    assert catalog.parse_name("hf:org/some-repo@v1") == catalog.ModelName("hf", "org/some-repo", "v1")
    assert catalog.parse_name(f"dir:{folder}") == catalog.ModelName("dir", str(folder))


@pytest.mark.parametrize("name", ["clara-smal", "clara-small.bas", "hf:noslash", "hf:a/b@", "", "ftp:x", "dir:"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ClaraError, match=r"expected hf:org/repo|Names: architecture"):
        catalog.parse_name(name)


def test_refusals_help(folder: Path) -> None:
    with pytest.raises(ClaraError, match="Did you mean 'clara-small"):
        create_model("clara-smal")
    with pytest.raises(ClaraError, match=r"is a folder: write 'dir:"):
        create_model(str(folder))
    for name in ("clara-small.base", f"dir:{folder}", "hf:org/repo"):
        with pytest.raises(ClaraError, match="Names"):
            create_model(name, "base")
    with pytest.raises(ClaraError, match=r"has no weights. Its checkpoints: clara-small.base"):
        clara.load("clara-small")


def test_lists() -> None:
    assert {"clara-small", "clara-small.base"} <= set(clara.list_models())
    assert clara.list_models("*.base") == clara.list_pretrained("*.base") == ["clara-small.base"]
    assert "test-conv" in clara.list_models("test-*")
    assert not any(n.startswith("test-") for n in clara.list_models())
    assert clara.list_models("nothing*") == []


# folders


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, zoo: Embedder) -> None:
    other = clara.load(f"dir:{save_checkpoint(tmp_path / 'again', zoo.model, zoo.tokenizer, CARD)}", device="cpu")
    assert other.sha256 == zoo.sha256
    assert other.config == zoo.config
    for (name, a), b in zip(zoo.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(other.embed_text(["ein Hund"]), zoo.embed_text(["ein Hund"]))


def test_a_folder_holds_what_it_needs(folder: Path, zoo: Embedder) -> None:
    assert {p.name for p in folder.iterdir()} == {"clara.yaml", "model.safetensors", "README.md", "test.model"}
    assert zoo.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    stored = load_file(folder / "model.safetensors")
    assert stored["audio_head.weight"].dtype == torch.float16
    assert stored["log_scale"].dtype == stored["audio.bin_norm.running_var"].dtype == torch.float32
    assert all(t.dtype == torch.float32 for t in zoo.model.state_dict().values() if t.is_floating_point())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("audio_head.weight"), r"missing audio_head.weight \(32, 64\)"),
        (lambda t: t.update(extra=torch.zeros(2)), r"unexpected extra \(2,\)"),
        (lambda t: t.update({"text_head.weight": torch.zeros(3, 3)}), r"text_head.weight is \(3, 3\), expected"),
    ],
)
def test_weights_load_strictly(tmp_path: Path, change: object, message: str) -> None:
    save_tiny(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ClaraError, match=message):
        clara.load(f"dir:{tmp_path}")


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="No such checkpoint folder"):
        clara.load(f"dir:{tmp_path / 'none'}")
    with pytest.raises(ClaraError, match=r"is not a checkpoint: it lacks clara.yaml and model.safetensors"):
        clara.load(f"dir:{tmp_path}")
    save_tiny(tmp_path)
    (tmp_path / "test.model").unlink()  # one of that name lies in the package, and must not be taken
    with pytest.raises(ClaraError, match="lacks the files of its sentencepiece tokenizer"):
        clara.load(f"dir:{tmp_path}")
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ClaraError, match="not a readable safetensors"):
        clara.load(f"dir:{tmp_path}")
    save_tiny(tmp_path)
    config = yaml.safe_load((tmp_path / "clara.yaml").read_text())
    (tmp_path / "clara.yaml").write_text(yaml.safe_dump({**config, "embed_dims": 32}))
    with pytest.raises(ClaraError, match="Did you mean 'embed_dim'"):
        clara.load(f"dir:{tmp_path}")


def test_a_broken_model_is_not_saved(tmp_path: Path) -> None:
    model = create_model("test-conv")
    with torch.no_grad():
        model.audio_head.weight[0, 0] = 1e6  # beyond float16
    with pytest.raises(ClaraError, match=r"audio_head.weight holds NaN or infinite"):
        save_checkpoint(tmp_path / "x", model, get_tokenizer("test-conv"), CARD)
    assert not (tmp_path / "x").exists()


def test_the_hub_out_of_reach_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClaraError, match="not in the local cache and the hub cannot be reached"):
        clara.load("hf:some-org/some-model@main")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: f"{repo}|{options['revision']}")
    assert hub.download("a/b", "v1") == Path("a/b|v1")


def test_the_model_in_parts(folder: Path, zoo: Embedder, wav: object) -> None:
    model, transform, tokenizer = create_model_and_transforms(f"dir:{folder}")
    assert not model.training
    wave_T = transform(wav(1.5, 44100))
    assert wave_T.dtype == torch.float32 and wave_T.shape == (24000,)
    assert transform(noise(7)).shape == (2 * RATE,)  # the front-end's window
    with torch.inference_mode():
        audio_1D = model.encode_audio(wave_T[None])
        text_2D = model.encode_text(*tokenizer(["a dog", "ein Hund"]))
    torch.testing.assert_close(audio_1D, zoo.embed_audio(wav(1.5, 44100)), atol=1e-6, rtol=0)
    torch.testing.assert_close(text_2D, zoo.embed_text(["a dog", "ein Hund"]), atol=1e-6, rtol=0)


def test_an_embedder_says_what_it_is(folder: Path, zoo: Embedder) -> None:
    audio, text = (sum(p.numel() for p in tower.parameters()) for tower in (zoo.model.audio, zoo.model.text))
    assert repr(zoo) == (
        f"Embedder(dir:{folder}: audio tower {audio:,} parameters, text tower {text:,}, 32 dimensions, 16000 Hz, "
        "on cpu)"
    )


# embedding


def test_sources_of_every_kind_agree(zoo: Embedder, tmp_path: Path) -> None:
    wave, rate = noise(1.3)
    path = tmp_path / "a.wav"
    sf.write(path, wave, rate, subtype="FLOAT")
    stereo = (np.stack([wave, wave]), rate)
    sources = [path, str(path), path.read_bytes(), (wave, rate), stereo, (torch.from_numpy(wave), rate)]
    audio_BD = zoo.embed_audio(sources)
    assert audio_BD.dtype == torch.float32 and audio_BD.shape == (6, 32)
    torch.testing.assert_close(audio_BD, audio_BD[:1].expand(6, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(zoo.embed_audio(tmp_path), audio_BD[:1], atol=1e-6, rtol=0)
    torch.testing.assert_close(audio_BD.norm(dim=1), torch.ones(6))


def test_a_clip_alone_in_a_batch_and_beside_longer_ones(zoo: Embedder) -> None:
    lengths = (0.05, 0.7, 2.0, 1.1, 5.3, 0.3, 3.2, 2.5, 9.0)
    clips = [noise(seconds, seed) for seed, seconds in enumerate(lengths)]
    alone = torch.cat([zoo.embed_audio([c]) for c in clips])
    assert (alone @ alone.T).fill_diagonal_(-1).max() < 0.9999, "the clips must differ for this test to tell"
    for batch_size in (1, 3, 16):
        torch.testing.assert_close(zoo.embed_audio(clips, batch_size), alone, atol=1e-5, rtol=0)
    assert torch.equal(zoo.embed_audio(clips), zoo.embed_audio(clips))


def test_threads_leave_tf32_as_they_found_it(zoo: Embedder) -> None:
    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with zoo.exact():
            first_in.set()
            assert second_in.wait(5)

    def second() -> tuple[bool, bool]:
        assert first_in.wait(5)
        with zoo.exact():
            second_in.set()
            assert first_out.wait(5)
            return allowed()

    before = allowed()
    with ThreadPoolExecutor(2) as pool:
        leaving, staying = pool.submit(first), pool.submit(second)
        leaving.result()
        first_out.set()
        assert staying.result() == (False, False), "a thread that ends leaves TF32 off for the others"
    assert allowed() == before == (True, False), "torch's defaults"


def test_texts_do_not_depend_on_their_batch(zoo: Embedder) -> None:
    texts = ["a", "ein wütender Sprecher", "rain " * 30, "犬"]
    alone = torch.cat([zoo.embed_text([t]) for t in texts])
    torch.testing.assert_close(zoo.embed_text(texts), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(zoo.embed_text(texts, batch_size=2), alone, atol=1e-5, rtol=0)
    assert zoo.embed_text(["word " * 2000]).isfinite().all()  # 10,000 characters


def test_half_precision_is_near(folder: Path, zoo: Embedder) -> None:
    """Of our own towers; tests/test_convert.py has CLAP's."""
    half, clips, texts = clara.load(f"dir:{folder}", "cpu", precision="bfloat16"), [noise(1.0), noise(0.3)], ["a", "犬"]
    for exact_BD, half_BD in (
        (zoo.embed_audio(clips), half.embed_audio(clips)),
        (zoo.embed_text(texts), half.embed_text(texts)),
    ):
        assert half_BD.dtype == torch.float32
        assert not torch.equal(half_BD, exact_BD)
        assert (half_BD * exact_BD).sum(1).min() > 0.999


def test_windows_cover_the_audio_once(zoo: Embedder) -> None:
    wave, rate = noise(5.5)
    times_W2, audio_WD = zoo.embed_windows((wave, rate))
    assert times_W2.tolist() == [[0, 2], [2, 4], [4, 5.5]]
    for (start, end), vector in zip(times_W2.tolist(), audio_WD, strict=True):
        part = wave[round(start * rate) : round(end * rate)]
        torch.testing.assert_close(zoo.embed_audio([(part, rate)])[0], vector, atol=1e-5, rtol=0)
    mean = (audio_WD * torch.tensor([2, 2, 1.5])[:, None]).sum(0)
    torch.testing.assert_close(zoo.embed_audio([(wave, rate)])[0], mean / mean.norm(), atol=1e-5, rtol=0)


def test_a_short_tail_is_covered_by_a_whole_window(zoo: Embedder) -> None:
    wave, rate = noise(4.25)
    times_W2, audio_WD = zoo.embed_windows((wave, rate))
    assert times_W2.tolist() == [[0, 2], [2, 4], [2.25, 4.25]]
    torch.testing.assert_close(zoo.embed_audio([(wave[-2 * rate :], rate)])[0], audio_WD[2], atol=1e-5, rtol=0)
    mean = (audio_WD * torch.tensor([2, 2, 0.25])[:, None]).sum(0)
    torch.testing.assert_close(zoo.embed_audio([(wave, rate)])[0], mean / mean.norm(), atol=1e-5, rtol=0)
    assert zoo.embed_windows(noise(4.0))[0].tolist() == [[0, 2], [2, 4]]
    assert zoo.embed_windows(noise(0.5))[0].tolist() == [[0, 0.5]]


def test_three_hours_in_bounded_memory(tmp_path: Path, zoo: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "long.wav", []
    block = noise(60, rate=8000)[0]
    with sf.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(180):
            file.write(block)
    assert waveform.info(path).seconds == 3 * 3600

    def encode_audio(wave_BT: torch.Tensor, len_B: torch.Tensor) -> torch.Tensor:
        seen.extend(len_B.tolist())
        return wave_BT[:, :32]  # what is tested is how much audio is held, not the tower

    monkeypatch.setattr(zoo.model, "encode_audio", encode_audio)
    tracemalloc.start()
    try:
        assert zoo.embed_audio(path).shape == (1, 32)
        held = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert sum(seen) == 3 * 3600 * RATE
    assert held < 60, f"{held:.0f} MiB; the whole recording is 659 MiB"


@pytest.mark.parametrize("held", [1, 3 * 2 * RATE, 2**24])
def test_no_more_audio_is_held_than_needed(zoo: Embedder, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, seen = noise(21.0), []
    expected, embed = zoo.embed_audio([clip]), zoo._embed
    monkeypatch.setattr(embedder, "HELD_SAMPLES", held)
    monkeypatch.setattr(zoo, "_embed", lambda waves, batch_size: seen.append(len(waves)) or embed(waves, batch_size))
    torch.testing.assert_close(zoo.embed_audio([clip], batch_size=2), expected, atol=1e-5, rtol=0)
    assert seen == {1: [2, 2, 2, 2, 2, 1], 3 * 2 * RATE: [3, 3, 3, 2], 2**24: [11]}[held]
    assert len(zoo.embed_windows(clip, batch_size=2)[0]) == 11


# bad input


def test_odd_audio_gets_a_unit_vector(zoo: Embedder, tmp_path: Path) -> None:
    eight = tmp_path / "eight.wav"
    wave = noise(1.0, rate=8000)[0]
    sf.write(eight, np.stack([wave, wave[::-1]], 1), 8000, subtype="PCM_U8")
    high = tmp_path / "high.wav"
    sf.write(high, noise(0.5, rate=192000)[0], 192000)
    one = tmp_path / "one.wav"
    sf.write(one, np.array([0.5], np.float32), RATE)
    sources = [eight, high, one, (np.zeros(RATE, np.float32), RATE), (np.array([0.1], np.float32), 48000)]
    audio_BD = zoo.embed_audio(sources)
    torch.testing.assert_close(audio_BD.norm(dim=1), torch.ones(len(sources)))


def test_one_sample_at_another_rate(zoo: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    sf.write(path, np.array([0.5], np.float32), 48000)
    assert math.isclose(float(zoo.embed_audio(path).norm()), 1.0, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "none.wav", "No such audio file"),
        (lambda d: write(d / "empty.wav", b""), "is empty"),
        (lambda d: write(d / "text.wav", b"this is a text"), "cannot be decoded as audio"),
        (lambda d: b"", "0 bytes"),
        (lambda d: (np.array([0.0, np.nan], np.float32), RATE), "1 NaN or infinite"),
        (lambda d: (np.zeros(0, np.float32), RATE), "no samples"),
        (lambda d: (d / "nothing").mkdir() or d / "nothing", "No audio below"),
        (lambda d: [], "Got no audio"),
        (lambda d: np.zeros(RATE, np.float32), "expected paths, encoded bytes or"),
        (lambda d: [np.zeros(RATE, np.float32)], "no sample rate"),
        (lambda d: 3, "expected paths"),
    ],
)
def test_bad_audio_is_named(zoo: Embedder, tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        zoo.embed_audio(make(tmp_path))


def test_bad_texts_and_settings(zoo: Embedder, folder: Path) -> None:
    for texts in ([], [""], "", [3], None, 3, b"rain"):
        with pytest.raises(ClaraError):
            zoo.embed_text(texts)
    assert torch.equal(zoo.embed_text("one string"), zoo.embed_text(["one string"]))
    assert torch.equal(zoo.embed_audio(noise(0.2), np.int64(1)), zoo.embed_audio(noise(0.2), 1))
    with pytest.raises(ClaraError, match="batch_size=0"):
        zoo.embed_audio([noise(0.2)], batch_size=0)
    with pytest.raises(ClaraError, match="embed_windows takes one"):
        zoo.embed_windows([noise(0.2), noise(0.2)])
    with pytest.raises(ClaraError, match="Device 'gpu'"):
        clara.load(f"dir:{folder}", device="gpu")


def test_folders_and_files_mix(tmp_path: Path, wav: object) -> None:
    sub = tmp_path / "sub"
    sub.mkdir()
    b = wav(0.1, name="sub/b.wav")
    a = wav(0.1, name="sub/a.flac")
    (sub / "note.txt").write_text("no audio")
    assert expand([sub, b]) == [a, b, b]
    assert len(expand((noise(0.1)[0], RATE))) == 1


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# the trained checkpoint


@pytest.mark.skipif(not BASE.is_dir(), reason="the trained checkpoint is not in this checkout")
def test_the_embedded_checkpoint_loads_and_answers() -> None:
    zoo = clara.load("clara-small.base", device="cpu")
    assert sum(p.stat().st_size for p in BASE.iterdir()) < 40 * 2**20
    audio_BD, text_BD = zoo.embed_audio([noise(3.0)]), zoo.embed_text(["rain", "Regen"])
    assert (audio_BD @ text_BD.T).isfinite().all()
    assert float(text_BD[0] @ text_BD[1]) > 0.5, "rain and Regen mean the same"
