"""A video that the test makes -> scenes, captions by a tiny CoCa, the sound of the same span, as shards."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from clara.audio.waveform import read
from clara.cli import app
from clara.data import video
from clara.data.captioner import CocaConfig, caption, decode, load_coca
from clara.data.samples import read_shard, verify_shards
from clara.data.video import VideoConfig, caption_videos, frames_at, scenes
from clara.errors import ClaraError

av = pytest.importorskip("av", reason="clara[video] is not installed")

PARTS = (((200, 30, 30), 300.0, 3.0), ((20, 160, 60), 900.0, 2.5), ((240, 240, 220), 2000.0, 7.0))


def write_video(path: Path, sound: bool = True, parts: tuple = PARTS) -> Path:
    """Plain colours with a moving bar, ten pictures a second; each with a tone of its own, in stereo at 48 kHz."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        tones = container.add_stream("aac", rate=48000, layout="stereo") if sound else None
        n = 0
        for colour, _, seconds in parts:
            for _ in range(round(seconds * 10)):
                image = np.full((48, 64, 3), colour, np.uint8)
                image[:, n % 60 : n % 60 + 4] //= 2
                n += 1
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(pictures.encode())
        if tones:
            wave = np.concatenate([np.sin(2 * np.pi * hz * np.arange(int(s * 48000)) / 48000) for _, hz, s in parts])
            frame = av.AudioFrame.from_ndarray(np.stack([0.4 * wave, 0.2 * wave]).astype(np.float32), "fltp", "stereo")
            frame.sample_rate = 48000
            container.mux(tones.encode(frame))
            container.mux(tones.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "three parts.mp4")


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> CocaConfig:
    """A CoCa with random weights in open_clip's own folder layout."""
    folder = tmp_path_factory.mktemp("coca")
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8,
            "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True,
        },
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**text, "attn_pooler_heads": 2},
        "custom_text": True,
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    made = open_clip.CoCa(
        embed_dim=16, vision_cfg=model["vision_cfg"], text_cfg=model["text_cfg"], multimodal_cfg=model["multimodal_cfg"]
    )
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3 * torch.randn_like(p))
    save_file({k: v.contiguous() for k, v in made.state_dict().items()}, folder / "open_clip_model.safetensors")
    return CocaConfig(f"local-dir:{folder}", longest=8, shortest=2)


def config(coca: CocaConfig, **changes: object) -> VideoConfig:
    return VideoConfig(coca, **{"most_seconds": 5.0, **changes})


def test_scenes_are_cut_where_the_picture_changes(film: Path, coca: CocaConfig) -> None:
    found = scenes(film, config(coca))
    assert np.allclose([s.start for s in found], [0.0, 3.0, 5.5, 9.0], atol=0.3)
    assert [a.end for a in found[:-1]] == [b.start for b in found[1:]] and abs(found[-1].end - 12.5) < 0.3
    assert len(scenes(film, config(coca, most_seconds=99.0))) == 3
    assert len(scenes(film, config(coca, least_seconds=4.0, most_seconds=99.0))) == 2
    assert len(scenes(film, config(coca, change=0.9, most_seconds=99.0))) == 1


def test_pictures_are_those_of_their_times(film: Path) -> None:
    for picture, (colour, _, _) in zip(frames_at(film, [1.0, 4.0, 11.0]), PARTS, strict=True):
        assert np.abs(np.median(np.asarray(picture), (0, 1)) - colour).max() < 12


def test_a_caption_is_the_likeliest_token_after_token(coca: CocaConfig) -> None:
    loaded = load_coca(coca)
    pictures = [Image.new("RGB", (40, 40), c) for c in ((255, 0, 0), (0, 0, 255), (90, 200, 90))]
    pixels = torch.stack([loaded.transform(p) for p in pictures])
    start, end = loaded.tokenizer.sot_token_id, loaded.tokenizer.eot_token_id
    ids = decode(loaded.model, pixels, (start, end), coca)
    slow = torch.full((3, 1), start)
    with torch.inference_mode():
        for _ in range(coca.longest):  # the model's whole forward pass, picture and all, for every token
            logits = loaded.model(pixels, slow, output_labels=False)["logits"][:, -1]
            if slow.shape[1] <= coca.shortest:
                logits[:, end] = -torch.inf
            slow = torch.cat([slow, logits.argmax(-1, keepdim=True)], 1)
    for mine, theirs in zip(ids.tolist(), slow.tolist(), strict=True):
        length = mine.index(end) + 1 if end in mine else len(mine)
        assert mine[:length] == theirs[:length] and length > coca.shortest + 1
    first = int(ids[0, 1])  # were it the end mark, the caption could not be over yet
    assert first not in decode(loaded.model, pixels[:1], (start, first), coca)[0, 1 : coca.shortest + 1].tolist()
    assert caption(loaded, pictures, coca) == [caption(loaded, [p], coca)[0] for p in pictures]


def test_shards_hold_sound_captions_and_times(film: Path, coca: CocaConfig, tmp_path: Path) -> None:
    index = caption_videos([film], tmp_path, config(coca, frames=2, license="CC0"))
    assert index["count"] == 4 and index["shards"][0]["license"] == ["CC0"] and verify_shards(tmp_path) == []
    samples = list(read_shard(tmp_path / index["shards"][0]["name"]))
    spans = scenes(film, config(coca))
    for sample, span, hz in zip(samples, spans, (300.0, 900.0, 2000.0, 2000.0), strict=True):
        wave = read(sample.audio, 16000)
        assert abs(len(wave) / 16000 - (span.end - span.start)) < 0.2 and sample.suffix == "flac"
        inner = wave[8000:-8000]
        peak = np.abs(np.fft.rfft(inner)).argmax() * 16000 / len(inner)
        assert abs(peak - hz) < 5 and abs(np.abs(inner).max() - 0.3) < 0.06
        about = sample.row.original
        assert about["video"] == "three parts.mp4" and about["end"] == pytest.approx(span.end, abs=1e-3)
        assert len(about["frames"]) == 2 and span.start < about["frames"][0] < about["frames"][1] < span.end
        assert 1 <= len(sample.row.visual_captions) <= 2 and all(sample.row.visual_captions)
    pictures = frames_at(film, samples[0].row.original["frames"])
    assert samples[0].row.visual_captions == tuple(dict.fromkeys(caption(load_coca(coca), pictures, coca)))


def test_what_is_finished_is_kept(
    film: Path, coca: CocaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_video(tmp_path / "other.mp4", parts=PARTS[:1])
    out = tmp_path / "out"
    caption_videos([film], out, config(coca))
    calls = []
    real = video._write_video
    monkeypatch.setattr(video, "_write_video", lambda job: calls.append(job.path) or real(job))
    assert caption_videos([film, other], out, config(coca))["count"] == 5
    assert calls == [other]
    jobs = [video._job(film, out, config(coca), "raise")]
    assert pickle.loads(pickle.dumps(jobs)) == jobs  # they can be sent to other processes
    caption_videos([film], out, config(coca, frames=2))  # other settings: written again
    assert calls == [other, film]


def test_the_verb(film: Path, coca: CocaConfig, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", sound=False, parts=PARTS[:1])
    arguments = ["captions", "visual", str(film), str(silent), "--out", str(tmp_path / "out"), "--model", coca.model]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "holds no sound" in result.stderr
    result = CliRunner().invoke(app, [*arguments, "--skip-broken"])
    assert result.exit_code == 0, result.output
    assert "3 scenes" in result.stdout and "1 videos left out" in result.stdout and "silent.mp4" in result.stderr


def test_mistakes_are_told(film: Path, coca: CocaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.mp4").write_bytes(b"this is no video" * 50)
    with pytest.raises(ClaraError, match="cannot be decoded"):
        scenes(tmp_path / "no.mp4", config(coca))
    with pytest.raises(ClaraError, match="No such video"):
        caption_videos([tmp_path / "none.mp4"], tmp_path / "o", config(coca))
    with pytest.raises(ClaraError, match="twice"):
        caption_videos([film, film], tmp_path / "o", config(coca))
    with pytest.raises(ClaraError, match="open_clip cannot load"):
        load_coca(CocaConfig("coca_of_nobody", None))
    monkeypatch.setattr(open_clip, "create_model_and_transforms", lambda *a, **k: (torch.nn.Linear(1, 1), None, None))
    with pytest.raises(ClaraError, match="not a CoCa"):
        load_coca(CocaConfig("ViT-B-32", None))
    with pytest.raises(ClaraError, match="least_seconds"):
        config(coca, least_seconds=9.0)
