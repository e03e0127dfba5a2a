"""The command line: help, errors on one line, exit codes, and nothing heavy at the start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from atlaseg.pipeline.errors import AtlasegError, OptionError
from atlaseg.pipeline.registry import Row
from atlaseg.workflows import cli
from atlaseg.workflows.cli import job_of, main
from atlaseg.workflows.console.commands import COMMANDS, STUDIES
from atlaseg.workflows.methods.option_groups import option_types


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"], []):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {name} " in said for name in COMMANDS.names())
        assert not any(name in said for row in STUDIES.rows() for name in row.aliases)
        assert max(map(len, said.splitlines())) <= 110


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"atlaseg {version('atlaseg')}\n"


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tran"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("atlaseg: no command 'tran'; choose one of demo, check, ")


@pytest.mark.parametrize("row", [*COMMANDS.rows(), *STUDIES.rows()], ids=lambda row: row.name)
def test_jobs(row: Row) -> None:
    """Each is a documented dataclass with a documented run, whose options are all documented."""
    job = row.load()
    assert is_dataclass(job)
    assert job.__doc__
    assert typing.get_type_hints(job.run)["return"] is int
    assert set(getattr(job, "positional", ())) <= {field.name for field in fields(job)}


@pytest.mark.parametrize("name", [*COMMANDS.names(), *(f"study {name}" for name in STUDIES.names())])
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([*name.split(), "--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert f"atlaseg {name}" in said
    table = STUDIES if name.startswith("study ") else COMMANDS
    job = table.load(name.removeprefix("study "))
    for name_ in option_types(job):
        if name_ not in getattr(job, "positional", ()):
            option = name_.replace("_", "-")
            assert f"--{option}" in said or f"--no-{option}" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "missing: PATH (Folder of the data set), --out PATH (Folder of the run)"),
        (["x", "--out"], "Missing value for argument '--out'"),
        (["x", "--out", "y", "--what", "3"], "Unrecognized options: --what, 3"),
        (["x", "--out", "y", "--minutes", "abc"], "expected {None}|FLOAT, found ['abc']"),
        (["x", "--out", "y", "--fold", "1.5"], "expected a whole number, found '1.5'"),
        (["x", "--out", "y", "--depth", "deep"], "invalid choice 'deep' for argument '--depth'"),
        (["x", "--out", "y", "--minutes", "nan"], "--minutes must be a finite number, found nan"),
        (["x", "--out", "y", "--seed", "-1"], "--seed must be at least 0 and at most 4294967295, found -1"),
        (["x", "--out", "y", "--split-seed", "-1"], "--split-seed must be at least 0"),
        (["x\0", "--out", "y"], "may hold a NUL character"),
        (["x\x1b[2J\ny", "--out", "z"], "x\\x1b[2J y: no such folder"),
    ],
)
def test_mistakes_of_the_command_line_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["train", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("atlaseg train: ")
    assert said in line
    assert "--- " not in line


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("text")
    assert main(["train", "nowhere", "--out", str(tmp_path / "file" / "run" / "more")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'file'} is no folder" in line


def test_studies_leave_the_main_help_and_keep_their_old_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["study"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {row.name} " in said for row in STUDIES.rows())
    monkeypatch.setattr(cli, "parse", lambda job, name, words: Job(None))
    for words in (["study", "memory"], ["study", "benchmark-memory"]):
        assert main(words) == 0
        assert capsys.readouterr().err == ""
    assert main(["benchmark-memory"]) == 0
    assert capsys.readouterr().err == "atlaseg: benchmark-memory is now called: atlaseg study memory\n"
    assert main(["study", "nothing"]) == 2
    assert capsys.readouterr().err.startswith(
        "atlaseg: no study 'nothing'; choose one of depth, augmentation, "
    )


SHOUT = '''
from dataclasses import dataclass
from atlaseg.pipeline.registry import Row

@dataclass(frozen=True)
class Shout:
    """Say something loudly."""

    text: str
    """What to say."""

    def run(self) -> int:
        print(self.text.upper())
        return 0

ROW = Row("shout", "say something loudly", "shouting:Shout")
'''


def test_a_package_adds_a_command(installed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    installed.add("shouting", {"atlaseg.commands": {"shout": "shouting:ROW"}}, shouting=SHOUT)
    assert main(["--help"]) == 0
    assert "\n  shout        say something loudly\n" in capsys.readouterr().out
    assert main(["shout", "--text", "good morning"]) == 0
    assert capsys.readouterr().out == "GOOD MORNING\n"


def parsed(words: list[str]) -> Any:
    return job_of(words)


def test_positionals_and_options() -> None:
    train = parsed(["train", "DATA", "--out", "RUN", "--minutes", "3", "--override", "a=1", "b=[2,3]"])
    assert (train.dataset, train.out, train.network.minutes) == (Path("DATA"), Path("RUN"), 3.0)
    assert train.network.override == ("a=1", "b=[2,3]")
    assert train.network.epochs is None
    assert train == parsed(
        ["train", "DATA", "--out", "RUN", "--minutes", "3", "--override", "a=1", "b=[2,3]"]
    )
    segment = parsed(["segment", "RUN", "a.nii", "b.nii", "--out", "L", "--tta"])
    assert segment.paths == (Path("RUN"), Path("a.nii"), Path("b.nii"))
    assert segment.network.tta
    assert not segment.probabilities
    assert parsed(["demo"]).out == Path("atlaseg-demo")
    assert parsed(["demo", "elsewhere"]).out == Path("elsewhere")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "DATA"],
        ["train", "DATA", "--out", "RUN", "--speed", "9"],
        ["train", "DATA", "--out", "RUN", "--epochs", "many"],
        ["segment", "--out", "L", "--tracking"],
    ],
)
def test_wrong_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"atlaseg {words[0]}: ")
    assert line.endswith(f"see atlaseg {words[0]} --help")


class Job:
    """Raises what it was told to."""

    def __init__(self, raised: BaseException | None, code: int = 0) -> None:
        self.raised, self.code = raised, code

    def run(self) -> int:
        if self.raised:
            raise self.raised
        return self.code


def run_job(monkeypatch: pytest.MonkeyPatch, job: Job) -> int:
    monkeypatch.setattr(cli, "parse", lambda *_: job)
    return main(["train"])


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(monkeypatch, Job(None)) == 0
    assert run_job(monkeypatch, Job(None, 1)) == 1
    assert run_job(monkeypatch, Job(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "atlaseg train: interrupted\n"
    for error in (AtlasegError("no scan"), OptionError("no such fold"), PermissionError("closed")):
        assert run_job(monkeypatch, Job(error)) == 2
        assert capsys.readouterr().err == f"atlaseg train: {error}\n"
    with pytest.raises(ZeroDivisionError):  # a bug shows itself
        run_job(monkeypatch, Job(ZeroDivisionError()))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_termination_ends_a_job_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, tidied = signal.getsignal(signal.SIGTERM), []

    class Long:
        def run(self) -> int:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
            finally:
                tidied.append(True)
            return 0

    monkeypatch.setattr(cli, "parse", lambda *_: Long())
    assert main(["benchmark"]) == 143
    assert capsys.readouterr().err == "atlaseg benchmark: terminated\n"
    assert tidied == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_errors_of_a_real_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "none"), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("atlaseg train: ")
    assert str(tmp_path / "none") in line
    assert not (tmp_path / "run").exists()


LIGHT = """
import importlib
import os
import signal
import sys
import time
from atlaseg.workflows import cli
from atlaseg.workflows.console.commands import COMMANDS, STUDIES

def imported(*names):
    return [name for name in names if name in sys.modules]

cli.main(["--help"])
found = imported("numpy", "torch", "monai", "nibabel", "scipy", "pandas", "matplotlib", "yaml", "tyro", "rich")
for row in [*COMMANDS.rows(), *STUDIES.rows()]:
    row.load()
print(found + imported("torch", "monai", "nibabel", "scipy", "pandas", "matplotlib", "mlflow"))
"""


def test_nothing_heavy_for_help() -> None:
    """Neither for the overview nor, torch and its like, for the options of any command."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
