"""Links of the method full_llm: a projection, and a copy of all weights of the language model."""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.columns.link import ColumnConfig, ColumnLink


class TunedWeights(nn.Module):
    """All parameters of a language model, float32, to be trained; tied ones once.

    shapes: by name, with ``/`` for the dots of transformers' names.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(*shape)))

    @classmethod
    def of(cls, lm: LanguageModel) -> TunedWeights:
        """A copy of a model's weights."""
        named = {_flat(name): parameter for name, parameter in lm.model.named_parameters()}
        weights = cls({name: parameter.shape for name, parameter in named.items()}).to(lm.device)
        weights.load_state_dict({name: parameter.float() for name, parameter in named.items()})
        return weights

    def in_place_of(self, lm: LanguageModel) -> LanguageModel:
        """The model with these weights instead of its own, which share their memory and their gradients.

        Raises LinksError where they are not those of such a model.
        """
        theirs, ours = dict(lm.model.named_parameters()), dict(self.named_parameters())
        if {_flat(name): tensor.shape for name, tensor in theirs.items()} != {
                name: tensor.shape for name, tensor in ours.items()}:
            raise LinksError(f'the weights are not those of a model like {lm.name}; train them with this one')
        in_place = {id(parameter): ours[_flat(name)] for name, parameter in theirs.items()}
        model = copy.deepcopy(lm.model, in_place)
        trained = [parameter.requires_grad for parameter in ours.values()]
        tuned = LanguageModel(model, lm.tokenizer, lm.name, lm.fingerprint)
        for parameter, one in zip(ours.values(), trained, strict=True):
            parameter.requires_grad_(one)
        return tuned


class FullLlmLink(ColumnLink):
    """One projection of tokens to the width of the model; the weights of the whole model are shared."""

    kind = 'full_llm'

    def __init__(self, config: ColumnConfig, shapes: Mapping[str, Sequence[int]]) -> None:
        """shapes: of TunedWeights."""
        super().__init__(config)
        self.shared = TunedWeights(shapes)

    @classmethod
    def like(cls, config: ColumnConfig, tensors: Mapping[str, Sequence[int]]) -> FullLlmLink:
        """An empty link with tensors of these names and shapes."""
        return cls(config, {name.removeprefix(SHARED): shape for name, shape in tensors.items()
                            if name.startswith(SHARED)})


SHARED = 'shared.'


def _flat(name: str) -> str:
    return name.replace('.', '/')
