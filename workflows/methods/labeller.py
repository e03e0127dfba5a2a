"""Protocol of labellers, which segment one scan after the other for ``atlaseg segment`` and benchmarks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation

__all__ = ["Labeller"]


class Labeller(ABC):
    """Labels scans; a context manager, because some hold worker processes."""

    def __init__(self) -> None:
        #: Scans whose labels nobody should take as they are, with the reason.
        self.doubtful: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 (few have anything to do)
        """Give back what is held, such as worker processes; by default nothing is."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels of the scans."""

    @abstractmethod
    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:
        """Labels of one scan.

        Args:
            name: of the scan; files that explain its labels are called after it.
            files: one for each channel, or one with all.
            title: of the progress bar, or of the line that is printed.

        Raises:
            AtlasegError: the scan cannot be read or labelled.
        """

    def finish(self) -> None:  # noqa: B027 (few have anything to do)
        """Remove what was kept in case the job is interrupted; called once every scan is labelled."""
