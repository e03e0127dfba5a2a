"""Plans as YAML: read against the schema, overridden by the user, written back.

A plan is **data only**. A string that MONAI's bundle parser would take for an expression, a reference or a
macro is refused, so that opening somebody else's model runs none of their code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pipeline.case import LabelTable
from pipeline.errors import LabelError, MissingFileError, PlanError, UnsafeModelError
from pipeline.files import write_text
from pipeline.plan import Plan

__all__ = [
    "build_checked",
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
            if isinstance(key, str) and key.startswith("_"):
                raise UnsafeModelError(f"plan: key {key!r} could name code to run; remove it")
            _refuse_expressions(item, f"{where}.{key}".strip("."))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _refuse_expressions(item, f"{where}[{i}]")
    elif isinstance(value, str) and (value.lstrip().startswith("$") or "@" in value or "%" in value):
        raise UnsafeModelError(
            f"plan: {where or 'a key'} holds {value!r}; $, @ and % could run code and are not allowed here"
        )


def build_checked(kind: type[Any], content: dict[str, Any], where: str, **given: Any) -> Any:
    """A dataclass from plain data, each field checked against its type hint.

    Args:
        kind: the dataclass.
        content: field name -> value, lists for tuples, mappings for nested dataclasses.
        where: name of the part, for messages.
        given: fields that are ready, whatever ``content`` says.

    Raises:
        PlanError: an unknown entry, a missing one, or a value of the wrong type.
    """
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(str(k) for k in content if k not in known):
        raise PlanError(
            f"{'.'.join(filter(None, [where, unknown[0]]))}: no such entry; known are {', '.join(known)}"
        )
    hints = typing.get_type_hints(kind)
    values = dict(given)
    for name, value in content.items():
        values[name] = _convert(hints[name], value, f"{where}.{name}".strip("."))
    required = [
        n
        for n, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in values
    ]
    if required:
        raise PlanError(f"{'.'.join(filter(None, [where, required[0]]))}: missing from the plan")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911 (one return per kind of type)
    """Value as the type that the schema states, or a :class:`PlanError` that says what was expected."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return build_checked(hint, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert_to_one_of([a for a in arguments if a is not type(None)], value, where)
    if origin is Literal and value in arguments:
        return value
    if origin is dict and isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return dict(value)
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(arguments) == len(value):
            pairs = zip(arguments, value, strict=True)
            return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(pairs))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise PlanError(f"{where}: expected a finite number, found {value!r}")
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise PlanError(f"{where}: expected {_describe(hint)}, found {value!r}")


def _convert_to_one_of(hints: list[Any], value: Any, where: str) -> Any:
    for hint in hints[:-1]:
        with contextlib.suppress(PlanError):
            return _convert(hint, value, where)
    return _convert(hints[-1], value, where)


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin is tuple:
        inner = _describe(arguments[0])
        return f"a list of {inner}" if arguments[-1] is Ellipsis else f"a list of {len(arguments)} x {inner}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
        hint, "a mapping"
    )


def override_plan(plan: Plan, overrides: typing.Sequence[str]) -> Plan:
    """Plan with values replaced by ``key=value`` texts, nested keys joined by dots, values in YAML.

    Raises:
        PlanError: a text is not ``key=value``, the key is not in the plan, or the value does not suit it.

    >>> from pipeline.plan import Plan
    >>> plan = Plan("demo", ("T1",), LabelTable.from_values([1]))
    >>> override_plan(plan, ["training.learning_rate=0.01", "patch_size=[32, 32, 16]"]).patch_size
    (32, 32, 16)
    """
    import yaml

    content = plan_to_dict(plan)
    for text in overrides:
        key, separator, raw = text.partition("=")
        if not separator:
            raise PlanError(f"override {text!r}: write it as key=value, such as training.learning_rate=0.01")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise PlanError(f"override {key}: {raw!r} is not a YAML value") from error
        if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text; users mean the number
            with contextlib.suppress(ValueError):
                value = float(value)
        *path, last = key.strip().split(".")
        target = content
        for part in path:
            target = target.get(part) if isinstance(target, dict) else None  # type: ignore[assignment]
        if not isinstance(target, dict) or last not in target:
            raise PlanError(f"override {key}: no such entry; see the plan's YAML for the names")
        before = target[last]
        target[last] = value
        planned = "" if isinstance(before, dict | str) else f" instead of {before}"
        content["reasons"][key.strip()] = f"set by the user{planned}"
    return plan_from_dict(content)


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
    import yaml

    if not path.is_file():
        raise MissingFileError(f"{path}: no such plan; make one with `atlaseg plan DATASET --out {path}`")
    try:
        text = path.read_text(encoding="utf-8")
        # aliases let a small file grow without bound, or hold itself
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise PlanError(f"{path}: anchors and aliases (& and *) are not allowed; write each value out")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    try:
        return plan_from_dict(content)
    except (PlanError, UnsafeModelError) as error:
        raise type(error)(f"{path}: {error}") from error
