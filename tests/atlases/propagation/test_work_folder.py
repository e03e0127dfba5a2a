from __future__ import annotations

import logging
from importlib.metadata import version

import numpy as np
import pytest

from atlaseg.atlases.propagation.work_folder import (
    Finished,
    WorkFolder,
    digest_of_arrays,
    key_of,
    library_versions,
)
from atlaseg.atlases.registration.transforms.displacement import displacement_transform
from atlaseg.atlases.registration.transforms.transform import Transform

FIELD = np.random.default_rng(0).normal(size=(3, 5, 6, 7))
POINTS = np.random.default_rng(1).uniform(0, 5, (20, 3))


def transform() -> Transform:
    turn = Transform.from_matrix(
        np.array([[0.8, -0.6, 0, 1 / 3], [0.6, 0.8, 0, 0.1], [0, 0, 1, 0.7], [0, 0, 0, 1]], dtype=float)
    )
    return Transform.compose([displacement_transform(FIELD, np.eye(4)), turn])


def test_what_is_read_is_what_was_written_to_the_last_bit(tmp_path):
    folder, key = WorkFolder(tmp_path / "made"), key_of({"a": 1})
    assert folder.read("case.1-linear", key) is None
    kept = Finished(transform(), 1.25, {"engine": "elastix", "gain": None}, key)
    written = folder.write("case.1-linear", kept)
    found = folder.read("case.1-linear", key)
    assert found is not None
    for back in (written, found):
        np.testing.assert_array_equal(back.transform.points(POINTS), kept.transform.points(POINTS))
        assert (back.seconds, back.about, back.key) == (1.25, kept.about, key)
    assert sorted(p.suffix for p in folder.folder.iterdir()) == [".h5", ".json"]


def test_another_key_or_name_finds_nothing(tmp_path, caplog):
    folder, key = WorkFolder(tmp_path), key_of({"a": 1})
    folder.write("x", Finished(transform(), 1.0, {}, key))
    with caplog.at_level(logging.WARNING):
        assert folder.read("x", key_of({"a": 2})) is None
        assert folder.read("y", key) is None
        assert not caplog.records
        # the same beginning of the key, by which files are named, is not enough
        assert folder.read("x", key[:16] + "0" * 48) is None
    assert "registering again" in caplog.text


@pytest.mark.parametrize("suffix", [".h5", ".json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "turned", "gone"])
def test_damage_is_found_and_logged(tmp_path, caplog, suffix, damage):
    folder, key = WorkFolder(tmp_path), key_of({})
    folder.write("x", Finished(transform(), 1.0, {}, key))
    file = next(tmp_path.glob(f"*{suffix}"))
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        changed = {"cut": content[:-20], "empty": b"", "turned": content[:-30] + b"\xff" + content[-29:]}
        file.write_bytes(changed[damage])
    with caplog.at_level(logging.WARNING):
        assert folder.read("x", key) is None
    # a transform without a seal is one that was being written
    assert ("registering again" in caplog.text) == ((suffix, damage) != (".json", "gone"))


def test_digests_differ_by_values_shapes_and_types():
    array = np.arange(8, dtype=np.float32)
    variants = [
        (array,),
        (array.reshape(2, 4),),
        (array.astype(np.float64),),
        (array + 1,),
        (array, None),
        (None, array),
        (),
    ]
    assert len({digest_of_arrays(*v) for v in variants}) == len(variants)
    wide = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert digest_of_arrays(wide[:, 0]) == digest_of_arrays(wide[:, 0].copy())


def test_versions_name_the_libraries_of_the_engines():
    assert library_versions(["elastix"]) == {
        "SimpleITK": version("SimpleITK"),
        "itk-elastix": version("itk-elastix"),
    }
    assert library_versions(["torch"]) == {
        "SimpleITK": version("SimpleITK"),
        "torch": version("torch"),
        "engine torch": "1",
    }
