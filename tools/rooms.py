"""The tree of the package's folders, from the first lines of their ``__init__.py``.

python -m tools.rooms           print it
python -m tools.rooms --write   put it into docs/architecture.md
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- made by python -m tools.rooms --write -->\n", "<!-- end -->\n"


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring; empty if it has none."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def rooms() -> dict[str, str]:
    """Return what each folder of the package says of itself, by its path in the package."""
    package = ROOT / "qsam2_deploy"
    found = {p.parent.relative_to(package).as_posix(): p for p in package.rglob("__init__.py")}
    return {name: first_line(path) for name, path in sorted(found.items()) if name != "."}


def tree() -> str:
    """Return the tree as Markdown."""
    lines = ["```", "qsam2_deploy/"]
    for name, line in rooms().items():
        *above, last = name.split("/")
        lines.append(f"{'  ' * (len(above) + 1) + last + '/':22} {line}")
    return "\n".join([*lines, "```", ""])


def with_tree(page: str) -> str:
    """Return a page with the tree of today between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + tree() + END + after


def main() -> int:
    """Print or write it; returns the exit status."""
    if "--write" in sys.argv[1:]:
        PAGE.write_text(with_tree(PAGE.read_text()))
    else:
        print(tree(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
