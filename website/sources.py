"""From files of the project to pages of the site: docs/, some files beside it, and source files that pages link to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from os.path import normpath, relpath
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}

_FENCE = re.compile(r"^(```+).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?=\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cff": "yaml", ".json": "json", ".toml": "toml"}


def page_of(path: PurePosixPath) -> str:
    """Place in the site of a file or folder of the project, both relative to their roots.

    >>> page_of(PurePosixPath("docs/data.md")), page_of(PurePosixPath("examples/grid.yaml"))
    ('data.md', 'source/examples/grid.yaml.md')
    """
    if str(path) in TOP:
        return TOP[str(path)]
    if path.parts[0] == "docs" and (ROOT / path).is_file():
        inside = path.relative_to("docs")
        return str(inside.with_suffix(".md") if path.suffix == ".ipynb" else inside)
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def origin_of(page: str) -> PurePosixPath:
    """The file of the project that a page outside `source/` and `reference/` is made from."""
    for path, place in TOP.items():
        if place == page:
            return PurePosixPath(path)
    path = PurePosixPath("docs") / page
    notebook = path.with_suffix(".ipynb")
    return notebook if (ROOT / notebook).is_file() else path


def with_site_links(markdown: str, origin: PurePosixPath) -> str:
    """The text of `origin` with links that lead to the pages of the site. Code blocks stay as they are."""
    here = PurePosixPath(page_of(origin)).parent

    def replaced(match: re.Match[str]) -> str:
        target = _target(match, origin)
        place = match["path"] if target is None else relpath(page_of(target), here)
        return place + (match["anchor"] or "")

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(replaced, markdown[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, _LINK.sub(replaced, markdown[end:])])


def linked_sources(origins: list[PurePosixPath]) -> dict[str, str]:
    """Pages that show source files: of every file and folder outside docs/ that one of the pages `origins` links to."""
    targets: set[PurePosixPath] = set()
    for origin in origins:
        text = _FENCE.sub("", text_of(origin))
        targets |= {target for match in _LINK.finditer(text) if (target := _target(match, origin)) is not None}
    pages = {}
    for target in sorted(target for target in targets if page_of(target).startswith("source/")):
        for path in (target, *_files(target)):
            pages[page_of(path)] = _source_page(path)
    return pages


def text_of(origin: PurePosixPath) -> str:
    """Markdown of a page; of a notebook, its texts and its code."""
    text = (ROOT / origin).read_text("utf-8")
    if origin.suffix != ".ipynb":
        return text
    cells = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        cells.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join([*cells, f"The notebook itself: `{origin}`"])


def _target(match: re.Match[str], origin: PurePosixPath) -> PurePosixPath | None:
    """The project's file or folder that a link leads to; None for an address, and for a file that is not there."""
    if ":" in match["path"]:
        return None
    path = PurePosixPath(normpath(origin.parent / match["path"]))
    return path if (ROOT / path).exists() else None


def _files(folder: PurePosixPath) -> Iterator[PurePosixPath]:
    """The text files directly in a folder; nothing for a file."""
    if (ROOT / folder).is_dir():
        for path in sorted((ROOT / folder).iterdir()):
            if path.is_file() and path.suffix in {*_LANGUAGES, ".md", ".csv", ".txt"}:
                yield folder / path.name


def _source_page(path: PurePosixPath) -> str:
    if (ROOT / path).is_dir():
        return "\n".join([f"# {path}", "", *(f"- [{file.name}]({file.name}.md)" for file in _files(path))])
    code = (ROOT / path).read_text("utf-8").rstrip()
    return f"# {path}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{code}\n````\n"
