"""What is demanded of every tower, through the tiny configs/test-*.yaml: a new tower is tested by having one."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from clara import towers
from clara.config import Spec, arch_config, arch_names, to_dict
from clara.errors import ClaraError
from clara.layers import masked_stats
from clara.model import DualEncoder
from clara.towers.base import AUDIO_TOWERS, TEXT_TOWERS, fit_window, weightless
from clara.towers.hf_audio import FAMILIES, MaskedGroupNorm
from clara.towers.hf_pool import coarser
from clara.zoo import factory
from clara.zoo.factory import build_around

NAMES = [n for n in arch_names() if n.startswith("test-")]
SECONDS, SHORT = 2.0, 0.7
EXACT = {"rtol": 0.0, "atol": 1e-5}


def make(name: str) -> DualEncoder:
    """The model of a test config with every parameter shaken: zero-initialised layers would hide faults."""
    torch.manual_seed(0)
    model = DualEncoder(arch_config(name)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def features(model: DualEncoder, seconds: list[float]) -> tuple[Tensor, Tensor]:
    """Random clips of these lengths through the front-end, padded to the longest: x_BNF, mask_BN. A clip's
    samples depend on its place alone, so that the same clip can be had beside others."""
    waves = [torch.randn(round(s * 16000), generator=torch.Generator().manual_seed(i)) for i, s in enumerate(seconds)]
    wave_BT = nn.utils.rnn.pad_sequence(waves, batch_first=True)
    return model.front_end(wave_BT, torch.tensor([len(w) for w in waves]))


def tokens(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Random ids of these lengths: ids_BL, mask_BL."""
    ids_BL = torch.randint(4, 300, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    mask_BL = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return ids_BL.masked_fill(~mask_BL, 0), mask_BL


def own(name: str = "test-whisper-own", **options: Any) -> Spec:
    """The audio tower of a test config with other options."""
    return Spec("hf_audio", {**arch_config(name).audio.options, **options})


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> DualEncoder:
    return make(request.param)


def test_every_registered_family_has_a_test_config() -> None:
    configs = [arch_config(n) for n in NAMES]
    assert {c.audio.kind for c in configs} == set(AUDIO_TOWERS.names())
    assert {c.text.kind for c in configs} == set(TEXT_TOWERS.names())
    assert {c.audio.options["config"]["model_type"] for c in configs if c.audio.kind == "hf_audio"} == set(FAMILIES)


def test_the_table_of_families_is_what_their_modules_register() -> None:
    for found in pkgutil.iter_modules(towers.__path__, "clara.towers."):
        importlib.import_module(found.name)
    for registry, homes in ((AUDIO_TOWERS, towers.AUDIO), (TEXT_TOWERS, towers.TEXT)):
        assert registry.names() == sorted(homes)
        assert {name: registry.get(name)[0].__module__ for name in homes} == homes


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "clara.load('clara-small.base', device='cpu').embed_text(['a dog'])",
            ("clara.towers.htsat", "clara.towers.hf_text", "clara.towers.dasheng"),
        ),
        ("clara.create_model('test-htsat')", ("clara.towers.hf_text", "clara.towers.dasheng")),
    ],
)
def test_loading_imports_no_other_family(code: str, absent: tuple[str, ...]) -> None:
    """Their libraries take longer than the checkpoint."""
    code = f"import clara, sys; {code}; print([m for m in {absent} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_text_families_are_those_that_open_clip_names_and_gpt2() -> None:
    from open_clip.hf_configs import arch_dict

    from clara.towers import hf_text

    assert {*arch_dict, "gpt2"} == set(hf_text.FAMILIES)


@torch.no_grad()
def test_weights_take_the_place_of_none(model: DualEncoder) -> None:
    """Built for a file's tensors, parameters have no memory until they are those tensors; what is computed is there."""
    with weightless():
        empty = DualEncoder(model.config)
    assert all(p.is_meta for name, p in empty.named_parameters() if not name.startswith("audio.backbone."))
    given = model.state_dict()
    built = build_around(model.config, given, "here").eval()
    for (name, a), b in zip(built.named_parameters(), model.parameters(), strict=True):
        assert (a.data_ptr(), a.requires_grad) == (given[name].data_ptr(), b.requires_grad), name
    for (name, a), b in zip(built.named_buffers(), model.buffers(), strict=True):
        assert torch.equal(a, b), name
    x_BNF, mask_BN = features(model, [SHORT])
    assert torch.equal(built.audio(x_BNF, mask_BN), model.audio(x_BNF, mask_BN))
    assert torch.equal(built.text(*tokens([7])), model.text(*tokens([7])))


def test_weightlessness_ends_and_is_of_one_thread() -> None:
    found: dict[str, bool] = {}
    with weightless():
        other = threading.Thread(target=lambda: found.update(other=nn.Linear(2, 2).weight.is_meta))
        other.start()
        other.join()
        with weightless(False):
            found["exempt"] = nn.Linear(2, 2).weight.is_meta
        found["within"] = nn.Linear(2, 2).weight.is_meta
    found["after"] = nn.Linear(2, 2).weight.is_meta
    assert found == {"other": False, "exempt": False, "within": True, "after": False}


def test_models_may_be_built_and_loaded_at_once() -> None:
    """One thread comes upon torch's table of hooks while another registers a parameter."""

    def meanwhile(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        with weightless():
            pass

    # the table is looked at again before the second
    handles = [register_module_parameter_registration_hook(meanwhile) for _ in range(2)]
    try:
        assert not nn.Linear(2, 2).weight.is_meta
    finally:
        for handle in handles:
            handle.remove()


class Tied(nn.Module):
    """A model whose two matrices are one, and a third of its own."""

    def __init__(self, config: None) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(2, 2, bias=False) for _ in range(3))
        self.b.weight = self.a.weight
        self.c.requires_grad_(False)


def test_weights_are_shared_where_the_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "DualEncoder", Tied)
    one = torch.ones(2, 2, dtype=torch.float16).T
    built = build_around(None, {"a.weight": one, "b.weight": one, "c.weight": one}, "here")
    assert built.a.weight is built.b.weight
    assert built.c.weight.data_ptr() != built.a.weight.data_ptr()
    assert (built.a.weight.dtype, built.a.weight.requires_grad) == (torch.float32, True)
    assert not built.c.weight.requires_grad
    same = torch.ones(2, 2)
    built = build_around(None, {"a.weight": same, "b.weight": same, "c.weight": same}, "here")
    assert built.c.weight.data_ptr() != built.a.weight.data_ptr() == same.data_ptr()


@torch.no_grad()
def test_audio_shapes(model: DualEncoder) -> None:
    x_BNF, mask_BN = features(model, [SHORT, SECONDS, 1.1])
    a_BW = model.audio(x_BNF, mask_BN)
    frames, frame_mask = model.audio(x_BNF, mask_BN, pool=False), model.audio.frame_mask(mask_BN)
    assert a_BW.shape == (3, model.audio.width)
    assert a_BW.isfinite().all()
    assert frames.shape[:2] == frame_mask.shape
    assert frame_mask.dtype == torch.bool
    counts = frame_mask.sum(1)
    assert 0 < counts[0] < counts[2] < counts[1] <= frames.shape[1]
    assert (frame_mask[:, :1]).all()
    assert not (frame_mask[:, 1:] & ~frame_mask[:, :-1]).any(), "real frames come first"


@torch.no_grad()
def test_clip_alone_in_a_batch_and_beside_longer_ones(model: DualEncoder) -> None:
    x_BNF, mask_BN = features(model, [SHORT])
    alone, frames = model.audio(x_BNF, mask_BN), model.audio(x_BNF, mask_BN, pool=False)
    real = int(model.audio.frame_mask(mask_BN).sum())
    for company in ([SHORT, SHORT], [SHORT, 1.3], [SHORT, SECONDS, 0.05, 1.7]):
        x_BNF, mask_BN = features(model, company)
        torch.testing.assert_close(model.audio(x_BNF, mask_BN)[:1], alone, **EXACT)
        assert model.audio.frame_mask(mask_BN)[0].sum() == real
        frames_B = model.audio(x_BNF, mask_BN, pool=False)
        torch.testing.assert_close(frames_B[0, :real], frames[0, :real], **EXACT)


@torch.no_grad()
def test_what_the_padding_holds_reaches_nothing(model: DualEncoder) -> None:
    x_BNF, mask_BN = features(model, [SHORT, SECONDS, 0.001])
    expected = model.audio(x_BNF, mask_BN)
    x_BNF[~mask_BN] = 1e3
    torch.testing.assert_close(model.audio(x_BNF, mask_BN), expected, **EXACT)
    x_BNF[~mask_BN] = torch.nan
    torch.testing.assert_close(model.audio(x_BNF, mask_BN), expected, **EXACT)


@torch.no_grad()
def test_different_clips_differ_and_evaluation_is_deterministic(model: DualEncoder) -> None:
    x_BNF, mask_BN = features(model, [1.0, 1.0])
    first, second = model.audio(x_BNF, mask_BN), model.audio(x_BNF, mask_BN)
    assert torch.equal(first, second)
    assert (first[0] - first[1]).abs().max() > 1e-4


@torch.no_grad()
def test_very_short_clips(model: DualEncoder) -> None:
    x_BNF, mask_BN = model.front_end(torch.randn(1, 1), torch.tensor([1]))
    assert model.audio(x_BNF, mask_BN).isfinite().all()


def test_gradient_reaches_every_parameter(model: DualEncoder) -> None:
    model.train()
    model.zero_grad()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    audio_BD = model.encode_audio(torch.randn(3, 32000), torch.tensor([32000, 20000, 9000]))
    text_BD = model.encode_text(*tokens([9, 5, 3]))
    logits = model.scale * audio_BD @ text_BD.T + (0.0 if model.bias is None else model.bias)
    logits.square().mean().backward()
    model.eval()
    wanting = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    # a key's bias moves every score of a row alike, so its gradient is zero by the softmax's nature
    still = [n for n, p in model.named_parameters() if p.grad is not None and p.ndim > 1 and not p.grad.abs().max() > 0]
    assert wanting == []
    assert still == []


def test_state_dict_loads_strictly_into_what_the_saved_config_builds(model: DualEncoder) -> None:
    torch.manual_seed(7)
    twin = DualEncoder(model.config).eval()
    twin.load_state_dict(model.state_dict(), strict=True)
    assert to_dict(twin.config) == to_dict(model.config)
    with torch.no_grad():
        x_BNF, mask_BN = features(model, [SHORT, SECONDS])
        assert torch.equal(twin.audio(x_BNF, mask_BN), model.audio(x_BNF, mask_BN))
        assert torch.equal(twin.text(*tokens([4, 7])), model.text(*tokens([4, 7])))


@torch.no_grad()
def test_text_alone_in_a_batch_and_beside_longer_ones(model: DualEncoder) -> None:
    ids_BL, mask_BL = tokens([5, 12, 8])
    t_BW = model.text(ids_BL, mask_BL)
    assert t_BW.shape == (3, model.text.width)
    assert model.text(ids_BL, mask_BL, pool=False).shape == (3, 12, model.text.width)
    torch.testing.assert_close(model.text(ids_BL[:1, :5], mask_BL[:1, :5]), t_BW[:1], **EXACT)
    torch.testing.assert_close(model.text(ids_BL.masked_fill(~mask_BL, 9), mask_BL), t_BW, **EXACT)
    assert (t_BW[0] - t_BW[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["test-timm", "test-timm-vit", "test-whisper", "test-wavlm"])
@torch.no_grad()
def test_only_real_frames_are_pooled(name: str) -> None:
    tower, (x_BNF, mask_BN) = (model := make(name)).audio, features(model, [SHORT, SECONDS])
    frames_BNW, keep_BN1 = tower(x_BNF, mask_BN, pool=False), tower.frame_mask(mask_BN)[..., None]
    expected = (frames_BNW * keep_BN1).sum(1) / keep_BN1.sum(1)
    torch.testing.assert_close(tower(x_BNF, mask_BN), expected, **EXACT)


def test_too_many_tokens_are_refused(model: DualEncoder) -> None:
    with pytest.raises(ClaraError, match="200 tokens"):
        model.text(*tokens([200]))


def test_fixed_windows_refuse_longer_clips() -> None:
    x_BNF, mask_BN = torch.ones(1, 12, 3), torch.ones(1, 12, dtype=torch.bool)
    assert fit_window(x_BNF, mask_BN, 11)[0].shape == (1, 11, 3)
    padded, mask = fit_window(x_BNF, mask_BN, 15, fill=-7.0)
    assert padded[0, :, 0].tolist() == [1.0] * 12 + [-7.0] * 3
    assert mask.sum() == 12
    with pytest.raises(ClaraError, match="12 frames, the tower's window is 10"):
        fit_window(x_BNF, mask_BN, 10)


def test_masked_group_norm_is_group_norm_on_whole_clips() -> None:
    theirs, ours = nn.GroupNorm(6, 6), MaskedGroupNorm(6, 6)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    x_BCN = 3 + 2 * torch.randn(2, 6, 50)
    ours.lengths_B = torch.tensor([50, 50])
    torch.testing.assert_close(ours(x_BCN), theirs(x_BCN), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["test-wav2vec2", "test-hubert", "test-wavlm"])
@torch.no_grad()
def test_a_whole_clip_gives_what_transformers_gives(name: str) -> None:
    """Parity with the family's own model, unmodified, on one unpadded clip."""
    from transformers import AutoConfig, AutoModel

    tower = make(name).audio
    options = dict(arch_config(name).audio.options["config"])
    theirs = AutoModel.from_config(
        AutoConfig.for_model(options.pop("model_type"), **options, mask_time_prob=0.0)
    ).eval()
    theirs.load_state_dict(tower.encoder.model.state_dict(), strict=True)
    wave_BT = torch.randn(1, 16000)
    expected = theirs(wave_BT).last_hidden_state
    got = tower(wave_BT[..., None], torch.ones(1, 16000, dtype=torch.bool), pool=False)
    torch.testing.assert_close(got, expected, **EXACT)


@torch.no_grad()
def test_whisper_gives_what_transformers_gives() -> None:
    """Front-end and encoder against WhisperFeatureExtractor and WhisperEncoder, silence beyond the clip included."""
    from transformers import WhisperFeatureExtractor

    model = make("test-whisper")
    wave_T = 0.1 * torch.randn(20000) * torch.hann_window(20000)  # fades in: the STFTs pad their edges differently
    extract = WhisperFeatureExtractor(feature_size=40, chunk_length=2)
    theirs_1FN = extract(wave_T.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    expected = model.audio.encoder.model(theirs_1FN).last_hidden_state
    got = model.audio(*model.front_end(wave_T[None], torch.tensor([20000])), pool=False)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-3)


STATES = ["test-whisper", "test-whisper-own", "test-wav2vec2", "test-wav2vec2-mix", "test-wavlm"]


@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_stored_states_give_what_the_clips_give(name: str) -> None:
    model = make(name)
    x_BNF, mask_BN = features(model, [SHORT, SECONDS, 1.1])
    states_BNKW, states_mask_BN = model.audio.states(x_BNF, mask_BN)
    assert torch.equal(states_mask_BN, model.audio.frame_mask(mask_BN))
    assert states_BNKW.shape[:2] == states_mask_BN.shape
    assert states_BNKW.shape[2:] == (len(arch_config(name).audio.options.get("mix", [0])), 32)
    for pool in (True, False):
        got = model.audio.from_states(states_BNKW, states_mask_BN, pool=pool)
        assert torch.equal(got, model.audio(x_BNF, mask_BN, pool=pool))
    wave_BT = torch.randn(2, 16000)
    states = model.audio.states(*model.front_end(wave_BT, torch.tensor([16000, 9000])))
    assert torch.equal(model.encode_states(*states), model.encode_audio(wave_BT, torch.tensor([16000, 9000])))
    # stored beside longer clips, trained beside shorter ones
    real = int(states_mask_BN[0].sum())
    alone = model.audio.from_states(states_BNKW[:1, :real], states_mask_BN[:1, :real])
    torch.testing.assert_close(alone, model.audio(x_BNF, mask_BN)[:1], **EXACT)


def test_states_are_asked_of_towers_that_have_them() -> None:
    for name in ("test-conv", "test-ast"):
        model = make(name)
        with pytest.raises(ClaraError, match="cannot be trained from stored states"):
            model.audio.states(*features(model, [1.0]))
        with pytest.raises(ClaraError, match="cannot be trained from stored states"):
            model.encode_states(torch.zeros(1, 2, 1, 32), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ClaraError, match="States of 3 layers, the tower mixes 2"):
        make("test-whisper-own").audio.from_states(torch.zeros(1, 2, 3, 32), torch.ones(1, 2, dtype=torch.bool))


@torch.no_grad()
def test_kept_layers_of_a_started_whisper_are_its_own_hidden_states(tmp_path: Any) -> None:
    from transformers import AutoConfig, AutoModel

    options = dict(arch_config("test-whisper-own").audio.options["config"])
    theirs = AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options)).eval()
    theirs.save_pretrained(tmp_path)
    model = make("test-whisper")
    x_BNF, mask_BN = model.front_end(torch.randn(2, 32000), torch.tensor([32000, 32000]))
    hidden = theirs.encoder(x_BNF[:, :200].transpose(1, 2), output_hidden_states=True).hidden_states
    for full in (True, False):
        for layers in (1, 2, 3):
            spec = Spec(
                "hf_audio",
                {"name": str(tmp_path), "layers": layers, "mix": list(range(layers + 1)), "full_window": full},
            )
            tower = AUDIO_TOWERS.create(spec).eval()
            assert len(tower.encoder.model.layers) == layers
            states_BNKW, mask = tower.states(x_BNF, mask_BN)
            assert mask.all()
            last = hidden[layers] if layers < 3 else theirs.encoder(x_BNF[:, :200].transpose(1, 2)).last_hidden_state
            for k, expected in enumerate((*hidden[:layers], last)):
                torch.testing.assert_close(states_BNKW[:, :, k], expected, **EXACT)
            again = AUDIO_TOWERS.create(tower.resolved(spec)).eval()
            again.load_state_dict(tower.state_dict(), strict=True)
            assert torch.equal(again(x_BNF, mask_BN), tower(x_BNF, mask_BN))


@torch.no_grad()
def test_kept_layers_of_wav2vec2_are_its_own_hidden_states() -> None:
    from transformers import AutoConfig, AutoModel

    tower = make("test-wav2vec2-mix").audio
    options = {
        **arch_config("test-wav2vec2-mix").audio.options["config"],
        "num_hidden_layers": 2,
        "mask_time_prob": 0.0,
    }
    theirs = AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options)).eval()
    theirs.encoder.layer_norm = nn.Identity()
    theirs.load_state_dict(tower.encoder.model.state_dict(), strict=True)
    wave_BT, mask_BT = torch.randn(1, 16000), torch.ones(1, 16000, dtype=torch.bool)
    hidden = theirs(wave_BT, output_hidden_states=True).hidden_states
    got = tower.encoder(wave_BT[..., None], mask_BT)
    assert len(got) == len(hidden) == 3
    for a, b in zip(got, hidden):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("full", [True, False])
@torch.no_grad()
def test_coarse_whisper_runs_its_later_layers_on_fewer_frames(full: bool) -> None:
    made = dict(arch_config("test-whisper").audio.options)
    spec = Spec("hf_audio", {**made, "full_window": full, "coarse": {"after": 1, "factor": 4}, "mix": [0, 2]})
    tower, seen = AUDIO_TOWERS.create(spec).eval(), []
    for layer in tower.encoder.model.layers:
        layer.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    x_BNF, mask_BN = features(make("test-whisper"), [SHORT, 1.5])
    both, mask = tower.states(x_BNF, mask_BN)
    assert seen == ([100, 25] if full else [76, 19])
    assert torch.equal(tower.frame_mask(mask_BN), mask)
    assert mask.sum(1).tolist() == [9, 19]
    alone, _ = tower.states(x_BNF[:1, :71], mask_BN[:1, :71])
    torch.testing.assert_close(both[:1, :9], alone[:, :9], **EXACT)


@torch.no_grad()
def test_an_own_window_follows_the_clip_and_refuses_more_than_the_pretrained_one() -> None:
    model = make("test-whisper-own")
    assert model.audio(*features(model, [0.5]), pool=False).shape[1] == 13
    assert model.audio(*features(model, [2.0]), pool=False).shape[1] == 50
    with pytest.raises(ClaraError, match="the tower's window is 200"):
        model.audio(torch.zeros(1, 203, 40), torch.ones(1, 203, dtype=torch.bool))


def test_masked_frames_are_averaged_by_their_number() -> None:
    x_BNW = torch.tensor([1.0, 2.0, 3.0, 4.0, torch.nan])[None, :, None]
    mask_BN = torch.tensor([[True, True, True, False, False]])
    y_BNW, mask = coarser(x_BNW, mask_BN, 2)
    assert y_BNW.flatten().tolist() == [1.5, 3.0, 0.0]
    assert mask.tolist() == [[True, True, False]]
    stats = masked_stats(x_BNW[:, :4], mask_BN[:, :4])
    torch.testing.assert_close(stats, torch.tensor([[2.0, (2 / 3 + 1e-5) ** 0.5]]))


@torch.no_grad()
def test_a_summary_stands_beside_what_is_pooled() -> None:
    plain = AUDIO_TOWERS.create(own(mix=[0, 2])).eval()
    tower = AUDIO_TOWERS.create(own(mix=[0, 2], summary=True)).eval()
    tower.load_state_dict(plain.state_dict())
    x_BNF, mask_BN = features(make("test-whisper-own"), [SHORT, 1.5])
    states_BNKW, states_mask_BN = tower.states(x_BNF, mask_BN)
    a_BW, pooled_BW = tower(x_BNF, mask_BN), plain(x_BNF, mask_BN)
    assert a_BW.shape[1] == tower.width == plain.width + 2 * 2 * tower.encoder.width
    assert torch.equal(a_BW[:, : plain.width], pooled_BW)
    own_BW = a_BW[:, plain.width :].unflatten(1, (2, 2, -1))  # mean and deviation, layers, values
    real = states_BNKW[0, states_mask_BN[0]]
    torch.testing.assert_close(own_BW[0, 0], real.mean(0), **EXACT)
    torch.testing.assert_close(own_BW[0, 1], (real.var(0, correction=0) + 1e-5).sqrt(), **EXACT)


@torch.no_grad()
def test_cnn14_on_a_whole_clip_is_the_published_network() -> None:
    """Kong et al. 2020: blocks, mean over bins, maximum and mean over frames added, one layer; written out plainly."""
    tower = make("test-cnn14").audio
    x_BNF = torch.randn(2, 67, 32)
    y = tower.bn0(x_BNF.transpose(1, 2)).transpose(1, 2)[:, None]
    for block in tower.blocks:
        y = block.bn2(block.conv2(block.bn1(block.conv1(y)).relu())).relu()
        y = nn.functional.avg_pool2d(y, block.pool)
    y = y.mean(3)
    expected = tower.fc1(y.amax(2) + y.mean(2)).relu()
    torch.testing.assert_close(tower(x_BNF, torch.ones(2, 67, dtype=torch.bool)), expected, **EXACT)


@torch.no_grad()
def test_gpt2_is_read_at_the_token_that_microsofts_clap_reads() -> None:
    tower = make("test-cnn14").text
    ids_BL = torch.tensor([[5, 6, 7, 9, 0, 0], [5, 0, 6, 7, 9, 0]])  # the second has a '!' (id 0) within
    mask_BL = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    tokens_BLW = tower(ids_BL, mask_BL, pool=False)
    expected = torch.stack([tokens_BLW[0, 3], tokens_BLW[1, 3]])
    torch.testing.assert_close(tower(ids_BL, mask_BL), expected, **EXACT)


@pytest.mark.parametrize("name", ["test-wav2vec2", "test-whisper", "test-ast"])
def test_local_folder_starts_from_its_weights_and_saves_without_it(name: str, tmp_path: Any) -> None:
    from transformers import AutoConfig, AutoModel

    options = dict(arch_config(name).audio.options["config"])
    foreign = AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
    foreign.save_pretrained(tmp_path)
    spec = Spec("hf_audio", {"name": str(tmp_path)})
    tower = AUDIO_TOWERS.create(spec)
    own, theirs = tower.encoder.model.state_dict(), foreign.state_dict()
    matched = [k for k in own if torch.equal(own[k], theirs.get(k, theirs.get(f"encoder.{k}", torch.empty(0))))]
    assert sorted(own) == sorted(matched)
    saved = DualEncoder(dataclasses.replace(arch_config(name), audio=spec)).config.audio  # what a checkpoint stores
    assert "name" not in saved.options
    AUDIO_TOWERS.create(saved).load_state_dict(tower.state_dict(), strict=True)


@torch.no_grad()
def test_the_first_layers_of_a_text_folder(tmp_path: Any) -> None:
    from transformers import AutoConfig, AutoModel

    options = dict(arch_config("test-hf-text").text.options["config"])
    foreign = AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options)).eval()
    foreign.save_pretrained(tmp_path)
    spec = Spec("hf_text", {"name": str(tmp_path), "layers": 1})
    tower = TEXT_TOWERS.create(spec).eval()
    ids_BL, mask_BL = tokens([4, 9])
    hidden = foreign(input_ids=ids_BL, attention_mask=mask_BL.long(), output_hidden_states=True).hidden_states
    assert len(hidden) > 2
    torch.testing.assert_close(tower(ids_BL, mask_BL, pool=False), hidden[1], **EXACT)
    TEXT_TOWERS.create(tower.resolved(spec)).load_state_dict(tower.state_dict(), strict=True)
    with pytest.raises(ClaraError, match="hf_text tower: layers=9: this"):
        TEXT_TOWERS.create(Spec("hf_text", {"name": str(tmp_path), "layers": 9}))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_local_text_folder(pooling: str, tmp_path: Any) -> None:
    from transformers import AutoConfig, AutoModel

    options = dict(arch_config("test-hf-text").text.options["config"])
    foreign = AutoModel.from_config(AutoConfig.for_model(options.pop("model_type"), **options)).eval()
    foreign.save_pretrained(tmp_path)
    spec = Spec("hf_text", {"name": str(tmp_path), "pooling": pooling})
    tower = TEXT_TOWERS.create(spec).eval()
    ids_BL, mask_BL = tokens([4, 9])
    with torch.no_grad():
        out = foreign(input_ids=ids_BL, attention_mask=mask_BL.long())
        mean = (out.last_hidden_state * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)
        expected = {"mean": mean, "cls": out.last_hidden_state[:, 0], "pooler": out.pooler_output}[pooling]
        torch.testing.assert_close(tower(ids_BL, mask_BL), expected, **EXACT)
    config = dataclasses.replace(arch_config("test-conv"), text=spec)
    saved = DualEncoder(config).config.text  # what a checkpoint stores
    assert "name" not in saved.options
    TEXT_TOWERS.create(saved).load_state_dict(tower.state_dict(), strict=True)


def test_foreign_weights_load_whole_or_not_at_all(tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    options = dict(arch_config("test-ast").audio.options["config"])
    tower = AUDIO_TOWERS.create(Spec("hf_audio", {"config": options}))
    tower.encoder.model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("layernorm.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ClaraError, match=r"lacks weights of ASTModel.*layernorm\.weight"):
        AUDIO_TOWERS.create(Spec("hf_audio", {"name": str(tmp_path)}))


@pytest.mark.parametrize(
    ("registry", "spec", "message"),
    [
        (AUDIO_TOWERS, Spec("convv"), "Unknown audio tower 'convv'. Did you mean 'conv'"),
        (AUDIO_TOWERS, Spec("timm", {"backbone": "resnet81"}), "Unknown timm backbone 'resnet81'. Did you mean"),
        (AUDIO_TOWERS, Spec("timm", {"backbone": "test_resnet", "options": {"wings": 2}}), "test_resnet"),
        (AUDIO_TOWERS, Spec("hf_audio"), "exactly one of 'name'"),
        (AUDIO_TOWERS, Spec("hf_audio", {"config": {"model_type": "bert"}}), "Unknown audio encoder family 'bert'"),
        (AUDIO_TOWERS, Spec("hf_audio", {"config": {"model_type": "wav2vek"}}), "wav2vek"),
        (AUDIO_TOWERS, Spec("hf_audio", {"name": "no/such-model"}), "no/such-model"),
        (AUDIO_TOWERS, own(layers=4), "this whisper has 3; expected 1 to 3"),
        (AUDIO_TOWERS, own(mix=[0, 1]), "the last of them 2, because layers above it"),
        (AUDIO_TOWERS, own(pooling="stat"), "Unknown pooling of the hf_audio tower 'stat'. Did you mean 'stats'"),
        (AUDIO_TOWERS, own(stride=0), "expected at least 1"),
        (AUDIO_TOWERS, own(coarse={"after": 2, "factor": 2}), "a layer from 0 to 1"),
        (AUDIO_TOWERS, own(block_width=129, blocks=1), "expected a multiple of 64"),
        (AUDIO_TOWERS, own("test-ast", mix=[2]), "audio-spectrogram-transformer does not take mix"),
        (AUDIO_TOWERS, own("test-wavlm", full_window=False), "wavlm does not take full_window"),
        (TEXT_TOWERS, Spec("hf_text", {"config": {"model_type": "bert"}, "pooling": "max"}), "Unknown pooling 'max'"),
        (TEXT_TOWERS, Spec("hf_text", {"config": {"model_type": "whisper"}}), "Unknown text encoder family"),
        (TEXT_TOWERS, Spec("transformer", {"vocab_size": 10, "width": 30, "heads": 4}), "not a multiple of heads"),
        (AUDIO_TOWERS, Spec("conv", {"widths": [8]}), "equally long"),
        (AUDIO_TOWERS, Spec("conv", {"stem": 8}), "at least 16 channels"),
        (AUDIO_TOWERS, Spec("cnn14", {"widths": [16, 16]}), "equally long"),
        (AUDIO_TOWERS, Spec("cnn14", {"bins": 16}), "16 bins, and pools divide them by 32"),
        (TEXT_TOWERS, Spec("hf_text", {"config": {"model_type": "gpt2"}, "pooling": "pooler"}), "gpt2 has no pooler"),
    ],
)
def test_wrong_towers_are_refused(registry: Any, spec: Spec, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        registry.create(spec)
