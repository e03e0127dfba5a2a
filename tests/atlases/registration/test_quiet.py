from __future__ import annotations

import os

import pytest

from atlaseg.atlases.registration.quiet import quiet


def test_descriptors_are_silent_and_then_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with quiet():
        os.write(1, b"from C to stdout\n")
        os.write(2, b"from C to stderr\n")
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_descriptors_come_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="boom"), quiet():
        raise RuntimeError("boom")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
