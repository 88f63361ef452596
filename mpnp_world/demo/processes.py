"""The nodes of the demo as processes: fusion, adaptation, plugged-in encoders, and the world or a bag."""
from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from mpnp_ros.bags.questions import TOPIC
from mpnp_ros.cli.node_processes import (
    OVERLAYS,
    LoggedProcesses,
    Placement,
    listeners,
    node_process,
    source_files,
)
from mpnp_ros.methods.link_files import read_manifest
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.node_names import ADAPTATION, FUSION, REPLAY, WORLD, encoder_nodes
from mpnp_ros.questions.generator import NEARBY
from mpnp_ros.supervisor import ProcessSpec
from mpnp_world.demo.drive import BOTH

SEED, INTERVAL, SCENE_SECONDS = 31_000, 3.0, 24.0
"""A seed that nothing was trained on, seconds between key frames, and duration of a scene, seconds."""
STEPS, LONGEST_TRAINING = 48, 1200.0
"""Steps of a training, the same on every machine, and the seconds after which it ends earlier."""
QUESTIONS_A_KIND = 20
REPLAY_RATE, SET_TIMEOUT = 0.5, 0.25
"""Speed of real drives, and seconds that a set of images waits beyond the time between them."""
PARAMETERS: Mapping[str, Mapping[str, object]] = {
    'fusion': {'stale_after': 60.0,  # the world stands still while questions are asked
               'quality_weight': 0.6, 'modalities': list(BOTH)},
    'adaptation': {'modalities': list(BOTH), 'min_interval': 5.0, 'min_healthy_duration': 1.0,
                   'steps': STEPS, 'budget_duration': LONGEST_TRAINING, 'min_paired_moments': 14},
    'world': {'hold': True, 'rate': 6.0, 'sensors': list(BOTH),
              'key_frame_rate': 1 / INTERVAL, 'motion_rate': 6.0, 'scene_duration': SCENE_SECONDS,
              'duration': 100_000.0, 'questions': QUESTIONS_A_KIND, 'question_distance': NEARBY.max_distance,
              'question_points': NEARBY.min_points, 'question_anchors': NEARBY.anchors},
    'replay': {'hold': TOPIC, 'loop': True, 'loop_period': 2.0, 'rate': REPLAY_RATE},
}


class Processes(LoggedProcesses):
    """Starts the nodes of the demo; their output goes to ``log``.

    links: folders of the links in use at the start.  starts: folders of links that new links may start from.
    Both default to the shipped links.  supervision: that of the adaptation node.  params_files: of the user,
    read last.  slop: seconds between images of a real key frame, in which objects are detected; 0: images are
    those of the world.
    """

    def __init__(self, log: Path, params_files: Sequence[Path] = (), links: Sequence[Path] = (),
                 starts: Sequence[Path] = (), supervision: str = 'any', seed: int = SEED,
                 slop: float = 0.) -> None:
        super().__init__(log)
        self.state = log.parent / 'state'
        shutil.rmtree(self.state, ignore_errors=True)
        own = log.with_suffix('.yaml')
        chosen: dict[str, dict[str, object]] = {
            'fusion': {'links': list(map(str, links)) or ['shipped']},
            'adaptation': {'initial_links': list(map(str, starts)) or ['shipped'],
                           'supervision': supervision},
            'world': {'seed': seed}}
        if slop:
            chosen['camera_encoder'] = {'encoder.tokens': 'detections', 'slop': slop,
                                        'timeout': slop / REPLAY_RATE + SET_TIMEOUT}
        own.write_text(yaml.safe_dump({
            f'/**/{node}': {'ros__parameters': {**PARAMETERS.get(node, {}), **chosen.get(node, {})}}
            for node in (*PARAMETERS, *(chosen.keys() - PARAMETERS.keys()))}))
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

    def is_trained(self, modality: str, version: str) -> bool:
        """Return whether this version of the links to a modality is the result of a training.

        Copies, and links that were only evaluated, have learned from no questions.
        """
        found = next((link for link in LinkStore(self.state / 'links').list(modality)
                      if link.version == version), None)
        record = found and read_manifest(found.path).provenance.adaptation
        return bool(record and record.questions)

    @contextmanager
    def world(self) -> Iterator[None]:
        """Run the embedded world."""
        with self.run([self._node(WORLD, _waiting(['camera']))]):
            yield

    @contextmanager
    def replay(self, bag: Path, modalities: Sequence[str]) -> Iterator[None]:
        """Play a bag in a loop, with increasing stamps; it waits at every key frame."""
        with self.run([self._node(REPLAY, {'bag': bag, 'restamp': True, **_waiting(modalities)})]):
            yield

    def _node(self, node: str, parameters: Mapping[str, object] | None = None) -> ProcessSpec:
        """The process of a node, with the empty state folder of this demo."""
        spec = node_process(node, self._placement, parameters)
        return ProcessSpec(spec.name, spec.command, {**spec.environment, 'MPNP_STATE': str(self.state)})


def _waiting(modalities: Sequence[str]) -> dict[str, object]:
    """Parameters with which a source of data begins once the encoders and other listeners subscribe."""
    return {'wait_for': listeners(modalities), 'wait_timeout': 600.0}
