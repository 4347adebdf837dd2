"""DualEncoder: unit vectors of one space from either side, whatever stands beside a clip."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch

from clara.config import Spec, arch_config, arch_names, override, to_dict
from clara.config import build as build_config
from clara.errors import ClaraError
from clara.heads import HEADS
from clara.layers import AttentiveStats, masked_mean
from clara.model import DualEncoder, ModelConfig
from clara.zoo.catalog import CHECKPOINT_FOLDER

EXACT = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(arch_config("test-conv")).eval()


@pytest.mark.parametrize("name", [n for n in arch_names() if list(CHECKPOINT_FOLDER.glob(f"{n}.*"))])
def test_every_architecture_of_a_released_checkpoint_encodes(name: str) -> None:
    config = arch_config(name)
    with torch.no_grad():
        model = DualEncoder(config).eval()
        assert model.encode_audio(torch.randn(1, model.front_end.sample_rate)).shape == (1, config.embed_dim)
        mask_BL = torch.ones(1, 3, dtype=torch.bool)
        assert model.encode_text(torch.tensor([[2, 5, 3]]), mask_BL).shape == (1, config.embed_dim)


@torch.no_grad()
def test_embeddings_are_unit_float32_and_batch_independent(model: DualEncoder) -> None:
    wave_BT, len_B = torch.randn(3, 32000), torch.tensor([9000, 32000, 20000])
    audio_BD = model.encode_audio(wave_BT, len_B)
    assert (audio_BD.shape, audio_BD.dtype) == ((3, 32), torch.float32)
    torch.testing.assert_close(audio_BD.norm(dim=1), torch.ones(3))
    for i, n in enumerate(len_B.tolist()):
        torch.testing.assert_close(model.encode_audio(wave_BT[i : i + 1, :n]), audio_BD[i : i + 1], **EXACT)
    raw_BD = model.encode_audio(wave_BT, len_B, normalized=False)
    torch.testing.assert_close(torch.nn.functional.normalize(raw_BD, dim=1), audio_BD)


@torch.no_grad()
def test_texts_are_unit_and_batch_independent(model: DualEncoder) -> None:
    ids_BL, mask_BL = torch.randint(4, 300, (2, 7)), torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    text_BD = model.encode_text(ids_BL, mask_BL)
    torch.testing.assert_close(text_BD.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model.encode_text(ids_BL[1:, :3], mask_BL[1:, :3]), text_BD[1:], **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("arch", ["test-conv", "test-perceiver", "test-htsat"])
def test_a_model_of_another_type_hears_in_float32(arch: str, dtype: torch.dtype) -> None:
    exact = DualEncoder(arch_config(arch)).eval()
    other = copy.deepcopy(exact).to(dtype)
    rate = exact.front_end.sample_rate
    wave_BT, len_B = 0.1 * torch.randn(2, rate), torch.tensor([rate, rate // 3])
    assert torch.equal(other.front_end(wave_BT, len_B)[0], exact.front_end(wave_BT, len_B)[0])
    audio_BD = other.encode_audio(wave_BT, len_B)
    assert audio_BD.dtype == torch.float32
    assert (audio_BD * exact.encode_audio(wave_BT, len_B)).sum(1).min() > 0.999


@pytest.mark.parametrize("shape", [(16000,), (2, 1, 16000)])
def test_a_wave_without_its_batch_axis_is_refused(model: DualEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ClaraError, match=re.escape(f"shape {shape}: expected (B, T)")):
        model.encode_audio(torch.zeros(shape))


def test_temperature_starts_where_told_and_is_bounded(model: DualEncoder) -> None:
    assert float(model.scale.detach()) == pytest.approx(1 / 0.07, rel=1e-4)
    with torch.no_grad():
        before = model.log_scale.clone()
        model.log_scale.fill_(math.log(1e4))
        assert float(model.scale) == pytest.approx(100.0, rel=1e-5)
        model.log_scale.copy_(before)
    assert model.bias is None
    assert float(DualEncoder(arch_config("test-hf-text")).bias.detach()) == -10.0


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(DualEncoder(arch_config("test-conv")).state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_training_is_stochastic_only_in_train_mode() -> None:
    config = to_dict(arch_config("test-conv"))
    config["audio"]["dropout"] = 0.5
    model, wave_BT = DualEncoder(build_config(ModelConfig, config)), torch.randn(4, 16000)
    with torch.no_grad():
        assert not torch.equal(model.train().encode_audio(wave_BT), model.encode_audio(wave_BT))
        assert torch.equal(model.eval().encode_audio(wave_BT), model.encode_audio(wave_BT))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("audio_head.kind=liner", "Unknown projection head 'liner'. Did you mean 'linear'"),
        ("audio.kind=cnov", "Unknown audio tower 'cnov'. Did you mean 'conv'"),
        ("front_end.kind=logmel", "Unknown front-end 'logmel'. Did you mean 'log_mel'"),
        ("audio.stem=2.5", "audio tower 'conv'.stem: got 2.5"),
    ],
)
def test_a_wrong_part_is_named(setting: str, message: str) -> None:
    config = build_config(ModelConfig, override(to_dict(arch_config("test-conv")), [setting]))
    with pytest.raises(ClaraError, match=message):
        DualEncoder(config)


def test_masked_mean_and_attentive_statistics() -> None:
    x_BNW, mask_BN = torch.randn(2, 6, 4), torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    torch.testing.assert_close(masked_mean(x_BNW, mask_BN)[1], x_BNW[1, :2].mean(0))
    pool = AttentiveStats(4, 8)
    out_BW = pool(x_BNW, mask_BN)
    assert out_BW.shape == (2, 8)
    torch.testing.assert_close(pool(x_BNW[1:, :2], mask_BN[1:, :2]), out_BW[1:], **EXACT)


@pytest.mark.parametrize("kind", HEADS.names())
def test_heads(kind: str) -> None:
    width = 4 if kind == "identity" else 6
    options = {"base": {"kind": "linear"}, "statistics": 2, "ranks": [1, 3]} if kind == "readout" else {}
    assert HEADS.create(Spec(kind, options), width, 4)(torch.randn(3, width)).shape == (3, 4)


def test_heads_refuse_another_width_and_an_unknown_activation() -> None:
    with pytest.raises(ClaraError, match="width is 6, embed_dim 4"):
        HEADS.create(Spec("identity"), 6, 4)
    with pytest.raises(ClaraError, match="expected ranks of at least 1, and 1 to 5 statistics"):
        HEADS.create(Spec("readout", {"base": {"kind": "linear"}, "statistics": 6}), 6, 4)
    with pytest.raises(ClaraError, match="Did you mean 'gelu'"):
        HEADS.create(Spec("mlp", {"activation": "gellu"}), 6, 4)
