"""Findings of the tables, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.methods_table import method_rows
from atlaseg.workflows.report_page.significance_matrix import LEVEL, significance_matrix

__all__ = ["findings"]


def findings(context: Context) -> list[str]:
    """Which method is best, from which ones it differs by more than chance, and what failed."""
    rows = method_rows(context.benchmark, context.styles, context.metrics, context.labels)
    if not rows:
        return []
    best, metric = rows[0], context.main
    place = " ranks first" if len(rows) > 1 else ""
    found = [f"{best.style.label}{place}: mean {metric.label} {best.mean} (95% interval {best.interval})."]
    matrix = dict(significance_matrix(context.benchmark, context.styles, metric, context.labels))
    if best.style in matrix:
        of_verdict = {
            verdict: [
                style.label
                for style, cell in zip(matrix, matrix[best.style], strict=True)
                if cell.verdict == verdict
            ]
            for verdict in ("better", "none", "worse")
        }
        more, less = ("lower", "higher") if metric.better == "low" else ("higher", "lower")
        if better := of_verdict["better"]:
            found.append(
                f"Its {metric.label} is {more} than that of {_list(better)} (p < {LEVEL:g} after Holm's correction)."
            )
        if same := of_verdict["none"]:
            pairs = len(matrix) * (len(matrix) - 1) // 2
            found.append(undecided(same, metric.label, cases=best.n, pairs=pairs))
        if worse := of_verdict["worse"]:
            found.append(
                f"Its {metric.label} is {less} than that of {_list(worse)}: ranks count surfaces too."
            )
    failed = sum(row.failed for row in rows)
    if failed:
        found.append(
            f"{failed} segmentation{'s' * (failed != 1)} failed and count{'s' * (failed == 1)} with the worst scores."
        )
    return found


def undecided(same: Sequence[str], metric: str, *, cases: int, pairs: int) -> str:
    """Where a test found nothing: because there is little to be found, or because it could not have found anything.

    Of n differences that all have one sign, the two-sided signed-rank test has p = 2 / 2^n, and nothing is below that.
    """
    if pairs * 2.0 ** (1 - cases) >= LEVEL:
        return (
            f"Whether its {metric} differs from that of {_list(same)} cannot be tested: with {cases} cases and {pairs} "
            f"pair{'s' * (pairs != 1)} of methods no difference, however large, has p < {LEVEL:g}."
        )
    return f"No difference in {metric} from {_list(same)} was found."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
