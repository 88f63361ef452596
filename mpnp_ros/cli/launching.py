"""Common parts of the launch files: arguments, and the nodes of a system as launch actions."""
from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.cli.node_processes import (
    LOG_LEVELS,
    checked_remap,
    default_modalities,
    node_program,
    source_files,
    unmatched,
    waiting,
)
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import shared_file
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.node_names import ADAPTATION, FUSION, all_nodes, checked_namespace, encoder_nodes
from mpnp_ros.supervisor import tie
from mpnp_ros.transport import additions

if TYPE_CHECKING:
    from launch.action import Action
    from launch.actions import DeclareLaunchArgument
    from launch.launch_context import LaunchContext

SWITCH = ('true', 'false')
SHIPPED = 'config/mpnp.yaml'


def system_arguments(overlay: str = '', clock: str = '', source: str = '') -> list[DeclareLaunchArgument]:
    """Return the arguments of every launch file.

    overlay: parameter file of the source of data, read after config/mpnp.yaml.  clock: other publisher of
    /clock, which the system then follows.  source: the node in place of sensors, which publishes /clock too.
    """
    from launch.actions import DeclareLaunchArgument

    started = default_modalities()
    files = f'{SHIPPED} and {overlay}' if overlay else SHIPPED
    clock = clock or (f'the {source}' if source else '')
    follows = ('true', ['true'], f'Follow /clock, which {clock} publishes') if clock else (
        'false', list(SWITCH), 'Follow /clock, as with a bag or a simulator')
    patience = [DeclareLaunchArgument('timeout', default_value='300.0', description=(
        f'Seconds that {clock} waits for the nodes to subscribe before it fails'))] if source else []
    return [
        DeclareLaunchArgument('namespace', default_value='',
                              description='Namespace of all nodes, e.g. robot1'),
        DeclareLaunchArgument('params_file', default_value='',
                              description=f'YAML file with parameters on top of {files}'),
        DeclareLaunchArgument('remap', default_value='', description=(
            'Other names for topics or services of all nodes, as from:=to from:=to')),
        DeclareLaunchArgument('autostart', default_value='true', choices=list(SWITCH),
                              description='Configure and activate the nodes without a lifecycle manager'),
        DeclareLaunchArgument('use_sim_time', default_value=follows[0], choices=follows[1],
                              description=follows[2]),
        *(DeclareLaunchArgument(modality, default_value=str(modality in started).lower(),
                                choices=list(SWITCH), description=f'Start the {modality} encoder')
          for modality in encoder_nodes()),
        DeclareLaunchArgument('adaptation', default_value='true', choices=list(SWITCH),
                              description='Start the adaptation node, which trains missing links'),
        *patience,
        DeclareLaunchArgument('log_level', default_value='info', choices=list(LOG_LEVELS),
                              description='Log level of the nodes'),
    ]


def system_actions(context: LaunchContext, overlay: str = '', source: str = '',
                   parameters: Mapping[str, object] | None = None) -> list[Action]:
    """Return the actions of encoders, fusion and adaptation, and of the source of data.

    source: the node in place of sensors, with these parameters; empty if there is none.
    Raises ConfigurationError, which ends the launch, for a wrong argument.
    """
    from launch.actions import SetEnvironmentVariable
    from launch.logging import get_logger
    from launch_ros.actions import Node

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and \
            threading.current_thread() is threading.main_thread():
        # Inherited as ignored, as in a background job of a shell; launch relies on the handler of Python.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = context.launch_configurations
    encoders = encoder_nodes()
    modalities = [name for name in encoders if given[name] == 'true']
    nodes = [*(encoders[name] for name in modalities), FUSION,
             *([ADAPTATION] if given['adaptation'] == 'true' else []), *([source] if source else [])]
    namespace = checked_namespace(given['namespace'])
    files = [shared_file(SHIPPED), *(source_files(overlay) if overlay else [])]
    if given['params_file']:
        files.append(Path(given['params_file']).expanduser())
        pushed = '/' + given.get('ros_namespace', '').strip('/')
        for sentence in unmatched(files[-1], nodes, pushed.rstrip('/') + namespace, all_nodes()):
            get_logger('mpnp_ros').warning(sentence)
    switches = {name: given[name] == 'true' for name in ('autostart', 'use_sim_time')}
    own = {ADAPTATION: {'use_sim_time': switches['use_sim_time']}}
    if source:
        own[source] = {**waiting(modalities), 'wait_timeout': number(given, 'timeout'), **(parameters or {})}
    rules = [tuple(checked_remap(rule).split(':=')) for rule in re.split(r'[\s,]+', given['remap']) if rule]
    environment = [SetEnvironmentVariable(name, value) for name, value in additions(os.environ).items()]
    return [*environment, *(
        Node(**node_command(node), exec_name=node, namespace=given['namespace'],
             parameters=[*map(str, files), own.get(node, switches)], remappings=rules,
             prefix=node_prefix(given, node), ros_arguments=['--log-level', given['log_level']],
             output='screen', emulate_tty=True)
        for node in nodes)]


def node_command(node: str) -> dict[str, object]:
    """Return how a node is started: by its executable, which sensors of other packages do not have."""
    foreign = [name for name, sensor in sensors().items()
               if sensor.node and not sensor.node.startswith('mpnp_ros.')]
    if node in (f'{name}_encoder' for name in foreign):
        return {'executable': sys.executable, 'arguments': ['-m', *node_program(node)]}
    return {'package': 'mpnp_ros', 'executable': node}


def number(given: Mapping[str, str], name: str, kind: type = float) -> float:
    """Return an argument as a number; raises ConfigurationError if it is none."""
    try:
        return kind(given[name])
    except ValueError:
        raise ConfigurationError(f'{name} is {given[name]!r}; give a number ({kind.__name__})') from None


def node_prefix(given: Mapping[str, str], executable: str) -> str:
    """Return the prefix of a node's command, which ends the node with the launch.

    `ros2 launch` leaves its processes behind when it is ended by SIGTERM, SIGHUP or SIGKILL.  The user's own
    prefix (--launch-prefix) follows.
    """
    prefix, wanted = given.get('launch-prefix', ''), given.get('launch-prefix-filter', '')
    own = prefix if re.match(wanted, executable) else ''
    return ' '.join(filter(None, [shlex.join(tie(hold_sigint=not own)), own]))
