"""The same model in the official predictor and in ours, and what the official one returned."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parity.clip import HEIGHT, WIDTH
from tests.parity.floor import nudged
from tests.parity.scenarios import Scenario
from tests.parity.session import Predictor, Step
from tests.parity.shared import Float32Memories, SharedBackend, official_memories
from tests.parity.variants import StateDict, official_predictor


@dataclass(frozen=True)
class Clips:
    """Folders of numbered JPEG files."""

    short: Path
    long: Path

    def of(self, scenario: Scenario) -> Path:
        return self.long if scenario.long else self.short


@dataclass(eq=False)
class Pair:
    """A model on both sides.

    Attributes:
        config: of the model.
        state: its weights.
        ours: our predictor, as shipped.
    """

    config: dict[str, Any]
    state: StateDict
    ours: Any

    @functools.cached_property
    def official(self) -> Any:
        return official_predictor(self.config, self.state)

    @functools.cache  # noqa: B019 - pairs live as long as the session
    def nudged(self, seed: int = 0) -> Any:
        """Return the official predictor with its weights moved by one unit in the last place."""
        return official_predictor(self.config, nudged(self.state, seed))

    @functools.cached_property
    def exact(self) -> Predictor:
        """Our predictor with memories in float32."""
        return self.predictor(Float32Memories())

    def predictor(self, memories: Any = None, **options: Any) -> Any:
        """Return another predictor of ours on the same engine."""
        from qsam2_deploy.runtime import SAM2VideoPredictor

        return SAM2VideoPredictor(self.shared(memories), show_progress=False, **options)

    def shared(self, memories: Any = None) -> Any:
        """Return the engine, for a predictor that may close it."""
        return SharedBackend(self.ours._backend, memories)


class Records:
    """What the official predictor returns; it plays each scenario once for each precision."""

    def __init__(self, pair: Callable[[str], Pair], clips: Clips) -> None:
        self._pair, self._clips = pair, clips
        self._played: dict[tuple[str, str], list[Step]] = {}

    def official(self, scenario: Scenario, memories: str = "float32") -> list[Step]:
        """Return its record with memories in ``float32`` or ``bfloat16``."""
        key = (scenario.name, memories)
        if key not in self._played:
            official = self._pair(scenario.variant).official
            self._played[key] = self.play(scenario, official, memories)
        return self._played[key]

    def play(self, scenario: Scenario, predictor: Predictor, memories: str) -> list[Step]:
        """Play a scenario on any predictor."""
        with official_memories(memories):
            return scenario.run(predictor, self._clips.of(scenario), WIDTH, HEIGHT)
