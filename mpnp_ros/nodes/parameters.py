"""Parameters of a node, declared once: declaration, checks, documentation and YAML come from one table.

A node module holds one ``PARAMETERS`` table and calls :func:`declare_parameters`.  A value of the wrong
type or out of range is refused, at start and at run time, with a reason that names the key and the
limit.  An override that the table does not know is warned about: it is nearly always a typing error.
"""
from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.options import Options

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

Own = TypeVar('Own', bound=Options)
Scalar = bool | int | float | str
_LIMIT = {int: 2 ** 63 - 1, float: math.inf}
_RCLPY_OWN = ('use_sim_time', 'start_type_description_service')


class Change(Enum):
    """When a parameter takes a new value.  At any other time a change is refused with the reason."""

    LIVE = 'any time'
    ACTIVATE = 'before it is activated'
    CONFIGURE = 'before it is configured'
    START = 'at start'


@dataclass(frozen=True)
class Parameter:
    """One parameter of one node.

    name: key, as in YAML.
    default: its type is the parameter's type; a tuple makes a list parameter (an empty one: of strings).
    description: one sentence for the docs and for ``ros2 param describe``.
    unit: of the value, e.g. ``s``.
    minimum, maximum: inclusive limits of a number, or of every number in a list.
    choices: allowed values; for a list, of every item.
    change: when a new value is taken; what is not LIVE is refused once it would have no effect.
    options: the dataclass that it is an option of, and what stands before the option's name.
    """

    name: str
    default: Scalar | tuple[Scalar, ...]
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Scalar, ...] = ()
    change: Change = Change.START
    options: tuple[type[Options], str] | None = None

    def __post_init__(self) -> None:
        if problem := self.problem(self.default):
            raise ConfigurationError(f'default: {problem}')

    @property
    def kind(self) -> type:
        """Type of the value, or of the items of a list."""
        if not isinstance(self.default, tuple):
            return type(self.default)
        return type(self.default[0]) if self.default else str

    @property
    def type_name(self) -> str:
        """Type in words, e.g. ``list of float``."""
        return f'list of {self.kind.__name__}' if isinstance(self.default, tuple) else self.kind.__name__

    @property
    def constraint(self) -> str:
        """Limits in words, with the unit; empty where there are none."""
        unit = f' {self.unit}' if self.unit else ''
        if self.choices:
            return 'one of ' + ', '.join(str(choice) or "''" for choice in self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f'{self.minimum:g} to {self.maximum:g}{unit}'
        if self.minimum is not None:
            return f'at least {self.minimum:g}{unit}'
        return f'at most {self.maximum:g}{unit}' if self.maximum is not None else ''

    def problem(self, value: Any) -> str | None:
        """Return why ``value`` is refused, naming key and limit, or None where it is right."""
        if isinstance(self.default, tuple):
            if value is None and not self.default:
                return None  # what rcl makes of an empty list in a file
            if value is None:
                return f'{self.name} has no value, as ROS reads []; leave it out, or give a {self.type_name}'
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                return f'{self.name} must be a {self.type_name}, not {value!r}'
            return next(filter(None, map(self._item_problem, value)), None)
        return self._item_problem(value)

    def convert(self, value: Any) -> Any:
        """Return a right value in the declared type: whole numbers become floats, lists tuples."""
        if isinstance(self.default, tuple):
            return tuple(self.kind(item) for item in value or ())
        return self.kind(self._unquoted(value))

    def _unquoted(self, value: Any) -> Any:
        """Return 'true' or 'false' where those are choices and YAML has made a boolean of the word."""
        return str(value).lower() if isinstance(value, bool) and 'true' in self.choices else value

    def _item_problem(self, value: Any) -> str | None:
        value = self._unquoted(value)
        right_type = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not right_type:
            return f'{self.name} must be a {self.type_name}, not {value!r}'
        if self.choices and value not in self.choices:
            return f'{self.name} is {value!r}; it must be {self.constraint}'
        if self.kind in _LIMIT and not self._within(value):
            return f'{self.name} is {value:g}; it must be {self.constraint or "finite"}'
        return None

    def _within(self, value: float) -> bool:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return math.isfinite(value) and low <= value <= high


class ParameterValues:
    """Values of a node's declared parameters as they are now: ``values.slop`` or ``values['slop']``."""

    def __init__(self, node: Node, table: Sequence[Parameter]) -> None:
        self._node = node
        self._table = {entry.name: entry for entry in table}

    def __getitem__(self, name: str) -> Any:
        return self._table[name].convert(self._node.get_parameter(name).value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f'no parameter {name!r}; there are {", ".join(self._table)}') from None


def option_parameters(prefix: str, options: type[Options], change: Change) -> tuple[Parameter, ...]:
    """Return a parameter ``<prefix><option>`` for each of the options; change: when each is taken."""
    return tuple(Parameter(
        f'{prefix}{item.name}', item.default, _sentence(item.metadata['help'], item),
        item.metadata['unit'], item.metadata['low'], item.metadata['high'], item.metadata['choices'],
        change, (options, prefix))
        for item in dataclasses.fields(options))


def options_of(options: type[Own], values: ParameterValues, prefix: str = '') -> Own:
    """Return the options that the parameters of :func:`option_parameters` stand for."""
    return options(**{item.name: values[f'{prefix}{item.name}'] for item in dataclasses.fields(options)})


def declare_parameters(node: Node, table: Sequence[Parameter],
                       changed: Callable[[str, Any], None] = lambda name, value: None,
                       too_late: Callable[[Change], str] = lambda change: '',
                       problem: Callable[[Mapping[str, Any]], str] = lambda values: '') -> ParameterValues:
    """Declare every parameter of ``table`` on ``node`` and return a view of their values.

    changed: called with name and value of every change that is accepted later.
    too_late: why a parameter of that kind cannot take a new value now, empty where it can.
    problem: why these values of all parameters cannot go together, empty where they can; that options which
    belong together fit each other is looked at in any case.
    Raises ConfigurationError naming every override that is refused, not only the first.
    """
    from rcl_interfaces.msg import SetParametersResult

    entries = {entry.name: entry for entry in table}
    _check_overrides(node, entries, problem)
    for entry in table:
        default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
        node.declare_parameter(entry.name, default, descriptor(entry))
    values = ParameterValues(node, table)

    def check(changes: Sequence[Any]) -> SetParametersResult:
        ours = {change.name: change.value for change in changes if change.name in entries}
        problems = [entries[name].problem(value) for name, value in ours.items()]
        problems += [f'{name} {reason}' for name in ours if (reason := too_late(entries[name].change))]
        if not any(problems) and ours:
            new = {name: entries[name].convert(value) for name, value in ours.items()}
            problems += _together({**{name: values[name] for name in entries}, **new}, entries, problem)
        reason = '; '.join(filter(None, problems))
        return SetParametersResult(successful=not reason, reason=reason)

    def tell(changes: Sequence[Any]) -> None:
        for change in changes:
            if change.name in entries:
                changed(change.name, values[change.name])

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(tell)
    return values


def method_problem(name: str) -> str:
    """Return why the parameter ``method`` cannot be ``name``; empty where there is such a method."""
    from mpnp_ros.methods.registry import find_method

    try:
        find_method(name)
    except ConfigurationError as error:
        return str(error)
    return ''


def topic_problem(name: str, topic: str) -> str:
    """Return why the value ``topic`` of the parameter ``name`` names no topic; empty where it does."""
    from rclpy.exceptions import InvalidTopicNameException
    from rclpy.validate_topic_name import validate_topic_name

    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        return f'{name} is {topic!r}, which is no name of a topic: {str(error).splitlines()[0]}'
    return ''


def descriptor(entry: Parameter) -> ParameterDescriptor:
    """Return the descriptor that ``ros2 param describe`` shows.

    Its typing is dynamic, because rclpy's own refusal of a wrong type does not name the key; the check
    of :func:`declare_parameters` takes its place.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange
    from rcl_interfaces.msg import ParameterDescriptor as Descriptor

    text = f'{entry.description} [{entry.unit}]' if entry.unit else entry.description
    result = Descriptor(name=entry.name, description=text, read_only=entry.change is Change.START,
                        dynamic_typing=True, additional_constraints=entry.constraint)
    limited = entry.minimum is not None or entry.maximum is not None
    if limited and not isinstance(entry.default, tuple):
        largest = _LIMIT[entry.kind]
        low = -largest if entry.minimum is None else entry.kind(entry.minimum)
        high = largest if entry.maximum is None else entry.kind(entry.maximum)
        if entry.kind is int:
            result.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        else:
            result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.)]
    return result


def markdown_table(table: Sequence[Parameter]) -> str:
    """Return the parameters as a markdown table, one row each."""
    rows = ['| parameter | type | default | limits | set | description |', '|---|---|---|---|---|---|']
    for entry in table:
        rows.append(f'| `{entry.name}` | {entry.type_name} | `{_yaml(entry)}` | {entry.constraint} '
                    f'| {entry.change.value} | {entry.description} |')
    return '\n'.join(rows) + '\n'


def yaml_text(node_name: str, table: Sequence[Parameter]) -> str:
    """Return a parameter file with every default and, as comments, every description."""
    lines = [f'{node_name}:', '  ros__parameters:']
    for entry in table:
        limits = f' ({entry.constraint})' if entry.constraint else ''
        off = '# ' if entry.default == () else ''  # rcl reads an empty list as a value of no type
        lines += [f'    # {entry.description}{limits}', f'    {off}{entry.name}: {_yaml(entry)}']
    return '\n'.join(lines) + '\n'


def _yaml(entry: Parameter) -> str:
    value = list(entry.default) if isinstance(entry.default, tuple) else entry.default
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix('\n').removesuffix('\n...')


def _check_overrides(node: Node, entries: Mapping[str, Parameter],
                     problem: Callable[[Mapping[str, Any]], str]) -> None:
    overrides = node._parameter_overrides  # rclpy has no public way to see what was given but not declared
    given = {name: override.value for name, override in overrides.items() if name in entries}
    problems = [entries[name].problem(value) for name, value in given.items()]
    values = {name: entry.convert(given[name] if name in given and not entry.problem(given[name])
                                  else entry.default) for name, entry in entries.items()}
    problems += _together(values, entries, problem)
    if any(problems):
        raise ConfigurationError('; '.join(filter(None, problems)))
    for name in overrides:
        if name not in entries and name not in _RCLPY_OWN and not name.startswith('qos_overrides.') \
                and not node.has_parameter(name):
            near = difflib.get_close_matches(name, entries, 1)
            hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(entries)}'
            node.get_logger().warning(f'parameter {name!r} is unknown and ignored; {hint}')


def _together(values: Mapping[str, Any], entries: Mapping[str, Parameter],
              problem: Callable[[Mapping[str, Any]], str]) -> list[str]:
    """Return why right values cannot go together."""
    problems = []
    for options, prefix in dict.fromkeys(entry.options for entry in entries.values() if entry.options):
        try:
            options(**{item.name: values[f'{prefix}{item.name}'] for item in dataclasses.fields(options)})
        except ConfigurationError as error:
            problems.append(f'{prefix}{error}')
    return [text for text in (*problems, problem(values)) if text]


def _sentence(text: str, item: dataclasses.Field) -> str:
    """A help text as a sentence; what begins with a value of the option keeps its spelling."""
    word = re.match(r'[^\s:;,(]*', text).group()
    value = '-' in word or '_' in word or word in item.metadata['choices']
    return (text[:1] if value else text[:1].upper()) + text[1:].rstrip('.') + '.'
