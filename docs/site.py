"""What the site shows besides docs/*.md: pages from elsewhere in the repository, notebooks, the table of checkpoints.
mkdocs.yml names this module as its hooks."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from clara.zoo import catalog
from clara.zoo.fetch import ON_HUB

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("CONTRIBUTING.md", "CHANGELOG.md", "recipes/*.md", "benchmarks/README.md", "recipes/pictures/*.png")
TABLE = "<!-- checkpoints -->"  # in docs/zoo.md
CODE_OR_LINK = re.compile(r"^```.*?^```|`[^`\n]+`|\[([^\]]*)\]\(([^)\s]+)\)", flags=re.M | re.S)


def places() -> dict[str, str]:
    """Path in the repository -> path on the site, of what stands outside docs/ or is not a page there."""
    found = {"README.md": "index.md"}
    for pattern in (*ELSEWHERE, "model_cards/*.md"):
        found |= {str(path.relative_to(ROOT)): str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(pattern))}
    for path in sorted(ROOT.glob("docs/notebooks/*.ipynb")):
        found[str(path.relative_to(ROOT))] = f"notebooks/{path.stem}.md"
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs: add the pages that stand elsewhere."""
    for source, place in places().items():
        path = ROOT / source
        if path.suffix == ".png":
            files.append(File.generated(config, place, abs_src_path=str(path)))
            continue
        if source.startswith("model_cards/"):
            text = catalog.card(path.stem)[1]
        else:
            text = path.read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=page_of(path) if path.suffix == ".ipynb" else text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """mkdocs: the text of a page before it becomes HTML."""
    return relinked(markdown.replace(TABLE, checkpoints()), page.file.src_uri)


def page_of(notebook: Path) -> str:
    """A notebook as Markdown, with a link to the file itself."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, *rest = parts
    return "\n\n".join([title, f"Run it yourself: [{notebook.name}]({notebook.name}).", *rest])


def relinked(markdown: str, place: str) -> str:
    """Links that hold in the repository, made to hold on the site; what is not on the site is named without a link."""
    on_site = places()
    source = next((path for path, there in on_site.items() if there == place), f"docs/{place}")

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        if target is None or re.match(r"[a-z]+:|#|.*\.ipynb$", target):
            return match[0]
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        there = on_site.get(path)
        if there is None and path.startswith("docs/") and (ROOT / path).is_file():
            there = path.removeprefix("docs/")
        if there is None:  # files without a page; a name that does not exist keeps its link, of which mkdocs warns
            return text if (ROOT / path).exists() else match[0]
        return f"[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{'#' + anchor if anchor else ''})"

    return CODE_OR_LINK.sub(link, markdown)


def checkpoints() -> str:
    """The table of checkpoints, from their cards."""
    lines = [
        "| checkpoint | loads | licence | languages | tasks | rate, window | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in catalog.CHECKPOINTS.items():
        languages = " ".join(row.languages) if len(row.languages) < 10 else f"{len(row.languages)}"
        size = f"{row.parameters:,}" if isinstance(row.parameters, int) else row.parameters
        cells: tuple[Any, ...] = (
            f"[{name}](../model_cards/{name}.md)",
            how(row),
            row.license if row.license.startswith(row.terms) else f"{row.terms}: {row.license}",
            languages,
            ", ".join(row.tasks),
            f"{row.sample_rate / 1000:g} kHz, {row.window_seconds:g} s",
            size,
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def how(row: catalog.Checkpoint) -> str:
    """What the first load of a checkpoint takes."""
    if row.source == "package":
        return "part of the package"
    by_name = row.source != "file" or ON_HUB.fullmatch(row.download)
    return "downloaded by its name" if by_name else "converted by hand"
