"""Licences of what eigenview runs with, and how the look-up of known vulnerabilities is judged (.ci)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from email.message import Message
from importlib.metadata import requires
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / ".ci"))

import audit
import licences


def test_every_dependency_is_listed_and_has_a_licence_that_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert licences.main() == 0
    names = {line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()}
    direct = [each for each in requires("eigenview") or () if "extra ==" not in each]
    assert {licences.canonical(each.partition(">=")[0]) for each in direct} <= names
    assert {"markupsafe", "huggingface-hub"} <= names, "the dependencies of dependencies"
    assert not {"pytest", "datasets"} & names, "developer tools and extras"


def test_a_licence_without_a_reason_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(licences, "PERMISSIVE", ("MIT",))
    monkeypatch.setattr(licences, "NAMES", licences.re.compile("MIT"))
    assert licences.main() == 1
    assert "numpy (BSD-3-Clause" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", True),
        ("MIT License", True),
        ("Apache-2.0 OR BSD-2-Clause", True),
        ("MIT or GPL-3.0-or-later", True),
        ("MPL-2.0 AND MIT", False),
        ("BSD License and GNU General Public License v3 (GPLv3)", False),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0", False),
        ("BUSL-1.1", False),
        ("LicenseRef-MITX", False),
        ("PERMITTED", False),
        ("not stated", False),
    ],
)
def test_what_is_permissive(licence: str, expected: bool) -> None:
    assert licences.is_permissive(licence) == expected


def test_where_the_licence_is_read() -> None:
    def of(*fields: tuple[str, str]) -> str:
        message = Message()
        for name, value in fields:
            message[name] = value
        return licences.licence_of(message)

    classifiers = [("Classifier", f"License :: OSI Approved :: {name}") for name in ("BSD License", "Apache")]
    assert of(("License-Expression", "MIT"), *classifiers) == "MIT"
    assert of(("License", "see file"), ("Classifier", "Topic :: X"), *classifiers) == "BSD License and Apache"
    assert of(("License", "MIT License\n\nPermission is hereby granted")) == "MIT License"
    assert of() == "not stated"


def output(*packages: Mapping[str, object]) -> str:
    return json.dumps({"dependencies": list(packages), "fixes": []})


SOUND = {"name": "numpy", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "torch", "skip_reason": "not found"}
FOUND = {
    "name": "pillow",
    "version": "9.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2023-1"], "fix_versions": ["10.0"]}],
}


@pytest.mark.parametrize(
    ("text", "errors", "code", "said"),
    [
        (output(SOUND), "", 0, ["audit: 1 of 1 packages looked up"]),
        (output(FOUND, SOUND), "", 1, ["pillow 9.0: PYSEC-1 (CVE-2023-1), mended in 10.0", "2 of 2 packages"]),
        (output(SOUND, UNKNOWN), "", 0, ["skipped 1 packages that the service does not know: torch", "1 of 2"]),
        (output(UNKNOWN), "", 0, ["skipped, the service knows none of the 1 packages"]),
        (output(), "", 0, ["skipped, the service knows none of the 0 packages"]),
        ("", "Traceback\nrequests.exceptions.ConnectionError: x.org", 0, ["skipped, nobody answered: requests"]),
        ("", "ERROR: requirements.txt: invalid line", 1, ["failed with exit code 1: ERROR: requirements.txt"]),
        ("[]", "", 1, ["failed with exit code 1"]),
    ],
)
def test_a_finding_fails_and_what_was_not_looked_up_is_said(text: str, errors: str, code: int, said: list[str]) -> None:
    found, lines = audit.judged(1, text, errors)
    assert found == code
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert line.startswith("audit: ")
        assert part in line
