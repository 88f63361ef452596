"""Small links and tokens for the tests of links."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.methods.link import QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.mpnp.method import LatentConnections

WIDTH = 6
NAMES = ('car: moving', 'car: parked', 'bus: moving', 'bus: parked', 'cone', 'barrier')
SMALL = {'hidden': 16, 'pooling_width': 16, 'pooling_layers': 2, 'pooling_heads': 2, 'entries': 3}


def make_link(lm: LanguageModel, modality: str = 'camera', seed: int = 0, **options: object) -> LatentLink:
    """A small random link to the upper two blocks, with gates that differ."""
    names = NAMES if options.get('pooling') == 'counting' else ()
    config = {**SMALL, 'last': 2, 'encoder': 'e' * 32, 'channels': names, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        link = LatentLink(LinkConfig.for_model(lm, modality, token_width=WIDTH, **config))
        with torch.no_grad():
            link.gate_weights.add_(torch.randn(len(link.gate_weights)))
    return link


def make_tokens(batch: int = 1, count: int = 5, seed: int = 0) -> TokenBatch:
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
    return make_tokens


@pytest.fixture(scope='session')
def new_text(long_way: Callable[..., torch.Tensor]) -> Callable[..., Text]:
    """Random texts without padding: (lm, batch, count, seed)."""
    def make(lm: LanguageModel, batch: int = 1, count: int = 7, seed: int = 0) -> Text:
        ids = torch.randint(2, 200, (batch, count), generator=torch.Generator().manual_seed(seed))
        return Text(lm, TextLayout.causal(ids), torch.ones_like(ids, dtype=torch.bool), long_way)
    return make
