"""Placeholders for weights that are not loaded."""
from __future__ import annotations

import torch
from torch import nn

from mpnp_ros.errors import WeightsError


class Absent(nn.Module):
    """A part that is not loaded; running it raises WeightsError.

    name: of the part, for the message.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, *_: object, **__: object) -> torch.Tensor:
        """Raise WeightsError."""
        raise not_in_memory(self.name)


class AnswerHead(nn.Module):
    """The rows of a head that score some tokens.

    weight: [V', width of the head's input].  ids: [V'] the tokens, ascending.
    """

    def __init__(self, ids: torch.Tensor, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.ids = nn.Buffer(ids, persistent=False)

    def rows(self, vocabulary: torch.Tensor) -> torch.Tensor:
        """Return the rows of some token ids; WeightsError if one is not loaded."""
        places = torch.searchsorted(self.ids, vocabulary).clamp(max=len(self.ids) - 1)
        strangers = vocabulary[self.ids[places] != vocabulary].tolist()
        if strangers:
            raise WeightsError(f'of the head only {len(self.ids)} rows are in memory, and that of token '
                               f'{strangers[0]} is not; load the upper blocks with all choices that are used')
        return self.weight[places]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Raise WeightsError: the other rows are not loaded."""
        raise WeightsError(f'of the head only the {len(self.ids)} rows of answers are in memory; load the '
                           'upper blocks without naming choices')


def not_in_memory(part: str) -> WeightsError:
    """Return the error for running a part that is not loaded."""
    return WeightsError(f'{part} of the language model is not in memory, only upper blocks are: read '
                        'questions with the whole model (load_language_model) and keep them in QuestionFiles')
