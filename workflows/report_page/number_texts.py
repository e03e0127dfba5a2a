"""Numbers as the page shows them."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["EMPTY", "duration", "interval_text", "memory", "number_text", "p_text"]

EMPTY = "–"


def number_text(value: float | None, decimals: int) -> str:
    """A number, or a dash where there is none."""
    return EMPTY if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def interval_text(low: Any, high: Any, decimals: int = 3) -> str:
    """A 95% interval, or a dash where there is none.

    >>> interval_text(0.8, 0.9)
    '0.800–0.900'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return EMPTY
    return f"{low:.{decimals}f}–{high:.{decimals}f}"


def duration(seconds: float | None) -> str:
    """Time in the unit that suits it.

    >>> duration(0.42), duration(75), duration(7300)
    ('0.42 s', '1.2 min', '2.0 h')
    """
    if seconds is None:
        return EMPTY
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def memory(mib: float | None) -> str:
    """Memory in the unit that suits it."""
    if mib is None:
        return EMPTY
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def p_text(value: float) -> str:
    """A p value."""
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
