"""The tuned fields and their ranges: `--param FIELD=LOW:HIGH`, `LOW:HIGH:log`, `LOW:HIGH:STEP`, `A,B,C`, or FIELD
alone, for the range in experiments/search_spaces.yaml. A study of experiments/tuning can also choose between recipes,
each of which sets several fields."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from suite.errors import UsageError, unknown
from suite.grid.cells import STAGE1, Cell
from suite.grid.recipe import Recipe, applies, field_paths
from suite.grid.spec import EXPERIMENTS
from suite.text import yaml_text

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = bool | int | float | str

_SYNTAX = "LOW:HIGH, LOW:HIGH:log, LOW:HIGH:STEP or several values such as A,B,C"


@dataclass(frozen=True)
class Parameter:
    """A recipe's field and the values it may take: `choices`, or from `low` to `high`.

    With `recipes` the choices are names, and each stands for the values of several fields.
    """

    field: str  # dotted, after `stage1.` where the first stage alone is meant; with `recipes` a name of our own
    text: str  # as typed behind the =
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False  # whole numbers
    points: tuple[Value, ...] = ()  # for --sampler grid, where a range has no step
    recipes: Mapping[str, Mapping[str, Value]] = dataclasses.field(default_factory=dict)  # choice -> field -> value

    @property
    def fields(self) -> tuple[str, ...]:
        """The recipe fields that the parameter sets."""
        if not self.recipes:
            return (self.field,)
        return tuple(dict.fromkeys(field for values in self.recipes.values() for field in values))

    def overrides(self, value: Value) -> dict[str, Value]:
        """The recipe fields and their values for one value of the parameter."""
        return dict(self.recipes[str(value)]) if self.recipes else {self.field: value}

    def current(self, cells: Sequence[Cell]) -> Value | None:
        """The value that the recipes of all cells have now; None where they differ or the space does not hold it."""

        def has(field: str, value: Value) -> bool:
            return all(now == value for now in current_values(field, cells))

        if self.recipes:
            fitting = (n for n, values in self.recipes.items() if all(has(f, value) for f, value in values.items()))
            return next(fitting, None)
        values = current_values(self.field, cells)
        value: Value = values[0]
        return value if has(self.field, value) and self.holds(value) else None

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that have to be valid for all to be: every choice, or both ends of the range."""
        return self.choices or (self.value(self.low), self.value(self.high))

    def value(self, number: Value) -> Value:
        """As it stands in a recipe: 0.08 + 0.01 + ... is rounded to 0.35, so that it has 0.35's job."""
        if self.choices or isinstance(number, str):
            return number
        return round(number) if self.whole else float(f"{number:.10g}")

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those that may be tried."""
        if self.choices:
            return value in self.choices
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or 1)
        return not (self.step or self.whole) or abs(steps - round(steps)) < 1e-8

    def grid(self) -> tuple[Value, ...]:
        """Every value, for `--sampler grid`.

        Raises:
            UsageError: a range without a step.
        """
        if self.choices or self.points:
            return self.choices or self.points
        step = self.step or (1 if self.whole else None)
        if step is None or self.log:
            raise UsageError(
                f"--sampler grid needs a step or single values for {self.field}, not the range {self.text}: "
                f"--param {self.field}=LOW:HIGH:STEP or --param {self.field}=A,B,C"
            )
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.value(self.low + step * place) for place in range(count))

    def suggest(self, trial: Trial) -> None:
        """Give a trial its value, unless it has one."""
        if self.choices:
            trial.suggest_categorical(self.field, self.choices)
        elif self.whole:
            trial.suggest_int(self.field, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            trial.suggest_float(self.field, self.low, self.high, step=self.step, log=self.log)


def grid_points(space: Sequence[Parameter]) -> list[dict[str, Value]]:
    """Every combination, the last parameter changing fastest."""
    combinations = itertools.product(*(parameter.grid() for parameter in space))
    return [dict(zip((parameter.field for parameter in space), values, strict=True)) for values in combinations]


def parse_space(texts: Sequence[str], cells: Sequence[Cell]) -> tuple[Parameter, ...]:
    """The `--param` options of a command.

    Raises:
        UsageError: a field that no recipe of `cells` has, with the nearest one; values that do not fit the field.
    """
    return tuple(_parse(text, cells) for text in texts)


def checked_space(space: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters of a study.

    Raises:
        UsageError: there are none, or two of them set one field.
    """
    names = [field for parameter in space for field in parameter.fields]
    if not names:
        raise UsageError(f"--param FIELD={_SYNTAX} is needed, such as --param views.scale=0.08:0.8")
    if len(set(names)) < len(names):
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        raise UsageError(f"expected each field once, got several --param or recipes for {', '.join(twice)}.")
    return tuple(space)


def recipe_parameters(
    recipes: Mapping[str, Mapping[str, Mapping[str, Value]]], cells: Sequence[Cell]
) -> tuple[Parameter, ...]:
    """Parameters that choose between recipes: name -> choice -> field -> value.

    Raises:
        UsageError: fewer than two choices, or a field that no recipe of `cells` has, with the nearest one.
    """
    parameters = []
    for name, choices in recipes.items():
        if len(choices) < 2:
            raise UsageError(f"recipes of '{name}': expected two choices at least, found {len(choices)}.")
        for field in dict.fromkeys(field for values in choices.values() for field in values):
            if not current_values(field, cells):
                raise unknown(f"field in the recipes of '{name}':", field, _fields(cells))
        text = "; ".join(f"{choice} ({_values_text(values)})" for choice, values in choices.items())
        parameters.append(Parameter(name, text, tuple(choices), recipes=choices))
    return tuple(parameters)


def _values_text(values: Mapping[str, Value]) -> str:
    return ", ".join(f"{field}={yaml_text(value)}" for field, value in values.items())


def _fields(cells: Sequence[Cell]) -> set[str]:
    paths = {name for cell in cells for name in field_paths(cell.recipe)}
    return paths | {name for cell in cells if cell.stage1 for name in field_paths(cell.stage1.recipe, STAGE1)}


def current_values(field: str, cells: Sequence[Cell]) -> list[Any]:
    """The field's values in the recipes of those cells that have it."""
    return [_at(field, recipe) for recipe in _recipes(field, cells) if applies(field.removeprefix(STAGE1), recipe)]


def _recipes(field: str, cells: Sequence[Cell]) -> list[Recipe]:
    if field.startswith(STAGE1):
        return [cell.stage1.recipe for cell in cells if cell.stage1 is not None]
    return [cell.recipe for cell in cells]


def _at(field: str, recipe: Recipe) -> Any:
    value: Any = recipe
    for part in field.removeprefix(STAGE1).split("."):
        value = getattr(value, part)
    return value


def _parse(text: str, cells: Sequence[Cell]) -> Parameter:
    field, equals, values = (part.strip() for part in text.partition("="))
    values_now = current_values(field, cells)
    if not values_now:
        raise unknown("field in --param:", field, _fields(cells))
    if field.rpartition(".")[2] == "held_out":
        raise UsageError(f"--param {field}: the held-out images cannot be tuned; trials would not be comparable.")
    points: tuple[Value, ...] = ()
    if not equals:
        ranges: dict[str, dict[str, Any]] = yaml.safe_load((EXPERIMENTS / "search_spaces.yaml").read_text("utf-8"))
        if field not in ranges:
            raise UsageError(
                f"--param {field} needs values: --param {field}={_SYNTAX}. It is {yaml_text(values_now[0])} now. "
                f"Fields with a shipped range: {', '.join(sorted(ranges))}."
            )
        values, points = ranges[field]["range"], tuple(ranges[field].get("grid", ()))
    return _range(field, values, values_now[0], points) if ":" in values else _choices(field, values, values_now[0])


def _range(field: str, text: str, current: Any, points: tuple[Value, ...]) -> Parameter:
    if isinstance(current, bool) or not isinstance(current, int | float):
        raise UsageError(f"--param {field}={text}: {field} is no number (now {yaml_text(current)}); expected A,B,C.")
    low, high, *rest = text.split(":")
    log, step = rest == ["log"], None
    try:
        numbers = [float(low), float(high)]
        if rest and not log:
            (step,) = (float(part) for part in rest)
    except ValueError:
        raise UsageError(f"--param {field}={text}: expected {_SYNTAX}.") from None
    if not (math.isfinite(numbers[0]) and math.isfinite(numbers[1]) and numbers[0] < numbers[1]):
        raise UsageError(f"--param {field}={text}: expected LOW below HIGH, found {low} and {high}.")
    if log and numbers[0] <= 0:
        raise UsageError(f"--param {field}={text}: a logarithmic range needs LOW above 0, found {low}.")
    if step is not None and not 0 < step <= numbers[1] - numbers[0]:
        raise UsageError(f"--param {field}={text}: expected a STEP above 0 and within the range, found {rest[0]}.")
    whole = isinstance(current, int)
    if whole and not all(number.is_integer() for number in (*numbers, step or 1.0)):
        raise UsageError(f"--param {field}={text}: {field} takes whole numbers (now {current}).")
    if step is not None:  # the end of the range is its last step
        numbers[1] = float(f"{numbers[0] + step * math.floor((numbers[1] - numbers[0]) / step + 1e-9):.10g}")
    return Parameter(field, text, (), numbers[0], numbers[1], log, step, whole, points)


def _choices(field: str, text: str, current: Any) -> Parameter:
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        values = []
    if isinstance(current, float):
        values = [_float(value) for value in values]
    if len({repr(value) for value in values}) < 2 or len(set(map(repr, values))) < len(values):
        raise UsageError(f"--param {field}={text}: expected {_SYNTAX}, with two different values at least.")
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise UsageError(f"--param {field}={text}: expected single values, not lists or none.")
    return Parameter(field, text, tuple(values))


def _float(value: Any) -> Any:
    """YAML takes 1e-3 for text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value
