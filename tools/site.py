"""What the documentation site does beyond Sphinx; ``docs/conf.py`` names this as an extension.

- Its menu is that of ``docs/README.md``: a section there is one here, with the pages that it lists.
- ``.. command:: segment`` shows the help of ``qsam2-segment``.
- Docstrings are in Google's style; one of an attribute is a sentence, colons included.
- A role that leads nowhere is a warning, unlike the types in signatures, which are often of others.
"""

from __future__ import annotations

import builtins
import importlib
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective

MENU = "docs/README"
OTHERS = ("collections.", "numpy.", "torch.")
"""Where types come from that autodoc links in sentences of its own."""

_GOOGLE = Config(napoleon_custom_sections=[("Attributes", "params_style")])
_ARRAY = r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([^\[\]]*)\]\]"


def menu(index: str) -> str:
    """Return the menu of the site, as directives, from the sections of an index in Markdown."""
    parts = []
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        pages = re.findall(r"\]\(([^)#:]+)\.(?:md|rst)\)", text)
        parts.append("\n".join([f"```{{toctree}}\n:hidden:\n:caption: {title}\n", *pages, "```"]))
    return "\n\n".join(parts)


def add_menu(_app: Sphinx, page: str, source: list[str]) -> None:
    """Give the index its menu."""
    if page == MENU:
        source[0] += "\n" + menu(source[0]) + "\n"


def google_style(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: Any) -> None:
    """Turn the sections of a docstring into fields."""
    if what in ("attribute", "data"):
        return
    kind = "method" if what == "property" else what
    parsed = GoogleDocstring(list(lines), _GOOGLE, app, kind, name, thing, options)
    lines[:] = parsed.lines()


def short_signature(*event: Any) -> tuple[str | None, str | None]:
    """Return a signature and what it returns, arrays and defaults as short as in the code."""
    return _short(event[-2]), _short(event[-1])


def _short(text: str | None) -> str | None:
    return text and re.sub(_ARRAY, r"NDArray[\1]", text).replace("= <factory>", "= ...")


def settle_links(app: Sphinx, tree: nodes.document) -> None:
    """Let links lead where they are meant to, or be plain text."""
    page = app.env.doc2path(app.env.docname)
    for link in list(tree.findall(addnodes.pending_xref)):
        target = link["reftarget"]
        builtin = link.get("refdomain") == "py" and hasattr(builtins, target)
        if builtin or (link["reftype"] == "myst" and (Path(page).parent / target).is_dir()):
            link.replace_self(link.children)
        elif link.rawsource.startswith(":") and not target.startswith(OTHERS):
            link["refwarn"] = True


class CommandHelp(SphinxDirective):
    """``.. command:: NAME``: what ``qsam2-NAME --help`` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return it as a block of text."""
        name = self.arguments[0].replace("-", "_")
        with redirect_stdout(io.StringIO()) as printed:
            importlib.import_module(f"qsam2_deploy.cli.{name}").main(["--help"])
        return [nodes.literal_block(text=printed.getvalue(), language="none")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Let Sphinx know all of it."""
    app.connect("source-read", add_menu)
    app.connect("autodoc-process-docstring", google_style)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("doctree-read", settle_links)
    app.add_directive("command", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
