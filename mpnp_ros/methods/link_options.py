"""Options of links: what a link is made for and how large it is."""
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.options import OptionError, Options, option

if TYPE_CHECKING:
    from typing_extensions import Self

POOLINGS = ('counting', 'question', 'none')
REACHES = ('answer', 'all')
SINCE_COUNTING: Mapping[str, Any] = {'channels': (), 'probes': 6, 'masks': 'channels', 'supervised': 2}
MASKS = ('sorts', 'channels')


@dataclass(frozen=True)
class LinkConfig(Options):
    """One modality's latent connection to one language model (arXiv:2312.07886).

    Raises ConfigurationError for values out of range.

    alike: names of options that links plugged together have in common; a new link takes them over.
    """

    alike: ClassVar[tuple[str, ...]] = ()

    modality: str = option(help='registered name of the modality, e.g. camera')
    encoder: str = option(
        help='fingerprint of the encoder whose tokens the link reads; empty with soft_tokens')
    token_width: int = option(help='D, width of one token', low=1)
    base_model: str = option(help='fingerprint of the language model')
    base_model_name: str = option(help='name of the language model, for messages')
    blocks: tuple[int, ...] = option(help='linked blocks, ascending')
    kv_heads: int = option(help='H_kv, key/value heads of the language model', low=1)
    head_dim: int = option(help='d_h, width of one head', low=1)
    text_width: int = option(help='d, width of the hidden states of the language model', low=1)
    hidden: int = option(256, 'hidden width of the key and value aligners', low=1)
    per_block: bool = option(True, 'own output projection per linked block; false: the same K and V in all')
    gate: float = option(
        0.,
        'initial gate weight w, g = sigmoid(w / temperature); about -6 for plugging into a running system '
        'without disturbing it')
    temperature: float = option(1., 'tau of the gates')
    key_gain: float = option(
        2., 'spread of initial keys: weights of deviation key_gain / sqrt(hidden)', low=0)
    zero_values: bool = option(False, 'start the last value layer from zero')
    pooling: str = option(
        'question',
        'counting: the question counts in tokens that hold expected numbers, and the counts become a few '
        'prefix entries; question: the question pools tokens of any kind into a few entries; none: each '
        'token becomes an entry', choices=POOLINGS)
    reach: str = option(
        'answer',
        'answer: only rows that decide the answer see the prefix, so that the rest of the question is '
        'computed once; all: every row of the text sees it (the paper)', choices=REACHES)
    entries: int = option(4, 'prefix entries that pooling makes', low=1)
    pooling_width: int = option(192, 'width of the pooling layers', low=1)
    pooling_layers: int = option(2, 'number of pooling layers', low=1)
    pooling_heads: int = option(12, 'heads of each pooling layer', low=1)
    harmonics: int = option(
        16,
        'harmonics of directions in pooling; its windows are about 180 / harmonics degrees sharp', low=1)
    additive: bool = option(
        False, 'token values are counts that pooling adds up, as in links from before the pooling `counting`')
    channels: tuple[str, ...] = option(
        (), 'what the channels of counting tokens count, e.g. "car: moving" or "barrier"')
    probes: int = option(6, 'sums per question in counting', low=1)
    supervised: int = option(
        2, 'the first probes, whose meaning is taught; as many as places that a question tells apart', low=2)
    masks: str = option(
        'sorts', 'sorts: counting chooses by category and by status; channels: it weighs each channel, as in '
                 'older links', choices=MASKS)
    soft_tokens: int = option(
        0, 'learned constants in place of a sensor (the blind baseline); 0: a sensor', low=0)

    def __post_init__(self) -> None:
        modality = self.modality
        try:
            super().__post_init__()
        except OptionError as error:
            raise OptionError(error.problems, f'link {modality!r}') from None

    def check(self) -> Iterator[str]:
        """Sizes must fit each other, and a link must fit the tokens that it reads."""
        if not re.fullmatch('[a-z][a-z0-9_]*', self.modality):
            yield 'a modality is named by lower-case letters, digits and _'
        if not self.blocks or list(self.blocks) != sorted(set(self.blocks)) or self.blocks[0] < 0:
            yield f'blocks {list(self.blocks)} must be ascending, not negative and at least one'
        if not self.temperature > 0:
            yield 'temperature must be positive'
        if self.pooling_width % self.pooling_heads:
            yield 'pooling_width must be a multiple of pooling_heads'
        if self.additive and self.pooling != 'question':
            yield 'additive tokens need pooling by the question'
        if self.pooling == 'counting' and len(self.channels) != self.token_width:
            yield f'it counts {len(self.channels)} named channels, but tokens are {self.token_width} wide'
        if self.supervised > self.probes:
            yield f'{self.supervised} probes are supervised, but there are {self.probes}'
        if self.pooling == 'counting' and self.soft_tokens:
            yield 'learned constants cannot be counted'
        if (self.encoder == '') != (self.soft_tokens > 0):
            yield 'a link reads the tokens of one encoder, or soft_tokens and no encoder'

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int, *,
                  last: int | None = None, **options: Any) -> Self:
        """Return options of a link to the `last` blocks of a model (default: half), or to `blocks`."""
        count = max(1, lm.blocks // 2) if last is None else last
        if not 1 <= count <= lm.blocks:
            raise ConfigurationError(f'link {modality!r}: {count} linked blocks; {lm.name} has {lm.blocks}')
        blocks = options.pop('blocks', range(lm.blocks - count, lm.blocks))
        return cls(modality=modality, encoder=encoder, token_width=token_width, base_model=lm.fingerprint,
                   base_model_name=lm.name, blocks=tuple(blocks), kv_heads=lm.kv_heads, head_dim=lm.head_dim,
                   text_width=lm.width, **options)

    @classmethod
    def blind(cls, lm: LanguageModel, token_width: int = 64, soft_tokens: int = 24,
              **options: Any) -> Self:
        """Return options of the blind baseline: the same link on learned constants instead of a sensor."""
        return cls.for_model(lm, 'blind', '', token_width, soft_tokens=soft_tokens, **options)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Self:
        """Read JSON values: exactly the known keys, each of its type.

        Keys that links made before counting lack get their values of that time.
        """
        entries = {**SINCE_COUNTING, **entries}
        names = {entry.name for entry in fields(cls)}
        if names != set(entries):
            odd = ', '.join(sorted(names ^ set(entries)))
            raise ConfigurationError(f'link configuration has missing or unknown keys: {odd}')
        return cls(**entries)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), 'blocks': list(self.blocks), 'channels': list(self.channels)}

    @property
    def question_block(self) -> int:
        """The block whose input states, of the question alone, condition the pooling."""
        return self.blocks[0]
