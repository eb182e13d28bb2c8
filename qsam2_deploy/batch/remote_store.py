"""Results on S3, Google Cloud Storage, or whatever else fsspec knows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._common.contradictions import reason_of
from .._common.json import loads_bounded
from .._common.requirements import check_imported
from ..errors import InputError, MissingDependencyError, Qsam2Error
from .options import FINISHED
from .store import SUMMARY, foreign

_PURPOSE = "writing results to a URL"
_BEGUN = ".begun"
_PROBE = ".qsam2-batch"
"""Is written and removed, so that what is wrong with the place is said before the work."""


class RemoteStore:
    """A folder behind a URL; a :class:`~.store.Store`.

    Results are written to a temporary folder of this machine and then copied, the file that says
    that they are whole last.
    """

    def __init__(self, url: str) -> None:
        """Find what the URL means; nothing is made.

        Raises:
            MissingDependencyError: fsspec, or what it needs for such a URL, is not installed.
            InputError: there is no such kind of URL.
        """
        try:
            import fsspec
        except ImportError as error:
            raise MissingDependencyError("fsspec", "batch", _PURPOSE) from error
        check_imported(fsspec, "fsspec", "batch", _PURPOSE)
        try:
            # Else a folder's content is remembered, and results of other machines are not seen.
            self._files, self._root = fsspec.core.url_to_fs(
                url.rstrip("/"), use_listings_cache=False
            )
        except ImportError as error:
            package = _package_of(url)
            raise MissingDependencyError(
                package, "batch", f"writing to {url}", hint=f"run: pip install {package}"
            ) from error
        except Exception as error:
            raise InputError(f"cannot use {url} for results: {reason_of(error)}") from error
        self._url = url.rstrip("/")

    @contextmanager
    def open(self) -> Iterator[None]:
        """See the protocol; other batches are not kept out."""
        with self._told(_PROBE):
            self._make_folder(self._root)
            self._files.pipe_file(f"{self._root}/{_PROBE}", b"")
            self._files.rm_file(f"{self._root}/{_PROBE}")
        yield

    def finished(self, name: str) -> dict[str, Any] | None:
        """See the protocol."""
        try:
            record = loads_bounded(self._files.cat_file(f"{self._root}/{name}/{FINISHED}"))
        except (FileNotFoundError, ValueError):
            return None
        except Exception as error:
            raise InputError(f"cannot read {self._url}/{name}: {reason_of(error)}") from error
        return record if isinstance(record, dict) else None

    @contextmanager
    def writing(self, name: str, read: Iterable[Path] = ()) -> Iterator[Path]:  # noqa: ARG002
        """See the protocol; videos behind the URL of the results are not known as such."""
        with self._told(name):
            self._check_ours(name)
        with tempfile.TemporaryDirectory(prefix="qsam2-batch-") as temporary:
            yield Path(temporary)
            with self._told(name):
                self._clear(name)
                self._copy(Path(temporary), name)

    def write_summary(self, content: bytes) -> str:
        """See the protocol."""
        with self._told(SUMMARY):
            self._files.pipe_file(f"{self._root}/{SUMMARY}", content)
        return f"{self._url}/{SUMMARY}"

    def _check_ours(self, name: str) -> None:
        target = f"{self._root}/{name}"
        ours = any(self._files.exists(f"{target}/{own}") for own in (FINISHED, _BEGUN))
        if not ours and self._files.exists(target) and self._files.find(target):
            raise foreign(f"{self._url}/{name}")

    def _clear(self, name: str) -> None:
        """Remove older results, first what says that they are whole."""
        target = f"{self._root}/{name}"
        if self._files.exists(f"{target}/{FINISHED}"):
            self._files.rm_file(f"{target}/{FINISHED}")
        if self._files.exists(target):
            self._files.rm(target, recursive=True)

    def _copy(self, folder: Path, name: str) -> None:
        target = f"{self._root}/{name}"
        self._make_folder(target)
        # What breaks off has this file, and so is known to be ours the next time.
        self._files.pipe_file(f"{target}/{_BEGUN}", b"")
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in sorted(paths, key=lambda path: path == folder / FINISHED):
            place = f"{target}/{path.relative_to(folder).as_posix()}"
            self._make_folder(place.rpartition("/")[0])
            self._files.put_file(str(path), place)
        self._files.rm_file(f"{target}/{_BEGUN}")

    def _make_folder(self, path: str) -> None:
        # Stores of objects have no folders, and would make a bucket of a name that is mistyped.
        if self._files.root_marker:
            self._files.makedirs(path, exist_ok=True)

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Turn what a file system raises, of whatever type, into a sentence."""
        try:
            yield
        except Qsam2Error:
            raise
        except Exception as error:
            raise InputError(
                f"cannot write {name} to {self._url}: {reason_of(error)}; check the URL and the "
                "permissions"
            ) from error


def _package_of(url: str) -> str:
    return {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}.get(
        url.partition("://")[0], "fsspec[full]"
    )
