"""Write the documentation that is made from the code: interfaces, parameters and the parameter file."""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.interface_files import Field, Interface, read_interfaces
from mpnp_ros.cli.node_processes import NODES
from mpnp_ros.cli.session import import_rclpy
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.locations import source_folder

if TYPE_CHECKING:
    from mpnp_ros.nodes.interface_table import Endpoint
    from mpnp_ros.options import Options

MADE = 'Made by `make docs` from the code; do not edit.'
NAMES = """\
Names are relative to the namespace of the node unless they begin with a slash, so remapping and two robots
side by side work as with every ROS 2 node. `<...>` stands for what a parameter fills in.

On a command line, quote choices that YAML would read as something else than text:

    ros2 service call /ask mpnp_ros/srv/Ask "{question: {text: 'is a car ahead?', choices: ['yes', 'no']}}"
    ros2 action send_goal --feedback /ask_stream mpnp_ros/action/Ask "{question: {text: 'what is ahead?'}}"
    ros2 topic pub --once /question mpnp_ros/msg/Question "{text: 'is a car ahead?', choices: ['yes', 'no']}"

A service sends every reply to every client, and a client keeps the newest ten: of many calls at once some
replies are lost, though every answer is on the topic `answer`. For bursts of questions use the topic
`question` or the action `ask_stream`, and wait for a reply of a service for a bounded time. A text ends at
its first NUL character; what is behind it does not reach the node."""
SETTING = """\
Set them in a file like [config/mpnp.yaml](../config/mpnp.yaml), with `--ros-args -p name:=value`, or, where
the table says "any time", with `ros2 param set`. A value of the wrong type or out of range is refused with a
reason; a name that is not in the table is warned about."""
KINDS = {'msg': 'Messages', 'srv': 'Services', 'action': 'Actions'}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--check', action='store_true', help='change nothing; 1 if a file is not current')


def run(arguments: Namespace) -> int:
    """Write the files, or compare them with what they should be."""
    folder = source_folder()
    if folder is None:
        raise ConfigurationError('the documentation is part of the source; run this from a source checkout')
    wanted = documents(folder)
    outdated = {name: text for name, text in wanted.items() if not _is_current(folder / name, text)}
    if arguments.check:
        for name in outdated:
            print(f'{name} is not current; run `mpnp docs`', file=sys.stderr)
        return 1 if outdated else 0
    for name, text in outdated.items():
        (folder / name).write_text(text, 'utf-8')
        print(f'{name} written')
    return 0


def documents(folder: Path) -> dict[str, str]:
    """Return every generated file of a source checkout by its name in it."""
    return {'docs/interfaces.md': interfaces_document(folder), 'docs/parameters.md': parameters_document(),
            'config/mpnp.yaml': parameter_file()}


def interfaces_document(folder: Path) -> str:
    """Return docs/interfaces.md: names of every node, then fields of every message, service and action."""
    from mpnp_ros.nodes.interface_table import ENDPOINTS, EVERY_NODE

    lines = ['# Interfaces', '', MADE, '', NAMES, '']
    for node in NODES:
        own = [endpoint for endpoint in ENDPOINTS if endpoint.node == node]
        lines += [f'## Node `{node}`', '', *_endpoints([*own, *EVERY_NODE]), '']
    interfaces = read_interfaces(folder)
    for kind, title in KINDS.items():
        lines += [f'## {title}', '']
        for interface in interfaces:
            if interface.kind == kind:
                lines += _interface(interface)
    return '\n'.join(lines)


def parameters_document() -> str:
    """Return docs/parameters.md: a table for every node."""
    from mpnp_ros.nodes.parameters import markdown_table

    lines = ['# Parameters', '', MADE, '', SETTING, '']
    for node in NODES:
        lines += [f'## Node `{node}`', '', markdown_table(parameters_of(node).declared())]
    return '\n'.join(lines)


def parameter_file() -> str:
    """Return config/mpnp.yaml: every parameter of every node with its default."""
    from mpnp_ros.nodes.parameters import yaml_text

    head = ('# mpnp bringup --params-file config/mpnp.yaml\n'
            '# ros2 launch mpnp_ros bringup.launch.py params_file:=config/mpnp.yaml\n'
            f'# Every parameter with its default. {MADE}\n')
    return '\n'.join([head, *(yaml_text(f'/**/{node}', parameters_of(node).declared()) for node in NODES)])


def parameters_of(node: str) -> type[Options]:
    """Return the options that are the parameters of a node."""
    import_rclpy()
    return import_module(f'mpnp_ros.nodes.{node}').PARAMETERS


def _is_current(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text('utf-8') == text


def _endpoints(endpoints: list[Endpoint]) -> Iterator[str]:
    yield from ('| | name | type | QoS | |', '|---|---|---|---|---|')
    for endpoint in endpoints:
        yield (f'| {endpoint.kind} | `{endpoint.name}` | {_type_link(endpoint.type)} | {endpoint.qos} | '
               f'{endpoint.note} |')


def _interface(interface: Interface) -> Iterator[str]:
    yield from (f'### {interface.full_name}', '', interface.summary, '')
    for section, fields in interface.sections.items():
        if section:
            yield from (f'{section.capitalize()}:' if fields else f'{section.capitalize()}: empty.', '')
        if fields:
            yield from ('| field | type | |', '|---|---|---|', *map(_field, fields), '')


def _field(field: Field) -> str:
    name = f'`{field.name}` = {field.value}' if field.value else f'`{field.name}`'
    return f'| {name} | `{field.type}` | {field.comment} |'


def _type_link(name: str) -> str:
    if not name.startswith('mpnp_ros/'):
        return name
    return f'[{name}](#{name.replace("/", "").lower()})'
