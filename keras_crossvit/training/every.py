"""How often something is done: every so many seconds or steps."""

from __future__ import annotations

import dataclasses
import re
import time

from keras_crossvit.checks import require_integer, require_positive

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclasses.dataclass
class Every:
    """A rhythm.

    Args:
        seconds: Time between two. Defaults to None: steps count.
        steps: Steps between two. Defaults to None: seconds count.

    Raises:
        ValueError: neither is given or both, or a value is out of range.
    """

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError(f"seconds {self.seconds} and steps {self.steps}: give one of the two.")
        if self.seconds is not None:
            require_positive("seconds", self.seconds)
        else:
            require_integer("steps", self.steps, minimum=1)
        self._last = time.monotonic()

    @classmethod
    def parse(cls, text: str) -> Every:
        """Reads "30s", "5m", "1h" or "200steps".

        Raises:
            ValueError: it reads otherwise.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|steps?)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no rhythm; use a number with a unit, such as 30s, 5m, 1h or 200steps.")
        number, unit = match.groups()
        if unit in _SECONDS:
            return cls(seconds=float(number) * _SECONDS[unit])
        return cls(steps=require_integer("steps", int(number) if number.isdecimal() else number, minimum=1))

    def is_due(self, steps: int) -> bool:
        """Whether it is time after this many steps; by the clock, time is then counted anew."""
        if self.steps is not None:
            return steps % self.steps == 0
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
