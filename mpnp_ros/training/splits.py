"""Training and held-out frames or questions.

A split by scene measures accuracy in other scenes.  The split of nuScenes-QA-mini, by question, does not; it
is for comparison with the paper.
"""
from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from mpnp_ros.errors import DatasetError
from mpnp_ros.nuscenes.tables import NuScenes
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.key_frames import heading_of, sample_of, scene_of, twins

SPLITS = ('scene', 'mini', 'none')
HELD_OUT_EVERY = 4
MINI_SEED = 123
MINI_WARNING = ('questions about one frame, and other wordings of one fact, are on both sides of this split: '
                'accuracy on it says little about other scenes; use --split scene for that')

SAME_SCENES_WARNING = ('other headings of the same key frames are on both sides: accuracy on them says '
                       'little about other scenes; give at least 4 scenes')


def split(name: str, dataset: TokenDataset, root: NuScenes) -> tuple[TokenDataset, TokenDataset]:
    """Return the training set and the held-out set by one of SPLITS; with 'none' nothing is held out.

    Raises DatasetError if it cannot be split, or if a single frame is held out, which cannot be shuffled.
    """
    if name == 'none':
        return dataset.split(lambda key: False)
    train, test = mini_split(dataset, root) if name == 'mini' else dataset.split(held_out(dataset))
    if len(test.frames) < 2:
        raise DatasetError(f'{len(test.frames)} frames are held out, which is too few to tell what answers '
                           'rest on; give more key frames, or hold nothing out (--split none)')
    return train, test


def held_out(dataset: TokenDataset, every: int = HELD_OUT_EVERY) -> Callable[[str], bool]:
    """Return which frames to hold out: every 4th scene if there are enough, otherwise every 4th heading.

    Day and night twins of the simulated world count as one scene.  With few scenes and one heading, the last
    scene is held out.  Raises DatasetError for one scene in one heading.
    """
    scenes = sorted({twins(scene_of(key)) for key in dataset.frames})
    headings = {heading_of(key) for key in dataset.frames}
    if len(scenes) < every <= len(headings):
        return lambda key: heading_of(key) % every == every - 1
    if len(scenes) < 2:
        raise DatasetError('one scene in one heading cannot be split; give more scenes, or hold nothing out '
                           '(--split none)')
    chosen = set(scenes[every - 1::every] or scenes[-1:])
    return lambda key: twins(scene_of(key)) in chosen


def shared_scenes(train: TokenDataset, test: TokenDataset) -> set[str]:
    """Return the scenes, day and night twins counted as one, with frames on both sides."""
    first, second = ({twins(scene_of(key)) for key in part.frames} for part in (train, test))
    return first & second


def mini_split(dataset: TokenDataset, root: NuScenes) -> tuple[TokenDataset, TokenDataset]:
    """Return the halves of nuScenes-QA-mini (arXiv:2312.07886), from questions of the train and the val file.

    It follows the notebook that made the set of the paper.  The first key frame of each scene is lost, by a
    bug of the notebook.  Scenes with "Night" in their description are night scenes.  One generator of seed
    123 shuffles the questions of the day and then those of the night, and each list is cut in half.  The
    numbers of the paper (2,229 + 2,229 and 659 + 659) need v1.0-mini and both files, the train file first.
    """
    lost = {scene['first_sample_token'] for scene in root.scenes}
    nights = {scene['name'] for scene in root.scenes if 'Night' in scene['description']}
    kept = [example for example in dataset.examples if sample_of(example.frame) not in lost]
    rng = random.Random(MINI_SEED)
    train: list[Example] = []
    test: list[Example] = []
    for night in (False, True):
        listed = [example for example in kept if (scene_of(example.frame) in nights) == night]
        rng.shuffle(listed)
        train += listed[:len(listed) // 2]
        test += listed[len(listed) // 2:]
    return _with(dataset, train), _with(dataset, test)


def _with(dataset: TokenDataset, examples: Sequence[Example]) -> TokenDataset:
    """Return some of the examples with their frames."""
    frames = {example.frame for example in examples}
    return replace(dataset, examples=tuple(examples),
                   frames={key: frame for key, frame in dataset.frames.items() if key in frames})
