"""Plans as YAML: read against the schema, overridden by the user, written back.

A plan is **data only**. A string that MONAI's bundle parser would take for an expression, a reference or a
macro is refused, so that opening a model from elsewhere runs none of its code.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import (
    LabelError,
    MissingFileError,
    OptionError,
    PlanError,
    UnreadableFileError,
    UnsafeModelError,
)
from atlaseg.pipeline.expressions import is_expression, is_key_of_code
from atlaseg.pipeline.io.files import read_yaml, write_text
from atlaseg.pipeline.options import read_value, split_option
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.schema import build_checked

__all__ = [
    "load_plan",
    "override_plan",
    "plan_from_dict",
    "plan_to_dict",
    "plan_to_yaml",
    "save_plan",
]


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Plan as nested dicts, lists and scalars, ready for YAML."""
    result: dict[str, Any] = _plain(dataclasses.asdict(plan))
    result["labels"] = dict(zip(plan.labels.names, plan.labels.values, strict=True))
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def plan_from_dict(content: Any) -> Plan:
    """Plan from nested dicts and lists, checked against the schema.

    Raises:
        UnsafeModelError: a string or key that a bundle parser could run.
        PlanError: an unknown key, a missing one, or a value of the wrong type.
    """
    if not isinstance(content, dict):
        raise PlanError(f"a plan is a mapping of names to values, found {type(content).__name__}")
    _refuse_expressions(content, "")
    content = dict(content)
    labels = content.pop("labels", None)
    if not isinstance(labels, dict) or not all(
        isinstance(v, int) and not isinstance(v, bool) and isinstance(k, str) for k, v in labels.items()
    ):
        raise PlanError("labels: expected a mapping of structure names to whole numbers")
    try:
        table = LabelTable.from_names(labels)
    except LabelError as error:
        raise PlanError(f"labels: {error}") from error
    return build_checked(Plan, content, "", labels=table)


def _refuse_expressions(value: Any, where: str) -> None:
    """Refuse strings that ``monai.bundle`` evaluates (``$``), resolves (``@``) or includes (``%``)."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_expressions(key, f"{where}.{key}".strip("."))
            if isinstance(key, str) and is_key_of_code(key):
                raise UnsafeModelError(f"plan: key {key!r} could name code to run; remove it")
            _refuse_expressions(item, f"{where}.{key}".strip("."))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse_expressions(item, f"{where}[{i}]")
    elif isinstance(value, str) and is_expression(value):
        raise UnsafeModelError(
            f"plan: {where or 'a key'} holds {value!r}; $, @ and % could run code and are not allowed here"
        )


def override_plan(plan: Plan, overrides: typing.Sequence[str]) -> Plan:
    """Plan with values replaced by ``key=value`` texts, nested keys joined by dots; see
    :mod:`atlaseg.pipeline.options`.

    Of two texts with one key the later counts.

    Raises:
        PlanError: a text is not ``key=value``, the key is not in the plan, or the value does not suit it.
        UnsafeModelError: a value that a bundle parser could run.

    >>> from atlaseg.pipeline.planning.plan import Plan
    >>> plan = Plan("demo", ("T1",), LabelTable.from_values([1]))
    >>> override_plan(plan, ["training.learning_rate=1e-2", "patch_size=[32, 32, 16]"]).patch_size
    (32, 32, 16)
    """
    content = plan_to_dict(plan)
    try:
        for word in overrides:
            key, text = split_option(word, "a plan (such as training.learning_rate=0.01)")
            hint = _hint_of(content, key)
            *path, last = _path(key)
            target = content
            for part in path:
                target = target[part]
            before = target[last]
            target[last] = _plain(read_value(text, hint, f"override {key}"))
            planned = "" if isinstance(before, str) else f" instead of {before}"
            content["reasons"][key] = f"set by the user{planned}"
    except OptionError as error:
        raise PlanError(str(error)) from error
    return plan_from_dict(content)


def _path(key: str) -> list[str]:
    """Parts of a key; names of structures may hold dots."""
    return key.split(".", 1) if key.startswith("labels.") else key.split(".")


def _hint_of(content: dict[str, Any], key: str) -> Any:
    """Type of an entry of a plan.

    Raises:
        PlanError: there is no such entry, or it holds others, which are set one by one.
    """
    head, *rest = _path(key)
    if head == "labels" and rest and rest[0] in content["labels"]:
        return int
    kind: Any = Plan
    for part in (head, *rest):
        hints = typing.get_type_hints(kind, include_extras=True) if dataclasses.is_dataclass(kind) else {}
        if part not in hints or head == "reasons":
            raise PlanError(f"override {key}: no such entry; see the plan's YAML for the names")
        kind = hints[part]
    if dataclasses.is_dataclass(kind):
        raise PlanError(f"override {key}: set its entries one by one, such as {key}.NAME=VALUE")
    return kind


def save_plan(plan: Plan, path: Path) -> None:
    """Write the plan as YAML, whole or not at all."""
    write_text(path, plan_to_yaml(plan))


def plan_to_yaml(plan: Plan) -> str:
    """The plan as YAML text: each value below the reason for it, as a comment; then the reasons as data."""
    content = plan_to_dict(plan)
    reasons = content.pop("reasons")
    body = "\n".join(_with_comments(_yaml(content, width=sys.maxsize), reasons))
    end = "# The reasons once more, for programs.\n" if reasons else ""
    return f"{_HEADING}{body}\n{end}{_yaml({'reasons': reasons}, width=_WIDTH)}"


_WIDTH = 100
_HEADING = """\
# How this data set is prepared and the network trained. Each value may be changed by hand or on the command
# line with --override key=value, nested keys joined by dots. Lengths are in mm, patches in voxels.
"""


def _yaml(content: dict[str, Any], width: int) -> str:
    """YAML with lists on one line and everything else as a block."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, _: Any) -> bool:
            return True  # a plan that is read must not hold any

    def sequence(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
        return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)

    Dumper.add_representer(list, sequence)
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, width=width, allow_unicode=True)


def _with_comments(text: str, reasons: dict[str, str]) -> Iterator[str]:
    """Lines of block YAML (one key a line), each after the reason for its key."""
    path: list[str] = []
    for line in text.splitlines():
        found = re.match(r"( *)(\w+):", line)
        if found:
            indent = found[1]
            path[len(indent) // 2 :] = [found[2]]
            reason = " ".join(reasons.get(".".join(path), "").split())
            yield from textwrap.wrap(
                reason,
                _WIDTH,
                initial_indent=f"{indent}# ",
                subsequent_indent=f"{indent}# ",
                break_on_hyphens=False,
            )
        yield line


def load_plan(path: Path) -> Plan:
    """Read a plan and check it.

    Raises:
        MissingFileError: there is no such file.
        PlanError: it does not follow the schema.
        UnsafeModelError: it holds something that a bundle parser could run.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such plan; make one with `atlaseg plan DATASET --out {path}`")
    try:
        content = read_yaml(path)
    except UnreadableFileError as error:
        raise PlanError(str(error)) from error
    try:
        return plan_from_dict(content)
    except (PlanError, UnsafeModelError) as error:
        raise type(error)(f"{path}: {error}") from error
