"""Small methods, links, tokens and texts for the tests of methods/."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LatentConnections
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens

WIDTH = 6
NAMES = ('car: moving', 'car: parked', 'bus: moving', 'bus: parked', 'cone', 'barrier')
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
def begun_lm(tiny_lm: Callable) -> Callable[[str], LanguageModel]:
    """A tiny model whose tokenizer puts `</s>` before every text, as OPT's does: (family)."""
    def make(family: str = 'llama') -> LanguageModel:
        lm = tiny_lm(family)
        fast = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
        fast.post_processor = TemplateProcessing(
            single='</s> $A', special_tokens=[('</s>', lm.tokenizer.eos_token_id)])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, bos_token='</s>', eos_token='</s>',
                                            pad_token='<pad>')
        return LanguageModel(lm.model, tokenizer, lm.name, lm.fingerprint)
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
        method._connections.snapshot(), [frozenset(modalities) for modalities in seen])


def make_link(lm: LanguageModel, modality: str = 'camera', seed: int = 0, **options: object) -> LatentLink:
    """A small random link to the upper two blocks, with gates that differ."""
    names = NAMES if options.get('pooling') == 'counting' else ()
    config = {**SMALL, 'encoder': 'e' * 32, 'channels': names, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        link = LatentLink(LinkConfig.for_model(lm, modality, token_width=WIDTH, **config))
        with torch.no_grad():
            link.gate_weights.add_(torch.randn(len(link.gate_weights)))
    return link


def make_batch(batch: int = 1, count: int = 5, seed: int = 0) -> TokenBatch:
    """Random tokens, the first of each row without a direction."""
    generator = torch.Generator().manual_seed(seed)
    azimuth = (torch.rand(batch, count, generator=generator) - .5) * 6
    azimuth[:, 0] = torch.nan
    return TokenBatch(torch.randn(batch, count, WIDTH, generator=generator), azimuth)


@dataclass
class Text:
    """A batch of texts for one model and what links read of it."""

    lm: LanguageModel
    layout: TextLayout
    mask: torch.Tensor
    long_way: Callable[..., torch.Tensor]

    def states(self, *blocks: int) -> QuestionStates:
        """Text-only states at the input of some blocks."""
        embedded = self.lm.embed(self.layout)
        return QuestionStates({b: self.lm.run_blocks(embedded, self.layout, 0, b) for b in blocks}, self.mask)

    def logits(self, connections: LatentConnections | None = None,
               tokens: dict[str, TokenBatch] | None = None) -> torch.Tensor:
        """Logits [B, T, V] with the prefix that the connections make of the tokens.

        With reach 'answer' the last three tokens of each text see it, as if its prompt ended there.
        """
        prefix, left = None, self.mask.flip(1).cumsum(1).flip(1)
        if connections is not None:
            prefix = connections.prefix(tokens or {}, self.states(*connections.question_blocks))
        late = connections is not None and connections.reach == 'answer'
        sees = self.mask & (left <= 3) if late else torch.ones_like(self.mask)
        return self.lm.logits(self.long_way(self.lm, self.layout, prefix, sees))


@pytest.fixture(scope='session')
def new_link() -> Callable[..., LatentLink]:
    """Small links: (lm, modality, seed, and options of LinkConfig)."""
    return make_link


@pytest.fixture(scope='session')
def new_tokens() -> Callable[..., TokenBatch]:
    """Random tokens: (batch, count, seed)."""
    return make_batch


@pytest.fixture(scope='session')
def new_text(long_way: Callable[..., torch.Tensor]) -> Callable[..., Text]:
    """Random texts without padding: (lm, batch, count, seed)."""
    def make(lm: LanguageModel, batch: int = 1, count: int = 7, seed: int = 0) -> Text:
        ids = torch.randint(2, 200, (batch, count), generator=torch.Generator().manual_seed(seed))
        return Text(lm, TextLayout.causal(ids), torch.ones_like(ids, dtype=torch.bool), long_way)
    return make
