"""When an atlas' registration to a scan is judged failed, and the atlas left out: the rule and its thresholds.

The scan has no labels, so an atlas is compared with the other atlases, by the figures of
:mod:`atlaseg.atlases.propagation.quality`. Templates use the same rule. Registrations that end without a transform are
not judged here: an engine refuses images without contrast or overlap
(:mod:`atlaseg.atlases.registration.contrast_and_overlap`), and the atlas is listed as failed with the engine's reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlaseg.atlases.propagation.quality import Quality

__all__ = ["leave_out"]

#: Tuned on hippocampi (greedy, 60 scans): with 4 atlases the rule brought majority, local and joint fusion +0.004,
#: +0.001, +0.001 Dice, with 10 nothing (-0.0002 to +0.0002); keener thresholds cost joint fusion.
OUTLIER = 4.0
SPREAD_FLOOR = 0.03
AGREEMENT_SHARE = 0.6
CORRELATION_SHARE = 0.25
#: Where half of the atlases correlate less than this, correlation says nothing: another contrast, perhaps.
USABLE_CORRELATION = 0.2
COVERAGE_FLOOR = 0.05
FEWEST = 3


def leave_out(qualities: Sequence[Quality]) -> list[tuple[int, str]]:
    """Atlases whose registration to a scan is judged failed, worst first, each with the reason in words.

    The rule: an atlas is left out where

    * its agreement with the others is less than ``AGREEMENT_SHARE`` of the median agreement and also more than
      ``OUTLIER`` robust standard deviations below it (1.4826 times the median absolute deviation, at least
      ``SPREAD_FLOOR``; Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993); or
    * its local correlation is less than ``CORRELATION_SHARE`` of the median of all, if that is at least
      ``USABLE_CORRELATION``; or
    * it has seen less than ``COVERAGE_FLOOR`` of the scan;

    but half of the atlases, and at least ``FEWEST``, always stay: those with the best agreement. Fusion rules that
    weigh atlases cope with a poor one and miss a good one, so the rule is meant for the wreck only.

    Args:
        qualities: of all atlases of one scan (:func:`assess`).

    Returns:
        ``(index, reason)`` pairs; empty where all stay.

    >>> from atlaseg.atlases.propagation.quality import Quality
    >>> good = Quality(0.8, 0.75, 0.9, 1.1, 1.0)
    >>> bad = Quality(0.2, 0.45, 0.3, 1.0, 0.9)
    >>> [index for index, _ in leave_out([good, good, bad, good])]
    [2]
    """
    least = max(FEWEST, (len(qualities) + 1) // 2)
    if len(qualities) <= least:
        return []
    agreements = [0.0 if q.agreement is None else q.agreement for q in qualities]
    typical = float(np.median(agreements))
    spread = 1.4826 * float(np.median(np.abs(np.subtract(agreements, typical))))
    limit = min(AGREEMENT_SHARE * typical, typical - OUTLIER * max(spread, SPREAD_FLOOR))
    correlated = float(np.median([q.local_correlation for q in qualities]))
    found: list[tuple[float, float, int, str]] = []
    for n, (quality, agreed) in enumerate(zip(qualities, agreements, strict=True)):
        reason = ""
        if quality.coverage < COVERAGE_FLOOR:
            reason = f"it covers {quality.coverage:.1%} of the scan: they hardly overlap"
        elif agreed < limit:
            reason = f"its agreement with the other atlases is {agreed:.2f}, where {typical:.2f} is usual"
        elif correlated >= USABLE_CORRELATION and quality.local_correlation < CORRELATION_SHARE * correlated:
            local = quality.local_correlation
            reason = f"its local correlation with the scan is {local:.2f}, where {correlated:.2f} is usual"
        if reason:
            found.append((agreed, quality.local_correlation, n, reason))
    return [(n, reason) for _, _, n, reason in sorted(found)[: len(qualities) - least]]
