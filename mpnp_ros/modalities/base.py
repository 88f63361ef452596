"""What every modality is made of: frames in, an encoder with a declared configuration, tokens out."""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from mpnp_ros.options import Options, option
from mpnp_ros.tokens import ModalityTokens


class Encoder(Protocol):
    """A frozen encoder of one modality.

    modality: registered name.
    fingerprint: ``<modality>-<12 hex digits>``, equal for encoders whose tokens mean the same:
        it covers the weights and every option that changes the tokens, not device or dtype.
    token_width: D of its tokens.

    One with a head has limits too: what its tokens cannot know, see Head.limits.
    """

    modality: str
    fingerprint: str
    token_width: int

    def encode(self, frame: Any) -> ModalityTokens:
        """Return the tokens of one frame of this modality's type."""
        ...


@dataclass(frozen=True)
class EncoderConfig(Options):
    """Options that every encoder has; a modality derives from it and adds its own.

    Notes of an option: ``shapes_tokens=False`` where it does not change what the tokens mean; ``added=True``
    where it is newer than published links: while it has its default it leaves fingerprints as they were.
    """

    device: str = option('auto', 'where the encoder runs: auto, cpu, cuda or cuda:<index>',
                         shapes_tokens=False)
    dtype: str = option('auto', 'number format of the weights; auto measures which is faster',
                        choices=('auto', 'float32', 'bfloat16'), shapes_tokens=False)

    def fingerprint(self, modality: str, weights: str, version: int) -> str:
        """Return ``<modality>-<12 hex digits>`` over the weights' hash, the code's version and options."""
        shaping = {row.name: self[row.name] for row in type(self).declared()
                   if row.notes.get('shapes_tokens', True)
                   and not (row.notes.get('added') and self[row.name] == row.default)}
        text = json.dumps([modality, version, weights, shaping], sort_keys=True)
        return f'{modality}-{hashlib.sha256(text.encode()).hexdigest()[:12]}'
