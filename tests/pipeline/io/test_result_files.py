from __future__ import annotations

from pathlib import Path

import pytest

from atlaseg.pipeline.io.result_files import atlases_file, details_file, goes_with, probabilities_file


@pytest.mark.parametrize("name", ["a", "patient.01", "größe 1 100%"])
def test_names_are_known_again(name):
    label_map = Path("out") / f"{name}.nii.gz"
    names = [f"{name}_probabilities.nii.gz", f"{name}_atlases.json", f"{name}.json"]
    found = [make(label_map) for make in (probabilities_file, atlases_file, details_file)]
    assert found == [Path("out") / expected for expected in names]
    assert all(goes_with(path, {"other", name}) for path in found)
    assert not any(goes_with(path, {"other"}) for path in found)
    assert not goes_with(label_map, {name})
