"""What an engine cannot do, and who can."""

from __future__ import annotations

import pytest

from atlaseg.atlases.registration.engines.abilities import check_modality, check_slices, check_stages
from atlaseg.atlases.registration.engines.registry import make_engine
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.errors import GeometryError, OptionError


def test_a_kind_or_a_metric_that_is_missing_names_who_has_it() -> None:
    engine = make_engine("elastix")
    check_stages(engine, [Stage("rigid"), Stage("bspline", "lncc")])
    with pytest.raises(OptionError, match=r"^elastix has no syn stage; engines that have it: ants$"):
        check_stages(engine, [Stage("rigid"), Stage("syn")])
    with pytest.raises(
        OptionError, match=r"torch has no metric mi; engines that have it: elastix, ants, simpleitk, greedy$"
    ):
        check_stages(make_engine("torch"), [Stage("rigid", "mi")])
    with pytest.raises(OptionError, match="ants has no tps stage; no engine has it"):
        check_stages(make_engine("ants"), [Stage("tps")])


def test_demons_need_slices_and_one_modality() -> None:
    demons = make_engine("simpleitk")
    check_slices(demons, [Stage("deformable")], 8, "scan")
    check_slices(demons, [Stage("rigid")], 1, "scan")
    with pytest.raises(
        GeometryError,
        match=r"^scan: 7 slice\(s\) .* deformable stage of simpleitk, which needs 8; engines that need fewer: torch$",
    ):
        check_slices(demons, [Stage("rigid"), Stage("deformable")], 7, "scan")
    check_modality(demons, [Stage("deformable")], True)
    # a metric that a user names is kept: what comes of it is the user's affair
    check_modality(demons, [Stage("deformable", "ssd"), Stage("tps"), Stage("affine")], False)
    with pytest.raises(
        OptionError,
        match=r"deformable stage of simpleitk .* different modalities; engines that can: torch, greedy$",
    ):
        check_modality(demons, [Stage("deformable")], False)
