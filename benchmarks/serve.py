"""Load on a server over loopback: answers a second, p50 and p95, lost requests, memory, malformed uploads in between.

    python benchmarks/serve.py recordings --model clara-small.base --clients 8 --seconds 60

Starts `clara serve` in a process of its own. Each client sends one request after another; one request in twenty is
malformed and has to be refused with a status of 400 to 422. Lost: no answer, or another status.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import httpx
import typer

from clara.audio.sources import list_audio

MALFORMED = (b"", b"no audio at all", b"RIFF" + bytes(400), b"OggS" + bytes(900), b"\x00\x00\x00 ftypM4A " + bytes(99))


def memory(process: int) -> int:
    """Resident MiB."""
    line = next(x for x in Path(f"/proc/{process}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def wait_for(url: str) -> None:
    """Until the server answers; RuntimeError after three minutes."""
    for _ in range(360):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError("The server does not answer.")


def client(url: str, clips: list[bytes], number: int, until: float, found: list[tuple[float, str]]) -> None:
    """Ask until the time is over."""
    with httpx.Client(base_url=url, timeout=120) as http:
        for i in itertools.count(number):
            if time.perf_counter() > until:
                return
            broken = i % 20 == 19
            data, begin = MALFORMED[i // 20 % len(MALFORMED)] if broken else clips[i % len(clips)], time.perf_counter()
            try:
                if i % 4 == 3 and not broken:
                    answer = http.post("/classify", files={"file": data}, data={"labels": ["a dog", "rain", "a siren"]})
                else:
                    answer = http.post("/embed", files={"file": data})
                right = 400 <= answer.status_code <= 422 if broken else answer.status_code == 200
            except httpx.TransportError:
                right = False
            kind = "lost" if not right else "refused" if broken else "answered"
            found.append((time.perf_counter() - begin, kind))


def main(
    folder: Annotated[Path, typer.Argument()],
    model: Annotated[str, typer.Option("--model", "-m")] = "clara-small.base",
    clients: Annotated[list[int], typer.Option()] = [1, 8, 32],  # noqa: B006
    seconds: Annotated[float, typer.Option()] = 30.0,
    port: Annotated[int, typer.Option()] = 8765,
) -> None:
    """Measure and print a table."""
    clips = [p.read_bytes() for p in list_audio(folder)[:200]]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "clara", "serve", "-m", model, "--port", str(port), "--no-page"]
    server = subprocess.Popen(command)
    try:
        wait_for(url)
        print(f"{model}, {len(clips)} clips\n| clients | answers a second | p50 ms | p95 ms | lost | refused | MiB |")
        print("|---|---|---|---|---|---|---|")
        for count in clients:
            found: list[tuple[float, str]] = []
            begin = time.perf_counter()
            jobs = [
                threading.Thread(target=client, args=(url, clips, 7 * n, begin + seconds, found)) for n in range(count)
            ]
            for job in jobs:
                job.start()
            for job in jobs:
                job.join()
            took = time.perf_counter() - begin
            times = [1000 * t for t, kind in found if kind == "answered"]
            cuts, kinds = statistics.quantiles(times, n=20), [kind for _, kind in found]
            told = [count, f"{len(times) / took:.1f}", f"{cuts[9]:.0f}", f"{cuts[18]:.0f}", kinds.count("lost")]
            print("| " + " | ".join(map(str, [*told, kinds.count("refused"), memory(server.pid)])) + " |", flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    typer.run(main)
