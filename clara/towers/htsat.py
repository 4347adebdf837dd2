"""HTSAT: a Swin transformer over a log-mel spectrogram folded into a square (Chen et al. 2022; Liu et al. 2021), as
LAION-CLAP, transformers' ClapModel, Microsoft CLAP 2023 and WavCaps use it, with LAION's attentional feature fusion
(Wu et al. 2023, sec. 3.2; Dai et al. 2021).

Written for speed: the tokens lie in the order of the windows that work on them, so that only the change to shifted
windows and back and the merging of patches move them, by one gather each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from clara.errors import ClaraError
from clara.layers import by_onednn, dense, masked_mean
from clara.towers.base import AUDIO_TOWERS, AudioTower, fit_window
from clara.towers.remap import Drop, Rename, Rule


@dataclass(frozen=True)
class HTSATConfig:
    """HTSAT. tiny: width 96, depths 2 2 6 2; base: width 128, depths 2 2 12 2; large: width 256, depths 2 2 12 2;
    always heads 4 8 16 32, window 8."""

    bins: int = 64
    """F: the front-end's."""
    window_frames: int = 1001
    """N of the longest clip (hop 480, 10 s at 48 kHz: 1001)."""
    image: int = 256
    """Side of the square the window is resized to in time and folded into, image // bins rows."""
    patch: int = 4
    """Side of a patch, pixels."""
    width: int = 96
    """Channels of the first stage, doubled in each later one."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Blocks of each stage."""
    heads: tuple[int, ...] = (4, 8, 16, 32)
    """Attention heads of each stage."""
    window: int = 8
    """Side of an attention window, patches."""
    mlp_ratio: float = 4.0
    """Width of the MLPs over their stage's width."""
    qkv_bias: bool = True
    """Biases in the query, key and value projections."""
    norm_eps: float = 1e-5
    """Epsilon of the layer norms."""
    fusion: bool = False
    """Add the weights for longer clips: four blocks, the whole shrunk to the window and three excerpts."""
    fusion_reduction: int = 4
    """Channels over hidden channels in the fusion's attention."""
    drop_path: float = 0.0
    """Highest rate of stochastic depth, 0 to 1."""


CHUNKS = 3  # excerpts of a long clip beside the whole of it
AT_ONCE_ON_CPU = 4  # clips: of more, what a block works on does not stay in the cache


def window_order(side: int, window: int, shift: int = 0) -> Tensor:
    """For each token in window order, where it stands in the row-major `side` × `side` map rolled by -shift: (S²,)."""
    grid = torch.arange(side * side).view(side, side).roll((-shift, -shift), (0, 1))
    return grid.view(side // window, window, side // window, window).transpose(1, 2).reshape(-1)


def merge_order(side: int, window: int, next_window: int, shift: int = 0) -> Tensor:
    """Where the four patches that merge stand, in one stage's window order, in the order of the next: (S²,). Each
    quadruple is (even row, even column), (odd, even), (even, odd), (odd, odd) (Liu et al. 2021, their code's order)."""
    place = torch.empty(side * side, dtype=torch.long)
    place[window_order(side, window, shift)] = torch.arange(side * side)
    quads = place.view(side // 2, 2, side // 2, 2).permute(0, 2, 3, 1).reshape(-1, 4)
    return quads[window_order(side // 2, next_window)].reshape(-1)


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """Additive mask of shifted windows: (windows, 1, w², w²), -100 between tokens that roll apart, as in Swin."""
    edge = torch.arange(side)
    region = (edge >= side - window).long() + (edge >= side - shift).long()
    region = (region[:, None] * 3 + region[None]).reshape(-1)
    order = window_order(side, window)
    region = region[order].view(-1, window * window)
    return -100.0 * (region[:, None, :] != region[:, :, None]).float()[:, None]


def relative_positions(window: int) -> Tensor:
    """Row of the bias table for every pair of a window's tokens: (w⁴,)."""
    axis = torch.arange(window)
    row, column = (a.reshape(-1) for a in torch.meshgrid(axis, axis, indexing="ij"))
    down = row[:, None] - row[None] + window - 1
    right = column[:, None] - column[None] + window - 1
    return (down * (2 * window - 1) + right).reshape(-1)


class Attention(nn.Module):
    """Multi-head attention within windows: x (B, S², C) in window order -> the same shape."""

    def __init__(self, config: HTSATConfig, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        window = min(config.window, side)
        self.heads, self.tokens, self.windows = heads, window * window, (side // window) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        self.register_buffer("pairs", relative_positions(window), persistent=False)
        mask = shift_mask(side, window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def bias(self, dtype: torch.dtype) -> Tensor:
        """What is added to the scores: (windows or 1, heads, w², w²)."""
        table_HP = self.relative_position_bias_table.T.to(dtype)
        bias = table_HP.index_select(1, self.pairs).view(1, self.heads, self.tokens, self.tokens)
        return bias if self.mask is None else bias + self.mask.to(dtype)

    def forward(self, x_BSC: Tensor) -> Tensor:
        b, _, width = x_BSC.shape
        qkv = dense(self.qkv, x_BSC).view(b, self.windows, self.tokens, 3, self.heads, -1)
        bias = self.bias(qkv.dtype).expand(self.windows, -1, -1, -1)
        if qkv.dtype == torch.bfloat16 and by_onednn(qkv):
            attend = by_products
        else:
            attend = clip_by_clip if x_BSC.device.type == "cpu" else at_once
        return dense(self.proj, attend(*qkv.permute(3, 0, 1, 4, 2, 5), bias).reshape(b, -1, width))


def clip_by_clip(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of queries, keys and values (B, windows, heads, w², d) with `bias` (windows, heads, w², w²) added ->
    (B, windows, w², heads, d). Copies nothing."""
    return torch.stack([scaled_dot_product_attention(*x, attn_mask=bias).transpose(1, 2) for x in zip(q, k, v)])


def at_once(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The same by one kernel for the batch, windows beside heads: for devices on which every call costs."""
    bias = bias.flatten(0, 1)[None].expand(len(q), -1, -1, -1)
    out = scaled_dot_product_attention(*(x.flatten(1, 2) for x in (q, k, v)), attn_mask=bias)
    return out.unflatten(1, q.shape[1:3]).transpose(2, 3)


def by_products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The same, written out, and `bias` is used up: so much faster is oneDNN's product of many small matrices in bf16
    than torch's fused attention on a CPU. Scores are rounded to bf16, as they are under autocast."""
    scores = bias.expand(len(q), -1, -1, -1, -1).flatten(0, 2)
    left, right, values = (x.flatten(0, 2) for x in (q, k, v))
    scores.baddbmm_(left, right.transpose(1, 2), alpha=q.shape[-1] ** -0.5)
    return torch.bmm(scores.softmax(-1), values).view(q.shape).transpose(2, 3)


class MLP(nn.Module):
    """Two linear layers about a GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return dense(self.fc2, dense(self.fc1, x, "gelu"))


class Block(nn.Module):
    """One Swin block, whose windows may be shifted."""

    def __init__(self, config: HTSATConfig, width: int, heads: int, side: int, drop: float, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.attn = Attention(config, width, heads, side, shift)
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = MLP(width, int(config.mlp_ratio * width))
        self.drop_path = _drop_path(drop) if drop else nn.Identity()

    def forward(self, x_BSC: Tensor) -> Tensor:
        x_BSC = x_BSC + self.drop_path(self.attn(self.norm1(x_BSC)))
        return x_BSC + self.drop_path(self.mlp(self.norm2(x_BSC)))


def _drop_path(drop: float) -> nn.Module:
    from timm.layers import DropPath  # here: inference does not wait for timm

    return DropPath(drop)


class Merge(nn.Module):
    """Four neighbouring patches become one of twice the width: (B, S², C), in windows shifted by `shift` -> (B, S²/4,
    2C)."""

    def __init__(self, config: HTSATConfig, width: int, side: int, shift: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        order = merge_order(side, min(config.window, side), min(config.window, side // 2), shift)
        self.register_buffer("order", order, persistent=False)

    def forward(self, x_BSC: Tensor) -> Tensor:
        b, tokens, width = x_BSC.shape
        return dense(self.reduction, self.norm(x_BSC.index_select(1, self.order).view(b, tokens // 4, 4 * width)))


class Stage(nn.Module):
    """Blocks at one resolution, every second with its windows shifted by half, then (but in the last stage) the
    merging. `order`: of the tokens after the blocks, as `window_order`."""

    def __init__(self, config: HTSATConfig, number: int, drops: list[float]) -> None:
        super().__init__()
        width, side = config.width * 2**number, config.image // config.patch // 2**number
        window, heads = min(config.window, side), config.heads[number]
        shift = window // 2 if side > window else 0
        shifts = [shift * (i % 2) for i in range(len(drops))]
        self.blocks = nn.Sequential(
            *(Block(config, width, heads, side, drop, s) for drop, s in zip(drops, shifts, strict=True))
        )
        last = number == len(config.depths) - 1
        self.downsample = None if last else Merge(config, width, side, shifts[-1])
        plain, rolled = window_order(side, window), window_order(side, window, shift)
        self.register_buffer("there", plain.argsort()[rolled] if shift else None, persistent=False)
        self.register_buffer("back", rolled.argsort()[plain] if shift else None, persistent=False)
        self.order = rolled if shifts[-1] else plain

    def forward(self, x_BSC: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            if i and self.there is not None:
                x_BSC = x_BSC.index_select(1, self.there if i % 2 else self.back)
            x_BSC = block(x_BSC)
        return x_BSC if self.downsample is None else self.downsample(x_BSC)


class Fusion(nn.Module):
    """Attentional feature fusion (Dai et al. 2021, sec. 3): x and y (B, C, S, S) -> a gated mean of both."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        hidden = width // reduction

        def gate() -> list[nn.Module]:
            first, second = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)
            return [first, nn.BatchNorm2d(hidden), nn.ReLU(), second, nn.BatchNorm2d(width)]

        self.local_att = nn.Sequential(*gate())
        self.global_att = nn.Sequential(nn.AdaptiveAvgPool2d(1), *gate())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        both = x + y
        weight = (self.local_att(both) + self.global_att(both)).sigmoid()
        return 2 * x * weight + 2 * y * (1 - weight)


class PatchEmbed(nn.Module):
    """Folded spectrograms -> tokens in row-major order (B, S², C), before any order of windows."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        p, self.fused = config.patch, config.fusion
        self.proj = nn.Conv2d(1, config.width, p, p)
        self.norm = nn.LayerNorm(config.width)
        if config.fusion:
            self.mel_conv2d = nn.Conv2d(1, config.width, (p, CHUNKS * p), (p, CHUNKS * p))
            self.fusion_model = Fusion(config.width, config.fusion_reduction)

    def forward(self, image_BSS: Tensor, chunks_LKSS: Tensor | None = None, long_B: Tensor | None = None) -> Tensor:
        """image_BSS, and for the clips that `long_B` marks, their CHUNKS excerpts: chunks_LKSS -> (B, S², C)."""
        # as channels last, in which a single channel is not a copy, and then the tokens are none
        map_BCSS = self.proj(image_BSS[..., None].permute(0, 3, 1, 2))
        if chunks_LKSS is not None:
            local = self.mel_conv2d(chunks_LKSS.flatten(0, 1)[:, None])
            local = local.unflatten(0, (-1, CHUNKS)).permute(0, 2, 3, 1, 4).flatten(3)
            local = pad(local, (0, map_BCSS.shape[-1] - local.shape[-1]))
            map_BCSS = map_BCSS.index_put((long_B,), self.fusion_model(map_BCSS[long_B], local))
        return self.norm(map_BCSS.flatten(2).transpose(1, 2))


def bicubic(source: int, target: int) -> tuple[Tensor, Tensor]:
    """Taps of bicubic interpolation with aligned corners (Keys 1981, a = -0.75, as torch): index and weight (target,
    4). Its operator in torch is missing on some devices and in ONNX; four gathers are everywhere."""
    # in float32 as torch does it: where a sample lies is rounded there by 1e-4 of a frame, and the weights know it so
    at = torch.arange(target, dtype=torch.float32) * torch.tensor((source - 1) / max(target - 1, 1))
    base, a = at.floor(), -0.75
    near = (at - base)[:, None] + torch.tensor([1.0, 0.0, -1.0, -2.0])
    d = near.abs()
    inner = ((a + 2) * d - (a + 3)) * d * d + 1
    outer = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    index = base[:, None].long() + torch.tensor([-1, 0, 1, 2])
    return index.clamp(0, source - 1), torch.where(d <= 1, inner, outer)


@AUDIO_TOWERS.register("htsat", HTSATConfig)
class HTSAT(AudioTower):
    """x_BNF -> a_BW, W = width × 2^(stages - 1): the mean over the last map, which is what the peers project.

    N up to the window: clips; what the mask leaves out is set to each bin's mean and not pooled. Of a fused tower also
    N = 4 windows: the whole clip and three excerpts, which count for the clips whose mask has them."""

    def __init__(self, config: HTSATConfig) -> None:
        super().__init__()
        self.config, stages = config, len(config.depths)
        self.ratio = config.image // config.bins
        side = config.image // config.patch
        last = side // 2 ** (stages - 1)
        sides = [side // 2**i for i in range(stages)]
        if len(config.heads) != stages:
            raise ClaraError("htsat tower: depths and heads must be equally long.")
        fits = self.ratio * config.bins == config.image and last * config.patch * 2 ** (stages - 1) == config.image
        if not fits or last % self.ratio or any(s % min(config.window, s) for s in sides):
            raise ClaraError(
                f"htsat tower: an image of {config.image} with {config.bins} bins, patch {config.patch}, window "
                f"{config.window} and {stages} stages does not divide; the usual is 256, 64, 4, 8 and 4."
            )
        if config.window_frames > self.ratio * config.image:
            raise ClaraError(f"htsat tower: window_frames={config.window_frames}, at most {self.ratio * config.image}.")
        self.columns, self.width = self.ratio * last, config.width * 2 ** (stages - 1)
        self.bn0 = nn.BatchNorm1d(config.bins)
        self.patch_embed = PatchEmbed(config)
        drops = torch.linspace(0, config.drop_path, sum(config.depths)).split(list(config.depths))
        self.layers = nn.ModuleList(Stage(config, i, drops[i].tolist()) for i in range(stages))
        self.norm = nn.LayerNorm(self.width)
        index, weight = bicubic(config.window_frames, self.ratio * config.image)
        self.register_buffer("taps", index, persistent=False)
        self.register_buffer("tap_weights", weight, persistent=False)
        self.register_buffer("first", window_order(sides[0], min(config.window, sides[0])), persistent=False)
        self.register_buffer("rows", self.layers[-1].order.argsort(), persistent=False)

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNW per column of the map in time order with `pool=False`. ClaraError when N exceeds the window
        (of a fused tower: and is not four of it) or F is another."""
        c = self.config
        if x_BNF.shape[2] != c.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the htsat tower was built for {c.bins}.")
        x_BNF = self.bn0(x_BNF.transpose(1, 2)).transpose(1, 2)
        chunks = long_B = None
        if c.fusion and x_BNF.shape[1] == (1 + CHUNKS) * c.window_frames:
            blocks = x_BNF.unflatten(1, (1 + CHUNKS, c.window_frames))
            x_BNF, long_B = blocks[:, 0], mask_BN[:, -1].nonzero()[:, 0]
            chunks = self._fold(blocks[long_B, 1:]) if len(long_B) else None
        mask_BN = mask_BN[:, : c.window_frames]
        x_BNF, _ = fit_window(x_BNF, mask_BN, c.window_frames)
        tokens_BSC = self.patch_embed(self._fold(x_BNF), chunks, long_B).index_select(1, self.first)
        few = AT_ONCE_ON_CPU if tokens_BSC.device.type == "cpu" else len(tokens_BSC)
        tokens_BSC = torch.cat([self.norm(self._stages(some_BSC)) for some_BSC in tokens_BSC.split(few)])
        map_B = tokens_BSC.index_select(1, self.rows).unflatten(1, (self.ratio, -1, self.columns // self.ratio))
        frames_BNW = map_B.mean(2).flatten(1, 2)
        return self.pooled(frames_BNW, self.frame_mask(mask_BN)) if pool else frames_BNW

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        return masked_mean(frames_BNW, mask_BN)

    def _stages(self, tokens_BSC: Tensor) -> Tensor:
        for stage in self.layers:
            tokens_BSC = stage(tokens_BSC)
        return tokens_BSC

    def _fold(self, x_BNF: Tensor) -> Tensor:
        """(…, window, F) -> (…, image, image): resized in time, cut into `ratio` stretches, one below the other, time
        across and the bins upward."""
        x = (x_BNF[..., self.taps, :] * self.tap_weights[..., None].to(x_BNF.dtype)).sum(-2)
        return x.unflatten(-2, (self.ratio, -1)).transpose(-1, -2).flatten(-3, -2)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        """A column is real when the first frame it stands for is: (B, columns)."""
        window = self.config.window_frames
        first_C = torch.arange(self.columns, device=mask_BN.device) * window // self.columns
        return pad(mask_BN[:, :window], (0, max(0, window - mask_BN.shape[1])))[:, first_C]


_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_OURS = r"layers.\1.blocks.\2."
_SHARED = (
    Rename(r"patch_embed\.(proj|norm|mel_conv2d)\.(weight|bias)", r"patch_embed.\1.\2"),
    Rename(rf"patch_embed\.fusion_model\.((?:local|global)_att\.\d+)\.{_NORM}", r"patch_embed.fusion_model.\1.\2"),
    Rename(r"layers\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)", r"layers.\1.downsample.\2.\3"),
    Rename(r"norm\.(weight|bias)", r"norm.\1"),
)
LAION_RULES: tuple[Rule, ...] = (
    *_SHARED,
    Rename(rf"bn0\.{_NORM}", r"bn0.\1"),
    Rename(rf"{_BLOCK}(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)\.(weight|bias)", rf"{_OURS}\3.\4"),
    Rename(rf"{_BLOCK}attn\.relative_position_bias_table", rf"{_OURS}attn.relative_position_bias_table"),
    Drop(rf"{_BLOCK}attn\.relative_position_index", "computed"),
    Drop(rf"{_BLOCK}attn_mask", "computed"),
    Drop(r"spectrogram_extractor\.stft\.conv_(real|imag)\.weight", "the front-end's Fourier transform"),
    Drop(r"logmel_extractor\.melW", "the front-end's filter bank"),
    Drop(r"(tscam_conv|head)\.(weight|bias)", "classes of AudioSet; an embedding does not pass it"),
)
TRANSFORMERS_RULES: tuple[Rule, ...] = (
    *_SHARED,
    Rename(rf"batch_norm\.{_NORM}", r"bn0.\1"),
    Rename(rf"{_BLOCK}layernorm_before\.(weight|bias)", rf"{_OURS}norm1.\3"),
    Rename(rf"{_BLOCK}layernorm_after\.(weight|bias)", rf"{_OURS}norm2.\3"),
    *(
        Rename(rf"{_BLOCK}attention\.self\.{name}\.(weight|bias)", rf"{_OURS}attn.qkv.\3#{i}")
        for i, name in enumerate(("query", "key", "value"))
    ),
    Rename(rf"{_BLOCK}attention\.self\.relative_position_bias_table", rf"{_OURS}attn.relative_position_bias_table"),
    Drop(rf"{_BLOCK}attention\.self\.relative_position_index", "computed"),
    Rename(rf"{_BLOCK}attention\.output\.dense\.(weight|bias)", rf"{_OURS}attn.proj.\3"),
    Rename(rf"{_BLOCK}intermediate\.dense\.(weight|bias)", rf"{_OURS}mlp.fc1.\3"),
    Rename(rf"{_BLOCK}output\.dense\.(weight|bias)", rf"{_OURS}mlp.fc2.\3"),
)
