"""GLAP: its own code's vectors, from waves and strings, in one file of theirs and one folder of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from clara.errors import ClaraError
from clara.text.tokenizer import NLLBConfig, NLLBTokenizer
from clara.zoo.convert import read_foreign
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint, save_checkpoint

GOLDEN = Path(__file__).parent / "golden"
sys.path[:0] = [str(GOLDEN)]
from clips import TEXTS, clip  # noqa: E402
from make_glap import FULL_AUDIO, RATE, SECONDS, SMALL, peer, vectors  # noqa: E402

WAVES = [(clip(s, RATE, i), RATE) for i, s in enumerate(SECONDS)]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "glap.safetensors")


@pytest.fixture(scope="module")
def checkpoint(golden: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file as GLAP publishes it, its tokenizer beside it."""
    folder = tmp_path_factory.mktemp("glap")
    state = {k.removeprefix("weights."): v for k, v in golden.items() if k.startswith("weights.")}
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    state["audio_encoder.model.front_end.0.spectrogram.window"] = torch.hann_window(512)
    state["audio_encoder.model.front_end.0.mel_scale.fb"] = torch.zeros(257, 64)
    torch.save({"config": {"outputpath": folder, "epochs": 20}, "model": state}, folder / "glap_checkpoint.pt")
    (folder / "pieces.model").write_bytes(bytes(golden["tokenizer"].tolist()))
    return folder / "glap_checkpoint.pt"


@pytest.fixture(scope="module")
def zoo(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """Converted, saved as a folder of ours, and loaded from it."""
    return convert(checkpoint, tmp_path_factory.mktemp("converted"))


def convert(checkpoint: Path, folder: Path) -> Embedder:
    from clara.model import DualEncoder
    from clara.zoo.factory import load_strictly

    found = read_foreign(checkpoint, "glap")
    model = DualEncoder(found.config).eval()
    load_strictly(model, found.tensors, str(checkpoint))
    save_checkpoint(folder, model, found.tokenizer, "card", dtype=torch.float32)
    return Embedder(load_checkpoint(folder), "cpu")


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert cosine_similarity(ours, theirs).min() >= 0.99999
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_vectors_are_those_of_its_own_code(zoo: Embedder, golden: dict[str, Tensor]) -> None:
    assert zoo.scale == pytest.approx(100)
    assert golden["audio"].std(0).max() > 0.05 and golden["text"].std(0).max() > 0.05, "clips and texts differ"
    assert_same(zoo.embed_text(TEXTS), golden["text"])
    assert_same(zoo.embed_audio(WAVES, batch_size=5), golden["audio"])
    for wave, row in zip(WAVES, golden["audio"]):
        assert_same(zoo.embed_audio(wave), row[None])


def test_beyond_its_window_long_audio_is_still_an_average(zoo: Embedder) -> None:
    window = zoo.model.front_end.window_seconds
    assert window == pytest.approx(6 * 2.0, abs=0.02)
    wave, _ = clip(2 * window, RATE, 3), RATE
    halves = torch.cat(
        [zoo.embed_audio((w, RATE)) for w in (wave[: round(window * RATE)], wave[round(window * RATE) :])]
    )
    torch.testing.assert_close(zoo.embed_audio((wave, RATE))[0], normalize(halves.mean(0), dim=0), rtol=0, atol=1e-4)


def test_tokens_are_nllb_s(zoo: Embedder) -> None:
    tokenizer = zoo.tokenizer
    assert isinstance(tokenizer, NLLBTokenizer)
    pieces = tokenizer.processor.vocab_size()
    ids = tokenizer.encode("dog")
    assert ids[0] == pieces + 47 and ids[-1] == 2, "eng_Latn is the 47th language: 256047 of SONAR's 256000 pieces"
    assert ids[1:-1] == [p + 1 for p in tokenizer.processor.encode("dog")]
    assert tokenizer.encode("dogé")[-2] == 3, "<unk>"
    german = NLLBTokenizer(NLLBConfig(tokenizer.files[0].name, "deu_Latn"), tokenizer.files[0].parent)
    assert german.encode("dog") == [pieces + 42, *ids[1:]]
    ids_BL, mask_BL = tokenizer(["dog", "a dog barks"])
    assert ids_BL[0, -1] == 1 and not mask_BL[0, -1]
    with pytest.raises(ClaraError, match=r"Unknown language code of NLLB 'eng'. Did you mean"):
        NLLBTokenizer(NLLBConfig(tokenizer.files[0].name, "eng"), tokenizer.files[0].parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("audio_proj.2.bias"), r"missing audio_head\.2\.bias"),
        (lambda s: s.pop("text_encoder.model.encoder_frontend.embed.weight"), r"lacks what becomes text\.encoder"),
        (lambda s: s.update({"loss.temp": torch.ones(1)}), r"unknown loss\.temp \(1,\)"),
    ],
)
def test_other_files_are_refused(checkpoint: Path, tmp_path: Path, change: object, message: str) -> None:
    data = torch.load(checkpoint, weights_only=False)
    change(data["model"])
    torch.save(data, tmp_path / "glap_checkpoint.pt")
    (tmp_path / "pieces.model").write_bytes((checkpoint.parent / "pieces.model").read_bytes())
    with pytest.raises(ClaraError, match=message):
        convert(tmp_path / "glap_checkpoint.pt", tmp_path / "out")


def test_the_tokenizer_must_be_there_and_fit(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "glap_checkpoint.pt"
    other.write_bytes(checkpoint.read_bytes())
    with pytest.raises(ClaraError, match=r"0 \.model files in .*SONAR/sentencepiece.source.256000.model"):
        read_foreign(other, "glap")
    ours = Path(__file__).parents[1] / "clara" / "assets" / "test.model"
    with pytest.raises(ClaraError, match=r"test.model has \d+ tokens"):
        read_foreign(other, "glap", str(ours))


@pytest.mark.peers
@pytest.mark.parametrize("sizes", [SMALL, FULL_AUDIO], ids=["small", "full audio tower"])
def test_live(sizes: dict, tmp_path: Path) -> None:
    pytest.importorskip("glap_model")
    pytest.importorskip("dasheng")
    model, weights = peer(tmp_path, sizes)
    audio, text = vectors(model)
    long = (clip(25.0, RATE, 7), RATE)
    with torch.no_grad():
        theirs = model.encode_audio(torch.from_numpy(long[0])[None])
    ours = convert(weights, tmp_path / "out")
    assert_same(ours.embed_audio(WAVES), audio)
    assert_same(ours.embed_text(TEXTS), text)
    if sizes is FULL_AUDIO:  # three chunks of ten seconds; the small model's window is twelve
        assert_same(ours.embed_audio(long), theirs)
