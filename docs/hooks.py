"""What MkDocs does beside the pages: the home page is README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

README: Final = Path(__file__).parents[1] / "README.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page that has no file of its own."""
    files.append(File.generated(config, "index.md", content=home()))
    return files


def home() -> str:
    """README.md, with its links as from this directory."""
    return README.read_text(encoding="utf-8").replace("](docs/", "](")
