"""The nodes of a system: their command lines, parameter files and processes."""
from __future__ import annotations

import difflib
import hashlib
import json
import os
import random
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mpnp_ros.cli import simulator
from mpnp_ros.errors import ConfigurationError, NotAnsweringError
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
from mpnp_ros.options import read_yaml
from mpnp_ros.supervisor import RUNNING, ProcessSpec, RestartPolicy, Supervisor
from mpnp_ros.transport import additions

MARK = 'ros__parameters'

OVERLAYS = {REPLAY: 'config/nuscenes.yaml', WORLD: 'config/world.yaml'}
"""Parameters that nodes other than those of sensors need with that source."""
_NAME = r'[A-Za-z_]\w*'
_TOPIC = rf'(~/|~|/)?{_NAME}(/{_NAME})*'
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')


def check_parameter_file(path: Path) -> list[str]:
    """Return the node names of a parameter file, such as ``/**/camera_encoder``.

    Raises ConfigurationError if the file is missing, is not YAML, or is not a parameter file: a node would
    end with a traceback, or silently use its defaults.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f'parameter file {path} does not exist')
    content = read_yaml(path)
    return list(_node_names(content, path)) if content else []


def unmatched(path: Path, nodes: Sequence[str], namespace: str, known: Sequence[str]) -> list[str]:
    """Return a sentence for each key of a parameter file that matches no started node.

    nodes: names of the started nodes, in ``namespace``, which is empty or begins with a slash.
    known: names of all nodes that could be started.
    """
    full = {f'{namespace}/{node}': node for node in nodes}
    said = []
    for key in check_parameter_file(path):
        if any(matches(key, name) for name in full):
            continue
        last = key.rpartition('/')[2]
        if last in nodes:
            hint = f'{last} runs in the namespace {namespace or "/"}; write /**/{last}'
        elif last in known:
            hint = f'{last} is not started'
        elif near := difflib.get_close_matches(last, known, 1, .6) or [
                node for node in known if set(last.lower().split('_')) & set(node.split('_'))]:
            hint = f'did you mean /**/{near[0]}?'
        else:
            hint = f'there are {", ".join(full)}'
        said.append(f'{path}: {key} matches no node and is ignored; {hint}')
    return said


def matches(key: str, name: str) -> bool:
    """Return whether a key of a parameter file matches the node of that name; * is one part, ** are any."""
    parts = [{'*': r'/\w+', '**': r'(/\w+)*'}.get(part, '/' + re.escape(part))
             for part in key.strip('/').split('/')]
    return re.fullmatch(''.join(parts), name) is not None


def _node_names(content: Any, path: Path, above: str = '') -> Iterator[str]:
    if not isinstance(content, Mapping):
        where = f'{above} is' if above else 'it is'
        raise ConfigurationError(f'parameter file {path}: {where} not a table of nodes with {MARK}; '
                                 f'write /**/fusion: {{{MARK}: {{...}}}}')
    for key, inner in content.items():
        if key == MARK:
            if not above or not isinstance(inner, Mapping):
                raise ConfigurationError(f'parameter file {path}: {MARK} is not a table of parameters below '
                                         f'the name of a node; write /**/fusion: {{{MARK}: {{...}}}}')
            yield above
        else:
            yield from _node_names(inner, path, f'{above}/{str(key).strip("/")}')


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
    program, values = node_program(node), dict(parameters or {})
    for file in placement.params_files:
        check_parameter_file(file)
    arguments = [part for file in (shared_file('config/mpnp.yaml'), *placement.params_files)
                 for part in ('--params-file', str(file))]
    if node not in (REPLAY, WORLD):  # they make the time that the others follow
        managed = {} if node == ADAPTATION else {'autostart': placement.autostart}
        values = {'use_sim_time': placement.use_sim_time, **managed, **values}
    for name, value in values.items():
        arguments += ['-p', f'{name}:={json.dumps(str(value) if isinstance(value, Path) else value)}']
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
    """Return the sensors of the nodes that start by default."""
    return [name for name, sensor in sensors().items() if sensor.node and sensor.start_by_default]


def node_program(node: str) -> list[str]:
    """Return the arguments of `python -m` for a node: a module, and for an encoder node its sensor.

    Raises ConfigurationError, naming the nodes there are, for another name, or where the simulator is absent.
    """
    if node == WORLD:
        return [simulator.node_module()]
    if node in (FUSION, ADAPTATION, REPLAY):
        return [f'mpnp_ros.nodes.{node}']
    encoded = {name: sensor for sensor, name in encoder_nodes().items()}
    if node not in encoded:
        raise ConfigurationError(f'no node {node!r}; use one of {", ".join(all_nodes())}')
    return ['mpnp_ros.nodes.encoder', encoded[node]]


def source_files(overlay: str) -> list[Path]:
    """Return the parameter files that nodes need with the topics of nuScenes.

    overlay: the first of them.  The other one is made from the registrations of the sensors, in the cache.
    """
    values = {f'/**/{name}_encoder': {'ros__parameters': {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in sensor.source_parameters.items()}}
        for name, sensor in sensors().items() if sensor.source_parameters}
    text = yaml.safe_dump(values, sort_keys=False).encode()
    path = cache_root() / 'parameters' / f'sensors-{hashlib.sha256(text).hexdigest()[:12]}.yaml'
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    return [shared_file(overlay), path]


def listening_topic(modality: str) -> str:
    """Return a topic of bags and the world that the active node of a sensor subscribes to, or ''."""
    return next(iter(find_sensor(modality).source_topics), '')


def waiting(modalities: Sequence[str]) -> dict[str, Any]:
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


class LoggedProcesses:
    """Starts nodes in processes of their own; their output goes to ``log``, a new file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._lock = threading.Lock()
        self._running: list[Supervisor] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('')

    @contextmanager
    def run(self, specs: Sequence[ProcessSpec]) -> Iterator[Supervisor]:
        """Run these processes for the length of a block."""
        with Supervisor(specs, RestartPolicy(limit=0), write=self._write) as group:
            self._running.append(group)
            try:
                yield group
            finally:
                self._running.remove(group)

    def check(self) -> None:
        """Raise NotAnsweringError, naming the node and its last error, if one has ended."""
        for group in list(self._running):
            group.poll()
            for child in group.children:
                if child.state != RUNNING:
                    name = child.spec.name
                    errors = [line for line in self.log.read_text().splitlines()
                              if line.startswith(f'[{name}]') and ('ERROR' in line or 'FATAL' in line)]
                    reason = f' ({errors[-1].split("]: ")[-1]})' if errors else ''
                    raise NotAnsweringError(f'{name} ended with exit code {child.returncode}{reason}; '
                                            f'see {self.log}')

    def _write(self, name: str, line: str) -> None:
        with self._lock, self.log.open('a') as stream:
            stream.write(f'[{name}] {line}\n')


def own_domain() -> None:
    """Isolate the nodes that a command starts in a ROS domain, unless the user has chosen one."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randrange(1, 100)))
