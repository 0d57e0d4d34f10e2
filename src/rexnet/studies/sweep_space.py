"""Parses and checks the values that a sweep tries: `optimizer.lr=log:0.001..0.1`, `model.activation=relu,silu`."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from rexnet.config import Config, load_config
from rexnet.config.differences import has_role
from rexnet.config.load import replace_values
from rexnet.config.section import Role, walk_keys
from rexnet.errors import ConfigError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
RANGE = re.compile(rf"(log:)?({NUMBER})\.\.({NUMBER})", re.IGNORECASE)
COMMA = re.compile(r",(?![^\[]*\])")  # outside of a YAML list
DIGITS = 4  # significant digits of sampled numbers, so that commands stay readable
CHECKED = 500  # combinations of smallest and largest values that are checked before the first trial
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
OWN_KEYS = ("trainer.run_name", "trainer.runs_dir")


class Space(NamedTuple):
    """The values that a sweep tries, and the overrides that all its trials share."""

    config: Config  # with the first value of each swept key
    fixed: tuple[str, ...]  # overrides that all trials share
    distributions: dict[str, Distribution]  # by dotted key

    def grid(self) -> list[dict[str, Any]]:
        """Returns all combinations if all values are lists, otherwise none; the last key varies fastest."""
        lists = [each.choices for each in self.distributions.values() if isinstance(each, CategoricalDistribution)]
        combinations = itertools.product(*lists) if len(lists) == len(self.distributions) else ()
        return [dict(zip(self.distributions, values, strict=True)) for values in combinations]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Returns the overrides of a trial with sampled values."""
        return [f"{key}={_round(values[key], each)}" for key, each in self.distributions.items()]


def parse_space(config: str, arguments: Sequence[str]) -> Space:
    """Parses overrides, at least one with several values, and checks their combinations against the schema.

    `A..B` is a range, `log:A..B` a range on a logarithmic scale, and `A,B,C` a list. Keys with the role `MECHANICS`,
    such as paths, are taken literally.

    Raises:
        ConfigError: a key or a value is invalid, or no key has several values.
    """
    fixed: list[str] = []
    distributions: dict[str, Distribution] = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        if key in OWN_KEYS:
            raise ConfigError(f"{key}: is set by the sweep for each trial; --out names the folder of the sweep")
        found = None if has_role(key, Role.MECHANICS) else _parse(key, text)
        if found is None:
            fixed.append(argument)
        elif key in distributions:
            raise ConfigError(f"{key}: is given twice")
        else:
            distributions[key] = found
    extremes = []
    for key, each in distributions.items():
        ends = each.choices if isinstance(each, CategoricalDistribution) else (each.low, each.high)
        extremes.append([f"{key}={value}" for value in ends])
    combinations = list(itertools.islice(itertools.product(*extremes), CHECKED))
    base = load_config(config, [*fixed, *combinations[0]])
    if not distributions:
        raise ConfigError("give at least one key with several values, such as 'optimizer.lr=log:0.001..0.1'")
    for combination in combinations[1:]:
        replace_values(base, combination)
    return Space(base, tuple(fixed), distributions)


def _parse(key: str, text: str) -> Distribution | None:
    """Returns the distribution of a range or list, or None for a single value."""
    kinds = {name: _kinds(field.annotation) for name, field in walk_keys(Config)}
    if ".." in text and kinds.get(key, set()) & {int, float}:
        return _parse_range(key, text, float in kinds[key])
    values = COMMA.split(text)
    if len(values) == 1:
        return None
    if "" in values or len(set(values)) < len(values):
        raise ConfigError(f"{key}: {text} should be different values, separated by commas")
    return CategoricalDistribution(values)


def _parse_range(key: str, text: str, is_float: bool) -> Distribution:
    match = RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{key}: {text} should be A..B or log:A..B with two numbers")
    log, low, high = match[1] is not None, float(match[2]), float(match[3])
    if not low < high or (log and low <= 0):
        raise ConfigError(f"{key}: {text} should run from a smaller to a larger number{', above 0' if log else ''}")
    if is_float:
        return FloatDistribution(low, high, log)
    if not (low.is_integer() and high.is_integer()):
        raise ConfigError(f"{key}: {text} should be a range of whole numbers")
    return IntDistribution(int(low), int(high), log)


def write_values(distribution: Distribution) -> str:
    """Returns the values of a distribution as `parse_space` reads them."""
    if isinstance(distribution, CategoricalDistribution):
        return ",".join(map(str, distribution.choices))
    return f"{'log:' * distribution.log}{distribution.low}..{distribution.high}"


def _kinds(annotation: Any) -> set[Any]:
    """Returns the types that a key accepts, including those inside unions and annotations."""
    members = get_args(annotation)
    return set().union(*map(_kinds, members)) if members else {annotation}


def _round(value: Any, distribution: Distribution) -> Any:
    """Rounds a sampled float to a few significant digits, within its range."""
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)
