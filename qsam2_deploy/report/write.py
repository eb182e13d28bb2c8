"""Writing a report, from files to files: the library call of ``qsam2-report``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from .._common.files import atomic_open, check_output, describe_os_error
from ..errors import InputError
from .findings import collect_findings
from .job import ReportJob
from .page import Page, render
from .sections import page_of
from .theme import png_of

PAGE_NAME = "report.html"
"""Name of the page where the output is a folder."""

_PAGE_SUFFIXES = (".html", ".htm")


def write_report(job: ReportJob) -> tuple[Path, ...]:
    """Write the page and its pictures; none appears before all are whole.

    Returns:
        The files: the page first.

    Raises:
        InputError: a file cannot be used or written; the message says why.
        Qsam2Error: an activation is not finite.
        MissingDependencyError: a package is not installed.
    """
    page_path = _page_path(job.output)
    _check_place(job.output, page_path)
    page = page_of(collect_findings(job))
    contents = {page_path: render(page).encode(), **_pictures(page, job.output, page_path)}
    _make_folder(page_path.parent)
    for path in contents:
        check_output(path)
    with ExitStack() as stack:
        # All files are whole before the first one gets its name.
        for path, content in contents.items():
            stack.enter_context(atomic_open(path)).write(content)
    return tuple(contents)


def _page_path(output: Path) -> Path:
    return output if output.suffix.lower() in _PAGE_SUFFIXES else output / PAGE_NAME


def _check_place(output: Path, page: Path) -> None:
    if page == output or output.is_dir():
        check_output(page)
    elif output.exists():
        raise InputError(f"cannot write {page}: {output} is not a folder; give another one")
    else:
        check_output(output)  # it is yet to be made


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(describe_os_error(error, folder)) from error


def _pictures(page: Page, output: Path, page_path: Path) -> dict[Path, bytes]:
    prefix = f"{page_path.stem}." if page_path == output else ""
    charts = [chart for section in page.sections for chart in section.charts]
    return {
        page_path.with_name(f"{prefix}{chart.name}.png"): png_of(chart.draw, chart.size)
        for chart in charts
    }
