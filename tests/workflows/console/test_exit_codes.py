"""Exit codes against those of POSIX shells."""

from __future__ import annotations

import signal
import subprocess

import pytest

from atlaseg.workflows.console.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("code", "number"), [(ExitCode.INTERRUPTED, signal.SIGINT), (ExitCode.TERMINATED, signal.SIGTERM)]
)
def test_signals_count_as_in_a_shell(code: ExitCode, number: signal.Signals) -> None:
    shell = subprocess.run(
        ["sh", "-c", f"sh -c 'kill -{number.value} $$'; echo $?"], capture_output=True, check=True, text=True
    )
    assert int(shell.stdout) == code


def test_the_codes_of_the_readme() -> None:
    assert (ExitCode.DONE, ExitCode.SOME_FAILED, ExitCode.ERROR) == (0, 1, 2)
