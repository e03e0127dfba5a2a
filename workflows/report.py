"""``atlaseg report``: a benchmark as one HTML page that needs no network."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.schema import Whole
from atlaseg.workflows.console.exit_codes import DONE, SOME_FAILED

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """Write an HTML report of ``atlaseg benchmark``: tables, figures, worst cases, and how it was made.

    The page opens from disk, loads nothing and runs no scripts. It contains names of cases and slices of the worst
    ones, but no paths.
    """

    positional: ClassVar[tuple[str, ...]] = ("folder",)

    folder: Path
    """Output folder of atlaseg benchmark."""
    out: Path | None = None
    """Output file; by default report.html in the folder."""
    dataset: Path | None = None
    """Folder of the data set, if it has moved since the benchmark."""
    worst_cases: Whole = 4
    """Number of worst cases to draw; with 0 the page contains no voxel of a scan."""

    @property
    def place(self) -> Path:
        """The page."""
        return self.folder / "report.html" if self.out is None else self.out

    def run(self) -> int:
        """Write the page; returns the exit code, 1 where files of some cases could not be used.

        Raises:
            MissingFileError, DatasetError, UnreadableFileError: the folder is not a benchmark's.
            OptionError: the page is not an .html file, or the number is negative.
        """
        if self.worst_cases < 0:
            raise OptionError(f"worst cases must be 0 or more, found {self.worst_cases}")
        out = self.place
        if out.suffix.lower() not in {".html", ".htm"} or out.is_dir():
            raise OptionError(f"{out}: the page is an .html file, give a name such as {out / 'report.html'}")
        from atlaseg.pipeline.io.files import write_text
        from atlaseg.workflows.report_page import make_page, read_benchmark

        page = make_page(read_benchmark(self.folder), self.dataset, self.worst_cases)
        write_text(out, page.html)
        print(f"{out}: {len(page.html.encode()) / 2**20:.1f} MiB; open it in any browser")
        if not page.truth_found:
            print(
                "without worst cases, confusion and calibration: the data set is not where it was; "
                "give its folder by --dataset",
                file=sys.stderr,
            )
        for problem in page.problems:
            print(problem, file=sys.stderr)
        return SOME_FAILED if page.problems else DONE
