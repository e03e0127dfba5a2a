"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public scans, or a skip that says where they were looked for."""
    named = os.environ.get("ATLASEG_TEST_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        source = "ATLASEG_TEST_DATA" if named else "../shared/data beside the checkout"
        pytest.skip(f"no real scans at {folder} ({source}); set ATLASEG_TEST_DATA to their folder")
    return folder
