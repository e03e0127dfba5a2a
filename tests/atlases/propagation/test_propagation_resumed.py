"""Registrations that are finished are read, not repeated; those that are lost or damaged are made again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import atlaseg.atlases.propagation.carrying as carrying
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.propagation.propagation import Propagation, propagate
from tests.atlases.propagation.heads import (
    AFFINE,
    QUICK,
    SHAPE,
    SHIFTS,
    TWO_STEPS,
    carry_all,
    head,
    make,
    same,
    write,
)


@pytest.fixture
def atlases(tmp_path: Path) -> AtlasSet:
    return make(tmp_path)


class Counted:
    """Counts registrations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        original = carrying.register

        def counted(*args, **kwargs):
            self.calls += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(carrying, "register", counted)

    def during(self, call) -> tuple[Propagation, int]:
        before = self.calls
        return call(), self.calls - before


@pytest.mark.thorough
def test_finished_registrations_are_read_not_repeated(atlases, tmp_path, monkeypatch):
    counted, work = Counted(monkeypatch), tmp_path / "work"
    atlases = atlases.subset(["a", "b"])

    def run(atlases=atlases, options=TWO_STEPS, image=None, **choices):
        given = head()[0] if image is None else image
        return counted.during(lambda: propagate(atlases, (given, AFFINE), options, work=work, **choices))

    plain, first, again = carry_all(atlases, TWO_STEPS), run(), run()
    assert first[1] == 4
    assert again[1] == 0
    assert same(plain, first[0])
    assert same(first[0], again[0])
    assert [c.seconds for c in first[0].carried] == [c.seconds for c in again[0].carried]
    # the linear step is shared with other bending, other selection and one atlas more or less
    assert run(options=replace(TWO_STEPS, keep=1))[1] == 0
    assert run(options=QUICK)[1] == 0
    assert run(atlases.without("a"))[1] == 0
    # neither another scan nor another seed, start, mask or file is taken for the same
    assert run(image=head()[0] + 1)[1] == 4
    assert run(options=replace(TWO_STEPS, seed=1))[1] == 4
    assert run(options=replace(TWO_STEPS, initial="centres"))[1] == 4
    assert run(mask=np.ones(SHAPE))[1] == 4
    write(tmp_path / "images/b_0.nii", head(SHIFTS["b"])[0][0] * 1.5)
    assert run()[1] == 2


@pytest.mark.thorough
def test_damaged_registrations_are_made_again(atlases, tmp_path, monkeypatch, caplog):
    counted, work = Counted(monkeypatch), tmp_path / "work"
    first = carry_all(atlases, work=work)
    for name, damage in (("a", b"{"), ("b", b"[]")):
        next(work.glob(f"{name}-*.json")).write_bytes(damage)
    kept = next(work.glob("c-*.h5"))
    kept.write_bytes(kept.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        again, calls = counted.during(lambda: carry_all(atlases, work=work))
    assert calls == 3
    assert same(first, again)
    assert sum("registering again" in record.message for record in caplog.records) == 3
    assert counted.during(lambda: carry_all(atlases, work=work))[1] == 0


@pytest.mark.slow
def test_a_killed_propagation_resumes(tmp_path, monkeypatch):
    atlases, work = make(tmp_path), tmp_path / "work"
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import heads as t\n"
        "import time, atlaseg.atlases.propagation.carrying as c; carry = c.linear_start\n"
        "folder = Path(sys.argv[2]); register = c.register\n"
        "c.register = lambda *a, **k: (time.sleep(0.5), register(*a, **k))[1]\n"
        "t.carry_all(t.make(folder), t.TWO_STEPS, work=folder / 'work')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(Path(__file__).parent), str(tmp_path)]
    )
    deadline = time.monotonic() + 300
    while len(list(work.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # the seals' times say when they were last read
    transforms = [seal.with_suffix(".h5") for seal in work.glob("*.json")]
    finished = {path: path.stat().st_mtime_ns for path in transforms}
    assert 3 <= len(finished) < 8
    counted = Counted(monkeypatch)
    found, calls = counted.during(lambda: carry_all(atlases, TWO_STEPS, work=work))
    assert calls == 8 - len(finished)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert same(found, carry_all(atlases, TWO_STEPS))
