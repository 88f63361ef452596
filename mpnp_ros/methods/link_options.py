"""What a latent connection is made for and how large it is."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.llm.language_model import LanguageModel

POOLINGS = ('counting', 'question', 'none')
REACHES = ('answer', 'all')
COUNTS = ('token_width', 'kv_heads', 'head_dim', 'text_width', 'hidden', 'entries', 'pooling_width',
          'pooling_layers', 'pooling_heads', 'harmonics', 'probes')
SINCE_COUNTING: Mapping[str, Any] = {'channels': (), 'probes': 6, 'masks': 'channels'}
MASKS = ('sorts', 'channels')


def option(help: str, default: Any = MISSING) -> Any:
    """A field of a configuration with what it means; without a default it must be given."""
    return field(default=default, metadata={'help': help})


@dataclass(frozen=True)
class LinkConfig:
    """One modality's latent connection to one language model (arXiv:2312.07886).

    Raises ConfigurationError for values out of range.
    """

    modality: str = option('registered name of the modality, e.g. camera')
    encoder: str = option('fingerprint of the encoder whose tokens the link reads; empty with soft_tokens')
    token_width: int = option('D, width of one token')
    base_model: str = option('fingerprint of the language model')
    base_model_name: str = option('name of the language model, for messages')
    blocks: tuple[int, ...] = option('linked blocks, ascending')
    kv_heads: int = option('H_kv, key/value heads of the language model')
    head_dim: int = option('d_h, width of one head')
    text_width: int = option('d, width of the hidden states of the language model')
    hidden: int = option('hidden width of the key and value aligners', 256)
    per_block: bool = option('own output projection per linked block; false: the same K and V in all', True)
    gate: float = option('initial gate weight w, g = sigmoid(w / temperature); about -6 for plugging into a '
                          'running system without disturbing it', 0.)
    temperature: float = option('tau of the gates', 1.)
    key_gain: float = option('spread of initial keys: weights of deviation key_gain / sqrt(hidden)', 2.)
    zero_values: bool = option('start the last value layer from zero', False)
    pooling: str = option('counting: the question counts what tokens that hold expected numbers say, and the '
                           'counts become a few prefix entries; question: the question pools tokens of any '
                           'kind into a few entries; none: each token becomes one', 'question')
    reach: str = option('answer: only rows that decide the answer see the prefix, so that the rest of the '
                         'question is computed once; all: every row of the text sees it (the paper)',
                         'answer')
    entries: int = option('prefix entries that pooling makes', 4)
    pooling_width: int = option('width of the pooling layers', 192)
    pooling_layers: int = option('number of pooling layers', 2)
    pooling_heads: int = option('heads of each pooling layer', 12)
    harmonics: int = option('of the directions in which pooling looks; about 180 / harmonics degrees is how '
                             'sharp its windows are', 16)
    additive: bool = option('how links to counts were made before there was the pooling that counts; they '
                             'still answer', False)
    channels: tuple[str, ...] = option('what the channels of counting tokens count, e.g. "car: moving" or '
                                       '"barrier"', ())
    probes: int = option('sums that counting makes for a question', 6)
    masks: str = option('sorts: what counting counts is chosen by category and by status; channels: '
                        'channel by channel, as in links made before', 'sorts')
    soft_tokens: int = option('learned constants in place of a sensor (the blind baseline); 0: a sensor', 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'blocks', tuple(self.blocks))
        object.__setattr__(self, 'channels', tuple(self.channels))
        for holds, text in self._requirements():
            if not holds:
                raise ConfigurationError(f'link {self.modality!r}: {text}')

    @classmethod
    def for_model(cls, lm: LanguageModel, modality: str, encoder: str, token_width: int, *,
                  last: int | None = None, **options: Any) -> LinkConfig:
        """A link to the `last` blocks (default: half of them), or to `blocks`, of a model."""
        count = max(1, lm.blocks // 2) if last is None else last
        if not 1 <= count <= lm.blocks:
            raise ConfigurationError(f'link {modality!r}: {count} linked blocks; {lm.name} has {lm.blocks}')
        blocks = options.pop('blocks', range(lm.blocks - count, lm.blocks))
        return cls(modality=modality, encoder=encoder, token_width=token_width, base_model=lm.fingerprint,
                   base_model_name=lm.name, blocks=tuple(blocks), kv_heads=lm.kv_heads, head_dim=lm.head_dim,
                   text_width=lm.width, **options)

    @classmethod
    def blind(cls, lm: LanguageModel, token_width: int = 64, soft_tokens: int = 24,
              **options: Any) -> LinkConfig:
        """The blind baseline: the same trainable link on learned constants instead of a sensor."""
        return cls.for_model(lm, 'blind', '', token_width, soft_tokens=soft_tokens, **options)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> LinkConfig:
        """From JSON values; every key must be there, none more, each of its type.

        What links made before counting do not have is what it was then.
        """
        entries = {**SINCE_COUNTING, **entries}
        names = {entry.name for entry in fields(cls)}
        if names != set(entries):
            odd = ', '.join(sorted(names ^ set(entries)))
            raise ConfigurationError(f'link configuration has missing or unknown keys: {odd}')
        for name, value in entries.items():
            _check_type(name, value, cls.__dataclass_fields__[name].type)
        return cls(**entries)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), 'blocks': list(self.blocks), 'channels': list(self.channels)}

    @property
    def question_block(self) -> int:
        """The block whose input states, of the question alone, condition the pooling."""
        return self.blocks[0]

    def _requirements(self) -> list[tuple[bool, str]]:
        """What must hold, and what to say where it does not."""
        return [
            (re.fullmatch('[a-z][a-z0-9_]*', self.modality) is not None,
             'a modality is named by lower-case letters, digits and _'),
            (all(getattr(self, name) >= 1 for name in COUNTS), f'{", ".join(COUNTS)} must be at least 1'),
            (len(self.blocks) > 0 and list(self.blocks) == sorted(set(self.blocks)) and self.blocks[0] >= 0,
             f'blocks {list(self.blocks)} must be ascending, not negative and at least one'),
            (math.isfinite(self.gate), 'gate must be finite'),
            (0 < self.temperature < math.inf, 'temperature must be positive'),
            (0 <= self.key_gain < math.inf, 'key_gain must not be negative'),
            (self.pooling in POOLINGS, f'pooling is {self.pooling!r}; expected one of {", ".join(POOLINGS)}'),
            (self.masks in MASKS, f'masks is {self.masks!r}; expected one of {", ".join(MASKS)}'),
            (self.reach in REACHES, f'reach is {self.reach!r}; expected one of {", ".join(REACHES)}'),
            (self.pooling_width % max(1, self.pooling_heads) == 0,
             'pooling_width must be a multiple of pooling_heads'),
            (not self.additive or self.pooling == 'question', 'additive tokens need pooling by the question'),
            (self.pooling != 'counting' or len(self.channels) == self.token_width,
             f'it counts {len(self.channels)} named channels, but tokens are {self.token_width} wide'),
            (self.pooling != 'counting' or self.soft_tokens == 0, 'learned constants cannot be counted'),
            (self.soft_tokens >= 0, 'soft_tokens must not be negative'),
            ((self.encoder == '') == (self.soft_tokens > 0),
             'a link reads the tokens of one encoder, or soft_tokens and no encoder'),
        ]


def _check_type(name: str, value: object, annotation: str) -> None:
    fits = {
        'str': isinstance(value, str),
        'bool': isinstance(value, bool),
        'int': isinstance(value, int) and not isinstance(value, bool),
        'float': isinstance(value, (int, float)) and not isinstance(value, bool),
        'tuple[int, ...]': isinstance(value, (list, tuple)) and all(type(entry) is int for entry in value),
        'tuple[str, ...]': isinstance(value, (list, tuple)) and all(type(entry) is str for entry in value),
    }[annotation]
    if not fits:
        raise ConfigurationError(f'link configuration: {name} is {value!r}; expected {annotation}')
