"""The page of all experiments' results."""

from __future__ import annotations

from pathlib import Path

from experiments._index import described, write_index

from eigenview import runfiles

FILE = '''"""Cats: do they land on their feet?

Question: do cats,
dropped from |x| = 1 m: land?
Source: none.
Prediction, written before any run: all of them.
"""
'''


def test_the_page_has_concluded_grids_alone_with_question_and_prediction(tmp_path: Path) -> None:
    for name in ("cats", "dogs", "fish", "_shared"):
        (tmp_path / f"{name}.py").write_text(FILE)
    content = {"complete": True, "results": {"a": [1, 2], "b": [1]}, "conclusion": "Seen: 3 of 3."}
    runfiles.write_json(tmp_path / "results" / "cats" / "tiny" / "results.json", content)
    one = {"complete": True, "results": {"a": [1]}, "conclusion": "Seen: 1 of 1."}
    runfiles.write_json(tmp_path / "results" / "cats" / "cpu" / "results.json", one)
    runfiles.write_json(
        tmp_path / "results" / "dogs" / "tiny" / "results.json", {**content, "complete": False, "conclusion": ""}
    )
    write_index(tmp_path)
    page = (tmp_path / "results" / "README.md").read_text()
    assert page.endswith(
        "\n\n| experiment | question | tiny | cpu |\n| --- | --- | --- | --- |\n"
        r"| cats | do cats, dropped from \|x\| = 1 m: land? | [3 of 3](cats/tiny/table.md) |"
        " [1 of 1](cats/cpu/table.md) |"
        "\n\n## cats: Cats: do they land on their feet?\n\n**Question.** do cats, dropped from |x| = 1 m: land?\n\n"
        "**Prediction.** all of them.\n\n**[tiny](cats/tiny/table.md)**, 2 cells, 1 to 2 seeds. Seen: 3 of 3.\n\n"
        "**[cpu](cats/cpu/table.md)**, 1 cell, 1 seed. Seen: 1 of 1.\n"
    )
    assert "dogs" not in page
    assert "fish" not in page


def test_every_experiment_here_says_what_it_asks_and_the_page_is_up_to_date() -> None:
    folder = Path(__file__).parents[1] / "experiments"
    for source in folder.glob("[!_]*.py"):
        assert "Question" in described(source)[1], source
    page = (folder / "results" / "README.md").read_text()
    for path in folder.glob("*/*/*/results.json"):
        assert f"({path.parent.parent.name}/{path.parent.name}/table.md)" in page
        assert runfiles.read_json(path)["conclusion"] in page
