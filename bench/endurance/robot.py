"""Supervised nodes and a robot that publishes tokens and asks questions, for the endurance program."""
from __future__ import annotations

import queue
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.endurance.question_ledger import EncoderLookup, QuestionLedger, ReceivedAnswer, versions
from mpnp_ros.cli.node_processes import Placement, node_process
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.methods.link_files import read_manifest
from mpnp_ros.methods.link_store import LinkStore, StoredLink
from mpnp_ros.node_names import ADAPTATION, FUSION
from mpnp_ros.questions.generator import NEARBY, LabelledQuestion, scene_questions
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.supervisor import RestartPolicy, Supervisor
from mpnp_ros.tokens import ModalityTokens, sector_azimuths
from mpnp_ros.training.head_data import sector_targets
from mpnp_world.dataset.objects_only import object_key_frames

if TYPE_CHECKING:
    from rclpy.node import Node

CAMERA, LIDAR, OBJECTS = 'camera', 'lidar', 'objects'
SEED, SCENES, FRAMES, QUESTIONS_A_KIND = 41_000, 2, 3, 12
TOKENS_PERIOD, ASKING_PERIOD, ON_THEIR_WAY = .25, .3, 3
TRIED, TRAINED = 250, 2400
"""Labelled questions for a sensor whose links are only tried, and for one whose links are trained."""
READER, TRAINER = 'reader', 'trainer'
JOBS = {READER: b'read', TRAINER: b'train'}
"""Processes of the adaptation node, by an argument of their command lines."""
TRAINING = 2
PARAMETERS: Mapping[str, Mapping[str, object]] = {
    FUSION: {'modalities': [CAMERA, LIDAR], 'threads': 1},
    ADAPTATION: {'modalities': [CAMERA, LIDAR], 'supervision': 'labelled', 'min_healthy_duration': 0.,
                 'min_interval': 0., 'retry_delay': 5., 'budget_duration': 60., 'min_trial_questions': 100,
                 'min_labelled_questions': 400, 'steps': 10, 'batch': 8, 'headings_per_frame': 1,
                 'max_held_out_questions': 90, 'niceness': 0},
}


@dataclass(frozen=True, eq=False)
class ObjectSnapshot:
    """Tokens by sector, float32 [72, C], and labelled questions of one moment."""

    values: np.ndarray
    questions: Sequence[LabelledQuestion]


def object_snapshots() -> list[ObjectSnapshot]:
    """Snapshots of the embedded world, without rendering."""
    frames = object_key_frames(range(SEED, SEED + SCENES), FRAMES, workers=1, progress=False)
    return [ObjectSnapshot(sector_targets(frame, NEARBY).counts(),
                           scene_questions(frame, 0, QUESTIONS_A_KIND, NEARBY)) for frame in frames]


class Nodes:
    """Fusion and adaptation nodes, restarted after a crash; their output goes to a log file."""

    def __init__(self, state: Path, log: Path, links: Mapping[str, StoredLink]) -> None:
        chosen = {FUSION: {'links': [str(links[CAMERA].path)]},
                  ADAPTATION: {'initial_links': [str(links[OBJECTS].path)]}}
        self._log = log.open('a', buffering=1)
        specs = [node_process(node, Placement(), {**PARAMETERS[node], **chosen[node]}) for node in PARAMETERS]
        self._supervisor = Supervisor(
            [replace(spec, environment={**spec.environment, 'MPNP_STATE': str(state)}) for spec in specs],
            RestartPolicy(limit=1000, delay=.5, longest=1.),
            write=lambda name, line: self._log.write(f'{time.time():.2f} [{name}] {line}\n'))

    def __enter__(self) -> Nodes:
        self._supervisor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._supervisor.__exit__(*error)
        self._log.close()

    def poll(self) -> None:
        """Restart crashed nodes."""
        self._supervisor.poll()

    def note(self, text: str) -> None:
        """Write a line to the log of the nodes."""
        self._log.write(f'{time.time():.2f} [endurance] {text}\n')

    def pid(self, victim: str) -> int | None:
        """The process ID of a node or of a job of the adaptation node; None if it does not run."""
        if victim in PARAMETERS:
            return self._supervisor[victim].pid
        if parent := self._supervisor[ADAPTATION].pid:
            with suppress(OSError):
                for thread in Path(f'/proc/{parent}/task').iterdir():  # any of them may have started the job
                    for child in (thread / 'children').read_text().split():
                        words = Path(f'/proc/{child}/cmdline').read_bytes().split(b'\0')
                        if b'mpnp_ros.adaptation.job_process' in words and JOBS[victim] in words:
                            return int(child)
        return None


class TokenRobot:
    """Publishes camera tokens, LiDAR tokens while a LiDAR is plugged in, and questions; call `tick` often.

    states: links in use by modality, as published by the fusion node.  adaptation: time and content of the
    newest message.  rests: encoders of the tokens that the newest answer used, by modality.
    """

    def __init__(self, node: Node, seen: Sequence[ObjectSnapshot], store: LinkStore,
                 shipped: Mapping[str, StoredLink]) -> None:

        from mpnp_ros import msg

        self._seen, self._store, self._rng = seen, store, random.Random(0)
        self._camera = read_manifest(shipped[CAMERA].path).config.encoder
        self._made: dict[tuple[str, int], str] = {}
        self._read = {(CAMERA, shipped[CAMERA].version): self._camera}
        self.ledger = QuestionLedger(ANSWERS, EncoderLookup(lambda *key: self._made.get(key), self._reader))
        self.ledger.killed(time.monotonic())  # no fusion node runs yet
        self.encoder, self.labels_left, self.asking = '', 0, False
        self.states: dict[str, str] = {}
        self.adaptation: tuple[float, Any] | None = None
        self.rests: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self._replies: queue.Queue[Any] = queue.Queue()
        self._next_tokens = self._next_question = 0.
        self._place = 0
        best, latched = qos_profile(SENSOR_DATA, 5), qos_profile(LATCHED)
        self._tokens = {name: node.create_publisher(msg.ModalityTokens, f'tokens/{name}', best)
                        for name in (CAMERA, LIDAR)}
        self._labels = node.create_publisher(msg.LabelledQuestions, '/labelled_questions', 10)
        self._question = node.create_publisher(msg.Question, 'question', 100)
        node.create_subscription(msg.Answer, 'answer', self._replies.put, 1000)
        node.create_subscription(msg.ModalityStates, 'modalities', self._on_states, latched)
        node.create_subscription(msg.Adaptation, 'adaptation', self._on_adaptation, latched)

    @property
    def trains(self) -> bool:
        """Whether a training is running."""
        return self.adaptation is not None and self.adaptation[1].state == TRAINING

    def plug_in(self, encoder: str, labels: int) -> None:
        """Start publishing LiDAR tokens and labelled questions."""
        self.encoder, self.labels_left = encoder, labels

    def plug_out(self) -> None:
        """Stop publishing LiDAR tokens."""
        self.encoder, self.labels_left = '', 0

    def reads(self, encoder: str, trained: bool = False) -> bool:
        """Whether the fusion node uses links for this encoder.  trained: require trained links."""
        version = self.states.get(LIDAR, '')
        if self._reader(LIDAR, version) != encoder:
            return False
        if not trained:
            return True
        adapted = read_manifest(self._store.path(LIDAR, version)).provenance.adaptation
        return adapted is not None and adapted.steps > 0

    def tick(self) -> bool:
        """Publish due messages and take answers; returns whether a killed node has answered again."""
        from mpnp_ros import msg

        now, back = time.monotonic(), False
        if now >= self._next_tokens:
            self._next_tokens = now + TOKENS_PERIOD
            self._sense()
        while not self._replies.empty():
            back |= self._take(self._replies.get(), now)
        self.ledger.look(now)
        if self.asking and now >= self._next_question and self.ledger.waiting < ON_THEIR_WAY:
            self._next_question = now + ASKING_PERIOD
            snapshot = self._seen[self._place % len(self._seen)]
            name, text = self.ledger.ask(self._rng.choice(snapshot.questions).text, now)
            self._question.publish(msg.Question(id=name, text=text, choices=list(ANSWERS)))
        return back

    def _sense(self) -> None:
        """Publish the tokens of the next moment, and its labelled questions while they are wanted."""
        from mpnp_ros import msg
        from mpnp_ros.conversions.messages import from_nanoseconds, to_message

        stamp, self._place = time.time_ns(), self._place + 1
        snapshot = self._seen[self._place % len(self._seen)]
        for name, encoder in ((CAMERA, self._camera), (LIDAR, self.encoder)):
            if encoder:
                self._made[name, stamp] = encoder
                self._tokens[name].publish(to_message(ModalityTokens(
                    name, encoder, snapshot.values, sector_azimuths(), stamp_ns=stamp, quality=1.)))
        if self.encoder and self.labels_left > 0 and self._place % 2:
            self.labels_left -= len(snapshot.questions)
            message = msg.LabelledQuestions(questions=[msg.LabelledQuestion(
                question=msg.Question(text=question.text, choices=list(ANSWERS)), answer=question.answer,
                type=question.type, hops=question.hops) for question in snapshot.questions])
            message.header.stamp = from_nanoseconds(stamp)
            self._labels.publish(message)

    def _take(self, message: Any, now: float) -> bool:
        """Record an Answer message; returns whether it is the first of a restarted node."""
        from mpnp_ros.conversions.messages import to_nanoseconds

        used = dict(zip(message.used_modalities, map(to_nanoseconds, message.modality_stamps), strict=True))
        reply = ReceivedAnswer(
            message.id, message.question, message.status, message.error, message.text, message.confidence,
            tuple(message.choices), tuple(message.probabilities), used, tuple(message.missing_modalities),
            versions(message.links_version), to_nanoseconds(message.header.stamp), message.latency)
        if reply.used or reply.links:
            self.rests = {name: self._made.get((name, stamp), '') for name, stamp in reply.used.items()}
            self.links = dict(reply.links)
        return self.ledger.take(reply, now)

    def _reader(self, modality: str, version: str) -> str | None:
        """The encoder of a version of links; versions are immutable."""
        if version and (modality, version) not in self._read:
            for link in self._store.list(modality):
                if (modality, link.version) not in self._read:
                    self._read[modality, link.version] = read_manifest(link.path).config.encoder
        return self._read.get((modality, version))

    def _on_states(self, message: Any) -> None:
        self.states = {row.modality: row.links_version for row in message.modalities}

    def _on_adaptation(self, message: Any) -> None:
        self.adaptation = time.monotonic(), message
