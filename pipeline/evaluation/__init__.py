"""Scores of label maps: arrays in, numbers out, and the tables and figures of them."""

from atlaseg.pipeline.evaluation.overlap import Overlap, confusion_matrix, overlap_scores
from atlaseg.pipeline.evaluation.scores import CaseScores, Score, compare_case, missing_prediction, score_case
from atlaseg.pipeline.evaluation.statistics import METRICS, Statistic, Summary, statistic, summarise
from atlaseg.pipeline.evaluation.surface import SurfaceScores, field_of_view_mm, surface_scores

__all__ = [
    "METRICS",
    "CaseScores",
    "Overlap",
    "Score",
    "Statistic",
    "Summary",
    "SurfaceScores",
    "compare_case",
    "confusion_matrix",
    "field_of_view_mm",
    "missing_prediction",
    "overlap_scores",
    "score_case",
    "statistic",
    "summarise",
    "surface_scores",
]
