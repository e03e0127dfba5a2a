from __future__ import annotations

import pytest

from atlaseg.workflows.report_page.texts_without_paths import without_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/a.nii.gz: no such file", "a.nii.gz: no such file"),
        ("cannot open '/data/Dr Doe/scan 1.nii.gz'", "cannot open 'scan 1.nii.gz'"),
        (r"C:\Users\Ann\scan.nii is broken", "scan.nii is broken"),
        (r"\\server\share\scan.nii is broken", "scan.nii is broken"),
        ("~/study/scan.nii", "scan.nii"),
        ("--out=/srv/a/b/out", "--out=out"),
        ("file:///srv/a/page.html", "page.html"),
        ("runs/of Ann/scan.nii", "runs/of scan.nii"),
        ("Dice 1/2, <b>bold</b>, 3 mm/s", "Dice 1/2, <b>bold</b>, 3 mm/s"),
        ("unet:depth=context,minutes=12", "unet:depth=context,minutes=12"),
    ],
)
def test_paths_are_reduced(text, expected):
    assert without_paths(text) == expected
