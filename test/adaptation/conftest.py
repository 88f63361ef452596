"""A task that only tokens answer, on tiny random models."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.adaptation.dataset import Example, TokenDataset
from mpnp_ros.adaptation.job import JobSpec, NewLink
from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.adaptation.trainer import TrainerConfig
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens

ANSWERS = ('yes', 'no', 'car', 'truck')
WIDTH = 8
SECOND = 1_000_000_000
SMALL = {'last': 2, 'hidden': 16, 'pooling': 'question', 'pooling_width': 16, 'pooling_layers': 1,
         'pooling_heads': 2, 'entries': 2}


def toy_tokens(modality: str, answer: int, seed: int) -> ModalityTokens:
    """Three tokens of noise; the last one says the answer."""
    values = .1 * np.random.default_rng(seed).standard_normal((3, WIDTH), np.float32)
    values[2, answer] += 3
    return ModalityTokens(modality, f'{modality}-encoder', values, np.array([0, 1, 2], np.float32))


def toy_dataset(frames: int, seed: int, modalities: tuple[str, ...] = ('camera',)) -> TokenDataset:
    """Every answer equally often, for two questions of different length."""
    tokens = {f'f{n}': {name: toy_tokens(name, n % 4, 1000 * seed + n) for name in modalities}
              for n in range(frames)}
    examples = tuple(Example(text, ANSWERS[n % 4], ANSWERS, kind, hops, f'f{n}') for n in range(frames)
                     for text, kind, hops in (('what is it?', 'object', 0),
                                              ('what is to the front left of the truck?', 'status', 1)))
    return TokenDataset(tokens, examples)


def lived_through(folder: Path, modalities: tuple[str, ...] = ('camera',), seconds: int = 80,
                  labels: Callable[[int], str] = lambda number: ANSWERS[number // 2 % 4]) -> ReplayBuffer:
    """A replay buffer of two moments a second, each with two labelled questions that its tokens answer."""
    buffer = ReplayBuffer(folder)
    for n in range(2 * seconds):
        tokens = {name: toy_tokens(name, n // 2 % 4, n) for name in modalities}
        asked = [BufferedQuestion(text, labels(n), ANSWERS, kind, 0, LABELLED) for text, kind in (
            ('what is it?', 'object'), ('what is to the front left of the truck?', 'status'))]
        buffer.add(tokens, asked, n * SECOND // 2)
    return buffer


@pytest.fixture(scope='session')
def experience() -> Callable[..., ReplayBuffer]:
    """Give a function: (folder, modalities, seconds, labels) -> replay buffer."""
    return lived_through


@pytest.fixture
def job(tmp_path: Path, tiny_lm_folder: Path, own_cache: None) -> Callable[..., JobSpec]:
    """Give a function: (modality, starts, changes) -> what to train on the buffer ``replay``, quickly."""
    def make(modality: str = 'camera', starts: tuple[str, ...] = (), **changes: object) -> JobSpec:
        training = TrainerConfig(steps=40, batch=32, warm_up=5, learning_rate=1e-2, evaluate_every=20,
                                 checkpoint_every=5)
        return JobSpec(**{
            'new': (NewLink(modality, f'{modality}-encoder', WIDTH, starts),), 'turns': 1,
            **{name: str(tmp_path / name) for name in ('buffer', 'store', 'questions')},
            'training': training, 'anew_learning_rate': 1e-2, 'link': SMALL, 'linked_blocks': 2,
            'language_model': str(tiny_lm_folder), 'device': 'cpu', 'dtype': 'float32', **changes})
    return make


@pytest.fixture(scope='session')
def toy() -> Callable[..., TokenDataset]:
    """Give a function: (number of frames, seed, modalities) -> data set."""
    return toy_dataset


@pytest.fixture(scope='session')
def toy_method(tiny_lm: Callable) -> Callable[..., Method]:
    """Give a function: modalities -> method with an untrained link for each, always the same."""
    def make(*modalities: str) -> Method:
        method = create_method('mpnp', tiny_lm())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name in modalities or ('camera',):
                method.plug(method.new_link(name, f'{name}-encoder', WIDTH, **SMALL))
        return method
    return make
