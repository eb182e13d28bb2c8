"""Results of a long benchmark, written part by part, so that an interrupted one goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._report import environment
from qsam2_deploy._common.files import check_output, write_json
from qsam2_deploy.errors import InputError

_OF_THE_DAY = ("date", "commit")
Results = dict[str, Any]


class KeptParts:
    """The file of a benchmark; parts of an earlier run stay if they were measured alike.

    Alike means: the same model and settings, on the same machine with the same versions.
    """

    def __init__(self, benchmark: str, path: Path, settings: Mapping[str, Any]) -> None:
        """Use the file ``path``, and the parts in it.

        Args:
            benchmark: its name.
            path: a JSON file, which may not exist yet.
            settings: of all parts.

        Raises:
            InputError: the file is no report, or cannot be written.
        """
        check_output(path)
        self._benchmark, self._path, self._settings = benchmark, path, dict(settings)
        self._environment = environment()
        self._earlier = _read(path)
        self._parts: dict[str, Results] = {}

    def part(
        self, name: str, settings: Mapping[str, Any], measure: Callable[[], Results]
    ) -> Results:
        """Return the results of a part: the earlier ones, or new ones, which are written at once.

        Args:
            name: of the part.
            settings: its own.
            measure: returns what can be written as JSON.
        """
        key = self._key(settings)
        found = self._earlier.get(name)
        if found is None or found["key"] != key:
            started = time.perf_counter()
            results = measure()
            found = {
                "key": key,
                **{entry: self._environment[entry] for entry in _OF_THE_DAY},
                "seconds": round(time.perf_counter() - started, 1),
                "results": results,
            }
            self._earlier[name] = found
            self._write(self._earlier, {})
        self._parts[name] = found
        return dict(found["results"])

    def finish(self, summary: Mapping[str, Any]) -> Results:
        """Write all parts of this run and the summary; return the whole report."""
        return self._write(self._parts, summary)

    def _key(self, settings: Mapping[str, Any]) -> Results:
        machine = {k: v for k, v in self._environment.items() if k not in _OF_THE_DAY}
        # Through JSON, so that it compares equal to what was read: tuples become lists.
        key: Results = json.loads(json.dumps({**self._settings, **settings, "on": machine}))
        return key

    def _write(self, parts: Mapping[str, Results], summary: Mapping[str, Any]) -> Results:
        report = {
            "benchmark": self._benchmark,
            "environment": self._environment,
            "results": {"settings": self._settings, **summary, "parts": dict(parts)},
        }
        write_json(self._path, report)
        return report


def _read(path: Path) -> dict[str, Results]:
    if not path.exists():
        return {}
    try:
        parts = json.loads(path.read_bytes())["results"]["parts"]
        if all({"key", "seconds", "results"} <= part.keys() for part in parts.values()):
            return dict(parts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    raise InputError(f"{path} is no report of this benchmark to go on with; delete it")
