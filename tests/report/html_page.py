"""Reading a page back: its cells, identifiers, references and text."""

import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "wbr", "input"}


class PageReader(HTMLParser):
    """Attributes hold what was found; tags that do not match are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.ids: list[str] = []
        self.references: set[str] = set(re.findall(r"url\(#([^)]+)\)", text))
        self.sources: list[str] = []
        self._open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in _VOID:
            self._open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        for key in ("href", "xlink:href"):
            if values.get(key, "").startswith("#"):
                self.references.add(values[key][1:])
            elif key in values:
                self.sources.append(values[key])
        if "src" in values:
            self.sources.append(values["src"])
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(values["data-value"])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "button":
            self.headings.append(data)
        self.words.append(data)

    def table(self) -> dict[str, dict[str, str]]:
        """Return the cells of every layer, by layer and heading, in the order of the page."""
        rows = [row for row in self.rows if row]
        return {row[0]: dict(zip(self.headings, row, strict=True)) for row in rows}
