"""Every link of a built site leads to a file and an anchor that exist, and no page loads anything from a network."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
"""Tag -> attribute of what a browser fetches without a click."""
FETCHED = re.compile(r"(?:url\(|@import\s)[\"']?((?:https?:)?//[^)\"']+)")
"""What a style sheet fetches from a network."""
NOT_FETCHED = {"canonical", "next", "prev"}


class Links(HTMLParser):
    """The addresses that a page names, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.clicked: list[str] = []
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.clicked.append(given["href"])
        if tag in LOADED and LOADED[tag] in given and given.get("rel") not in NOT_FETCHED:
            self.loaded.append(given[LOADED[tag]])

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.styles.append(data)


def problems(site: Path) -> list[str]:
    """A sentence for each address that leads nowhere, or that a browser would fetch from elsewhere."""
    pages = {path.resolve(): Links(path.read_text()) for path in sorted(site.rglob("*.html"))}
    styles = {path.resolve(): path.read_text() for path in sorted(site.rglob("*.css"))}
    styles |= {path: "".join(links.styles) for path, links in pages.items()}
    fetched = [(path, address) for path, text in styles.items() for address in FETCHED.findall(text)]
    fetched += [(path, each) for path, links in pages.items() for each in links.loaded if _is_elsewhere(each)]
    found = [f"{path.relative_to(site.resolve())}: loads {address} from a network" for path, address in fetched]
    for path, links in pages.items():
        name = path.relative_to(site.resolve())
        if name.name == "404.html":  # its links begin at the root of wherever the site is served
            continue
        for address in links.loaded + links.clicked:
            if _is_elsewhere(address) or address.startswith(("data:", "mailto:", "javascript:")):
                continue
            target, anchor = urldefrag(address)
            file = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file():
                found.append(f"{name}: {address} leads to no file")
            elif anchor and file in pages and unquote(anchor) not in pages[file].anchors:
                found.append(f"{name}: {address} leads to no anchor")
    return found


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)
