"""The registration engines by name, and what each needs to be installed.

To add an engine:

1. write a class in a file of this folder, with ``name``, ``kinds``, ``metrics``, ``facts`` and ``register``
   (:class:`atlaseg.atlases.registration.engine.RegistrationEngine`);
2. add its row to :data:`ENGINES` below;
3. add its kinds to ``tests/contracts/test_engine.py``, which then runs it on known warps.

An installed package adds one by an entry point of the group ``atlaseg.engines`` that names an :class:`EngineRow`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from atlaseg.atlases.registration.engine_facts import facts_of
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.registry import Registry, Row

if TYPE_CHECKING:
    from atlaseg.atlases.registration.engine import RegistrationEngine

__all__ = ["ENGINES", "EngineRow", "is_installed", "make_engine", "versions_behind"]


@dataclass(frozen=True)
class EngineRow(Row):
    """An engine and the library behind it.

    Args:
        module: whose presence shows that the library is installed; empty: it always is.
        distribution: of the library, whose version changes what the engine finds; empty: that of the row's package.
        install: what ``pip install`` takes, where it is not the distribution.
    """

    module: str = field(default="", kw_only=True)
    distribution: str = field(default="", kw_only=True)
    install: str = field(default="", kw_only=True)


_HERE = "atlaseg.atlases.registration.engines"

ENGINES = Registry(
    "registration engine",
    EngineRow,
    [
        EngineRow(
            "elastix",
            "linear and B-spline transforms by adaptive stochastic gradient descent",
            f"{_HERE}.elastix.elastix_engine:ElastixEngine",
            source="Klein et al. 2010, doi:10.1109/TMI.2009.2035616",
            module="itk",
            distribution="itk-elastix",
        ),
        EngineRow(
            "ants",
            "linear transforms, and symmetric diffeomorphic ones (SyN)",
            f"{_HERE}.ants:AntsEngine",
            source="Avants et al. 2008, doi:10.1016/j.media.2007.06.004",
            module="ants",
            distribution="antspyx",
        ),
        EngineRow(
            "simpleitk",
            "linear and B-spline transforms by ITK's own framework, dense ones by diffeomorphic demons",
            f"{_HERE}.simpleitk:SimpleItkEngine",
            source="Vercauteren et al. 2009, doi:10.1016/j.neuroimage.2008.10.040",
            module="SimpleITK",
            distribution="SimpleITK",
        ),
        EngineRow(
            "torch",
            "linear and dense transforms by atlaseg's own algorithm, on a CPU or a GPU",
            f"{_HERE}.torch.torch_engine:TorchEngine",
            source="docs/decisions/0012-a-dense-engine-of-our-own.md",
            module="torch",
            distribution="torch",
        ),
        EngineRow(
            "greedy",
            "linear and dense transforms by many small diffeomorphic steps",
            f"{_HERE}.greedy:GreedyEngine",
            source="Yushkevich et al. 2016, doi:10.1016/j.jalz.2016.06.205",
            module="picsl_greedy",
            distribution="picsl_greedy",
            install="atlaseg[greedy]",
        ),
    ],
    group="atlaseg.engines",
)


def is_installed(name: str) -> bool:
    """Whether the library of an engine is there.

    Raises:
        OptionError: there is no such engine.
    """
    row = ENGINES.find(name)
    return not row.module or find_spec(row.module) is not None


def make_engine(name: str) -> RegistrationEngine:
    """Engine by name.

    Raises:
        OptionError: there is no such engine, or its library is not installed.
        PackageError: the package that adds it is broken.
    """
    row = ENGINES.find(name)
    if not is_installed(name):
        raise OptionError(
            f"engine {name} needs a library that is not installed: pip install '{row.install or row.distribution}'"
        )
    engine: RegistrationEngine = row.load()()
    return engine


def versions_behind(name: str) -> dict[str, str]:
    """Versions of all that an engine's results follow from: its library, and its own algorithm where it has one.

    Raises:
        OptionError, PackageError: as :func:`make_engine`; but the library need not be there.
    """
    row = ENGINES.find(name)
    found = {}
    if row.distribution:
        try:
            found[row.distribution] = version(row.distribution)
        except PackageNotFoundError:
            found[row.distribution] = "unknown"
    if row.package:
        found[f"package of {name}"] = row.package
    revision = facts_of(row.load()).revision
    if revision is not None:
        found[f"engine {name}"] = str(revision)
    return found
