"""Token data sets from nuScenes: key frames encoded once, turned many times, with questions.

A vehicle turned by theta records the same files with sensors mounted turned by -theta, and encoders put
directions into azimuths only.  So the tokens of a turned frame are those of the frame with shifted azimuths,
and nothing is encoded again.

The cameras of nuScenes see well at night, so arXiv:2312.07886 makes night harder: images of night scenes can
be degraded before they are encoded.
"""
from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from mpnp_ros.errors import ConfigurationError, DatasetError, ImageError
from mpnp_ros.files import cache_root, cached_folder
from mpnp_ros.modalities.camera.images import CameraFrame
from mpnp_ros.modalities.geometry import wrap_azimuth
from mpnp_ros.modalities.registry import DatasetReader, Encoder, find_sensor
from mpnp_ros.nuscenes.sensor_files import read_sensor_file
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.questions.balance import balance
from mpnp_ros.questions.generator import LabelledQuestion, Scope, scene_questions
from mpnp_ros.questions.key_frame import KeyFrame
from mpnp_ros.questions.visible import seen_only
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.tokens import SECTORS, ModalityTokens
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.true_objects import OBJECTS

LIGHTS = {'night': r'\bnight\b', 'dusk': r'\bdusk\b'}
WEATHERS = {'rain': r'\brain(y|ing)?\b', 'fog': r'\bfog(gy)?\b'}
RADIUS, BRIGHTNESS = 7, 0.2
_WORLD_SCENE = re.compile(r'world-(\d+)-')
FROM_THE_VEHICLE = Scope(anchors=False)
"""Scope without questions relative to other objects, which need many key frames."""
PER_KIND = 2000


def conditions_of(description: str) -> tuple[str, str]:
    """Return light (night, dusk or day) and weather (rain, fog or clear).

    description: of a scene of nuScenes ("Night, after rain, ...") or of the simulated world.
    """
    def first(patterns: Mapping[str, str], default: str) -> str:
        return next((name for name, pattern in patterns.items()
                     if re.search(pattern, description, re.IGNORECASE)), default)

    return first(LIGHTS, 'day'), first(WEATHERS, 'clear')


def night_80dimgaussian7(image: Image.Image) -> Image.Image:
    """Return an image blurred at full resolution, then dimmed to a fifth; no noise is added."""
    blurred = image.convert('RGB').filter(ImageFilter.GaussianBlur(RADIUS))
    return ImageEnhance.Brightness(blurred).enhance(BRIGHTNESS)


NIGHT_IMAGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    'night_80dimgaussian7': night_80dimgaussian7}


def change_images(frame: CameraFrame, name: str) -> CameraFrame:
    """Return the frame with the named change applied to every image; sizes are unchanged.

    Raises ConfigurationError for an unknown name, ImageError, naming the view, for a damaged image.
    """
    if name not in NIGHT_IMAGES:
        raise ConfigurationError(f'images of night scenes cannot be changed by {name!r}; there are '
                                 f'{", ".join(NIGHT_IMAGES)}')
    views = []
    for view in frame.views:
        if isinstance(view.image, np.ndarray):
            image = Image.fromarray(view.image)
        else:
            data = view.image if isinstance(view.image, bytes) else view.image.data
            try:
                image = Image.open(BytesIO(data), formats=('JPEG', 'PNG'))
                image.load()
            except Exception as error:  # Pillow raises errors of every kind for damaged files
                raise ImageError(f'view {view.name!r}: the image is truncated or damaged ({error})') from None
        views.append(replace(view, image=np.asarray(NIGHT_IMAGES[name](image))))
    return replace(frame, views=tuple(views))


def encode(frame: KeyFrame, encoder: Encoder, cache: str | Path | None = None,
           night_images: str = '') -> ModalityTokens:
    """Return the tokens of a key frame, cached by files and encoder.

    cache: folder, default :func:`mpnp_ros.files.cache_root`.  night_images: change of the images of night
    scenes, one of NIGHT_IMAGES; empty: none.  Raises ConfigurationError for a modality that is not read from
    nuScenes, and DatasetError.
    """
    name = encoder.modality
    if name == OBJECTS:
        return encoder.encode(frame)
    reader = dataset_reader(name)
    change = night_images if name == 'camera' and frame.is_night else ''
    source = frame_identity(frame, name)
    if change:
        source = hashlib.sha256(f'{source} {change}'.encode()).hexdigest()
    folder = cache_root(cache) / 'tokens' / encoder.fingerprint
    folder.mkdir(parents=True, exist_ok=True)

    def build(empty: Path) -> None:
        seen = reader.frame(frame)
        tokens = encoder.encode(change_images(seen, change) if change else seen)
        TokenDataset({frame.token: {name: tokens}}, ()).write(empty)

    path = cached_folder(folder / source[:16], f'{encoder.fingerprint} {source}', build)
    tokens = TokenDataset.load(path).frames[frame.token][name]
    return replace(tokens, **getattr(encoder, 'limits', {}))  # not in the fingerprint: caches may be older


def dataset_reader(modality: str) -> DatasetReader:
    """Return the reader of a sensor from nuScenes.  Raises ConfigurationError if there is none."""
    reader = find_sensor(modality).dataset
    if reader is None:
        raise ConfigurationError(f'the modality {modality} cannot be read from nuScenes; train without it')
    return reader


def check_files(root: NuScenes, samples: Iterable[str], modalities: Container[str]) -> None:
    """Raise DatasetError if sensor files are missing, before any key frame is encoded.

    samples: tokens of the key frames.  modalities: those whose files are needed.
    """
    absent: list[Path] = []
    named, whole_scenes = 0, dict[str, bool]()
    for token in samples:
        paths = [path for sensor, path in root.files_of(token, key_frames_only=True)
                 if sensor['modality'] in modalities]
        gone = [path for path in paths if not path.is_file()]
        named, absent = named + len(paths), absent + gone
        scene = root.get('sample', token)['scene_token']
        whole_scenes[scene] = whole_scenes.get(scene, True) and not gone
    if absent:
        whole = [root.get('scene', token)['name'] for token, is_whole in whole_scenes.items() if is_whole]
        raise DatasetError(f'{named - len(absent)} of {named} sensor files of the key frames are there, '
                           f'{absent[0]} is not; download the file blobs of {root.version} into the same '
                           'root, or leave the sensor out' + (
                               f', or choose scenes that have all (--scenes): {", ".join(whole[:10])}'
                               f'{" ..." if len(whole) > 10 else ""}' if whole else ''))


def turn_tokens(tokens: ModalityTokens, theta: float) -> ModalityTokens:
    """Return the tokens of the same moment from a vehicle turned left by theta radians; values are shared."""
    if theta == 0:
        return tokens
    looked = np.roll(tokens.looked, -round(theta / math.tau * SECTORS))
    return replace(tokens, azimuth=wrap_azimuth(tokens.azimuth - theta), looked=looked)


def key_frame_dataset(root: NuScenes, encoders: Sequence[Encoder], turns: int = 24, seed: int = 0, *,
                      scenes: Iterable[str] | None = None, samples: Container[str] | None = None,
                      scope: Scope = FROM_THE_VEHICLE, per_kind: int = PER_KIND,
                      cache: str | Path | None = None, night_images: str = '',
                      progress: Callable[[int], None] = lambda done: None) -> TokenDataset:
    """Return questions about all key frames of some scenes (default: all), see :func:`question_dataset`.

    samples: tokens of the key frames to take (default: all).  progress: as in question_dataset.
    """
    names = [scene['name'] for scene in root.scenes] if scenes is None else scenes
    frames = (frame for name in names for frame in root.key_frames(name)
              if samples is None or frame.token in samples)
    return question_dataset(frames, encoders, turns, seed, scope=scope, per_kind=per_kind, cache=cache,
                            night_images=night_images, progress=progress)


def question_dataset(frames: Iterable[KeyFrame], encoders: Sequence[Encoder], turns: int = 24, seed: int = 0,
                     *, scope: Scope = FROM_THE_VEHICLE, per_kind: int = PER_KIND,
                     cache: str | Path | None = None, night_images: str = '',
                     progress: Callable[[int], None] = lambda done: None) -> TokenDataset:
    """Return key frames in `turns` evenly spread headings, with questions.

    per_kind: as in scene_questions.  cache, night_images: as in encode.  progress: called with the number of
    encoded frames, after each.

    The questions are balanced over all frames so that no text gives its answer away; those with the same
    answer in all frames are dropped.  Frames are named <scene>/<sample>/<heading>; those of scenes without
    annotations are left out.  Raises DatasetError if no question is left.
    """
    seen: dict[str, dict[str, ModalityTokens]] = {}
    asked: dict[str, list[LabelledQuestion]] = {}
    conditions: dict[str, tuple[str, ...]] = {}
    bare = 0
    for done, frame in enumerate(frames, 1):
        if not frame.annotated:
            bare += 1
            continue
        tokens = {encoder.modality: encode(frame, encoder, cache, night_images) for encoder in encoders}
        progress(done)
        asked_about = seen_only(frame, scope.seen_by) if scope.seen_by else frame
        for heading in range(turns):
            turned = asked_about.turned(heading * math.tau / turns)
            key = key_of(frame, heading)
            conditions[key] = conditions_of(frame.description)
            seen[key] = {name: turn_tokens(recorded, turned.turn) for name, recorded in tokens.items()}
            asked[key] = scene_questions(turned, seed, per_kind, scope)
    if bare and not seen:
        raise DatasetError(f'nothing is annotated in the scenes of all {bare} key frames, so that no true '
                           'answer is known; use a version with annotations, v1.0-mini or v1.0-trainval, or '
                           'published questions (--qa)')
    frame_of = {id(question): key for key, questions in asked.items() for question in questions}
    pool = [question for questions in asked.values() for question in questions]
    examples = tuple(Example(question.text, question.answer, ANSWERS, question.type, question.hops,
                             frame_of[id(question)]) for question in balance(pool, seed, by='text'))
    if not examples:
        raise DatasetError(f'{len(seen)} frames have no question whose answer varies; use more headings')
    return TokenDataset(seen, examples, conditions).deduplicated()


def official_dataset(root: NuScenes, questions: Iterable[LabelledQuestion], encoders: Sequence[Encoder], *,
                     cache: str | Path | None = None, night_images: str = '',
                     progress: Callable[[int], None] = lambda done: None) -> TokenDataset:
    """Return published questions as examples, in their order, about the key frames as recorded.

    questions: of :func:`~mpnp_ros.nuscenes.official_qa.read_nuscenes_qa`, all about key frames of `root`.
    cache, night_images: as in encode.  progress: as in question_dataset.  Raises DatasetError if there are
    none, or for an answer that is not one of the 30.
    """
    questions = tuple(questions)
    if not questions:
        raise DatasetError(f'no question is about a key frame of {root.root}; give the questions of this '
                           'version of nuScenes')
    for question in questions:
        if question.answer not in ANSWERS:
            raise DatasetError(f'{question.text!r} is answered {question.answer!r}, which is none of the 30 '
                               'answers of NuScenes-QA; leave the question out')
    frames = {token: root.key_frame(token)
              for token in dict.fromkeys(question.sample_token for question in questions)}
    keys = {token: key_of(frame) for token, frame in frames.items()}
    tokens = {}
    for done, (token, frame) in enumerate(frames.items(), 1):
        tokens[keys[token]] = {encoder.modality: encode(frame, encoder, cache, night_images)
                               for encoder in encoders}
        progress(done)
    examples = tuple(Example(question.text, question.answer, ANSWERS, question.type, question.hops,
                             keys[question.sample_token]) for question in questions)
    return TokenDataset(tokens, examples, {keys[token]: conditions_of(frame.description)
                                           for token, frame in frames.items()})


def key_of(frame: KeyFrame, heading: int = 0) -> str:
    """Return the key of a frame in a data set: <scene>/<sample>/<heading>."""
    return f'{frame.scene}/{frame.token}/{heading:03d}'


def scene_of(key: str) -> str:
    """Return the scene of a frame key."""
    return key.split('/')[0]


def sample_of(key: str) -> str:
    """Return the nuScenes sample of a frame key."""
    return key.split('/')[1]


def heading_of(key: str) -> int:
    """Return the heading number of a frame key."""
    return int(key.rsplit('/', 1)[-1])


def twins(scene: str) -> str:
    """Return the key of scenes that must be on one side of a split: the seed of a simulated scene.

    Day and night scenes of a seed have the same traffic.  Other scenes are independent.
    """
    found = _WORLD_SCENE.match(scene)
    return found[1] if found else scene


def frame_identity(frame: KeyFrame, modality: str) -> str:
    """Return a sha256 of a modality's files and their calibration."""
    digest = hashlib.sha256(frame.token.encode())
    for reading in dataset_reader(modality).readings(frame):
        digest.update(hashlib.sha256(read_sensor_file(reading.path)).digest())
        intrinsics = None if reading.intrinsics is None else reading.intrinsics.tolist()
        digest.update(json.dumps([reading.channel, reading.stamp_ns, intrinsics,
                                  reading.extrinsics.rotation.tolist(),
                                  reading.extrinsics.translation.tolist()]).encode())
    return digest.hexdigest()
