"""What mkdocs calls while it builds the site (`mkdocs.yml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from wm_bridge.docs.pages import site


def on_files(files: Files, config: Any) -> Files:
    """Put the site's pages in the place of the repository's."""
    for page, text in site(Path(config.config_file_path).parent).items():
        old = files.get_file_from_path(page)
        if old is not None:
            files.remove(old)
        files.append(File.generated(config, page, content=text))
    return files
