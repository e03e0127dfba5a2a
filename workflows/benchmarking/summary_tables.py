"""Files of a benchmark: long tables of scores, times and failures, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

__all__ = ["Tables", "about_machine", "print_tables", "write_about", "write_tables"]

#: Packages whose versions a reader may need to repeat the figures.
PACKAGES = (
    "atlaseg", "torch", "monai", "numpy", "scipy", "SimpleITK", "itk-elastix", "antspyx", "picsl_greedy",
    "scikit-image",
)  # fmt: skip
TIME_COLUMNS = ["method", "fold", "labels", "case", "stage", "seconds", "cpu_seconds", "peak_mib"]
FAILURE_COLUMNS = ["method", "fold", "labels", "case", "error"]


@dataclass(frozen=True, eq=False)
class Tables:
    """All tables of a benchmark, each a data frame of the file that has its name."""

    scores: pd.DataFrame
    times: pd.DataFrame
    failures: pd.DataFrame
    summary: pd.DataFrame
    significance: pd.DataFrame
    ranking: pd.DataFrame


def make_tables(cells: Sequence[dict[str, Any]], seed: int, ranked_by: Sequence[str] = ()) -> Tables:
    """Tables of finished cells.

    Args:
        cells: contents of their ``cell.json``, at least one.
        seed: of the bootstrap.
        ranked_by: names of the metrics that the ranking is made of, by default Dice and HD95.
    """
    from atlaseg.pipeline.evaluation.long_table import long_table, score_rows
    from atlaseg.pipeline.evaluation.method_summary import summarise_methods
    from atlaseg.pipeline.evaluation.ranking import rank_methods
    from atlaseg.pipeline.evaluation.scores import Score
    from atlaseg.pipeline.evaluation.significance import compare_methods

    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for cell in cells:
        where = {key: cell[key] for key in ("method", "fold", "labels")}
        failed = {failure["case"] for failure in cell["failures"]}
        for content in cell["scores"]:
            score = Score.from_row(content)
            rows += score_rows([score], **where, failed=score.case in failed)
        times += [{**where, **cost} for cost in cell["times"]]
        failures += [{**where, **failure} for failure in cell["failures"]]
    scores = long_table(rows)
    return Tables(
        scores=scores,
        times=_frame(times, TIME_COLUMNS),
        failures=_frame(failures, FAILURE_COLUMNS),
        summary=summarise_methods(scores, seed=seed),
        significance=compare_methods(scores),
        ranking=rank_methods(scores, ranked_by),
    )


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=columns).astype({"labels": "Int64"})


def write_tables(
    out: Path, cells: Sequence[dict[str, Any]], seed: int, ranked_by: Sequence[str] = ()
) -> Tables:
    """Write all tables of finished cells into the folder of a benchmark, each file whole or not at all."""
    from atlaseg.pipeline.io.files import replacing, write_text

    tables = make_tables(cells, seed, ranked_by)
    for name, table in vars(tables).items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    with replacing(out / "scores.parquet") as temporary:
        tables.scores.to_parquet(temporary, index=False)
    return tables


def write_about(out: Path, about: dict[str, Any]) -> None:
    """Write ``benchmark.json``."""
    from atlaseg.pipeline.io.files import write_text

    write_text(out / "benchmark.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def about_machine() -> dict[str, Any]:
    """Versions, processor and cores, for people who want to repeat or judge the times."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from atlaseg.pipeline.system.worker_processes import available_cores

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # an extra that is not installed
            continue
    return {"versions": versions, "cpu": _processor(), "cores": available_cores()}


def _processor() -> str:
    import platform

    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_tables(tables: Tables) -> None:
    """The methods, best first, on the screen; then which differ by more than chance, and what failed."""
    from rich.console import Console

    console = Console()
    for labels in tables.ranking["labels"].drop_duplicates():
        console.print(_overview(tables, labels))
        for line in _differences(tables, labels):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for row in tables.failures.to_dict("records"):
        text = f"FAILED {row['method']}, fold {row['fold']}, {row['case']}: {row['error']}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _overview(tables: Tables, labels: Any) -> Table:
    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from atlaseg.pipeline.evaluation.metrics import main_metric, ranked_metrics
    from atlaseg.pipeline.evaluation.statistics import ALL_STRUCTURES

    everything = tables.summary[tables.summary["structure"] == ALL_STRUCTURES]
    chosen, times = _of_labels(everything, labels), _of_labels(tables.times, labels)
    title = "all training cases" if pd.isna(labels) else f"{labels} labelled training cases"
    main = main_metric()
    ranked_by = [name.removeprefix("rank_") for name in map(str, tables.ranking) if name.startswith("rank_")]
    others = [metric for metric in ranked_metrics(ranked_by) if metric.name != main.name]
    units = "".join(f"{metric.label} in {metric.unit}, " for metric in others if metric.unit)
    caption = f"{units}of surface {tables.ranking['surface'].iloc[0]}"
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold", min_width=12)
    columns = ("rank", f"{main.label} [95% CI]", "worst", *(metric.label for metric in others))
    for heading in (*columns, "fit s", "s/scan", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rank in _of_labels(tables.ranking, labels).to_dict("records"):
        rows = chosen[chosen["method"] == rank["method"]].set_index("metric").to_dict("index")
        first, cost = rows[main.name], times[times["method"] == rank["method"]]
        fit, segment = cost[cost["stage"] == "fit"], cost[cost["stage"] == "segment"]
        interval = "" if pd.isna(first["low"]) else f" [{first['low']:.3f}, {first['high']:.3f}]"
        cells = [
            str(rank["method"]),
            f"{rank['rank']:.2f}",
            f"{first['mean']:.3f}{interval}",
            f"{first['worst']:.3f}",
            *(f"{rows[metric.name]['mean']:.{metric.decimals}f}" for metric in others),
            f"{fit['seconds'].mean():.0f}",
            "" if segment.empty else f"{segment['seconds'].median():.1f}",
            f"{first['failed']}",
        ]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _differences(tables: Tables, labels: Any) -> list[str]:
    """Pairs that differ in the main metric by more than chance, in words."""
    from atlaseg.pipeline.evaluation.metrics import main_metric

    main = main_metric()
    pairs = _of_labels(tables.significance, labels)
    pairs = pairs[(pairs["metric"] == main.name) & (pairs["p_holm"] < 0.05)]
    lines = []
    for row in pairs.to_dict("records"):
        better, worse = row["method_a"], row["method_b"]
        if row["difference"] < 0:
            better, worse = worse, better
        lines.append(
            f"{better} is better than {worse}: {main.label} +{abs(row['difference']):.4f}, p {row['p_holm']:.2g}"
        )
    return lines


def _of_labels(table: pd.DataFrame, labels: Any) -> pd.DataFrame:
    import pandas as pd

    column = table["labels"]
    return table[column.isna() if pd.isna(labels) else (column == labels).fillna(False)]
