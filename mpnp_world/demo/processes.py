"""The nodes of the demo as processes: fusion, adaptation, plugged-in encoders, and the world or a bag."""
from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from mpnp_ros.cli.node_processes import (
    OVERLAYS,
    LoggedProcesses,
    Placement,
    listeners,
    node_process,
    source_files,
)
from mpnp_ros.node_names import ADAPTATION, FUSION, REPLAY, WORLD, encoder_nodes
from mpnp_ros.supervisor import ProcessSpec
from mpnp_world.demo.drive import BOTH, SCOPE

SEED, INTERVAL, SCENE_SECONDS = 31_000, 3.0, 24.0
"""A seed that nothing was trained on, seconds between key frames, and duration of a scene, seconds."""
QUESTIONS_A_KIND = 20
PARAMETERS: Mapping[str, Mapping[str, object]] = {
    'fusion': {'stale_after': 60.0,  # the world stands still while questions are asked
               'quality_weight': 0.6, 'modalities': list(BOTH)},
    'adaptation': {'modalities': list(BOTH), 'min_interval': 5.0, 'min_healthy_duration': 1.0,
                   'budget_duration': 60.0, 'min_paired_moments': 14},
    'world': {'hold': True, 'rate': 6.0, 'sensors': list(BOTH), 'width': 400, 'height': 225,
              'key_frame_rate': 1 / INTERVAL, 'motion_rate': 5.0, 'scene_duration': SCENE_SECONDS,
              'duration': 100_000.0, 'questions': QUESTIONS_A_KIND, 'question_distance': SCOPE.max_distance,
              'question_points': SCOPE.min_points, 'question_anchors': SCOPE.anchors},
    'replay': {'loop': True, 'loop_period': 2.0},
}


class Processes(LoggedProcesses):
    """Starts the nodes of the demo; their output goes to ``log``.

    links: folders of the links in use at the start.  starts: folders of links that new links may start from.
    Both default to the shipped links.  supervision: that of the adaptation node.  params_files: of the user,
    read last.
    """

    def __init__(self, log: Path, params_files: Sequence[Path] = (), links: Sequence[Path] = (),
                 starts: Sequence[Path] = (), supervision: str = 'any', seed: int = SEED) -> None:
        super().__init__(log)
        self.state = log.parent / 'state'
        shutil.rmtree(self.state, ignore_errors=True)
        own = log.with_suffix('.yaml')
        chosen: dict[str, dict[str, object]] = {
            'fusion': {'links': list(map(str, links)) or ['shipped']},
            'adaptation': {'initial_links': list(map(str, starts)) or ['shipped'],
                           'supervision': supervision},
            'world': {'seed': seed}}
        own.write_text(yaml.safe_dump({f'/**/{node}': {'ros__parameters': {**values, **chosen.get(node, {})}}
                                       for node, values in PARAMETERS.items()}))
        files = [*source_files(OVERLAYS[WORLD]), own, *params_files]
        self._placement = Placement(params_files=files, use_sim_time=True)
        self._encoders: dict[str, ExitStack] = {}

    @contextmanager
    def robot(self, adapts: bool = True) -> Iterator[None]:
        """Run the fusion node and, if ``adapts``, the adaptation node; ends plugged-in encoders, too."""
        nodes = (FUSION, ADAPTATION) if adapts else (FUSION,)
        with self.run([self._node(node) for node in nodes]):
            try:
                yield
            finally:
                self.plug_in(())

    def plug_in(self, modalities: Sequence[str]) -> None:
        """Run the encoders of these modalities and no others."""
        for name in self._encoders.keys() - set(modalities):
            self._encoders.pop(name).close()
        for name in modalities:
            if name not in self._encoders:
                stack = ExitStack()
                stack.enter_context(self.run([self._node(encoder_nodes()[name])]))
                self._encoders[name] = stack

    @contextmanager
    def world(self) -> Iterator[None]:
        """Run the embedded world."""
        with self.run([self._node(WORLD, _waiting(['camera']))]):
            yield

    @contextmanager
    def replay(self, bag: Path) -> Iterator[None]:
        """Play a bag in a loop, with increasing stamps."""
        with self.run([self._node(REPLAY, {'bag': bag, 'restamp': True, **_waiting(BOTH)})]):
            yield

    def _node(self, node: str, parameters: Mapping[str, object] | None = None) -> ProcessSpec:
        """The process of a node, with the empty state folder of this demo."""
        spec = node_process(node, self._placement, parameters)
        return ProcessSpec(spec.name, spec.command, {**spec.environment, 'MPNP_STATE': str(self.state)})


def _waiting(modalities: Sequence[str]) -> dict[str, object]:
    """Parameters with which a source of data begins once the encoders and other listeners subscribe."""
    return {'wait_for': listeners(modalities), 'wait_timeout': 600.0}
