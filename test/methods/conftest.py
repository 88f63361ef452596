"""Small methods, links and tokens for the tests of methods/."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch

from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens

WIDTH = 6
SMALL = {'hidden': 16, 'last': 2, 'pooling_width': 16, 'pooling_layers': 2, 'pooling_heads': 2, 'entries': 3}


def plug_link(method: Method, modality: str = 'camera', seed: int = 0, **options: object) -> None:
    """Plug a small random link to the upper two blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method.plug(method.new_link(modality, 'encoder', WIDTH, **{**SMALL, **options}))


def make_tokens(seed: int = 0, count: int = 5, modality: str = 'camera') -> ModalityTokens:
    """Random tokens of one frame, the first without a direction."""
    random = np.random.default_rng(seed)
    azimuth = random.uniform(-3, 3, count).astype(np.float32)
    azimuth[0] = np.nan
    return ModalityTokens(modality, 'encoder', random.standard_normal((count, WIDTH), np.float32), azimuth)


@pytest.fixture(scope='session')
def new_method(tiny_lm: Callable) -> Callable[..., Method]:
    """A method on a tiny model with a camera link: (family, name, and options of the link)."""
    def make(family: str = 'llama', name: str = 'mpnp', **options: object) -> Method:
        method = create_method(name, tiny_lm(family))
        plug_link(method, **options)
        return method
    return make


@pytest.fixture(scope='session')
def plug() -> Callable[..., None]:
    """Plug a random link: (method, modality, seed, options)."""
    return plug_link


@pytest.fixture(scope='session')
def frame() -> Callable[..., ModalityTokens]:
    """Random tokens: (seed, count, modality)."""
    return make_tokens


def stir(method: Method, seed: int = 0, size: float = .3) -> Method:
    """Move all that is trained away from where it begins, where adapters do nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.trainable_parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return method


@pytest.fixture(scope='session')
def new_altered(tiny_lm: Callable) -> Callable[..., Method]:
    """A method that alters blocks, as if it were trained: (name, family, modalities, seed, link options)."""
    def make(name: str = 'mma', family: str = 'llama', modalities: tuple[str, ...] = ('camera', 'lidar'),
             seed: int = 0, link: Mapping[str, object] = MappingProxyType({}), **options: object) -> Method:
        method = create_method(name, tiny_lm(family), **options)
        sizes = {'hidden': 8, **({'skipped': 2, 'skipped_rank': 4} if name == 'eas' else {}), **link}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for modality in modalities:
                method.plug(method.new_link(modality, 'encoder', WIDTH, **sizes))
        return stir(method, seed)
    return make


@pytest.fixture(scope='session')
def model_of() -> Callable[..., LanguageModel]:
    """The model by which a method reads texts that see some modalities: (method, those of each text)."""
    return lambda method, *seen: method.model_for(
        method._connections.snapshot(), [frozenset(one) for one in seen])
