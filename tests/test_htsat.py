"""HTSAT's parts; its parity with the peers' own code is in test_convert.py, test_laion.py and test_msclap.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from clara import layers
from clara.errors import ClaraError
from clara.towers import htsat
from clara.towers.htsat import (
    AT_ONCE_ON_CPU,
    HTSAT,
    Attention,
    HTSATConfig,
    at_once,
    bicubic,
    by_products,
    clip_by_clip,
    merge_order,
    window_order,
)

TINY = HTSATConfig(bins=16, window_frames=101, image=64, width=8, depths=(2, 2), heads=(1, 2), window=4, fusion=True)
EXACT = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def tower() -> HTSAT:
    torch.manual_seed(0)
    tower = HTSAT(TINY).eval()
    with torch.no_grad():
        for p in tower.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return tower


@pytest.mark.parametrize(("source", "target"), [(1001, 1024), (101, 256), (7, 7), (2, 9)])
def test_resizing_is_torchs_bicubic_with_aligned_corners(source: int, target: int) -> None:
    x_N = torch.randn(source)
    index, weight = bicubic(source, target)
    expected = interpolate(x_N[None, None, :, None], (target, 1), mode="bicubic", align_corners=True)
    torch.testing.assert_close((x_N[index] * weight).sum(1), expected.flatten(), **EXACT)


def test_orders_are_permutations_that_shift_and_merge() -> None:
    assert window_order(4, 2).tolist()[:4] == [0, 1, 4, 5]
    assert window_order(4, 2, 1).tolist()[:4] == [5, 6, 9, 10]
    plain = window_order(8, 4)
    merged = plain[merge_order(8, 4, 2)].view(16, 4)  # row-major places of the quadruples
    assert merged[0].tolist() == [0, 8, 1, 9]
    assert torch.equal(window_order(8, 4, 2)[merge_order(8, 4, 2, 2)], merged.flatten())
    assert merged.flatten().sort().values.tolist() == list(range(64))
    assert (merged[:, 0] // 16 * 4 + merged[:, 0] % 8 // 2).tolist() == window_order(4, 2).tolist()


@pytest.mark.parametrize("way", [at_once, by_products])
@pytest.mark.parametrize(("clips", "windows"), [(2, 4), (1, 4), (2, 1), (1, 1)])
def test_attention_is_the_same_in_every_way(way: Callable[..., Tensor], clips: int, windows: int) -> None:
    q, k, v = torch.randn(3, clips, windows, 3, 16, 8)
    bias = torch.randn(windows, 3, 16, 16)
    expected = clip_by_clip(q, k, v, bias)  # first: the products use the bias up
    torch.testing.assert_close(way(q, k, v, bias), expected, **EXACT)


@torch.no_grad()
@pytest.mark.skipif(torch.bfloat16 not in layers.ONEDNN, reason="this CPU's oneDNN multiplies no bf16")
def test_bf16_takes_products_without_gradients_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is as near to float32 where scores are large, as those of trained weights, as the fused attention is."""
    part = Attention(TINY, 32, 4, 16, 2).eval()
    part.qkv.weight.normal_(std=0.6)  # scores of a deviation of 11.5, the largest at 65
    part.relative_position_bias_table.normal_(std=2.0)
    x_BSC, calls = torch.randn(3, 256, 32), []
    exact = part(x_BSC)
    monkeypatch.setattr(htsat, "by_products", lambda *given: calls.append(0) or by_products(*given))
    half, given = part.to(torch.bfloat16), x_BSC.to(torch.bfloat16)
    with torch.enable_grad():
        fused = half(given)
    assert not calls
    products = half(given)
    assert calls

    def distance(found: Tensor) -> float:
        return float((found.float() - exact).norm() / exact.norm())

    assert distance(products) < 1.5 * distance(fused) < 0.1


@torch.no_grad()
def test_frames_come_in_time_and_their_mean_is_the_clip(tower: HTSAT) -> None:
    x_BNF, mask_BN = torch.randn(2, 101, 16), torch.ones(2, 101, dtype=torch.bool)
    frames_BNW = tower(x_BNF, mask_BN, pool=False)
    assert frames_BNW.shape == (2, 32, 16)
    torch.testing.assert_close(frames_BNW.mean(1), tower(x_BNF, mask_BN), **EXACT)
    late = x_BNF.clone()
    late[:, 75:] += 3.0  # the last stretch of the folded clip
    change = (tower(late, mask_BN, pool=False) - frames_BNW).abs().mean((0, 2))
    assert change[24:].mean() > 2 * change[:16].mean()


@torch.no_grad()
def test_fusion_is_for_long_clips_alone(tower: HTSAT) -> None:
    x_BNF, mask_BN = torch.randn(3, 404, 16), torch.ones(3, 404, dtype=torch.bool)
    mask_BN[1, 101:] = False
    a_BW = tower(x_BNF, mask_BN)
    for i in (0, 2):
        torch.testing.assert_close(tower(x_BNF[i : i + 1], mask_BN[i : i + 1])[0], a_BW[i], **EXACT)
    torch.testing.assert_close(tower(x_BNF[1:2, :101], mask_BN[1:2, :101])[0], a_BW[1], **EXACT)
    whole = tower(x_BNF[:1, :101], mask_BN[:1, :101])
    assert (whole - a_BW[:1]).abs().max() > 1e-3
    assert tower.frame_mask(mask_BN).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": 60}, "does not divide"),
        ({"bins": 24}, "does not divide"),
        ({"window": 5}, "does not divide"),
        ({"heads": (1,)}, "equally long"),
        ({"window_frames": 300}, "window_frames=300, at most 256"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        HTSAT(dataclasses.replace(TINY, **change))


def test_other_shapes_are_refused(tower: HTSAT) -> None:
    with pytest.raises(ClaraError, match="17 bins, the htsat tower was built for 16"):
        tower(torch.randn(1, 101, 17), torch.ones(1, 101, dtype=torch.bool))
    with pytest.raises(ClaraError, match="203 frames, the tower's window is 101"):
        tower(torch.randn(1, 203, 16), torch.ones(1, 203, dtype=torch.bool))


@torch.no_grad()
def test_clips_are_worked_on_a_few_at_a_time(tower: HTSAT) -> None:
    x_BNF, mask_BN = torch.randn(AT_ONCE_ON_CPU + 2, 101, 16), torch.ones(AT_ONCE_ON_CPU + 2, 101, dtype=torch.bool)
    seen: list[int] = []
    handle = tower.layers[0].register_forward_pre_hook(lambda stage, given: seen.append(len(given[0])))
    a_BW = tower(x_BNF, mask_BN)
    handle.remove()
    assert seen == [AT_ONCE_ON_CPU, 2]
    torch.testing.assert_close(tower(x_BNF[-1:], mask_BN[-1:])[0], a_BW[-1], **EXACT)


def test_inference_and_training_multiply_alike(tower: HTSAT, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN's product with the activation inside, and the usual one with gradients."""
    x_BNF, mask_BN = torch.randn(1, 101, 16), torch.ones(1, 101, dtype=torch.bool)
    calls: list[str] = []
    fused = layers._fused
    monkeypatch.setattr(layers, "_fused", lambda *given: calls.append(given[3]) or fused(*given))
    trained = tower(x_BNF, mask_BN)
    assert trained.requires_grad and not calls
    with torch.no_grad():
        inferred = tower(x_BNF, mask_BN)
    torch.testing.assert_close(inferred, trained.detach(), **EXACT)
    if layers.ONEDNN:
        assert (calls.count("gelu"), calls.count("none")) == (4, 13)  # four blocks, one merging


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dense_multiplies_what_a_layer_does(dtype: torch.dtype) -> None:
    """Of every type, shape and stride, whether or not oneDNN takes it."""
    layer, x = nn.Linear(8, 4).to(dtype), torch.randn(6, 8, dtype=dtype)
    for given in (x, x[:1], x[0], x[:0], torch.randn(8, 6, dtype=dtype).T, x[:1].expand(5, 8), x.view(2, 3, 8)):
        made, expected = layers.dense(layer, given, "gelu"), nn.functional.gelu(layer(given))
        assert (made.dtype, made.shape) == (dtype, expected.shape)
        torch.testing.assert_close(made, expected, rtol=0.0, atol=1e-5 if dtype.itemsize >= 4 else 2e-2)


@torch.no_grad()
def test_dense_calls_what_hangs_on_a_layer() -> None:
    layer, x = nn.Linear(8, 4), torch.randn(2, 8)
    handle = layer.register_forward_hook(lambda module, given, made: 0 * made)
    assert layers.dense(layer, x).count_nonzero() == 0
    handle.remove()
    layer.register_forward_pre_hook(lambda module, given: (0 * given[0],))
    torch.testing.assert_close(layers.dense(layer, x), layer.bias.expand(2, 4))
