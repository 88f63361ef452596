"""Parameters of a node: each is an option of a dataclass, see :mod:`mpnp_ros.options`.

A value of the wrong type or out of range is refused, at start and at run time, with a reason that names the
parameter and what is allowed.  A change that would have no effect is refused with the reason and the remedy.
An override that no option has is warned about: it is nearly always a typing error.
"""
from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import yaml

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.options import Change, OptionError, Options, OptionSpec

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor
    from rclpy.node import Node

_LIMIT = {int: 2 ** 63 - 1, float: math.inf}
_RCLPY_OWN = ('use_sim_time', 'start_type_description_service')
AT_START = 'is read at start; restart the node to change it'


class ParameterValues:
    """Options of a node as they are now: ``values.slop`` or ``values['encoder.columns']``.

    now: the options themselves, which are replaced as a whole by a change.
    """

    def __init__(self, options: Options) -> None:
        self.now = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)

    def __getitem__(self, name: str) -> Any:
        return self.now[name]

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in type(self.now).declared())


def declare_parameters(node: Node, options: type[Options],
                       changed: Callable[[str, Any], None] = lambda name, value: None,
                       too_late: Callable[[Change], str] = lambda change: '') -> ParameterValues:
    """Declare every option as a parameter of ``node`` and return their values.

    changed: called with name and value of every change that is accepted later.
    too_late: why a parameter of that kind cannot take a new value now, empty where it can.
    Raises ConfigurationError naming every override that is refused, not only the first.
    """
    from rcl_interfaces.msg import SetParametersResult

    rows = {row.name: row for row in options.declared()}
    values = ParameterValues(_with_overrides(node, options, rows))
    for row in rows.values():
        default = list(row.default) if isinstance(row.default, tuple) else row.default
        node.declare_parameter(row.name, default, descriptor(row))

    def check(changes: Sequence[Any]) -> SetParametersResult:
        ours = {change.name: change.value for change in changes if change.name in rows}
        kinds = {name: rows[name].change for name in ours}
        problems = [f'{name} {reason}' for name, change in kinds.items()
                    if (reason := AT_START if change is Change.START else too_late(change))]
        try:
            values.now.changed(**ours)
        except OptionError as error:
            problems = [*error.problems, *problems]
        return SetParametersResult(successful=not problems, reason='; '.join(problems))

    def take(changes: Sequence[Any]) -> None:
        ours = {change.name: change.value for change in changes if change.name in rows}
        values.now = values.now.changed(**ours)
        for name in ours:
            changed(name, values[name])

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(take)
    return values


def described(descriptor: ParameterDescriptor, parameters: type[Options]) -> ParameterDescriptor:
    """Return the descriptor that ``ros2 param describe`` shows: what is read at start is read-only."""
    shown = copy(descriptor)
    shown.read_only = any(row.name == shown.name and row.change is Change.START
                          for row in parameters.declared())
    return shown


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


def descriptor(row: OptionSpec) -> ParameterDescriptor:
    """Return the descriptor that the parameter is declared with.

    Its typing is dynamic and it is not read-only, because rclpy's own refusals name neither the parameter's
    type nor a remedy; the check of :func:`declare_parameters` takes their place.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange
    from rcl_interfaces.msg import ParameterDescriptor as Descriptor

    text = f'{row.description} [{row.unit}]' if row.unit else row.description
    result = Descriptor(name=row.name, description=text, dynamic_typing=True,
                        additional_constraints='; '.join(filter(None, [row.constraint, _taken(row.change)])))
    if (row.low is not None or row.high is not None) and not row.is_list:
        largest = _LIMIT[row.kind]
        low = -largest if row.low is None else row.kind(row.low)
        high = largest if row.high is None else row.kind(row.high)
        if row.kind is int:
            result.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
        else:
            result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.)]
    return result


def markdown_table(rows: Iterable[OptionSpec]) -> str:
    """Return parameters as a markdown table, one row each."""
    lines = ['| parameter | type | default | limits | set | description |', '|---|---|---|---|---|---|']
    for row in rows:
        lines.append(f'| `{row.name}` | {row.type_name} | `{_yaml(row)}` | {row.constraint} '
                     f'| {row.change.value} | {row.description} |')
    return '\n'.join(lines) + '\n'


def yaml_text(node_name: str, rows: Iterable[OptionSpec]) -> str:
    """Return a parameter file with every default and, as comments, every description."""
    lines = [f'{node_name}:', '  ros__parameters:']
    for row in rows:
        limits = f' ({row.constraint})' if row.constraint else ''
        # rcl reads an empty list as a value of no type; what is installed may be more on another machine
        off = '# ' if row.default == () or row.notes.get('installed') else ''
        lines += [f'    # {row.description}{limits}', f'    {off}{row.name}: {_yaml(row)}']
    return '\n'.join(lines) + '\n'


def _taken(change: Change) -> str:
    return '' if change is Change.LIVE else f'set {change.value}'


def _yaml(row: OptionSpec) -> str:
    value = list(row.default) if isinstance(row.default, tuple) else row.default
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix('\n').removesuffix('\n...')


def _with_overrides(node: Node, options: type[Options], rows: Mapping[str, OptionSpec]) -> Options:
    overrides = node._parameter_overrides  # rclpy has no public way to see what was given but not declared
    made = options.from_mapping({name: override.value for name, override in overrides.items()
                                 if name in rows})
    for name in overrides:
        if name not in rows and name not in _RCLPY_OWN and not name.startswith('qos_overrides.') \
                and not node.has_parameter(name):
            near = difflib.get_close_matches(name, rows, 1)
            hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(rows)}'
            node.get_logger().warning(f'parameter {name!r} is unknown and ignored; {hint}')
    return made
