"""Methods of a benchmark: ``METHOD:minutes=12,depth=context``, or a YAML file of them, into what the jobs take."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.io.files import read_yaml
from atlaseg.pipeline.options import at_commas, read_value, split_options
from atlaseg.pipeline.schema import convert
from atlaseg.workflows.methods.families import default_method, find_method

if TYPE_CHECKING:
    from atlaseg.workflows.methods.family import Family
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["Entry", "read_entries"]


@dataclass(frozen=True)
class Entry:
    """One method with its options, as it takes part.

    Args:
        name: as it was given, but for the folders of files; what tables call it.
        method: its name in :func:`atlaseg.workflows.methods.families.all_methods`.
        aliases: earlier names of the method.
        options: likewise.
        train: options of ``atlaseg train`` that follow from them.
        segment: options of ``atlaseg segment`` that follow from them.
    """

    name: str
    method: str
    aliases: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    segment: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """Of the method."""
        return find_method(self.method).family

    def job(self) -> TrainingJob:
        """Training as the options say, of no data set yet."""
        from atlaseg.workflows.methods.training_job import TrainingJob

        return TrainingJob.of(Path(), Path(), method=self.method, **self.train)

    def slugs(self, **decided: Any) -> list[str]:
        """Names that its folder may have; a new one gets the first, the others are those of earlier versions.

        Each is readable, and has a hash of all that changes the results, so that no two entries share one.

        Args:
            decided: by the benchmark, such as the seed.
        """
        return [self._slug(method, decided) for method in (self.method, *self.aliases)]

    def _slug(self, method: str, decided: dict[str, Any]) -> str:
        content = {"method": method, "train": self.train, "segment": self.segment, **decided}
        text = json.dumps(content, sort_keys=True, default=str)
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", _renamed(self.name, self.method, method)).strip("-.")[:60]
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_entries(words: Sequence[str], minutes: float | None = None) -> list[Entry]:
    """Methods from the words of a command line.

    Args:
        words: methods with their options, several joined by commas, or names of YAML files. A file holds a list of
            texts as here, or of mappings ``METHOD: {minutes: 12}``; a mapping may also name the method:
            ``{name: short, method: METHOD, minutes: 2}``.
        minutes: budget of networks that are given none of their own.

    Raises:
        OptionError: there is no such method or option, a value is not possible, or two methods have one name.

    >>> read_entries([default_method().name], minutes=5)[0].train
    {'minutes': 5.0}
    """
    given = [part for word in words for part in (_of_file(word) if _is_file(word) else split_methods(word))]
    entries = [_entry(name, method, options, minutes) for name, method, options in given]
    if not entries:
        raise OptionError(f"--methods names none; give some, such as --methods {default_method().name}")
    names = [entry.name for entry in entries]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(
            f"--methods: {repeated[0]} is named twice; name each once, or tell them apart by options"
        )
    return entries


def _is_file(word: str) -> bool:
    return word.lower().endswith((".yaml", ".yml"))


def split_methods(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, method and options of each method in a text.

    A part without ``=`` begins a method, one with ``=`` is a further option of the method before it. Commas inside
    brackets belong to a value.

    Raises:
        OptionError: an option comes before any method, or twice.
    """
    found: list[list[str]] = []
    for part in at_commas(text):
        if "=" in part.partition(":")[0]:
            if not found or ":" not in found[-1][0]:
                raise OptionError(
                    f"--methods {text}: {part!r} is an option, but of no method; write METHOD:NAME=VALUE,NAME=VALUE"
                )
            found[-1].append(part)
        elif part:
            found.append([part])
    return [_named(",".join(parts)) for parts in found]


def _named(name: str) -> tuple[str, str, dict[str, Any]]:
    method, colon, rest = name.partition(":")
    if colon and not rest:
        raise OptionError(
            f"method {name}: no option follows the colon; write METHOD:NAME=VALUE, or METHOD alone"
        )
    options: dict[str, Any] = dict(split_options(at_commas(rest) if rest else [], f"method {name}"))
    return name, method, options


def _of_file(word: str) -> list[tuple[str, str, dict[str, Any]]]:
    path = Path(word)
    if not path.is_file():
        raise OptionError(f"--methods {path}: no such file")
    content = read_yaml(path)
    if not isinstance(content, list):
        raise OptionError(f"{path}: expected a list of methods, found {type(content).__name__}")
    return [found for item in content for found in _of_item(item, path)]


def _of_item(item: Any, path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    if isinstance(item, str):
        return split_methods(item)
    if isinstance(item, dict) and isinstance(item.get("method"), str):
        options = {str(k): v for k, v in item.items() if k not in ("name", "method")}
        return [(str(item.get("name") or _name(item["method"], options)), item["method"], options)]
    if isinstance(item, dict) and len(item) == 1:
        (method, options), *_ = item.items()
        if isinstance(method, str) and isinstance(options, dict | None):
            plain = {str(k): v for k, v in (options or {}).items()}
            return [(_name(method, plain), method, plain)]
    raise OptionError(f"{path}: expected a method, or METHOD: {{NAME: VALUE}}, found {str(item)[:80]!r}")


def _name(method: str, options: Mapping[str, Any]) -> str:
    said = ",".join(f"{name}={value}" for name, value in options.items())
    return f"{method}:{said}" if said else method


def _entry(name: str, method: str, options: dict[str, Any], minutes: float | None) -> Entry:
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.option_groups import marked, option_types
    from atlaseg.workflows.methods.training_job import TrainingJob

    found = find_method(method)
    name, family = _renamed(name, method, found.name), found.family
    decided = {"free", "benchmark_decides"}
    takes = {
        stage: [option for option in taken if not any(option in marked(job, mark) for mark in decided)]
        for stage, job, taken in (
            ("train", TrainingJob, (*family.training, "seed")),
            ("segment", LabellingJob, family.labelling),
        )
    }
    types = {"train": option_types(TrainingJob), "segment": option_types(LabellingJob)}
    late = marked(LabellingJob, "late")
    split: dict[str, dict[str, Any]] = {"train": {}, "segment": {}}
    free: list[str] = []
    for option, value in options.items():
        stages = ("segment", "train") if option in late else ("train", "segment")
        stage = next((stage for stage in stages if option in takes[stage] and option != "option"), None)
        if stage is not None:
            split[stage][option] = _typed(types[stage][option], option, value, name)
        elif "option" in takes["train"]:
            free.append(f"{option}={value}")
        else:
            known = dict.fromkeys((*takes["train"], *takes["segment"]))
            raise OptionError(f"method {name}: no option {option!r}; {found.name} takes {', '.join(known)}")
    if free:
        split["train"]["option"] = tuple(free)
    if minutes is not None:
        split["train"] = family.with_minutes(split["train"], float(minutes))
    for option, value in {**split["train"], **split["segment"]}.items():
        if isinstance(value, Path):
            # tables and pages are passed on: they name a file, not where it lies
            name = name.replace(str(options[option]), value.name)
            options = {**options, option: value.name}
    entry = Entry(name, found.name, found.aliases, options, split["train"], split["segment"])
    family.check(entry.job(), found)  # refuses now what would otherwise be refused in every fold
    return entry


def _renamed(name: str, method: str, other: str) -> str:
    """The name of an entry with another name of its method, if it begins with that."""
    return other + name[len(method) :] if name == method or name.startswith(f"{method}:") else name


def _typed(hint: Any, option: str, value: Any, name: str) -> Any:
    """A value as an option's type wants it, from text or from YAML; several texts are joined by semicolons."""
    kinds = get_args(hint) or (hint,)
    if Path in kinds:
        return Path(str(value)).resolve()
    words = {word for kind in (hint, *kinds) if get_origin(kind) is Literal for word in get_args(kind)}
    if isinstance(value, bool) and words >= {"yes", "no"}:
        value = "yes" if value else "no"  # YAML reads the words so
    where = f"method {name}: option {option}"
    if isinstance(value, str):
        return read_value(value.replace(";", ",") if get_origin(hint) is tuple else value, hint, where)
    try:
        return convert(hint, value, where)
    except PlanError as error:
        raise OptionError(str(error)) from error
