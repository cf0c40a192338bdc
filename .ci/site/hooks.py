"""mkdocs hooks: adds the generated pages and README, resolves links into the repository, and checks the built site."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from check_links import problems
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import OUTSIDE, PACKAGES, ROOT, generated, help_section

from eigenview.cli import VERBS
from eigenview.methods import METHODS, card

log = logging.getLogger("mkdocs.hooks.site")  # below "mkdocs": --strict turns its warnings into errors
IN_CHECKOUT = re.compile(r"^uv run --project \"\$UV_PROJECT\"(?: --extra \w+)? eigenview ", re.MULTILINE)
"""Pages are run in a scratch folder with the checkout's code (.ci/pages); the site shows the command alone."""
PICTURES = {".png", ".svg", ".jpg"}
LINK = re.compile(r"(?:(?<=\]\()|(?<=src=\"))(?P<target>[^()\s#\"]+)(?P<anchor>#[^()\s\"]*)?(?=[)\"])")
"""The target of a Markdown link, or of an <img>."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation's Commands, Methods, Results and Python API with what exists."""
    sections: dict[str, list[Any]] = {name: pages for entry in config.nav or [] for name, pages in entry.items()}
    sections["Commands"][1:1] = [{verb: f"commands/{verb}.md"} for verb in VERBS]
    sections["Methods"] += [{card(name).title: f"methods/{name}.md"} for name in METHODS]
    sections["Python API"] += [{f"eigenview.{name}": f"api/{name}.md"} for name in PACKAGES]
    if (ROOT / "docs/results.md").exists():
        sections["Results"].insert(0, "results.md")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the pictures outside docs/ that pages show."""
    texts = generated() | {page: (ROOT / name).read_text() for page, name in OUTSIDE.items()}
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, "site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    for source in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in OUTSIDE.values())]:
        for link in LINK.finditer(source.read_text()):
            picture = _target(link["target"], source.parent, config)
            if picture is None or picture.suffix not in PICTURES or not picture.is_file():
                continue
            path = picture.relative_to(ROOT).as_posix()
            if not path.startswith("docs/") and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files


def _target(target: str, folder: Path, config: MkDocsConfig) -> Path | None:
    """The file or folder of the repository that a link of a file in `folder` names; None for a link to elsewhere.

    README has absolute links to the repository, which work on a package index too.
    """
    base = re.escape(str(config.repo_url).rstrip("/"))
    if absolute := re.fullmatch(rf"{base}/(?:blob|tree|raw)/main/(.+)", target):
        return ROOT / absolute[1]
    path = (folder / target).resolve()
    return None if re.match(r"[a-z]+:", target) or not path.is_relative_to(ROOT) else path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ to the site's own pages, or to the repository at `repo_url`; add a verb's help."""
    place = page.file.src_uri
    folder = (ROOT / OUTSIDE[place]).parent if place in OUTSIDE else (ROOT / "docs" / place).parent
    up = "../" * place.count("/")

    def resolved(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        inside = None if place in OUTSIDE else files.get_file_from_path(beside)
        path = _target(target, folder, config)
        if inside is not None or path is None:
            return link[0]
        if not path.exists():
            log.warning(f"{place}: {target} names no file of the repository")
            return link[0]
        name = path.relative_to(ROOT).as_posix()
        for shown in (name.removeprefix("docs/"), *(page for page, source in OUTSIDE.items() if source == name)):
            if files.get_file_from_path(shown) is not None:
                return f"{up}{shown}{anchor}"
        return f"{config.repo_url.rstrip('/')}/{'tree' if path.is_dir() else 'blob'}/main/{name}{anchor}"

    markdown = IN_CHECKOUT.sub("eigenview ", LINK.sub(resolved, markdown))
    verb = re.fullmatch(r"commands/(\w+)\.md", place)
    return markdown + help_section(verb[1]) if verb else markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Check every link, anchor, picture, style and script of the site as it was written."""
    for problem in problems(Path(config.site_dir)):
        log.warning(problem)
