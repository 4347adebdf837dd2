"""Two processes do not write to one place, and a killed one leaves it free."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clara.data.acoustics import annotate
from clara.data.annotate import work_through
from clara.data.manifest import Row, write_manifest
from clara.data.parallel import sole_writer
from clara.data.shards import verify_shards, write_shards
from clara.data.video import VideoConfig, caption_videos
from clara.errors import ClaraError

HOLD = """
import sys, time
from pathlib import Path
from clara.data.parallel import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def half_of(process: subprocess.Popen, out: Path) -> Path:
    """What the process has written of a shard so far."""
    return out / f".toy-train-000000.tar.{process.pid}-1.part"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen]]:
    """A folder of shards that another process is writing to, with a half of one."""
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        half_of(process, out).write_bytes(b"half")
        yield out, process
        process.kill()


def test_a_folder_that_another_process_writes_to_is_left_alone(
    held: tuple[Path, subprocess.Popen], wav: Callable[..., Path]
) -> None:
    out, process = held
    row = Row(str(wav(0.1)), "toy", emotion="anger", task="emotion")
    with pytest.raises(ClaraError, match="out: another process is writing there"):
        write_shards([row], out)
    with pytest.raises(ClaraError, match="another process is writing there"):
        caption_videos(["a.mp4"], out, VideoConfig("toy"))
    assert half_of(process, out).is_file()
    process.kill()
    process.wait()
    write_shards([row], out)
    assert sorted(p.name for p in out.iterdir()) == ["index.json", "toy-train-000000.tar"]
    assert verify_shards(out) == []
    with sole_writer(out.with_name("other.jsonl.measured.jsonl")):
        write_manifest(out.with_name("rows.jsonl"), [row])
        with pytest.raises(ClaraError, match=r"measured\.jsonl: another process"):
            annotate(out.with_name("rows.jsonl"), out.with_name("other.jsonl"))


def test_a_place_is_free_again_after_an_error(tmp_path: Path) -> None:
    def fail(keys: list[str]) -> list:
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            work_through(["a"], tmp_path / "c.jsonl", fail, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["c.jsonl"]
