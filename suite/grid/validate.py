"""Validate YAML into a pydantic object, with errors that name the field, the value and the nearest match."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from methods.args import BackboneArgs
from methods.backbones.base import family_of
from suite.errors import UsageError, unknown

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a YAML file.

    Raises:
        UsageError: not YAML, with line and column; or YAML without fields.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise UsageError(f"{path} is not valid YAML{place}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        came = "an empty file" if content is None else f"{type(content).__name__} {str(content)[:40]!r}"
        raise UsageError(f"{path}: expected YAML fields such as 'name: ...', got {came}.")
    return content


def validated(model: type[Model], data: Any, where: str) -> Model:
    """`data` as a `model`. Every problem is named with its field, what was expected and what came.

    Raises:
        UsageError: one line per problem; for an unknown field, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, problem, data) for problem in error.errors()]
        raise UsageError(f"{where}: " + "; ".join(lines)) from None


def _explain(model: type[BaseModel], problem: Any, data: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        fields = _fields_at(model, problem["loc"][:-1], data)
        return (
            str(unknown(f"field in '{place}':", str(problem["loc"][-1]), fields))
            if fields
            else f"unknown field {place}"
        )
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if problem["type"] in {"missing", "value_error"} else f" (got {problem['input']!r})"
    return f"{place + ': ' if place else ''}{message}{got}"


def _fields_at(model: type[BaseModel], path: tuple[Any, ...], data: Any) -> list[str]:
    """Names of the fields of the (possibly nested) model at `path`; empty where that is not a plain model."""
    current: Any = model
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) if hasattr(current, "model_fields") else None
        if field is None:
            return []
        current = _model_in(field.annotation)
        if current is None:
            return []
        if current is BackboneArgs and isinstance(data, dict):
            current = family_of(str(data["arch"])).args
    return list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _model_in(argument)
        if model is not None:
            return model
    return None
