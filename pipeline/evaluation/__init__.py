"""Scores of label maps: the table of metrics, the numbers of a case, and the statistics and figures made of them."""

from atlaseg.pipeline.evaluation.confusion_matrix import confusion_matrix
from atlaseg.pipeline.evaluation.metrics import METRICS, Metric
from atlaseg.pipeline.evaluation.scores import CaseScores, Score, compare_case, missing_prediction, score_case
from atlaseg.pipeline.evaluation.statistics import Statistic, Summary, statistic, summarise

__all__ = [
    "METRICS",
    "CaseScores",
    "Metric",
    "Score",
    "Statistic",
    "Summary",
    "compare_case",
    "confusion_matrix",
    "missing_prediction",
    "score_case",
    "statistic",
    "summarise",
]
