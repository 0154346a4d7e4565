"""YAML files and their groups of keys: every key known, and none missing that has no default."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from wm_bridge.errors import UserError

T = TypeVar("T")


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        OSError: it cannot be read. ValueError: it is not YAML; says where.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not YAML: {error}") from error


def read_value(word: str, of: str) -> Any:
    """Value of a setting KEY=VALUE, in YAML: a number, a word, a list.

    Args:
        of: KEY, for the message.

    Raises:
        UserError: it is not YAML.
    """
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError as error:
        raise UserError(f"{of}={word} is not YAML: {' '.join(str(error).split())}", "put a value with brackets or colons into quotes of its own", 2) from error


def read_group(cls: type[T], file: str, name: str, values: object, like: str) -> T:
    """Build the dataclass of one group from parsed YAML.

    Args:
        file, name: what the group is called in messages; ``name`` "" for the top of the file.
        values: the parsed group, or the dataclass already.
        like: where a whole group can be seen.

    Raises:
        ValueError: not a group, an unknown key (names the nearest), or a missing key.
    """
    if isinstance(values, cls):
        return values
    where, prefix = (name, f"{name}.") if name else ("the file", "")
    if not isinstance(values, Mapping):
        raise ValueError(f"{file}: {where} must be a group of keys, got {values!r}")
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    known = [field.name for field in fields]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise ValueError(f"{file}: unknown key '{prefix}{key}'; did you mean '{near[0]}'?")
    plain = dataclasses.MISSING
    missing = [f.name for f in fields if f.name not in values and f.default is plain and f.default_factory is plain]
    if missing:
        raise ValueError(f"{file}: {where} lacks {missing}; add them as in {like}")
    return cls(**values)
