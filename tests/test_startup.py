"""What is imported when: a first answer, or a refusal, waits for no library that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf
from tiny import save_tiny
from tones import tone

HEAVY = (
    "torch", "torchaudio", "open_clip", "torchvision", "transformers", "timm", "scipy", "sklearn", "pandas",
    "matplotlib", "av", "webdataset", "huggingface_hub",
)  # fmt: skip
# each is refused with status 2; {clip}, {model} and {folder} exist
REFUSED = """
classfy {clip}
classify {clip} --labels a,b --lable c
classify {clip} --task emotions -m {model}
classify {clip} --task emotion --language xx -m {model}
classify {clip} --labels a -m {model}
classify {clip} --labels a,b --template nothing -m {model}
classify {clip} --labels a,b -m clara-smal.base
classify {clip} --labels a,b -m clara-small
classify {clip} --labels a,b -m dir:{folder}/none
classify {folder}/none.wav --labels a,b -m {model}
classify {clip} --labels a,b --calibrate {folder}/none -m {model}
classify {clip} --labels a,b --top 0
classify {clip}
find siren {folder}/none.wav -m {model}
find siren {clip} -m nothing
serve -m nothing
serve --index {folder}/none -m {model}
export nothing {folder}/x
export {model} {folder}/x --to pickle
score {folder}/none.csv -m {model}
fit {folder}/none.csv -m {model}
embed {clip} --out {folder}/x.txt
embed {clip} --out {folder}/x.npz -m nothing
embed {folder}/none.wav --out {folder}/x.npz -m {model}
index {folder}/none --out {folder}/i -m {model}
index {clip} --out {folder}/i --table {folder}/none.csv -m {model}
search rain -m {model}
search --folder {folder} -m {model}
search {clip} --folder {folder} -m {model}
search rain --folder {folder}/none -m {model}
search rain --index {folder}/none -m {model}
search rain --index {folder}/none.lance -m {model}
search rain --folder {folder} --where "duration < 5" -m {model}
search --like {folder}/none.wav --folder {folder} -m {model}
demo {folder}/none.wav -m {model}
list --task emotions
show clara-smll
finetune {folder}/none.csv -m {model}
finetune {clip} -m nothing
train nothing
align nothing
config nothing
average {model} nothing --out {folder}/average
average {model} {model} --out {folder}/average --shares a,b
eval nothing --data {folder}
eval retrieval-audiocaps --data {folder}/none
eval retrieval-audiocaps --data {folder} -m nothing
leave-one-out nothing
report {folder}/none.json
card nothing
convert {folder}/none.pt --to {folder}/converted
corpus nothing
shards {folder}/out
shards {folder}/out --manifest {folder}/none.jsonl
captions acoustic {folder}/none {folder}/out
captions rewrite {folder}/none {folder}/out -m nothing
captions scenes {folder}/none {folder} {folder}/out
captions visual {folder}/none.mp4 -o {folder}/out
speak {folder}/out --language xx
"""
VERBS = """
import json, shlex, sys
from typer.testing import CliRunner
from clara.cli import app
heavy, lines = json.loads(sys.argv[1])
found = []
for line in lines:
    before = {m for m in heavy if m in sys.modules}
    result = CliRunner().invoke(app, shlex.split(line))
    found.append((result.exit_code, result.output, sorted({m for m in heavy if m in sys.modules} - before)))
print(json.dumps(found))
"""


def imported(code: str, *arguments: str) -> list[str]:
    """Which of HEAVY a fresh interpreter holds after `code`."""
    return run(f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))", *arguments)


def run(code: str, *arguments: str) -> list:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def call(lines: list[str]) -> list[tuple[int, str, list[str]]]:
    """Exit status, output and what of HEAVY was imported, of each line in turn, in one interpreter."""
    return [tuple(found) for found in run(VERBS, json.dumps([HEAVY, lines]))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("startup")
    sf.write(folder / "a.wav", tone(300), 16000)
    return {"folder": str(folder), "clip": str(folder / "a.wav"), "model": f"dir:{save_tiny(folder / 'tiny')}"}


@pytest.mark.parametrize(
    "code", ["import clara", "import clara; clara.list_models(); clara.list_pretrained(); clara.languages()"]
)
def test_importing_the_package_is_light(code: str) -> None:
    assert imported(code) == []


def test_help_and_lists_are_light() -> None:
    lines = ["--help", "--version", "classify --help", "captions visual --help", "list", "languages", "corpus"]
    for line, (status, output, heavy) in zip(lines, call(lines), strict=True):
        assert (status, heavy) == (0, []), f"{line}: {output}"


def test_mistakes_are_refused_before_anything_heavy_is_imported(place: dict[str, str]) -> None:
    lines = [line.format(**place) for line in REFUSED.strip().splitlines()]
    for line, (status, output, heavy) in zip(lines, call(lines), strict=True):
        assert (status, heavy) == (2, []), f"{line}: {output}"
        assert "Traceback" not in output


def test_every_verb_has_a_line_that_is_refused() -> None:
    from clara.cli import app
    from clara.cli.captioning import captions

    verbs = {c.name or c.callback.__name__ for c in app.registered_commands}
    verbs |= {f"captions {c.name or c.callback.__name__}" for c in captions.registered_commands}
    tried = {v for v in verbs for line in REFUSED.splitlines() if f"{line} ".startswith(f"{v} ")}
    assert verbs - tried == {"languages"}, "it takes no argument"


def test_the_default_architecture_needs_one_module_of_open_clip(place: dict[str, str]) -> None:
    """The tiny checkpoint has the parts of clara-small: a log-mel front-end, a convolutional tower, our text tower."""
    code = (
        "import sys, clara; zoo = clara.load(sys.argv[1], 'cpu'); zoo.embed_text(['a']), zoo.embed_audio(sys.argv[2])"
    )
    heavy = imported(code, place["model"], place["clip"])
    assert not {"timm", "transformers", "scipy", "sklearn", "pandas", "webdataset", "matplotlib"} & set(heavy), heavy
    assert {"torch", "open_clip"} <= set(heavy)


def test_the_trained_checkpoint_has_parts_that_are_light_too() -> None:
    from clara.config import arch_config

    config = arch_config("clara-small")
    assert (config.front_end.kind, config.audio.kind, config.text.kind) == ("log_mel", "conv", "transformer")


def test_open_clip_is_whole_for_whoever_uses_it_afterwards() -> None:
    code = (
        "import sys, pickle, clara.towers.transformer as t\n"
        "import open_clip\n"
        "assert 'timm' not in sys.modules\n"
        "from open_clip import create_model\n"
        "assert 'timm' in sys.modules and type(open_clip) is type(sys) and open_clip.__version__\n"
        "from open_clip.factory import create_model as same\n"
        "assert open_clip.create_model is create_model is same\n"
        "assert open_clip.transformer.Transformer is t.Transformer\n"
        "assert pickle.loads(pickle.dumps(t.Transformer)) is t.Transformer\n"
        "assert not hasattr(open_clip, 'nothing')\n"
        "print('[]')"
    )
    assert run(code) == []


def test_deferring_what_is_imported_or_missing_changes_nothing() -> None:
    from clara.deferred import defer

    defer("json"), defer("clara_no_such_package")
    assert sys.modules["json"] is json and "clara_no_such_package" not in sys.modules


def test_a_deferred_package_that_fails_says_so_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clara.deferred import defer

    (tmp_path / "clara_broken").mkdir()
    (tmp_path / "clara_broken" / "__init__.py").write_text("from .part import number\nimport clara_not_installed\n")
    (tmp_path / "clara_broken" / "part.py").write_text("number = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    defer("clara_broken")
    import clara_broken.part

    assert clara_broken.part.number == 3
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="clara_not_installed"):
            clara_broken.anything  # noqa: B018
