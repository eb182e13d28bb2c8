"""The page: one HTML file that needs no network."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from .._common.version import __version__
from .sizes import ModelSizes
from .theme import Draw, svg_of

_MEGABYTE = 1e6


@dataclass(frozen=True)
class Chart:
    """A picture of the page, which also becomes a file of its own.

    Attributes:
        name: of the file, without suffix.
        description: what it shows, for those who cannot see it.
        draw: draws it on a figure.
        size: width and height, inches.
    """

    name: str
    description: str
    draw: Draw
    size: tuple[float, float]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its identifier.
        title: its heading.
        text: what it shows and how to read it, HTML.
        charts: its pictures.
        body: HTML below the text.
        missing: what is not shown, and what would show it; empty if nothing is missing.
    """

    anchor: str
    title: str
    text: str
    charts: tuple[Chart, ...] = ()
    body: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Page:
    """All that is on the page.

    Attributes:
        title: the name of the model.
        lead: one sentence.
        tiles: the numbers to see first: value by what it is.
        facts: all else that there is to say about the file.
        sections: the rest.
    """

    title: str
    lead: str
    tiles: Mapping[str, str]
    facts: Mapping[str, str]
    sections: Sequence[Section] = field(default_factory=tuple)


def render(page: Page) -> str:
    """Return the page as HTML.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    links = "".join(f'<a href="#{s.anchor}">{html.escape(s.title)}</a>' for s in page.sections)
    tiles = "".join(
        f'<div class="tile"><b>{_breakable(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in page.tiles.items()
    )
    facts = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in page.facts.items()
    )
    sections = "\n".join(_section(section) for section in page.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(page.title)}</title>\n<style>\n{_resource('style.css')}</style>\n"
        f"</head>\n<body>\n<h1>{html.escape(page.title)}</h1>\n"
        f'<p class="lead">{html.escape(page.lead)}</p>\n<nav>{links}</nav>\n'
        f'<div class="tiles">{tiles}</div>\n<dl>{facts}</dl>\n{sections}\n'
        f"<footer>qsam2-deploy {__version__}</footer>\n<script>\n{_resource('sort.js')}</script>\n"
        "</body>\n</html>\n"
    )


def size_bars(sizes: ModelSizes) -> str:
    """Return the sizes of a model as bars, HTML."""
    rows = (
        ("float32", sizes.float32, ""),
        ("bfloat16", sizes.bfloat16, ""),
        ("this checkpoint, packed", sizes.packed, ' class="packed"'),
    )
    cells = "".join(
        f'<span>{name}</span><i{kind} style="width: {100 * size / sizes.float32:.2f}%"></i>'
        f"<span>{megabytes(size)}</span>"
        for name, size, kind in rows
    )
    return f'<div class="bars">{cells}</div>'


def megabytes(size: int) -> str:
    """Return bytes as 10^6 bytes with two decimals."""
    return f"{size / _MEGABYTE:,.2f} MB"


def _section(section: Section) -> str:
    missing = f'<p class="missing">{section.missing}</p>\n' if section.missing else ""
    charts = "".join(
        f'<figure role="img" aria-label="{html.escape(chart.description)}">'
        f"{svg_of(chart.draw, chart.size, chart.name)}</figure>\n"
        for chart in section.charts
    )
    return (
        f'<section id="{section.anchor}">\n<h2>{html.escape(section.title)}</h2>\n'
        f"<p>{section.text}</p>\n{missing}{charts}{section.body}\n</section>"
    )


def _resource(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _breakable(name: str) -> str:
    """Return HTML of a text that may go on in the next line after a dot between letters."""
    return re.sub(r"(?<=\w)\.(?=[^\W\d])", ".<wbr>", html.escape(name))
