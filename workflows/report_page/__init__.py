"""The page of ``atlaseg report``."""

from workflows.report_page.folder import Benchmark, read_benchmark
from workflows.report_page.page import Page, make_page

__all__ = ["Benchmark", "Page", "make_page", "read_benchmark"]
