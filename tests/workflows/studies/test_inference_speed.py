"""The benchmark of labelling: both methods give the same labels, and the table holds both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.studies.inference_speed import InferenceBenchmark, _measure


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("spacing", [1.0, 1.5])
def test_both_methods_label_alike(spacing):
    job = InferenceBenchmark(size=24, classes=4, spacing=spacing, patch=16, channels=(4, 8))
    ours, plain = (_measure(job, method) for method in ("atlaseg", "monai"))
    assert (ours.labels != plain.labels).mean() < 1e-3
    assert len(np.unique(ours.labels)) > 1
    assert ours.peak_gb > 0
    table = job._table({"atlaseg": [ours], "monai": [plain]})
    assert "label_scan" in table
    assert "SlidingWindowInferer" in table


@pytest.mark.slow
def test_runs_each_method_in_its_own_process(capsys):
    assert InferenceBenchmark(size=24, classes=4, patch=16, channels=(4, 8), repetitions=1).run() == 0
    assert "different labels" in capsys.readouterr().out


def test_numbers_must_be_positive():
    with pytest.raises(OptionError, match="--patch"):
        InferenceBenchmark(patch=0).run()
