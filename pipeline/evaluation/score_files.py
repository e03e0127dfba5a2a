"""Scores and summaries as files: CSV with a row per case and structure, JSON with the summary."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.evaluation.metrics import judged_metrics
from atlaseg.pipeline.evaluation.scores import Score, score_columns
from atlaseg.pipeline.evaluation.statistics import Summary
from atlaseg.pipeline.io.files import write_text

__all__ = ["summary_to_dict", "write_csv", "write_json"]


def write_csv(path: Path, scores: Sequence[Score]) -> None:
    """One row per case and structure, numbers with all their digits, an undefined number as an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(score_columns())
    writer.writerows(score.as_row().values() for score in scores)
    write_text(path, text.getvalue())


def summary_to_dict(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Summaries as plain data; a metric that no case defines is ``None``."""
    return [
        {
            "structure": summary.structure,
            "value": summary.value,
            "notes": summary.notes,
            "metrics": {
                metric.name: dataclasses.asdict(summary.metrics[metric.name])
                if metric.name in summary.metrics
                else None
                for metric in judged_metrics()
            },
        }
        for summary in summaries
    ]


def write_json(
    path: Path,
    summaries: Sequence[Summary],
    confusion: npt.NDArray[np.int64],
    labels: LabelTable,
    about: Mapping[str, Any],
) -> None:
    """Summary, confusion matrix summed over the cases, and what else the job knows.

    Args:
        path: written whole or not at all.
        summaries: of :func:`atlaseg.pipeline.evaluation.statistics.summarise`.
        confusion: ``(K, K)`` voxel counts, rows the reference, columns the prediction.
        labels: what the rows and columns are.
        about: entries to put first, such as the tolerance.
    """
    content = {
        **about,
        "summary": summary_to_dict(summaries),
        "confusion_matrix": {
            "rows": "reference",
            "columns": "prediction",
            "unit": "voxels",
            "names": list(labels.names),
            "values": list(labels.values),
            "counts": confusion.tolist(),
        },
    }
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
