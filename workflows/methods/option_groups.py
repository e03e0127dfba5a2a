"""Jobs whose options stand in groups, one dataclass each: the groups opened into plain names, and filled from them.

A job (``atlaseg train``, ``atlaseg segment``) is a dataclass; a field of it that is a dataclass itself is a group. On
the command line a group is a panel of its own and its options have their plain names, so that no two fields of a job
and its groups may have one name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

__all__ = ["default_values", "fill", "groups_of", "marked", "names_in", "option_types", "values_of"]

J = TypeVar("J")


def names_in(group: type) -> tuple[str, ...]:
    """Names of the options of a group."""
    return tuple(field.name for field in fields(group))


def groups_of(job: type) -> dict[str, type]:
    """The groups of a job by the name of their field."""
    hints = get_type_hints(job)
    return {field.name: hints[field.name] for field in fields(job) if is_dataclass(hints[field.name])}


def marked(job: type, mark: str) -> set[str]:
    """Names of the options that a job and its groups list in a class variable of theirs."""
    return {name for owner in (job, *groups_of(job).values()) for name in getattr(owner, mark, ())}


def values_of(job: Any) -> dict[str, Any]:
    """Every option of a job with its value, the groups opened."""
    found: dict[str, Any] = {}
    for field in fields(job):
        value = getattr(job, field.name)
        found.update(values_of(value) if is_dataclass(value) else {field.name: value})
    return found


def default_values(job: type) -> dict[str, Any]:
    """Every option of a job that has a default, with it."""
    return {field.name: field.default for _, field in _options(job) if field.default is not MISSING}


def option_types(job: type) -> dict[str, Any]:
    """Type of every option of a job, ranges included."""
    return {
        field.name: get_type_hints(owner, include_extras=True)[field.name] for owner, field in _options(job)
    }


def fill(job: type[J], *positional: Any, **options: Any) -> J:
    """A job from plain names of options, whatever groups they stand in.

    Args:
        job: its class.
        positional: its first fields.
        options: the others, by their plain names; a whole group may be given by the name of its field.

    Raises:
        TypeError: the job has no such option.
    """
    own: dict[str, Any] = {}
    groups = groups_of(job)
    owners = {name: field for field, group in groups.items() for name in names_in(group)}
    inside: dict[str, dict[str, Any]] = {}
    for name, value in options.items():
        if name in owners:
            inside.setdefault(owners[name], {})[name] = value
        else:
            own[name] = value
    for field, given in inside.items():
        own[field] = replace(own.get(field, groups[field]()), **given)
    return job(*positional, **own)


def _options(job: type) -> Iterator[tuple[type, Field[Any]]]:
    """Every option with the class that it is a field of."""
    groups = groups_of(job)
    for field in fields(job):
        if field.name in groups:
            yield from _options(groups[field.name])
        else:
            yield job, field
