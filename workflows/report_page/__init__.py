"""The page of ``atlaseg report``."""

from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.folder import read_benchmark
from atlaseg.workflows.report_page.page import Page, make_page

__all__ = ["Benchmark", "Page", "make_page", "read_benchmark"]
