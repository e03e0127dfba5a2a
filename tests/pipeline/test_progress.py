"""Progress without a terminal: a line at least every half minute, and nothing more often."""

import pytest

from atlaseg.pipeline import progress as subject
from atlaseg.pipeline.progress import ProgressDisplay, on_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(subject.time, "monotonic", lambda: now[0])
    return now


def test_lines(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay("registering", 10, "scan", terminal=False) as work:
        for second in range(100):
            clock[0] = float(second)
            work.show(second // 10, note="loss 0.1")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "registering: 3 of 10 scans, loss 0.1 after 0.5 min",
        "registering: 6 of 10 scans, loss 0.1 after 1.0 min",
        "registering: 9 of 10 scans, loss 0.1 after 1.5 min",
    ]


def test_a_share_is_shown_in_percent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay("[1/2] scan", 1.0, terminal=False) as work:
        clock[0] = 31.0
        work.show(0.25)
    assert capsys.readouterr().err == "[1/2] scan: 25% after 0.5 min\n"


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay("reading", None, "case", terminal=True) as work:
        work.show(3, 4)
    shown = capsys.readouterr().err
    assert "reading" in shown
    assert "3/4" in shown


def test_work_of_several_kinds_has_a_bar_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(terminal=True) as work:
        for what, total in (("making priors", 3), ("learning", 2)):
            for done in range(total + 1):
                work(done, total, what)
    shown = capsys.readouterr().err
    assert "making priors: 100%" in shown
    assert "learning: 100%" in shown
    assert shown.index("3/3") < shown.index("2/2")


def test_a_title_stays_whatever_the_work_is_called() -> None:
    with ProgressDisplay("[1/2] scan", 4, "registration", terminal=False) as work:
        work(3, 5, "registering atlases")
    assert work.in_words() == "[1/2] scan: 3 of 5 registrations"


def test_a_listener_hears_every_step() -> None:
    heard: list[str] = []
    on_progress(heard.append)
    try:
        with ProgressDisplay("reading", 2, "case", terminal=False) as work:
            work.show(1)
            work.show(2)
    finally:
        on_progress(None)
    assert heard == ["reading: 1 of 2 cases", "reading: 2 of 2 cases"]
