"""A layout of data sets: a folder for each scan."""

from pathlib import Path

from atlaseg.pipeline.datasets import CaseList, Layout, LayoutRow, Listing, Report

ROW = LayoutRow(
    "subjects",
    "folders sub-NAME, each with t1.nii.gz and perhaps labels.nii.gz",
    "atlaseg_example.subjects:LAYOUT",
)


def recognises(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return any(folder.glob("sub-*/t1.nii.gz"))


def list_cases(folder: Path, report: Report) -> Listing:
    """Cases by name; the label maps themselves say which values there are."""
    cases = CaseList(report)
    for image in sorted(folder.glob("sub-*/t1.nii.gz")):
        label = image.with_name("labels.nii.gz")
        cases.add(image.parent.name.removeprefix("sub-"), [image], label if label.is_file() else None)
    return Listing(
        folder, "subjects", "subjects", cases.sorted(), labels=None, channels=("MRI",), channels_named_by=None
    )


LAYOUT = Layout(recognises, list_cases)
