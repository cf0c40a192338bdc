"""What a pyproject.toml declares, for .ci/versions.

`python .ci/declared_versions.py pyproject.toml` prints the installed versions of dependencies and extras on one line.
With `--minimums` before the file it prints NAME==MINIMUM, a line each, those of the group dev included.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

content = tomllib.loads(Path(sys.argv[-1]).read_text())
project = content["project"]
declared = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
if "--minimums" in sys.argv:
    for requirement in dict.fromkeys(declared + content["dependency-groups"]["dev"]):
        print(requirement.replace(">=", "=="))
else:
    names = [re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in declared]
    print(", ".join(f"{name} {version(name)}" for name in names))
