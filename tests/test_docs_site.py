"""The documentation site without mkdocs: its generated pages, its navigation, its link check. `make docs` is slow."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eigenview.cli import VERBS
from eigenview.methods import METHODS, card, config_class
from eigenview.methods.parts.declared import source

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / ".ci/site"))

import check_links  # noqa: E402
import docstrings_text  # noqa: E402
import method_pages  # noqa: E402
import pages  # noqa: E402

GENERATED = functools.cache(pages.generated)
NAVIGATION = re.search(r"^nav:\n(.*?)^\S", (ROOT / "mkdocs.yml").read_text(), re.DOTALL | re.MULTILINE)
SECTIONS = ("Start", "Commands", "Methods", "Concepts", "Theory", "Results", "Python API", "Contributing")


def test_every_verb_has_a_page_in_the_list_of_commands() -> None:
    names = {path.stem for path in (ROOT / "docs/commands").glob("*.md")}
    assert names == set(VERBS)
    index = (ROOT / "docs/commands.md").read_text()
    assert re.findall(r"\]\(commands/(\w+)\.md\)", index) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_is_text_for_its_page(verb: str) -> None:
    section = pages.help_section(verb)
    assert f"$ eigenview {verb} --help" in section
    assert "usage: eigenview" in section
    assert "\x1b" not in section  # colours of a terminal


@pytest.mark.parametrize("name", METHODS)
def test_a_method_page_has_its_paper_and_every_option(name: str) -> None:
    page = GENERATED()[f"methods/{name}.md"]
    assert card(name).title in page
    assert method_pages.paper(card(name).paper) in page
    assert f"eigenview pretrain photos/ --method {name}" in page
    table = dict(re.findall(r"^\| `--method\.([\w-]+)` \|.*\| (.+) \|$", page, re.MULTILINE))
    fields = dataclasses.fields(config_class(name))  # type: ignore[arg-type]
    flags = [f"no-{f.name}" if f.default is True else f.name for f in fields]
    assert list(table) == [flag.replace("_", "-") for flag in flags]
    assert all(len(text) > 5 for text in table.values())
    for label in card(name).remedies:
        assert f"* **{label}**" in page
    assert "tests/contract/test_objectives.py" in page


@pytest.mark.parametrize("name", METHODS)
def test_the_python_of_a_method_page_runs(name: str) -> None:
    names: dict[str, object] = {}
    exec(method_pages.snippet(name), names)
    loss = names["loss"] if "loss" in names else names["out"].total  # type: ignore[attr-defined]
    assert isinstance(loss, torch.Tensor)
    assert loss.shape == ()


def test_the_plain_form_is_shown_where_no_state_is_kept() -> None:
    assert method_pages.snippet("vicreg").endswith("loss = ev.VICReg()(z1, z2)")
    assert "loss = ev.SimSiam()(z1, z2, p=[p1, p2])" in method_pages.snippet("simsiam")
    assert "objective.update(out.carry, ev.Clock())" in method_pages.snippet("isoloss")


def test_golden_families_of_a_method_are_found_by_its_class() -> None:
    assert method_pages.golden_families("vicreg") == ["vicreg_official", "multiview_fastssl", "solo_losses"]
    assert method_pages.golden_families("directpred") == ["directpred_official"]
    assert method_pages.golden_families("infonce") == []


def test_links_of_generated_pages_lead_to_files() -> None:
    generated = GENERATED()
    for place, text in generated.items():
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if target.startswith("https:"):
                continue
            inside = Path(f"/docs/{place}").parent.joinpath(target).resolve().relative_to("/")
            is_generated = inside.is_relative_to("docs") and inside.relative_to("docs").as_posix() in generated
            assert is_generated or (ROOT / inside).exists(), f"{place}: {target}"


def test_every_public_name_and_module_has_its_documentation() -> None:
    generated = GENERATED()
    for name in ("pretrain", "Run", "RunConfig", "Views", "Clock", "diagnose_embeddings", "load_encoder"):
        assert re.search(rf"^::: eigenview\.[\w.]+\.{name}$", generated["api/eigenview.md"], re.MULTILINE), name
    for package in ("functional", "theory", "diagnostics"):
        for file in (ROOT / "src/eigenview" / package).glob("[!_]*.py"):
            assert f"::: eigenview.{package}.{file.stem}\n" in generated[f"api/{package}.md"]
    for name in pages.METHOD_API:
        module, _, kind = f"eigenview.{name}".rpartition(".")
        assert any(getattr(node, "name", "") == kind for node in source(module)[0].body)


def test_the_navigation_names_pages_that_exist() -> None:
    assert NAVIGATION is not None
    text = NAVIGATION[1]
    assert tuple(re.findall(r"^  - ([\w ]+):", text, re.MULTILINE)) == SECTIONS
    named = set(re.findall(r"[\w/-]+\.md", text))
    made = set(GENERATED()) | set(pages.OUTSIDE)
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert named <= made | written
    filled = {f"commands/{verb}.md" for verb in VERBS} | {"results.md"}  # by .ci/site/hooks.py, as are the methods
    assert written - named <= filled


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ('<a href="other/">there</a>', ""),
        ('<a href="other/#here">there</a> <a href="#top">up</a><p id="top">', ""),
        ('<a href="https://example.invalid/x">elsewhere</a>', ""),
        ('<a href="missing/">nowhere</a>', "index.html: missing/ leads to no file"),
        ('<a href="other/#gone">nowhere</a>', "index.html: other/#gone leads to no anchor"),
        ('<img src="picture.png">', "index.html: picture.png leads to no file"),
        ('<script src="https://cdn.example/x.js">', "index.html: loads https://cdn.example/x.js from a network"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "loads //cdn.example/x.css from a network"),
        ("<style>@import url(https://cdn.example/f.css)</style>", "loads https://cdn.example/f.css from a network"),
    ],
)
def test_links_of_a_built_site_are_checked(tmp_path: Path, page: str, problem: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "index.html").write_text(page)
    (tmp_path / "other/index.html").write_text('<h2 id="here">')
    found = check_links.problems(tmp_path)
    assert len(found) == bool(problem)
    assert not problem or problem in found[0]


def test_a_style_sheet_that_fetches_a_font_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text('@font-face{src:url("https://cdn.example/f.woff2")} b{background:url(data:x)}')
    assert check_links.problems(tmp_path) == ["a.css: loads https://cdn.example/f.woff2 from a network"]


def test_paragraphs_of_a_docstring_become_headed_blocks() -> None:
    text = (
        "Summary with z_i and a*b*c.\n\nDefinition\n    a = b_1 * c_2,\n    d = e.\n\n"
        "Shapes\n    z (V n D) -> `p_i`.\n\nRaises: UserError for x_i.\n\n"
        "Args:\n    x_i: as it was.\n\nOrdinary line\nand its second."
    )
    expected = (
        "Summary with z\\_i and a\\*b\\*c.\n\n**Definition**\n{ .headed }\n\n"
        "``` { .text .formulas }\na = b_1 * c_2,\nd = e.\n```\n\n"
        "**Shapes**\n{ .headed }\n\nz (V n D) -> `p_i`.\n\n"
        "**Raises** UserError for x\\_i.\n\nArgs:\n    x_i: as it was.\n\nOrdinary line\nand its second."
    )
    assert docstrings_text.markdown(text) == expected


def test_make_docs_is_strict() -> None:
    """mkdocs counts only the warnings that it shows: with --quiet a broken link ends with exit code 0."""
    (command,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text())
    assert command == "mkdocs build --strict"


@pytest.mark.slow
def test_make_docs_builds_the_site_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: uv sync --group docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/methods/vicreg/index.html").exists()
