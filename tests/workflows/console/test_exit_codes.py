"""Which error makes which exit code, with one line on stderr."""

from __future__ import annotations

import pytest

from atlaseg.pipeline.errors import AtlasegError, OptionError
from atlaseg.workflows.console.exit_codes import TerminatedError, exit_code_of


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (AtlasegError("no scan"), 2, "no scan"),
        (OptionError("no such fold"), 2, "no such fold"),
        (PermissionError("closed\x1b[2J"), 2, "closed\\x1b[2J"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (TerminatedError(), 143, "terminated"),
    ],
)
def test_errors(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise error

    assert exit_code_of("train", work) == code
    assert capsys.readouterr().err == f"atlaseg train: {said}\n"


def test_results_and_faults_of_the_program() -> None:
    assert [exit_code_of("train", lambda code=code: code) for code in (0, 1)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        exit_code_of("train", lambda: 1 // 0)
