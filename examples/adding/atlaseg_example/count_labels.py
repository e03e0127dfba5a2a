"""A command: ``atlaseg count-labels DATASET``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from atlaseg.pipeline.registry import Row

ROW = Row(
    "count-labels", "count the labelled cases of a data set", "atlaseg_example.count_labels:CountLabels"
)


@dataclass(frozen=True)
class CountLabels:
    """Count the labelled cases of a data set."""

    positional: ClassVar[tuple[str, ...]] = ("dataset",)

    dataset: Path
    """Folder of the data set."""

    def run(self) -> int:
        """Print a line; returns the exit code."""
        from atlaseg.pipeline.datasets import read_dataset

        print(f"{len(read_dataset(self.dataset).labelled)} labelled cases")
        return 0
