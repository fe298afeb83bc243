"""JSON as the standard has it."""

import json
import math
from collections import Counter
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Return what JSON holds; unlike `json.loads`, refuse NaN, overflow and repeated keys.

    Raises:
        ValueError: the text is not JSON, or holds any of these.
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is not a finite number")
        return value

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        if repeated := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"the key {repeated[0]!r} appears twice")
        return dict(pairs)

    try:
        return json.loads(text, parse_float=finite, parse_constant=finite, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
