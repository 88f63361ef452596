"""The nodes of a system and their command lines."""
from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from mpnp_ros.cli import simulator
from mpnp_ros.cli.parameter_files import check_parameter_file
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.files import cache_root, shared_file, write_file
from mpnp_ros.modalities.registry import find_sensor, sensors
from mpnp_ros.node_names import (
    ADAPTATION,
    FUSION,
    REPLAY,
    WORLD,
    all_nodes,
    checked_namespace,
    encoder_nodes,
)
from mpnp_ros.supervisor import ProcessSpec
from mpnp_ros.transport import additions

OVERLAYS = {REPLAY: 'config/nuscenes.yaml', WORLD: 'config/world.yaml'}
"""Parameters that nodes other than those of sensors need with that source."""
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
    program = node_program(node)
    arguments = [part for file in _parameter_files(placement) for part in ('--params-file', str(file))]
    for name, value in {**_common(node, placement), **(parameters or {})}.items():
        arguments += ['-p', f'{name}:={_yaml(value)}']
    if placement.namespace:
        arguments += ['-r', f'__ns:={checked_namespace(placement.namespace)}']
    arguments += [part for rule in placement.remaps for part in ('-r', checked_remap(rule))]
    command = [sys.executable, '-m', *program, '--ros-args', *arguments,
               '--log-level', placement.log_level]
    return ProcessSpec(node, command, additions(os.environ))


def system_processes(modalities: Sequence[str], placement: Placement,
                     replay: Mapping[str, object] | None = None, world: Mapping[str, object] | None = None,
                     adaptation: bool = True) -> list[ProcessSpec]:
    """Return the processes of encoders, fusion and adaptation, and of the node in place of sensors.

    replay, world: the parameters of that node; at most one of them is given.  adaptation: whether to start
    that node.
    """
    encoders = encoder_nodes()
    unknown = set(modalities) - set(encoders)
    if unknown:
        raise ConfigurationError(f'no encoder node for {", ".join(sorted(unknown))}; '
                                 f'there are {", ".join(encoders)}')
    nodes = [*(node for name, node in encoders.items() if name in modalities), FUSION,
             *([ADAPTATION] if adaptation else [])]
    source, parameters = (REPLAY, replay) if world is None else (WORLD, world)
    if parameters is None:
        return [node_process(node, placement) for node in nodes]
    files = [*source_files(OVERLAYS[source]), *placement.params_files]
    placement = replace(placement, params_files=files, use_sim_time=True)
    return [*(node_process(node, placement) for node in nodes),
            node_process(source, placement, {**waiting(modalities), **parameters})]


def default_modalities() -> list[str]:
    """Return the sensors whose nodes are started unless others are asked for."""
    return [name for name, sensor in sensors().items() if sensor.node and sensor.start_by_default]


def node_program(node: str) -> list[str]:
    """Return what `python -m` runs as a node: a module, and for an encoder node its sensor.

    Raises ConfigurationError, naming the nodes there are, for another name, or where the simulator is absent.
    """
    if node not in all_nodes():
        raise ConfigurationError(f'no node {node!r}; use one of {", ".join(all_nodes())}')
    if node == WORLD:
        return [simulator.node_module()]
    encoded = {name: sensor for sensor, name in encoder_nodes().items()}
    return ['mpnp_ros.nodes.encoder', encoded[node]] if node in encoded else [f'mpnp_ros.nodes.{node}']


def source_files(overlay: str) -> list[Path]:
    """Return the parameter files that nodes need with the topics of nuScenes.

    overlay: the first of them.  The other one is made from the registrations of the sensors, in the cache.
    """
    values = {f'/**/{name}_encoder': {'ros__parameters': dict(sensor.source_parameters)}
              for name, sensor in sensors().items() if sensor.source_parameters}
    text = yaml.safe_dump(values, sort_keys=False).encode()
    path = cache_root() / 'parameters' / f'sensors-{hashlib.sha256(text).hexdigest()[:12]}.yaml'
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_file(path, text)
    return [shared_file(overlay), path]


def listening_topic(modality: str) -> str:
    """Return a topic of a bag and of the world that the active node of a sensor subscribes to, or nothing."""
    return next(iter(find_sensor(modality).source_topics), '')


def waiting(modalities: Sequence[str]) -> dict[str, object]:
    """Return the parameters of a source that starts when all nodes subscribe, and fails if they do not."""
    return {'wait_for': listeners(modalities), 'require_listeners': True}


def listeners(modalities: Sequence[str]) -> list[str]:
    """Return topics that have a subscriber once these encoders and fusion are active."""
    topics = (listening_topic(name) for name in sorted(modalities))
    return [*filter(None, topics), 'question']


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
