"""Known vulnerabilities of the versions in uv.lock that eigenview runs with, by pip-audit.

A finding is an error. What could not be looked up, a single package or all of them because the service does not answer,
is a line that begins with "audit: skipped".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NO_ANSWER = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Max retries exceeded|Could not connect|"
    r"Failed to fetch|client error \(Connect\)|dns error"
)
"""In the output of uv or of pip-audit: nobody answered."""


def judged(code: int, output: str, errors: str) -> tuple[int, list[str]]:
    """The exit code and the lines to print, of what pip-audit printed."""
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip() or output.strip() or "no output").splitlines()[-1]
        if NO_ANSWER.search(errors):
            return 0, [f"audit: skipped, nobody answered: {last}"]
        return 1, [f"audit: pip-audit failed with exit code {code}: {last}"]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    lines = [
        f"audit: {each['name']} {each['version']}: {one['id']} ({', '.join(one['aliases'])}), "
        f"mended in {', '.join(one['fix_versions']) or 'no version'}"
        for each in found
        for one in each.get("vulns", ())
    ]
    is_bad = bool(lines)
    if not found or len(skipped) == len(found):
        return 0, [f"audit: skipped, the service knows none of the {len(found)} packages; is it a mirror without data?"]
    if skipped:
        lines.append(f"audit: skipped {len(skipped)} packages that the service does not know: {', '.join(skipped)}")
    lines.append(f"audit: {len(found) - len(skipped)} of {len(found)} packages looked up")
    return int(is_bad), lines


def main() -> int:
    """Look the packages up; returns the exit code."""
    export = ["uv", "export", "--quiet", "--frozen", "--no-emit-project", "--all-extras", "--no-hashes"]
    locked = subprocess.run(
        [*export, "--no-default-groups"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(locked)
        # the versions are pinned: nothing is resolved or installed, each is only looked up
        audit = ["uvx", "--quiet", "pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        done = subprocess.run(
            [*audit, "--format", "json", "--requirement", str(requirements)], capture_output=True, text=True
        )
    code, lines = judged(done.returncode, done.stdout, done.stderr)
    print(*lines, sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
