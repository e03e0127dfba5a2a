"""The table of commands: what ``atlaseg NAME`` runs. Each is one job, a dataclass whose fields are its options.

An installed package adds a command by an entry point of the group ``atlaseg.commands`` that names its row.
"""

from __future__ import annotations

from atlaseg.pipeline.registry import Registry, Row

__all__ = ["COMMANDS", "STUDIES", "overview", "overview_of_studies"]

COMMANDS: Registry[Row] = Registry(
    "command",
    Row,
    (
        Row(
            "demo",
            "the complete workflow on synthetic scans: check, plan, train, segment, evaluate",
            "atlaseg.workflows.demo:Demo",
        ),
        Row("check", "read a whole data set and list its problems", "atlaseg.workflows.check:Check"),
        Row(
            "plan", "plan patch size, network and training for a data set", "atlaseg.workflows.plan:MakePlan"
        ),
        Row(
            "methods",
            "list all methods, or describe one of them and its options",
            "atlaseg.workflows.list_methods:ListMethods",
        ),
        Row(
            "train",
            "train a network or a classical method, or prepare atlases",
            "atlaseg.workflows.train:Train",
        ),
        Row(
            "segment",
            "segment scans with networks, atlases or classical methods",
            "atlaseg.workflows.segment:Segment",
        ),
        Row(
            "evaluate",
            "compare label maps with reference segmentations",
            "atlaseg.workflows.evaluate:Evaluate",
        ),
        Row(
            "benchmark",
            "compare methods by cross-validation: scores, tests, ranking, times",
            "atlaseg.workflows.benchmark:Benchmark",
        ),
        Row(
            "report",
            "write a benchmark as one HTML page that works offline",
            "atlaseg.workflows.report:Report",
        ),
        Row(
            "register",
            "register two scans",
            "atlaseg.workflows.register:Register",
        ),
        Row("warp", "apply transforms to images, label maps or points", "atlaseg.workflows.warp:Warp"),
        Row("fuse", "fuse several label maps of the same scan", "atlaseg.workflows.fuse:Fuse"),
        Row(
            "build-atlas",
            "build a template with probability maps from labelled scans",
            "atlaseg.workflows.build_atlas:BuildAtlas",
        ),
        Row("phantom", "make a synthetic data set", "atlaseg.workflows.phantom:Phantom"),
    ),
    group="atlaseg.commands",
)

#: What only those run who work on atlaseg: ``atlaseg study NAME``. The aliases were commands of version 0.1.
STUDIES: Registry[Row] = Registry(
    "study",
    Row,
    (
        Row(
            "depth",
            "compare network depths on simple shapes",
            "atlaseg.workflows.studies.network_depth:DepthExperiment",
            aliases=("experiment-depth",),
        ),
        Row(
            "augmentation",
            "time of elastic augmentation compared with MONAI's",
            "atlaseg.workflows.studies.augmentation_speed:AugmentationBenchmark",
            aliases=("benchmark-augmentation",),
        ),
        Row(
            "inference",
            "time and memory of inference compared with MONAI's",
            "atlaseg.workflows.studies.inference_speed:InferenceBenchmark",
            aliases=("benchmark-inference",),
        ),
        Row(
            "atlases",
            "Dice and time of registrations and fusion rules",
            "atlaseg.workflows.studies.atlas_methods:AtlasBenchmark",
            aliases=("benchmark-atlases",),
        ),
        Row(
            "classical",
            "Dice, time and memory of the classical methods",
            "atlaseg.workflows.studies.classical_methods:ClassicalBenchmark",
            aliases=("benchmark-classical",),
        ),
        Row(
            "fusion",
            "time and Dice of label fusion compared with ANTs and SimpleITK",
            "atlaseg.workflows.studies.fusion_rules:FusionBenchmark",
            aliases=("benchmark-fusion",),
        ),
        Row(
            "memory",
            "estimated and measured memory of training",
            "atlaseg.workflows.studies.memory_estimate:MemoryBenchmark",
            aliases=("benchmark-memory",),
        ),
    ),
    group="atlaseg.studies",
)


def overview() -> str:
    """Text of ``atlaseg --help``."""
    return "\n".join(
        [
            "usage: atlaseg COMMAND [options]",
            "",
            "Segment 3-D medical scans with networks, atlases and classical methods trained on your own labels.",
            "",
            "commands:",
            *_lines(COMMANDS),
            "",
            "atlaseg COMMAND --help describes a command; atlaseg --version prints the version.",
        ]
    )


def overview_of_studies() -> str:
    """Text of ``atlaseg study``."""
    return "\n".join(
        [
            "usage: atlaseg study NAME [options]",
            "",
            "Measurements for developers of atlaseg.",
            "",
            "studies:",
            *_lines(STUDIES),
            "",
            "atlaseg study NAME --help describes a study.",
        ]
    )


def _lines(table: Registry[Row]) -> list[str]:
    """Name and summary of each, also of those that packages add, unless they are broken."""
    from atlaseg.pipeline.errors import PackageError

    width, lines = max(map(len, table.names())), []
    for name in table.names():
        try:
            summary = table.find(name).summary
        except PackageError as error:
            summary = f"cannot be used: {error}"
        lines.append(f"  {name:<{width}}  {summary}")
    return lines
