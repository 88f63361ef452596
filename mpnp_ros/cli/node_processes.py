"""The nodes of a system and their command lines."""
from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpnp_ros.cli import simulator
from mpnp_ros.cli.parameter_files import check_parameter_file
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import shared_file
from mpnp_ros.node_names import ADAPTATION, ENCODERS, FUSION, NODES, REPLAY, WORLD, checked_namespace
from mpnp_ros.supervisor import ProcessSpec
from mpnp_ros.transport import additions

USUAL = ('camera', 'lidar')
"""Modalities whose encoders are started unless others are asked for."""
REPLAYED = {'camera': '/cam_front/image_rect/compressed', 'lidar': '/lidar_top', 'radar': '/radar_front'}
"""A topic of a bag and of the world that the active encoder of each modality subscribes to."""
OVERLAYS = {REPLAY: 'config/nuscenes.yaml', WORLD: 'config/world.yaml'}
"""Parameters that all nodes need with that source."""
_NAME = r'[A-Za-z_]\w*'
_TOPIC = rf'(~/|~|/)?{_NAME}(/{_NAME})*'
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


@dataclass(frozen=True)
class Placement:
    """Settings shared by all nodes of one robot.

    namespace: empty or absolute, e.g. ``/robot1``.
    params_files: read after config/mpnp.yaml in this order; later ones win.
    remaps: rules ``from:=to`` of all nodes; see :func:`checked_remap`.
    """

    namespace: str = ''
    params_files: Sequence[Path] = ()
    use_sim_time: bool = False
    autostart: bool = True
    log_level: str = 'info'
    remaps: Sequence[str] = ()


def node_process(node: str, placement: Placement,
                 parameters: Mapping[str, object] | None = None) -> ProcessSpec:
    """Return the process of one node; ``parameters`` take precedence over the parameter files.

    Raises ConfigurationError if the node or a parameter file does not exist, or the simulator is not
    installed.
    """
    if node not in NODES:
        raise ConfigurationError(f'no node {node!r}; use one of {", ".join(NODES)}')
    arguments = [part for file in _parameter_files(placement) for part in ('--params-file', str(file))]
    for name, value in {**_common(node, placement), **(parameters or {})}.items():
        arguments += ['-p', f'{name}:={_yaml(value)}']
    if placement.namespace:
        arguments += ['-r', f'__ns:={checked_namespace(placement.namespace)}']
    arguments += [part for rule in placement.remaps for part in ('-r', checked_remap(rule))]
    module = simulator.node_module() if node == WORLD else f'mpnp_ros.nodes.{node}'
    command = [sys.executable, '-m', module, '--ros-args', *arguments,
               '--log-level', placement.log_level]
    return ProcessSpec(node, command, additions(os.environ))


def system_processes(modalities: Sequence[str], placement: Placement,
                     replay: Mapping[str, object] | None = None, world: Mapping[str, object] | None = None,
                     adaptation: bool = True) -> list[ProcessSpec]:
    """Return the processes of encoders, fusion and adaptation, and of the node in place of sensors.

    replay, world: the parameters of that node; at most one of them is given.  adaptation: whether to start
    that node.
    """
    unknown = set(modalities) - set(ENCODERS)
    if unknown:
        raise ConfigurationError(f'no encoder node for {", ".join(sorted(unknown))}; '
                                 f'there are {", ".join(ENCODERS)}')
    nodes = [*(node for name, node in ENCODERS.items() if name in modalities), FUSION,
             *([ADAPTATION] if adaptation else [])]
    source, parameters = (REPLAY, replay) if world is None else (WORLD, world)
    if parameters is None:
        return [node_process(node, placement) for node in nodes]
    files = [shared_file(OVERLAYS[source]), *placement.params_files]
    placement = replace(placement, params_files=files, use_sim_time=True)
    return [*(node_process(node, placement) for node in nodes),
            node_process(source, placement, {**waiting(modalities), **parameters})]


def waiting(modalities: Sequence[str]) -> dict[str, object]:
    """Return the parameters of a source that starts when all nodes subscribe, and fails if they do not."""
    return {'wait_for': listeners(modalities), 'require_listeners': True}


def listeners(modalities: Sequence[str]) -> list[str]:
    """Return topics that have a subscriber once these encoders and fusion are active."""
    return [*(topic for name, topic in REPLAYED.items() if name in modalities), 'question']


def checked_remap(rule: str) -> str:
    """Return a remapping rule unchanged, such as ``/tf:=tf`` or ``camera_encoder:/clock:=/sim/clock``.

    Raises ConfigurationError if ROS would refuse it, which would end a node with a traceback.
    """
    if rule.startswith('__'):
        raise ConfigurationError(f'remapping {rule!r} renames all nodes; give --namespace instead')
    if not re.fullmatch(rf'({_NAME}:)?{_TOPIC}:={_TOPIC}', rule, re.ASCII):
        raise ConfigurationError(f'remapping {rule!r} is not FROM:=TO with two names of topics or services; '
                                 'write for example /tf_static:=/robot1/tf_static')
    return rule


def _common(node: str, placement: Placement) -> dict[str, object]:
    if node in (REPLAY, WORLD):  # they make the time that the others follow
        return {}
    managed = {} if node == ADAPTATION else {'autostart': placement.autostart}
    return {'use_sim_time': placement.use_sim_time, **managed}


def _parameter_files(placement: Placement) -> Sequence[Path]:
    for file in placement.params_files:
        check_parameter_file(file)
    return [shared_file('config/mpnp.yaml'), *placement.params_files]


def _yaml(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)
