"""``import atlaseg``: quick, with the names that a script needs, each of which is there."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

import atlaseg


def in_fresh_process(code: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_nothing_heavy_is_imported() -> None:
    found = in_fresh_process(
        "import sys, time, json; before = set(sys.modules); begun = time.process_time(); import atlaseg; "
        "seconds = time.process_time() - begun; "
        "print(json.dumps({'seconds': seconds, 'modules': sorted(set(sys.modules) - before)}))"
    )
    packages = {str(name).partition(".")[0] for name in found["modules"]}  # type: ignore[attr-defined]
    assert packages <= {"atlaseg", *sys.stdlib_module_names}
    assert "importlib.metadata" not in found["modules"]  # type: ignore[operator]
    assert found["seconds"] < 0.05  # type: ignore[operator]


@pytest.mark.parametrize("name", atlaseg.__all__)
def test_every_name_is_there(name: str) -> None:
    thing = getattr(atlaseg, name)
    assert name in dir(atlaseg)
    if name == "__version__":
        assert thing == version("atlaseg")
    else:
        assert thing.__name__ == name
        assert thing.__doc__


def test_every_name_has_a_home_and_a_stub() -> None:
    assert set(atlaseg._HOMES) == set(atlaseg.__all__) - {"__version__"}
    assert atlaseg.__all__ == sorted(atlaseg.__all__, key=lambda name: (not name[0].isupper(), name))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'atlaseg' has no attribute 'nothing'"):
        atlaseg.nothing  # noqa: B018
