"""What reaches the screen: names cannot make a terminal do anything."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlaseg.workflows.console.screen import only_printable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gehirn_größe-脑.nii.gz", "Gehirn_größe-脑.nii.gz"),
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"),
        ("a\r\nb\tc", "a b c"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("a\udcffb", "a\\udcffb"),
        ("\x9b2J", "\\x9b2J"),
    ],
)
def test_names(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_is_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert all(c.isprintable() for c in shown if c.isascii())
    shown.encode()


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    with only_printable():
        print("scan\x1b[2J.nii", "größe", "\udcff")
        print("\x1b[1mbad\x1b[0m", file=sys.stderr)
        sys.stdout.writelines(["a\n", "b\x07\n"])
    shown = capsys.readouterr()
    assert shown.out == "scan\\x1b[2J.nii größe \\udcff\na\nb\\x07\n"
    assert shown.err == "\\x1b[1mbad\\x1b[0m\n"


def test_a_terminal_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with only_printable():
        print("\x1b[1mbold\x1b[0m \x1b]0;title\x07 größe")
        assert sys.stdout.isatty()
    assert terminal.getvalue() == "\x1b[1mbold\x1b[0m \\x1b]0;title\\x07 gr\\xf6\\xdfe\n"
