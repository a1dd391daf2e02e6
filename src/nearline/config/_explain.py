"""What is wrong with a file, in words: where it is, what would be allowed there, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

_PATH = re.compile(r"(?P<problem>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(?P<field>\w+)|\[(?P<index>\d+)\]|\[\.\.\.\]")
_WORDS = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "a table", "null": "nothing",
}  # fmt: skip
_NAMED = re.compile(r"(?:field|value) [`'](?P<name>.*)[`']$")


def explain(error: msgspec.ValidationError, document: Any, root: type[msgspec.Struct]) -> str:
    """One sentence: the place in the file, the problem, the allowed values, and a suggestion.

    Parameters
    ----------
    document
        What the file holds, as plain dicts and lists.
    root
        The struct that `document` was converted to.
    """
    found = _PATH.fullmatch(str(error))
    assert found is not None
    place, types, value = _follow(found["path"] or "", document, [root])
    return f"{_place(place, ' field ' in found['problem'])}{_problem(found['problem'], types, value)}"


def explain_value(error: msgspec.ValidationError, value: Any, hint: Any) -> str:
    """As `explain`, of one value that was to be of a type.

    >>> try:
    ...     msgspec.convert(3, Literal["line", "cells"])
    ... except msgspec.ValidationError as error:
    ...     print(explain_value(error, 3, Literal["line", "cells"]))
    expected a string, got an integer
    """
    found = _PATH.fullmatch(str(error))
    assert found is not None
    return _problem(found["problem"], list(_parts(hint)), value)


def _follow(path: str, value: Any, types: list[Any]) -> tuple[list[str | int], list[Any], Any]:
    """Walk a path such as ``.random[1].prior``: the names on the way, and the types and the value it ends at."""
    place: list[str | int] = []
    for step in _STEP.finditer(path):
        if step["field"] is not None:
            place.append(step["field"])
            types = [hint for kind in types for hint in _field(kind, step["field"])]
        else:
            types = [hint for kind in types for hint in _items(kind)]
            place.append(int(step["index"]) if step["index"] is not None else _culprit(value, types))
        value = value.get(place[-1]) if isinstance(value, dict) else value[place[-1]]
    return place, [hint for kind in types for hint in _parts(kind)], value


def _culprit(table: dict[str, Any], types: list[Any]) -> str:
    """The key whose value is refused: a path says only that it is one of the table's."""
    return next(key for key, value in table.items() if not any(_suits(value, hint) for hint in types))


def _suits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _parts(hint: Any) -> Iterator[Any]:
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _parts(part)
    elif get_origin(hint) is Annotated:
        yield from _parts(get_args(hint)[0])
    else:
        yield hint


def _field(hint: Any, name: str) -> list[Any]:
    structs = [part for part in _structs(_parts(hint)) if name in _names(part)]
    return [
        Literal[part.__struct_config__.tag] if part.__struct_config__.tag_field == name else get_type_hints(part)[name]
        for part in structs
    ]


def _items(hint: Any) -> list[Any]:
    containers = [part for part in _parts(hint) if get_origin(part) in (dict, tuple, list)]
    return [get_args(part)[1 if get_origin(part) is dict else 0] for part in containers]


def _structs(types: Iterable[Any]) -> list[type[msgspec.Struct]]:
    return [part for part in types if isinstance(part, type) and issubclass(part, msgspec.Struct)]


def _names(struct: type[msgspec.Struct]) -> list[str]:
    tag = struct.__struct_config__.tag_field
    return ([tag] if tag else []) + [field.encode_name for field in msgspec.structs.fields(struct)]


def _place(steps: list[str | int], table: bool) -> str:
    """Where in the file, in TOML's own form: ``[model] link: `` or ``[[random]] number 2, prior.mean: ``.

    `table` says that the problem is with a whole table rather than with a value in it.
    """
    numbers = [n for n, step in enumerate(steps) if isinstance(step, int)]
    if not steps:
        return ""
    if not numbers:
        cut = len(steps) if table or len(steps) == 1 else -1
        return f"[{_dotted(steps[:cut])}]{' ' if steps[cut:] else ''}{_dotted(steps[cut:])}: "
    cut = numbers[0]
    rest = f", {_dotted(steps[cut + 1 :])}" if steps[cut + 1 :] else ""
    return f"[[{_dotted(steps[:cut])}]] number {int(steps[cut]) + 1}{rest}: "


def _dotted(steps: list[str | int]) -> str:
    return ".".join(str(step) for step in steps)


def _problem(problem: str, types: list[Any], value: Any) -> str:
    named = _NAMED.search(problem)
    name = named["name"] if named else ""
    if "unknown field" in problem:
        fields = sorted({field for struct in _of_kind(types, value) for field in _names(struct)})
        return f"there is no {name!r} here; {suggestion(name, fields)}"
    if "required field" in problem:
        return f"{name!r} is missing{_tags(name, types)}"
    allowed = [choice for part in types if get_origin(part) is Literal for choice in get_args(part)]
    if named and allowed:
        return f"{name!r} is not allowed; {suggestion(name, allowed)}"
    words = re.sub(r"`([\w |]+)`", lambda types: in_words(types[1]), problem)
    return words[:1].lower() + words[1:]


def in_words(types: str) -> str:
    """What a file calls a type.

    >>> in_words("str | array | null")
    'a string or a list'
    """
    names = [name for name in types.split(" | ") if name != "null"] or ["null"]
    return " or ".join(_WORDS.get(name, name) for name in names)


def _of_kind(types: list[Any], value: Any) -> list[type[msgspec.Struct]]:
    """The structs that may be meant; among tagged ones the one that the value's tag names."""
    structs = _structs(types)
    kind = value.get("kind") if isinstance(value, dict) else None
    return [struct for struct in structs if struct.__struct_config__.tag == kind] or structs


def _tags(name: str, types: list[Any]) -> str:
    tags = [str(s.__struct_config__.tag) for s in _structs(types) if s.__struct_config__.tag_field == name]
    return f"; it is one of {listed(tags)}" if tags else ""


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """What was probably meant, and all there is.

    >>> suggestion("lnk", ["link", "mode"])
    "did you mean 'link'? It is one of 'link', 'mode'"
    >>> suggestion("colour", ["link", "mode"])
    "it is one of 'link', 'mode'"
    """
    choices = sorted(allowed)
    near = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {near[0]!r}? It is one of {listed(choices)}" if near else f"it is one of {listed(choices)}"


def listed(names: Iterable[str]) -> str:
    """``'a', 'b'``, quoted and in order."""
    return ", ".join(repr(name) for name in names)
