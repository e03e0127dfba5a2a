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
            "the whole path on made scans: check, plan, train, segment, score",
            "atlaseg.workflows.demo:Demo",
        ),
        Row("check", "read a whole data set and say what is wrong with it", "atlaseg.workflows.check:Check"),
        Row("plan", "choose patch, network and training for a data set", "atlaseg.workflows.plan:MakePlan"),
        Row(
            "methods",
            "list all methods, or explain one of them and its options",
            "atlaseg.workflows.list_methods:ListMethods",
        ),
        Row(
            "train",
            "train a network, teach a classical method or put atlases together",
            "atlaseg.workflows.train:Train",
        ),
        Row(
            "segment",
            "label scans with networks, atlases or classical methods",
            "atlaseg.workflows.segment:Segment",
        ),
        Row("evaluate", "score label maps against references", "atlaseg.workflows.evaluate:Evaluate"),
        Row(
            "benchmark",
            "compare methods on the same folds: scores, tests, ranking, times",
            "atlaseg.workflows.benchmark:Benchmark",
        ),
        Row(
            "report",
            "show a benchmark as one HTML page that works offline",
            "atlaseg.workflows.report:Report",
        ),
        Row(
            "register",
            "find the transform between two scans, with a picture",
            "atlaseg.workflows.register:Register",
        ),
        Row("warp", "carry images, label maps or points through transforms", "atlaseg.workflows.warp:Warp"),
        Row("fuse", "make one label map out of several of the same scan", "atlaseg.workflows.fuse:Fuse"),
        Row(
            "build-atlas",
            "average labelled scans into a template with probability maps",
            "atlaseg.workflows.build_atlas:BuildAtlas",
        ),
        Row("phantom", "make labelled scans or shapes to try things on", "atlaseg.workflows.phantom:Phantom"),
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
            "time elastic augmentation beside MONAI's",
            "atlaseg.workflows.studies.augmentation_speed:AugmentationBenchmark",
            aliases=("benchmark-augmentation",),
        ),
        Row(
            "inference",
            "time and memory of labelling beside MONAI's",
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
            "time and Dice of label fusion beside ANTs and SimpleITK",
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
    """What ``atlaseg --help`` prints."""
    return "\n".join(
        [
            "usage: atlaseg COMMAND [options]",
            "",
            "Segment 3-D medical scans: networks and atlases made from your own labels, scored honestly.",
            "",
            "commands:",
            *_lines(COMMANDS),
            "",
            "atlaseg COMMAND --help explains one of them; atlaseg --version says which this is.",
        ]
    )


def overview_of_studies() -> str:
    """What ``atlaseg study`` prints."""
    return "\n".join(
        [
            "usage: atlaseg study NAME [options]",
            "",
            "Measurements for those who work on atlaseg itself.",
            "",
            "studies:",
            *_lines(STUDIES),
            "",
            "atlaseg study NAME --help explains one of them.",
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
