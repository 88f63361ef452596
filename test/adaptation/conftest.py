"""A replay buffer with a task that only tokens answer, and a job that trains on it."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mpnp_ros.adaptation.job import JobSpec, NewLink
from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.trainer import TrainerConfig

ANSWERS = ('yes', 'no', 'car', 'truck')
WIDTH = 8
SECOND = 1_000_000_000
SMALL = {'last': 2, 'hidden': 16, 'pooling': 'question', 'pooling_width': 16, 'pooling_layers': 1,
         'pooling_heads': 2, 'entries': 2}


@pytest.fixture(scope='session')
def experience(toy_tokens: Callable[[str, int, int], ModalityTokens]) -> Callable[..., ReplayBuffer]:
    """Give a function: (folder, modalities, seconds, labels) -> replay buffer.

    It has two moments a second, each with two labelled questions that its tokens answer.
    """
    def make(folder: Path, modalities: tuple[str, ...] = ('camera',), seconds: int = 80,
             labels: Callable[[int], str] = lambda number: ANSWERS[number // 2 % 4]) -> ReplayBuffer:
        buffer = ReplayBuffer(folder)
        for n in range(2 * seconds):
            tokens = {name: toy_tokens(name, n // 2 % 4, n) for name in modalities}
            asked = [BufferedQuestion(text, labels(n), ANSWERS, kind, 0, LABELLED) for text, kind in (
                ('what is it?', 'object'), ('what is to the front left of the truck?', 'status'))]
            buffer.add(tokens, asked, n * SECOND // 2)
        return buffer

    return make


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
