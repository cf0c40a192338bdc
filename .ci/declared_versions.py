"""Print the installed versions of the dependencies that a pyproject.toml declares, on one line.

python .ci/declared_versions.py pyproject.toml
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
declared = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
names = [re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in declared]
print(", ".join(f"{name} {version(name)}" for name in names))
