"""Exceptions of inner libraries as one line that names what was at work."""

import pytest
import torch

from atlaseg.pipeline.errors import DatasetError, GeometryError, MemoryShortageError, MissingFileError
from atlaseg.pipeline.failures import first_line, root_cause, user_error


def wrapped(error: BaseException, *outer: BaseException) -> BaseException:
    for wrapper in outer:
        wrapper.__cause__ = error
        error = wrapper
    return error


def test_the_cause_is_our_own_error_or_the_systems() -> None:
    own = GeometryError("a.nii: two grids")
    assert root_cause(wrapped(own, RuntimeError("applying transform"), RuntimeError("Failed"))) is own
    system = PermissionError(13, "no", "a.nii")
    assert user_error(wrapped(system, RuntimeError("x")), "b.nii", "failed") is system
    last = KeyError("x")
    assert root_cause(wrapped(last, RuntimeError("applying transform"))) is last


def test_exhausted_memory_has_one_name() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    for error in (raised.value, MemoryError(), wrapped(MemoryError(), RuntimeError("applying transform"))):
        said = user_error(error, "a.nii", "cannot be labelled")
        assert isinstance(said, MemoryShortageError)
        assert str(said).startswith("a.nii: cannot be labelled, out of memory (")
        assert len(str(said).splitlines()) == 1


def test_other_errors_name_the_file_and_their_kind() -> None:
    error = wrapped(ValueError("\n  sizes (3, 4)\ntensor([...])"), RuntimeError("applying transform <x>"))
    said = user_error(error, "a.nii", "cannot be prepared")
    assert isinstance(said, DatasetError)
    assert str(said) == "a.nii: cannot be prepared (ValueError: sizes (3, 4))"
    assert len(first_line(ValueError("x" * 10_000))) == 203
    assert first_line(ValueError()) == ""
    assert isinstance(user_error(MissingFileError("b: no such file"), "a", "x"), MissingFileError)
