"""The bundle folder of a run: a plan rendered into the config templates, and read back as data only.

::

    RUN/configs/plan.yaml        the plan, the only config that atlaseg reads back
    RUN/configs/cases.json       which files train and which validate
    RUN/configs/*.yaml           whole MONAI configs, rendered from the templates in ``configs``
    RUN/scripts/*.py             how files are read, for MONAI alone; atlaseg never imports them
    RUN/models/model.pt          weights
    RUN/models/checkpoint.pt     state of training, for resumption
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from atlaseg.pipeline.bundle_packages import package_entries, refuse_missing_packages
from atlaseg.pipeline.bundle_scripts import script_files
from atlaseg.pipeline.case import Case
from atlaseg.pipeline.errors import DatasetError, MissingFileError
from atlaseg.pipeline.expressions import quoted
from atlaseg.pipeline.io.files import write_text
from atlaseg.pipeline.networks.registry import build_network, network_config
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.planning.plan_file import load_plan, plan_to_dict, plan_to_yaml, save_plan

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "CONFIGS",
    "MadeFiles",
    "build_plan_network",
    "cases_text",
    "holds_another_run",
    "load_bundle_plan",
    "metadata_without_network",
    "network_component",
    "path_expression",
    "refresh_bundle",
    "render_bundle",
    "render_config",
    "template",
    "write_scripts",
]

#: Which templates make each config, in this order.
CONFIGS: dict[str, tuple[str, ...]] = {
    "train.yaml": ("common.yaml", "train.yaml"),
    "inference.yaml": ("common.yaml", "inference.yaml"),
    "evaluate.yaml": ("evaluate.yaml",),
    "multi_gpu_train.yaml": ("multi_gpu_train.yaml",),
}


class _Made(Protocol):
    """A case whose files were made in a run's folder."""

    @property
    def name(self) -> str: ...
    @property
    def images(self) -> tuple[Path, ...]: ...
    @property
    def label(self) -> Path: ...
    @property
    def prior(self) -> Path | None: ...


class _Warped(_Made, Protocol):
    """A training scan warped onto another, such as ``WarpedCase`` of ``atlases/network_training``."""

    @property
    def source(self) -> str: ...


class _Pseudo(_Made, Protocol):
    """A scan with labels that atlases gave it, such as ``PseudoCase`` of ``atlases/network_training``."""

    @property
    def certainty(self) -> float: ...


@dataclass(frozen=True)
class MadeFiles:
    """Files in a run's folder that were made from the training cases, to train with.

    Args:
        folder: of the run.
        priors: case name -> 4-D file of label probabilities.
        warped: training scans warped onto each other.
        unlabelled: scans with labels that atlases gave them.
        scans: folder in which the scans without labels lie.
    """

    folder: Path
    priors: Mapping[str, Path] = field(default_factory=dict)
    warped: Sequence[_Warped] = ()
    unlabelled: Sequence[_Pseudo] = ()
    scans: Path | None = None

    def relative(self, path: Path) -> str:
        """Path of a file that was made, as ``cases.json`` has it."""
        return path.resolve().relative_to(self.folder.resolve()).as_posix()

    def entry(self, case: _Made) -> dict[str, Any]:
        """A case as ``cases.json`` has it."""
        prior = {} if case.prior is None else {"prior": self.relative(case.prior)}
        return {"name": case.name, "label": self.relative(case.label), **prior}

    def warped_entry(self, case: _Warped) -> dict[str, Any]:
        """A warped case as ``cases.json`` has it."""
        images = [self.relative(path) for path in case.images]
        return {**self.entry(case), "source": case.source, "image": images}

    def unlabelled_entry(self, case: _Pseudo) -> dict[str, Any]:
        """A scan with labels by atlases as ``cases.json`` has it; the scan itself lies in the folder of scans."""
        images = [_inside(path, self.scans) for path in case.images]
        return {**self.entry(case), "certainty": case.certainty, "image": images}


def template(name: str) -> str:
    """Text of a file of ``configs``, found beside this package and not by its name on the search path."""
    path = Path(__file__).resolve().parent.parent / "configs" / name
    if not path.is_file():
        raise MissingFileError(f"{path}: the installation lacks its config templates; install atlaseg again")
    return path.read_text(encoding="utf-8")


def metadata_without_network(
    description: str, channels: Sequence[str], labels: Sequence[str], packages: Sequence[str]
) -> dict[str, Any]:
    """MONAI's ``metadata.json`` of a bundle that holds no network.

    Keys by https://docs.monai.io/en/stable/mb_specification.html.

    Args:
        description: one line.
        channels: names of the scans' channels.
        labels: names of the classes, background first.
        packages: that segmenting needs, besides MONAI, torch and NumPy.
    """
    content: dict[str, Any] = json.loads(template("metadata.json"))
    content["monai_version"] = version("monai")
    content["pytorch_version"] = version("torch").split("+")[0]
    content["numpy_version"] = version("numpy")
    content["required_packages_version"] = {name: version(name) for name in packages}
    content["description"] = f"{description}; no network: label scans with `atlaseg segment`"
    data = content["network_data_format"]
    for part, names in ((data["inputs"]["image"], channels), (data["outputs"]["pred"], labels)):
        part["spatial_shape"] = ["*", "*", "*"]
        part["is_patch_data"] = False
        part["num_channels"] = len(names)
        part["channel_def"] = {str(i): name for i, name in enumerate(names)}
    return content


def _ports(plan: Plan) -> dict[str, Any]:
    return {
        "spatial_dims": 3,
        "in_channels": plan.inputs,
        "out_channels": len(plan.labels),
        "patch_size": plan.patch_size,
    }


def network_component(plan: Plan) -> dict[str, Any]:
    """The plan's network as a MONAI bundle component."""
    return network_config(plan.network, **_ports(plan))


def build_plan_network(plan: Plan) -> nn.Module:
    """The plan's network, freshly initialised."""
    return build_network(plan.network, **_ports(plan))


def render_config(name: str, plan: Plan) -> str:
    """Render one complete config: plan and network as data, followed by the templates.

    Args:
        name: a key of :data:`CONFIGS`.
        plan: checked against its schema, so that nothing in it is an expression.
    """
    import yaml

    parts = [
        f"# Made by atlaseg {version('atlaseg')} from plan.yaml; do not edit this file, render it again.\n"
    ]
    if "common.yaml" in CONFIGS[name]:
        component = network_component(plan)
        content = {
            "label_values": list(plan.labels.values),
            "label_dtype": plan.labels.dtype.name,
            "network_def": component,
            "architecture": {key.strip("_"): str(value) for key, value in component.items()},
        }
        parts.extend(
            yaml.safe_dump(data, sort_keys=False, width=100, allow_unicode=True)
            for data in (content, {"plan": plan_to_dict(plan)})
        )
    parts.extend(template(part) for part in CONFIGS[name])
    return "\n".join(parts)


def path_expression(path: Path) -> str:
    """A path quoted so that MONAI's parser evaluates it to this path, whatever characters it contains."""
    return f"${quoted(str(path.resolve()))}"


def render_bundle(
    plan: Plan,
    folder: Path,
    training: Sequence[Case],
    validation: Sequence[Case],
    dataset_dir: Path,
    made: MadeFiles | None = None,
) -> None:
    """Write the ``configs`` of a bundle folder; each file is whole or not there, the plan comes last.

    Args:
        plan: to be rendered.
        folder: the run's folder.
        training: labelled cases to learn from.
        validation: labelled cases to score, none of them in ``training``.
        dataset_dir: folder of the data set; no file of the run says where it is.
        made: priors and warped scans, if the plan wants any.
    """
    configs = folder / "configs"
    _write_configs(plan, folder)
    write_text(configs / "cases.json", cases_text(training, validation, dataset_dir, made))
    save_plan(plan, configs / "plan.yaml")


def refresh_bundle(folder: Path) -> None:
    """Render the configs of a run again from its plan, so that resuming a run reads only data from its folder.

    Args:
        folder: of the run, which may come from someone else.

    Raises:
        PlanError, UnsafeModelError: see :func:`load_bundle_plan`.
    """
    _write_configs(load_bundle_plan(folder), folder)


def _write_configs(plan: Plan, folder: Path) -> None:
    configs = folder / "configs"
    for name in CONFIGS:
        write_text(configs / name, render_config(name, plan))
    write_text(configs / "logging.conf", template("logging.conf"))
    write_text(configs / "metadata.json", json.dumps(_metadata(plan), indent=2) + "\n")
    write_scripts(folder)


def write_scripts(folder: Path) -> None:
    """Write the run's copy of how atlaseg reads files, for MONAI alone."""
    for name, text in script_files().items():
        write_text(folder / "scripts" / name, text)


def holds_another_run(
    plan: Plan,
    folder: Path,
    training: Sequence[Case],
    validation: Sequence[Case],
    dataset_dir: Path,
    made: MadeFiles | None = None,
) -> bool:
    """Whether training has begun in a folder with another plan or other cases; arguments as above."""
    if not (folder / "models" / "checkpoint.pt").is_file():
        return False
    cases = folder / "configs" / "cases.json"
    return (
        not cases.is_file()
        or cases.read_text(encoding="utf-8") != cases_text(training, validation, dataset_dir, made)
        # without the reasons, whose wording may differ between versions
        or _values(load_bundle_plan(folder)) != _values(plan)
    )


def _values(plan: Plan) -> str:
    return plan_to_yaml(replace(plan, reasons={}))


def cases_text(
    training: Sequence[Case], validation: Sequence[Case], dataset_dir: Path, made: MadeFiles | None = None
) -> str:
    """Text of ``cases.json``; arguments as of :func:`render_bundle`."""
    cases = {
        "training": [_entry(case, dataset_dir, made) for case in training],
        "validation": [_entry(case, dataset_dir, made) for case in validation],
    }
    if made is not None and made.warped:
        cases["warped"] = [made.warped_entry(case) for case in made.warped]
    if made is not None and made.unlabelled:
        cases["unlabelled"] = [made.unlabelled_entry(case) for case in made.unlabelled]
    return json.dumps(cases, indent=1) + "\n"


def _entry(case: Case, dataset_dir: Path, made: MadeFiles | None) -> dict[str, Any]:
    if case.label is None:
        raise MissingFileError(f"case {case.name} has no label map; only labelled cases can train")
    entry = {
        "name": case.name,
        "image": [_inside(p, dataset_dir) for p in case.images],
        "label": _inside(case.label, dataset_dir),
    }
    if made is not None and case.name in made.priors:
        entry["prior"] = made.relative(made.priors[case.name])
    return entry


def _inside(path: Path, folder: Path | None) -> str:
    """A path as seen from a folder, which is all that a run keeps of it.

    Raises:
        DatasetError: it lies elsewhere.
    """
    whole, root = path.absolute(), (folder or path.parent).absolute()
    if not whole.is_relative_to(root):
        raise DatasetError(
            f"{path}: not in {root}; a run keeps no other paths, so give a folder that holds all files"
        )
    return whole.relative_to(root).as_posix()


def _metadata(plan: Plan) -> dict[str, Any]:
    """MONAI's ``metadata.json``: the template, filled in from the plan and the installed packages."""
    content: dict[str, Any] = json.loads(template("metadata.json"))
    content["monai_version"] = version("monai")
    content["pytorch_version"] = version("torch").split("+")[0]
    content["numpy_version"] = version("numpy")
    content.update(package_entries(plan))
    content["description"] = f"{plan.network.name} trained by atlaseg {version('atlaseg')} on {plan.dataset}"
    data = content["network_data_format"]
    image, prediction = data["inputs"]["image"], data["outputs"]["pred"]
    image["num_channels"] = plan.inputs
    image["spatial_shape"] = prediction["spatial_shape"] = list(plan.patch_size)
    prior = [f"prior of {name}" for name in plan.labels.names[: plan.prior_channels]]
    image["channel_def"] = {str(i): name for i, name in enumerate((*plan.channels, *prior))}
    prediction["num_channels"] = len(plan.labels)
    prediction["channel_def"] = {str(i): name for i, name in enumerate(plan.labels.names)}
    return content


def load_bundle_plan(folder: Path) -> Plan:
    """Plan of a bundle folder, checked; nothing else of the folder's configs is read.

    Raises:
        MissingFileError: the folder is not a run of atlaseg's.
        PlanError, UnsafeModelError: see :func:`atlaseg.pipeline.planning.plan_file.load_plan`.
        PackageError: its network comes from a package that is not installed.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder; give the folder that `atlaseg train` wrote")
    path = folder / "configs" / "plan.yaml"
    if not path.is_file():
        raise MissingFileError(f"{folder}: not a run of atlaseg train (it has no configs/plan.yaml)")
    plan = load_plan(path)
    refuse_missing_packages(folder, plan)
    return plan
