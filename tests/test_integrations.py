"""CLARA inside MTEB and sentence-transformers gives the same vectors as alone. Skipped where they are not installed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tiny_zoo

from clara.errors import ClaraError

HZ = (200, 1600)


def clip(hz: float, rate: int = 22050) -> np.ndarray:
    t = np.arange(rate // 2) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def encoded(wave: np.ndarray, rate: int = 22050) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format="WAV")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory):
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


def test_mteb_runs_a_zero_shot_task(zoo, tmp_path: Path) -> None:
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install 'clara[mteb]'")
    from datasets import Audio, Dataset
    from mteb.abstasks import AbsTaskZeroShotClassification
    from mteb.abstasks.task_metadata import TaskMetadata

    from clara.integrations.mteb import ClaraEncoder

    waves = [clip(hz * (1 + 0.02 * i)) for i in range(4) for hz in HZ]
    labels = [0, 1] * 4

    class Tones(AbsTaskZeroShotClassification):
        metadata = TaskMetadata(
            name="TonesZeroshot", description="Two tones.", reference=None, type="AudioZeroshotClassification",
            dataset={"path": "none", "revision": "none"}, category="a2t", eval_splits=["test"],
            eval_langs=["eng-Latn"], main_score="accuracy", date=None, domains=None, task_subtypes=None, license=None,
            annotations_creators=None, dialect=None, modalities=["audio", "text"], sample_creation=None,
            bibtex_citation=None,
        )  # fmt: skip
        input_column_name, label_column_name = "audio", "label"

        def load_data(self, **kwargs: object) -> None:
            cells = [{"bytes": encoded(w), "path": None} for w in waves]
            data = Dataset.from_dict({"audio": cells, "label": labels}).cast_column("audio", Audio(decode=False))
            self.dataset, self.data_loaded = {"test": data}, True

        def get_candidate_labels(self) -> list[str]:
            return ["a low tone", "a high tone"]

    encoder = ClaraEncoder(zoo)
    result = mteb.evaluate(encoder, Tones(), cache=None, show_progress_bar=False, encode_kwargs={"batch_size": 4})
    (scores,) = result.task_results[0].scores["test"]
    cosines = zoo.embed_audio([(w, 22050) for w in waves]) @ zoo.embed_text(["a low tone", "a high tone"]).T
    assert scores["accuracy"] == pytest.approx(float((cosines.argmax(1) == torch.tensor(labels)).float().mean()))
    assert result.model_revision == zoo.sha256


def test_mteb_cells(zoo) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed: pip install 'clara[mteb]'")
    from types import SimpleNamespace

    from datasets import Dataset

    from clara.integrations.mteb import ClaraEncoder

    encoder, wave = ClaraEncoder(zoo), clip(500)
    rows = Dataset.from_dict({"audio": [{"array": wave.tolist(), "sampling_rate": 22050}] * 70})
    got = encoder.encode(SimpleNamespace(dataset=rows))
    assert got.shape == (70, zoo.config.embed_dim)
    np.testing.assert_allclose(got[69], zoo.embed_audio([(wave, 22050)])[0], atol=1e-5)
    both = Dataset.from_dict({"audio": ["x"], "text": ["y"]})
    with pytest.raises(ClaraError, match="not both"):
        encoder.encode(SimpleNamespace(dataset=both))


def test_sentence_transformers_encodes_texts_and_audio(zoo, tmp_path: Path) -> None:
    found = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from clara.integrations.sentence_transformers import as_sentence_transformer, write_modules

    model = as_sentence_transformer(zoo)
    texts, wave = ["a dog", "rain on a roof", "ein Hund"], clip(700)
    np.testing.assert_allclose(model.encode(texts), zoo.embed_text(texts), atol=1e-6)
    (tmp_path / "a.wav").write_bytes(encoded(wave))
    expected = zoo.embed_audio([(wave, 22050)])
    for audio in (str(tmp_path / "a.wav"), {"array": wave, "sampling_rate": 22050}):
        np.testing.assert_allclose(model.encode([audio]), expected, atol=1e-4)  # 16-bit file
    assert model.get_embedding_dimension() == zoo.config.embed_dim
    assert float(model.similarity(model.encode(texts[:1]), model.encode(texts[:1]))) == pytest.approx(1)
    model.save_pretrained(str(tmp_path / "saved"))
    write_modules(tmp_path / "saved")
    again = found.SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(texts), model.encode(texts), atol=1e-6)
    with pytest.raises(ClaraError, match="No such checkpoint folder"):
        write_modules(tmp_path / "nothing")
    with pytest.raises(ClaraError, match="encode them apart"):
        model[0].preprocess(["a dog", {"array": wave, "sampling_rate": 16000}])


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    for package, module, extra in (
        ("mteb", "mteb", "mteb"),
        ("sentence_transformers",) * 2 + ("sentence-transformers",),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules, f"clara.integrations.{module}", raising=False)
        with pytest.raises(ClaraError, match=rf"clara\[{extra}\]"):
            importlib.import_module(f"clara.integrations.{module}")
