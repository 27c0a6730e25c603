"""Change values in the text of a YAML file by ruamel.yaml: comments, order, anchors and the form of others stay."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

KeyPath = tuple[str, ...]  # keys from the top of a file
_TUNED = "tuned, see the top of this file; before: "
_GAP = 3  # spaces before a new comment
_EOL = 2  # place of the comment behind a value in ruamel.yaml's list of comments
# ruamel.yaml puts the comment behind an anchor or an alias on a line of its own.
_BELOW_ANCHOR = re.compile(r"^(.*[\s-][&*][\w-]+)\n( {8,})(?=#)", re.MULTILINE)


def edited(text: str, changes: Mapping[KeyPath, Any]) -> str:
    """The text with these values in place of its own, each with a comment that says what stood there before.

    A value that is not there is added as the first of its mapping. Where a place is an alias, or comes from a merge
    (`<<`), its content is written out first, so that the places which share it keep their values.

    Raises:
        ValueError: a place leads through something that is not a mapping.
    """
    document = _yaml().load(text)
    for key_path, value in changes.items():
        _set(document, key_path, value, _TUNED)
    return _dumped(document)


def renamed(text: str, name: str, note: str, header: str) -> str:
    """The text of a profile under another name, with a header of comment lines."""
    document = _yaml().load(text)
    for key, value in (("name", name), ("note", note)):
        _set(document, (key,), value, "")
    return "".join(f"# {line}\n" for line in header.splitlines()) + "#\n" + _dumped(document)


def _yaml() -> YAML:
    tool = YAML()
    tool.preserve_quotes = True
    tool.width = 10**6
    tool.indent(mapping=2, sequence=4, offset=2)
    tool.representer.add_representer(type(None), _null)
    return tool


def _null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _dumped(document: Any) -> str:
    text = io.StringIO()
    _yaml().dump(document, text)
    return _BELOW_ANCHOR.sub(lambda match: match[1].ljust(max(len(match[1]) + 1, len(match[2]))), text.getvalue())


def _set(document: CommentedMap, key_path: KeyPath, value: Any, comment: str) -> None:
    definitions = dict(_first_key_paths(document))
    holder = document
    for depth, key in enumerate(key_path[:-1]):
        holder = _local_mapping(holder, key, definitions, key_path[: depth + 1])
    key = key_path[-1]
    before = _form(holder[key]) if _has_own(holder, key) else "not in this file"
    if _has_own(holder, key):
        holder[key] = _as_written(value)
    else:
        holder.insert(0, key, _as_written(value))
    if comment and not holder.fa.flow_style():  # within {...} a comment would end the line for what follows
        _set_comment(holder, key, comment + before)


def _local_mapping(
    holder: CommentedMap, key: str, definitions: Mapping[int, KeyPath], key_path: KeyPath
) -> CommentedMap:
    """The mapping below `key`, one that no other place shares unless it is defined here."""
    content = holder.get(key)
    if content is not None and not isinstance(content, CommentedMap):
        raise ValueError(f"expected a mapping at {'.'.join(key_path)}, found {content!r}")
    if _has_own(holder, key) and content is not None and definitions.get(id(content)) == key_path:
        return content
    copy: CommentedMap = _written_out(content if content is not None else {})
    if _has_own(holder, key):
        holder[key] = copy
        if content is not None and key in holder.ca.items:
            holder.ca.items[key][_EOL] = None  # ruamel.yaml repeats the anchor's comment at its aliases
    else:
        holder.insert(0, key, copy)
        if not holder.fa.flow_style():
            _set_comment(holder, key, f"{_TUNED}not in this file")
    return copy


def _has_own(holder: CommentedMap, key: str) -> bool:
    """Whether a mapping has a key itself, not through `<<`."""
    return key in [own for own, _ in holder.non_merged_items()]


def _first_key_paths(node: Any, key_path: KeyPath = ()) -> Iterator[tuple[int, KeyPath]]:
    """The place of every mapping where it is defined; at its later places it is an alias."""
    seen: set[int] = set()

    def walk(node: Any, key_path: KeyPath) -> Iterator[tuple[int, KeyPath]]:
        if isinstance(node, (CommentedMap, CommentedSeq)) and id(node) not in seen:
            seen.add(id(node))
            yield id(node), key_path
            items = node.non_merged_items() if isinstance(node, CommentedMap) else enumerate(node)
            for key, part in items:
                yield from walk(part, (*key_path, str(key)))

    yield from walk(node, key_path)


def _written_out(node: Any) -> Any:
    """A copy without anchors and merges, on one line."""
    if isinstance(node, Mapping):
        result: Any = CommentedMap({key: _written_out(part) for key, part in node.items()})
    elif isinstance(node, list):
        result = CommentedSeq([_written_out(part) for part in node])
    else:
        return node
    result.fa.set_flow_style()
    return result


def _as_written(value: Any) -> Any:
    """A value in the form in which PyYAML, which reads profiles, takes it for the same: 1.0e-05, 'on'."""
    return _yaml().load(yaml.safe_dump(value, width=10**6, default_flow_style=True))


def _form(value: Any) -> str:
    """A value as it stands in a file, on one line."""
    text = io.StringIO()
    line = CommentedMap({"x": _written_out(value)})
    line.fa.set_flow_style()
    _yaml().dump(line, text)
    return text.getvalue().strip().removeprefix("{x: ").removesuffix("}")


def _set_comment(holder: CommentedMap, key: str, comment: str) -> None:
    """Put a comment behind a value; the one that stands there follows in brackets, and lines below it stay."""
    comments = holder.ca.items.setdefault(key, [None, None, None, None])
    token = comments[_EOL]
    line, newline, below = ("", "", "") if token is None else token.value.partition("\n")
    text = f"# {comment}" + (f" ({line.lstrip('# ')})" if line.strip("# ") else "")
    comments[_EOL] = CommentToken(f"{' ' * (_GAP - 1)}{text}\n{below if newline else ''}", CommentMark(0), None)
