"""The documentation site: it builds without a warning, its links lead somewhere, nothing of it is loaded from
elsewhere, and no Markdown is left in its text."""

from __future__ import annotations

import importlib
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import clara

ROOT = Path(__file__).parents[1]
DESCRIBED = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.M)
RAW = re.compile(r"```|:::|\]\(|^\s*\|.*\||\*\*\w|^\s*#+ \w|<!--", flags=re.M)


class Parsed(HTMLParser):
    """A page's ids, links, what it loads, and its text outside of code."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids, self.links, self.loaded, self.text = set[str](), list[str](), list[str](), ""
        self.code = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.code += tag in ("pre", "code", "script", "style")
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given or (tag == "link" and given.get("rel") != "canonical"):
            self.loaded.append(given.get("src") or given.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        self.code -= tag in ("pre", "code", "script", "style")

    def handle_data(self, data: str) -> None:
        if not self.code:
            self.text += data


def faults(pages: dict[str, Parsed], files: set[str]) -> list[str]:
    """What is wrong with pages, by their paths on the site; `files` are all of the site's."""
    found = []
    for place, page in pages.items():
        found += [f"{place}: Markdown left: {raw[0]!r}" for raw in RAW.finditer(page.text)]
        found += [f"{place}: loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for url in page.links + page.loaded:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            there = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(parts.path)))
            there = place if not parts.path else there
            if there not in files:
                found.append(f"{place}: no {there}")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids:
                found.append(f"{place}: no #{parts.fragment} in {there}")
    return found


def test_the_check_sees_faults() -> None:
    html = '<a href="b.html#x">b</a> <a href="c.html">c</a> **bold** [d](e) <code>[f](g)</code>'
    html += '<script src="https://e.org/x.js"></script>'
    assert faults({"a.html": Parsed(html), "b.html": Parsed("<p id='y'>")}, {"a.html", "b.html"}) == [
        "a.html: Markdown left: '**b'",
        "a.html: Markdown left: ']('",
        "a.html: loads https://e.org/x.js",
        "a.html: no #x in b.html",
        "a.html: no c.html",
    ]


def test_reference_has_all_public_names() -> None:
    objects = {}
    for path in DESCRIBED:
        module, _, name = path.rpartition(".")
        if not module.startswith("clara.integrations"):  # needs what is not installed everywhere
            objects[path] = getattr(importlib.import_module(module), name)
    assert [name for name in clara.__all__ if getattr(clara, name) not in objects.values()] == []
    assert [path for path, described in objects.items() if not described.__doc__] == []
    assert len(DESCRIBED) == len(set(DESCRIBED)) > len(clara.__all__)


def test_site_is_an_extra_of_its_own() -> None:
    extras = dict(re.findall(r"^(\w+) = (\[.*)$", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M))
    assert "mkdocs-material" in extras["docs"] and "mkdocstrings[python]" in extras["docs"]
    assert not any("docs" in extras[name] for name in ("dev", "all"))


@pytest.mark.slow
def test_site_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module)
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)  # strict: a warning is an error
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    pages = {
        place: Parsed((tmp_path / place).read_text(encoding="utf-8")) for place in files if place.endswith(".html")
    }
    pages.pop("404.html")  # its links begin at the root of a server
    assert {"index.html", "api.html", "zoo.html", "notebooks/fit.html"} <= pages.keys()
    assert faults(pages, files) == []
