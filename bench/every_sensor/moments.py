"""Moments of held-out streets with the tokens of all five sensors, and questions whose answers are known."""
from __future__ import annotations

import math
import random
import wave
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.audio.drive import siren_azimuth
from bench.imu.drives import classes
from mpnp_ros.errors import DatasetError
from mpnp_ros.files import cached_folder
from mpnp_ros.modalities.audio.frames import AudioFrame
from mpnp_ros.modalities.imu.channels import BUMP_SPAN, PACES, SPEEDS, TURNS
from mpnp_ros.modalities.registry import Encoder
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.progress import progress
from mpnp_ros.questions.generator import NEARBY, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.subjects import MOTION, SOUNDS, States, all_answers
from mpnp_ros.questions.vocabulary import Channel
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.dataset import Example, Frame, TokenDataset
from mpnp_ros.training.key_frames import dataset_reader
from mpnp_ros.training.painted_states import PaintedState
from mpnp_world.dataset.frames import STEP, SweepPlan, steps_of
from mpnp_world.dataset.generate import Recipe, generate
from mpnp_world.scene.identity import Conditions, SceneIdentity
from mpnp_world.scene.state import WorldState
from mpnp_world.scene.world import World
from mpnp_world.sensors.imu import BUMP_EVERY, BUMP_SPEED, bump
from mpnp_world.sensors.rig import MICROPHONES

SCENES, KEY_FRAMES, INTERVAL = range(62_000, 62_024), 8, 3.
RECIPE = Recipe(KEY_FRAMES, INTERVAL, sensors=('camera', 'lidar', 'radar', 'imu', 'microphones'),
                sweeps=('camera', 'lidar'), sweep_rate=2.)
HEARD = {'siren': 100., 'horn': 60.}
"""Sounds that are asked about, and metres within which they count as audible."""
WINDOW = 2.
"""Seconds of sound before a moment."""
PER_KIND = 3
"""Maximum questions of each kind about a moment."""


@dataclass(frozen=True)
class Truth:
    """Own motion and sounds of a moment: channels, and their azimuths in radians, NaN without a direction."""

    motion: tuple[tuple[Channel, float], ...]
    sounds: tuple[tuple[Channel, float], ...]


def identities() -> list[SceneIdentity]:
    """The scenes, by day and at night in turn."""
    return [SceneIdentity(seed, Conditions(('day', 'night')[seed % 2])) for seed in SCENES]


def moments(folder: Path, encoders: Mapping[str, Encoder], of_each: int) -> TokenDataset:
    """Questions about the moments, kept in the folder; see make_moments."""
    heads = [encoder.fingerprint for encoder in encoders.values()]
    folder.mkdir(parents=True, exist_ok=True)
    return TokenDataset.load(cached_folder(
        folder / 'moments', f'{RECIPE} {SCENES} {PER_KIND} {of_each} {heads}',
        lambda empty: make_moments(folder, encoders, of_each).write(empty)))


def make_moments(folder: Path, encoders: Mapping[str, Encoder], of_each: int) -> TokenDataset:
    """Generate the scenes if missing, encode them, and ask.

    of_each: questions of each type.  Raises DatasetError if the simulation of the truth leaves the path of
    the scene.
    """
    scenes = identities()
    root = NuScenes(generate(folder / 'world', scenes, RECIPE, workers=2))
    frames: dict[str, Frame] = {}
    asked: dict[str, list[Example]] = {'objects': [], MOTION.name: [], SOUNDS.name: []}
    rng = random.Random(0)
    with progress('encoding') as show:
        for number, identity in enumerate(scenes, 1):
            truths = scene_truths(identity)
            for frame, (state, truth) in zip(root.key_frames(identity.name), truths, strict=True):
                if math.dist(frame.ego_pose.translation[:2], (state.ego.x, state.ego.y)) > 0.01:
                    raise DatasetError(f'the truth of {identity.name} is of another path; generate it anew')
                key = f'{identity.name}/{frame.token}'
                frames[key] = {name: encoder.encode(audio_frame(root, frame) if name == 'audio' else
                                                    dataset_reader(name).frame(frame))
                               for name, encoder in encoders.items()}
                asked['objects'] += [
                    Example(question.text, question.answer, all_answers(), question.type, question.hops, key)
                    for question in scene_questions(frame, per_kind=PER_KIND, scope=NEARBY)]
                for subject, there in ((MOTION, truth.motion), (SOUNDS, truth.sounds)):
                    asked[subject.name] += state_questions(subject, there, key, rng)
            show(number, len(scenes), identity.name)
    objects = TokenDataset(frames, tuple(asked.pop('objects'))).evened(of_each).examples
    return TokenDataset(frames, (*objects, *(
        example for examples in asked.values() for example in balanced(examples, of_each, rng))))


def scene_truths(identity: SceneIdentity) -> Iterator[tuple[WorldState, Truth]]:
    """Simulate a scene again, in the steps of its sensor files; the state and the truth of each key frame."""
    world = World(identity.seed, identity.conditions)
    sweeps = SweepPlan(RECIPE.sweeps, RECIPE.sweep_seconds, dict.fromkeys(RECIPE.sweeps, RECIPE.sweep_rate))
    states = [world.state()]
    for _ in range(KEY_FRAMES):
        states += [world.state() for swept in steps_of(world, INTERVAL, sweeps) if swept is None]
        yield states[-1], truth_of(identity.seed, states)


def truth_of(seed: int, states: list[WorldState]) -> Truth:
    """The truth at the last of the states, which are STEP seconds apart."""
    recent = states[-1 - round(1 / STEP):]
    speed = np.array([state.ego.speed for state in recent])
    heading = np.unwrap([state.ego.yaw for state in recent])
    now = recent[-1].time
    slots = (bump(seed, slot) for slot in range(int(now // BUMP_EVERY) + 1))
    bumped = any(size and 0.1 < now - start < BUMP_SPAN and speed.mean() > BUMP_SPEED / 2
                 for start, size in slots)
    turning = (heading[-1] - heading[0]) / (recent[-1].time - recent[0].time)
    found = classes(np.array([[speed.mean(), turning, speed[-1] - speed[0], float(bumped)]]))[0]
    motion: list[Channel] = [('speed', SPEEDS[found[0]]), ('turn', TURNS[found[1]]),
                             ('pace', PACES[found[2]])] + [('bump', None)] * int(found[3])
    sounds: list[tuple[Channel, float]] = []
    if (azimuth := siren_azimuth(states[-1])) is not None:
        sounds.append((('siren', None), azimuth))
    window = states[-1 - round(WINDOW / STEP):]
    for state in reversed(window):
        ego = state.ego
        horns = [thing for thing in state.objects if thing.horn
                 and math.dist((thing.x, thing.y), (ego.x, ego.y)) < HEARD['horn']]
        if horns:
            nearest = min(horns, key=lambda thing: math.dist((thing.x, thing.y), (ego.x, ego.y)))
            sounds.append((('horn', None), math.atan2(nearest.y - ego.y, nearest.x - ego.x) - ego.yaw))
            break
    return Truth(tuple((channel, math.nan) for channel in motion), tuple(sounds))


def state_questions(subject: States, there: tuple[tuple[Channel, float], ...], key: str,
                    rng: random.Random) -> list[Example]:
    """Questions in free words about own motion, or about sirens and horns, with true answers."""
    told = [subject is MOTION or category in HEARD for category, _ in subject.channels]
    tokens = ModalityTokens(subject.name, 'truth', np.zeros((1, len(subject.channels)), np.float32),
                            np.full(1, math.nan, np.float32), known=np.array(told))
    asked = PaintedState(subject, tokens, there, 'hard').asked(rng, len(subject.meanings))
    heard = {category for (category, _), _ in there}
    return [Example(subject.say(meaning, rng), answer, all_answers(), f'{subject.name}: {meaning.type}', 0,
                    key)
            for meaning, answer, _ in asked
            if subject is MOTION or (meaning.thing.category in HEARD and
                                     (meaning.type != 'where' or meaning.thing.category in heard))]


def balanced(examples: list[Example], most: int, rng: random.Random) -> list[Example]:
    """Equally many of each answer of a type, at most `most` of a type.

    Answers that one moment alone has are left out.
    """
    by_answer: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for example in examples:
        by_answer[example.type][example.answer].append(example)
    kept: list[Example] = []
    for answers in by_answer.values():
        usable = {answer: found for answer, found in answers.items()
                  if len({example.frame for example in found}) > 1}
        each = min([most // max(1, len(usable)), *(len(found) for found in usable.values())])
        for answer in sorted(usable):
            kept += rng.sample(usable[answer], each)
    return kept


def audio_frame(root: NuScenes, frame: KeyFrame) -> AudioFrame:
    """The last seconds of sound before a key frame.  Raises DatasetError without microphones."""
    record = next((record for record in root.table('sound').values()
                   if record['sample_token'] == frame.token), None)
    if record is None:
        raise DatasetError(f'key frame {frame.token} has no sound; generate it with microphones')
    with wave.open(str(root.root / record['filename'])) as file:
        rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), '<i2').reshape(-1, channels).T
    newest = samples[:, -round(WINDOW * rate):].astype(np.float32) / 2 ** 15
    return AudioFrame(newest, rate, frame.stamp_ns, np.array(list(MICROPHONES.values())))
