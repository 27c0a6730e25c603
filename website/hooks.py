"""Hooks of mkdocs (mkdocs.yml): pages made from files outside docs/, from the code, and the figures of the views."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

from suite.discovery import entries_of_kind
from website import sources
from website.commands import command_reference
from website.figures import MARK, figure_section, write_figures
from website.interfaces import extension_reference, methods_reference, python_reference


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and figures."""
    origins = [sources.origin_of(file.src_uri) for file in files.documentation_pages()]
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    origins += [PurePosixPath("docs") / file.src_uri for file in notebooks] + [
        PurePosixPath(path) for path in sources.TOP
    ]
    for file in notebooks:
        files.remove(file)
        _add(files, config, sources.page_of(PurePosixPath("docs") / file.src_uri), "")
    for page in sources.TOP.values():
        _add(files, config, page, "")
    for page, text in sources.linked_sources(origins).items():
        _add(files, config, page, text)
    _add(files, config, "reference/cli.md", command_reference())
    _add(files, config, "reference/python.md", python_reference())
    _add(files, config, "reference/plugins.md", extension_reference())
    _add(files, config, "reference/methods.md", methods_reference())
    with TemporaryDirectory() as folder:
        for name, path in write_figures(Path(folder)).items():
            _add(files, config, f"images/views/{name}.png", path.read_bytes())
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Pages of the project, with links that hold in the site."""
    uri = page.file.src_uri
    if uri.startswith(("source/", "reference/")):
        return markdown
    origin = sources.origin_of(uri)
    text = sources.with_site_links(sources.text_of(origin), origin)
    return text.replace(MARK, figure_section({view.name: view.line for view in entries_of_kind("views")}))


def _add(files: Files, config: MkDocsConfig, place: str, content: str | bytes) -> None:
    files.append(File.generated(config, place, content=content))
