"""The augmentation benchmark: its table and its picture (not how fast the machine is)."""

import re

import pytest

from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.studies.augmentation_speed import AugmentationBenchmark


@pytest.mark.thorough
def test_table_and_picture(tmp_path, capsys):
    from matplotlib.image import imread

    picture = tmp_path / "new" / "grid.png"
    assert AugmentationBenchmark(patch_size=(16, 20, 12), repeats=1, out=picture).run() == 0
    printed = capsys.readouterr().out
    assert re.search(r"cut and deform out of a case +\d+\.\d\d +\d+\.\d times as fast as MONAI", printed)
    assert re.search(r"MONAI Rand3DElasticd +\d+\.\d\d$", printed, re.MULTILINE)
    assert imread(picture).std() > 0.1
    assert [p.name for p in picture.parent.iterdir()] == ["grid.png"]


def test_numbers_that_are_not_positive():
    with pytest.raises(OptionError, match="repeats"):
        AugmentationBenchmark(repeats=0).run()
    with pytest.raises(OptionError, match="patch_size"):
        AugmentationBenchmark(patch_size=(0, 8, 8), repeats=1).run()
