"""The whole path on a GPU: ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atlaseg.pipeline.io.volume import read_image
from atlaseg.pipeline.network_segmenter import NetworkSegmenter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_resumes_and_labels_scans(runs, tmp_path: Path, precision: str) -> None:
    out = tmp_path / "run"
    chosen = f"training.precision={precision}"
    runs.train(out, chosen, device="cuda", epochs=2)
    before = (out / "models" / "model.pt").read_bytes()
    runs.train(out, chosen, device="cuda", epochs=2)
    assert (out / "models" / "model.pt").read_bytes() == before  # it had finished
    scan = read_image(sorted((runs.dataset / "imagesTr").iterdir())[0])
    result = NetworkSegmenter.load(out, device="cuda").segment(scan, probabilities=True)
    assert result.label_map.shape == scan.shape[1:]
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities.astype(float).sum(0), 1, atol=2e-3)


def test_gpu_and_cpu_give_the_same_labels(runs, tmp_path: Path) -> None:
    run = runs.train(tmp_path / "run")  # fp32
    scan = read_image(sorted((runs.dataset / "imagesTr").iterdir())[0])
    on = {d: NetworkSegmenter.load(run, device=d).segment(scan).label_map for d in ("cpu", "cuda")}
    # TF32 convolutions round: labels differ at near-ties only
    assert (on["cpu"] != on["cuda"]).mean() < 0.01
