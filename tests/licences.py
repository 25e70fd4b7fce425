"""The licences of all packages of requirements.lock, as the installed packages state them.

python tests/licences.py        writes docs/licences.md
"""

import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/licences.md"
HEAD = """# Licences of the packages

What `make setup` installs, and the licence that each package states about itself. The project's own
code is under the [MIT licence](../LICENSE). Two things restrict its use all the same: `smplx` and
the SMPL body are for non-commercial research alone. `make audit` writes this page, and asks for
known vulnerabilities.

| package | licence |
|---|---|
"""


def packages() -> list[str]:
    """Names of all packages in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line.split("==")[0] for line in lines if line and not line.startswith("#")]


def licence_of(name: str) -> str:
    """What an installed package states: an SPDX expression, a classifier or a short text."""
    about = metadata.metadata(name)
    if expression := about.get("License-Expression"):
        return expression
    classifiers = [
        kind.split(" :: ")[-1].removesuffix(" License")
        for kind in about.get_all("Classifier") or []
        if kind.startswith("License :: ") and kind != "License :: OSI Approved"
    ]
    if classifiers:
        return ", ".join(classifiers)
    stated = (about.get("License") or "").strip()
    if stated not in ("", "UNKNOWN"):
        return re.sub(r"\s+", " ", stated.split("\n")[0])[:60]
    for file in metadata.files(name) or []:
        if re.match("LICEN[CS]E|COPYING", file.name.upper()):
            words = " ".join(file.locate().read_text(encoding="utf-8").split()[:20])
            return f"its file {file.name} begins: {words} …"
    return "none stated"


def page() -> str:
    """The text of docs/licences.md."""
    rows = [f"| {name} | {licence_of(name).replace('|', ' ')} |\n" for name in packages()]
    return HEAD + "".join(rows)


def main() -> int:
    try:
        PAGE.write_text(page(), encoding="utf-8")
    except metadata.PackageNotFoundError as error:
        print(f"{error.name} of requirements.lock is not installed: make setup", file=sys.stderr)
        return 2
    print(f"{PAGE.relative_to(ROOT)}: {len(packages())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
