"""README: its links are absolute and lead to files that exist; the verbs and methods it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eigenview.cli import VERBS
from eigenview.methods import METHODS, card

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BASE = "https://example.invalid/eigenview"
LINKS = re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", README)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 110


def test_links_are_absolute() -> None:
    """A package page shows README outside the repository, where relative links lead nowhere."""
    assert len(LINKS) > 20
    assert not [link for link in LINKS if not link.startswith(f"{BASE}/")]


def path_of(link: str) -> str:
    """The file of the repository that a link leads to."""
    found = re.fullmatch(rf"{re.escape(BASE)}/(?:blob|raw)/main/([^#]+)(?:#.*)?", link)
    assert found, f"{link}: write {BASE}/blob/main/PATH, or {BASE}/raw/main/PATH for an image"
    return found[1]


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_linked_files_exist(link: str) -> None:
    assert (ROOT / path_of(link)).exists()


def test_images_are_linked_as_raw_files() -> None:
    images = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", README)
    assert images
    assert all(image.startswith(f"{BASE}/raw/main/") for image in images)


def test_verbs_exist() -> None:
    code = [block or span for block, span in re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", README, re.DOTALL)]
    named = set(re.findall(r"\beigenview ([a-z]+)\b", "\n".join(code)))
    assert "pretrain" in named
    assert named <= set(VERBS)


def methods_table() -> dict[str, str]:
    """Name -> paper, of each row of the table of methods."""
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", README.partition("## Methods")[2], re.MULTILINE)
    return {name: paper for names, paper in rows for name in re.findall(r"`([\w-]+)`", names)}


def test_every_method_has_its_row() -> None:
    table = methods_table()
    assert set(table) == set(METHODS)
    for method, paper in table.items():
        numbers = re.findall(r"arXiv ([\d.]+)", paper)
        assert all(number in card(method).paper for number in numbers), method
