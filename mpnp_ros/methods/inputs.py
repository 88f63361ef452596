"""What links read: a batch of modality tokens, and the states of the questions that are asked of it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mpnp_ros.errors import LinksError
from mpnp_ros.tokens import SECTORS, ModalityTokens


class TokenBatch(NamedTuple):
    """Tokens of one modality for B texts, each distinct frame once.

    values: [F, P, D] float.  azimuth: [F, P] radians, NaN: no direction.  valid: [F, P] bool, False on
    padding and for a frame without this modality; None: all real.  rows: [B] the frame of each text;
    None: text b has frame b.  distance: [F, P] metres, NaN: unknown.  looked: [F, SECTORS] bool,
    in which sectors a source looks; known: [F, D] bool, which channels the encoder can tell.  None: no
    distance is known, all is looked at and told.
    """

    values: torch.Tensor
    azimuth: torch.Tensor
    valid: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    distance: torch.Tensor | None = None
    looked: torch.Tensor | None = None
    known: torch.Tensor | None = None

    @classmethod
    def stack(cls, frames: Sequence[ModalityTokens | None], device: torch.device | str = 'cpu') -> TokenBatch:
        """One entry per text; None where the text's frame lacks the modality.

        Entries that are the same object are stacked once.  At least one entry must not be None.
        """
        distinct = list({id(frame): frame for frame in frames}.values())
        index = {id(frame): row for row, frame in enumerate(distinct)}
        shape = len(distinct), max(frame.count for frame in distinct if frame is not None)
        width = next(frame.width for frame in distinct if frame is not None)
        values, azimuth = np.zeros((*shape, width), np.float32), np.zeros(shape, np.float32)
        valid, distance = np.zeros(shape, bool), np.full(shape, np.nan, np.float32)
        looked, known = np.zeros((len(distinct), SECTORS), bool), np.zeros((len(distinct), width), bool)
        for row, frame in enumerate(distinct):
            if frame is not None:
                values[row, :frame.count], azimuth[row, :frame.count] = frame.values, frame.azimuth
                valid[row, :frame.count] = True
                looked[row], known[row] = frame.sectors_looked_at(), frame.known if len(frame.known) else True
                if len(frame.distance):
                    distance[row, :frame.count] = frame.distance
        rows = None
        if len(distinct) < len(frames):
            rows = torch.tensor([index[id(frame)] for frame in frames], device=device)
        return cls(torch.from_numpy(values).to(device), torch.from_numpy(azimuth).to(device),
                   None if valid.all() else torch.from_numpy(valid).to(device), rows,
                   *(torch.from_numpy(part).to(device) for part in (distance, looked, known)))


@dataclass(frozen=True, eq=False)
class QuestionStates:
    """What the lower blocks made of the questions alone.

    states: block -> its input [B, T, d], computed without any prefix.  mask: [B, T] bool, True on the
    question, False on padding and on everything behind the question (no answer leaks into a link).
    """

    states: Mapping[int, torch.Tensor]
    mask: torch.Tensor

    def at(self, block: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States [B, T, d] at the input of a block, and the mask [B, T]."""
        if block not in self.states:
            raise LinksError(f'a link pools by the question at block {block}, but states are at hand for '
                             f'{sorted(self.states)}; prepare the question after plugging the link')
        return self.states[block], self.mask
