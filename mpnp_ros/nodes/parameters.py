"""Parameters of a node: each is an option of a dataclass, see :mod:`mpnp_ros.options`.

A value of the wrong type or out of range is refused, at start and at run time, with a reason that names the
parameter and what is allowed.  A change that would have no effect is refused with the reason and the remedy.
An override that no option has causes a warning: it is nearly always a typing error.  ROS arguments that rcl
refuses are explained in one line (:func:`explain`).
"""
from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from pathlib import Path
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
KEY = 'ros__parameters'
_RCL_PLACE = re.compile(r',? at (/|[\w.]+\.c:)\S+')
_OF_FILE = re.compile(r"'--params-file (?P<path>.*?)'\. Error: (?P<reason>.*)", re.DOTALL)
_OF_VALUE = re.compile(r"parameter override rule: '-p (?P<rule>.*?)'\. Error: (?P<reason>.*)", re.DOTALL)
_KINDS = {'bool': re.compile(r'y|n|yes|no|true|false|on|off', re.IGNORECASE),
          'int': re.compile(r'[-+]?(0x[0-9a-fA-F]+|0o?[0-7]+|[0-9]+)'),
          'float': re.compile(r'[-+]?(\.inf|(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)|\.nan', re.IGNORECASE)}
"""Unquoted values for which rcl infers another type than text."""
_REMEDIES = (
    ('\\t', 'indent with spaces, not with tabs'),
    ('block end', 'let keys of one level begin in the same column, and quote what begins with {'),
    ('block mapping', 'let keys of one level begin in the same column'),
    ('mapping values', "indent as in config/mpnp.yaml, and quote values with ': ' in them"),
    ('quoted scalar', 'close the quotes'))
"""Words of an error of YAML, and what to do about it."""


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
    overrides = node._parameter_overrides  # rclpy has no public way to see what was given but not declared
    values = ParameterValues(options.from_mapping(
        {name: override.value for name, override in overrides.items() if name in rows}))
    for name in overrides:
        if name not in rows and name not in _RCLPY_OWN and not name.startswith('qos_overrides.') \
                and not node.has_parameter(name):
            near = difflib.get_close_matches(name, rows, 1)
            hint = f'did you mean {near[0]!r}?' if near else f'there are {", ".join(rows)}'
            node.get_logger().warning(f'parameter {name!r} is unknown and ignored; {hint}')
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
    """Return the descriptor that ``ros2 param describe`` shows: options read at start are read-only."""
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
        return f'{name} is {topic!r}, which is not a topic name: {str(error).splitlines()[0]}'
    return ''


def descriptor(row: OptionSpec) -> ParameterDescriptor:
    """Return the descriptor that the parameter is declared with.

    Its typing is dynamic and it is not read-only, because rclpy's own refusals name neither the parameter's
    type nor a remedy; the check of :func:`declare_parameters` takes their place.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange
    from rcl_interfaces.msg import ParameterDescriptor as Descriptor

    text = f'{row.description} [{row.unit}]' if row.unit else row.description
    settable = '' if row.change is Change.LIVE else f'set {row.change.value}'
    result = Descriptor(name=row.name, description=text, dynamic_typing=True,
                        additional_constraints='; '.join(filter(None, [row.constraint, settable])))
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
        # rcl reads an empty list as a value of no type; another machine may have more packages installed
        off = '# ' if row.default == () or row.notes.get('installed') else ''
        lines += [f'    # {row.description}{limits}', f'    {off}{row.name}: {_yaml(row)}']
    return '\n'.join(lines) + '\n'


def _yaml(row: OptionSpec) -> str:
    value = list(row.default) if isinstance(row.default, tuple) else row.default
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix('\n').removesuffix('\n...')


def explain(error: Exception) -> str:
    """Return the error of rcl in one line: file, line and remedy."""
    text = ' '.join(_RCL_PLACE.sub('', str(error)).split()).removeprefix('failed to initialize rcl: ')
    if match := _OF_FILE.search(text):
        path = match['path']
        return _file_problem(Path(path)) or f'{path}: {match["reason"]}; see config/mpnp.yaml for the form'
    if match := _OF_VALUE.search(text):
        name, assigned, value = match['rule'].partition(':=')
        problem = _value_problem(name, value) if assigned else 'write -p name:=value'
        return f'-p {match["rule"]}: {problem or match["reason"]}'
    return f'the ROS arguments are wrong: {text}'


def _file_problem(path: Path) -> str:
    """Return what is wrong in a parameter file, and the line; empty where nothing is found."""
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        return f'parameter file {path} cannot be read: {error.strerror}'
    except UnicodeDecodeError:
        return f'parameter file {path} is not text in UTF-8; save it as such'
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        return next((f'{path}, line {line}: {problem}' for line, problem in _problems(root)), '')
    except yaml.MarkedYAMLError as error:
        said = f'{error.problem or error.context}'
        remedy = next((remedy for words, remedy in _REMEDIES if words in f'{said} {error.context}'),
                      'see config/mpnp.yaml for the form')
        mark = error.problem_mark or error.context_mark
        return f'{path}, line {mark.line + 1 if mark else 0}: not YAML, {said}; {remedy}'
    except yaml.YAMLError as error:
        return f'{path}: not YAML, {" ".join(str(error).split())}'


def _problems(node: yaml.Node, inside: bool = False, name: str = '') -> Iterator[tuple[int, str]]:
    """Yield lines and problems of a part of the file, ``inside`` ros__parameters or around it."""
    if not isinstance(node, yaml.MappingNode):
        if inside:
            yield from _value_problems(node, name)
        else:
            yield _line(node), f'{name or "a value"} stands outside of {KEY}; write <node>:, below it ' \
                               f'{KEY}:, and below that the parameters, each indented further'
        return
    for key, value in node.value:
        label = f'{name}.{key.value}' if inside and name else str(key.value)
        if not inside and key.value != KEY and re.fullmatch(r'ros_*param\w*', str(key.value)):
            yield _line(key), f'{key.value} is not {KEY}; write it with two underscores'
        elif not inside and key.value == KEY and not isinstance(value, yaml.MappingNode):
            yield _line(key), f'no parameters below {KEY}; indent them further than it'
        else:
            yield from _problems(value, inside or key.value == KEY, '' if key.value == KEY else label)


def _value_problems(node: yaml.Node, name: str) -> Iterator[tuple[int, str]]:
    """Yield lines and problems of one value."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode):
                yield _line(item), f'{name} is a list of lists; ROS has lists of plain values only'
                return
        kinds = ['str' if item.style is not None else
                 next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(item.value)), 'str')
                 for item in node.value]
        items = list(zip(node.value, kinds, strict=True))
        odd = next(((item, kind) for item, kind in items if kind != kinds[0]), None)
        if odd is None:
            return
        if set(kinds) <= {'int', 'float'}:
            remedy = next(f'write {item.value}.0' for item, kind in items if kind == 'int')
        else:
            remedy = next(f"write '{item.value}', in quotes" for item, kind in items if kind != 'str')
        yield _line(odd[0]), f'{name} mixes {kinds[0]} and {odd[1]}; {remedy}'
    elif isinstance(node, yaml.ScalarNode) and node.style is None and not node.value:
        yield _line(node), f'{name} has no value; give it one, or leave the line out'


def _value_problem(name: str, value: str) -> str:
    """Return what is wrong with a value on the command line; empty where nothing is found."""
    try:
        node = yaml.compose(value, yaml.SafeLoader)
    except yaml.YAMLError as error:
        return f'not YAML, {getattr(error, "problem", error)}'
    if node is None:
        return f"{name} has no value; write -p {name}:=\"''\" for an empty text"
    return next((problem for _, problem in _value_problems(node, name)), '')


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
