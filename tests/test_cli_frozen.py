"""The verbs and options that people type: what is in cli.txt stays, and what is added is added there too.

After a deliberate change: `python tests/test_cli_frozen.py > tests/cli.txt`, and a line in CHANGELOG.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from clara.cli import app

FROZEN = Path(__file__).with_name("cli.txt")


def described(command: Any, name: str = "clara") -> Iterator[str]:
    """One line per verb: its arguments, then its options in all spellings, '=' where it takes a value."""
    words = []
    for p in command.params:
        if p.param_type_name == "argument":
            words.append(
                f"{p.name.upper()}{'...' if p.nargs != 1 else ''}"
                if p.required
                else f"[{p.name.upper()}{'...' if p.nargs != 1 else ''}]"
            )
        else:
            spellings = "|".join(sorted([*p.opts, *p.secondary_opts], key=len))
            words.append(f"{spellings}{'' if p.is_flag else '='}{'!' if p.required else ''}")
    yield " ".join([name, *words])
    for verb, inner in sorted(getattr(command, "commands", {}).items()):
        yield from described(inner, f"{name} {verb}")


def test_verbs_and_options_are_those_of_cli_txt() -> None:
    assert list(described(get_command(app))) == FROZEN.read_text(encoding="utf-8").splitlines()


def test_every_option_has_a_help_text() -> None:
    def bare(command: Any, name: str) -> Iterator[str]:
        yield from (f"{name} {p.name}" for p in command.params if not getattr(p, "help", None))
        for verb, inner in getattr(command, "commands", {}).items():
            assert inner.help, f"{verb} says nothing of itself"
            yield from bare(inner, verb)

    assert list(bare(get_command(app), "clara")) == []


if __name__ == "__main__":
    print("\n".join(described(get_command(app))))
