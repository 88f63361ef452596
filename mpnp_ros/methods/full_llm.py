"""Full LLM: tokens of modalities at the input of a language model all of whose weights are trained."""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.columns.link import ColumnConfig, ColumnConnections, ColumnLink
from mpnp_ros.methods.columns.method import ColumnMethod, Seen
from mpnp_ros.methods.link import Link
from mpnp_ros.methods.questions import AskedQuestion, Evidence, QuestionBatch, Reply, Tokens
from mpnp_ros.methods.registry import MethodSpec


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
        """Return a copy of a model's weights."""
        named = {_flat(name): parameter for name, parameter in lm.model.named_parameters()}
        weights = cls({name: parameter.shape for name, parameter in named.items()}).to(lm.device)
        weights.load_state_dict({name: parameter.float() for name, parameter in named.items()})
        return weights

    def in_place_of(self, lm: LanguageModel) -> LanguageModel:
        """Return the model with these weights instead of its own; memory and gradients are shared.

        Raises LinksError where the weights are not those of such a model.
        """
        theirs, ours = dict(lm.model.named_parameters()), dict(self.named_parameters())
        if {_flat(name): tensor.shape for name, tensor in theirs.items()} != {
                name: tensor.shape for name, tensor in ours.items()}:
            raise LinksError(f'the weights are not those of a model like {lm.name}; train them with this one')
        in_place = {id(parameter): ours[_flat(name)] for name, parameter in theirs.items()}
        model = copy.deepcopy(lm.model, in_place)
        trained = [parameter.requires_grad for parameter in ours.values()]
        tuned = LanguageModel(model, lm.tokenizer, lm.name, lm.fingerprint)
        for parameter, wanted in zip(ours.values(), trained, strict=True):
            parameter.requires_grad_(wanted)
        return tuned


class FullLlmLink(ColumnLink):
    """One projection of tokens to the width of the model; the weights of the whole model are shared."""

    kind = 'full_llm'

    def __init__(self, config: ColumnConfig, shapes: Mapping[str, Sequence[int]]) -> None:
        """shapes: of TunedWeights."""
        super().__init__(config)
        self.shared = TunedWeights(shapes)

    @classmethod
    def empty(cls, config: Any, shapes: Mapping[str, Sequence[int]]) -> FullLlmLink:
        """See Link; the weights of the language model are those that the shapes name."""
        return cls(config, {name.removeprefix(SHARED): shape for name, shape in shapes.items()
                            if name.startswith(SHARED)})


SHARED = 'shared.'


def _flat(name: str) -> str:
    return name.replace('.', '/')


class FullLlm(ColumnMethod):
    """Projected tokens in front of the text; the projection and the whole model are trained.

    The method's own model is never changed: each link brings a float32 copy of its weights, 540 MB for the
    default model.  They are run in the model's number format.
    """

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **options)
        self._tuned: WeakKeyDictionary[TunedWeights, LanguageModel] = WeakKeyDictionary()

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> FullLlmLink:
        """Return an untrained link with the weights in use."""
        config = ColumnConfig.for_model(self.lm, modality, encoder, token_width,
                                        **{**self.alike(), **options})
        link = FullLlmLink(config, {})
        link.shared = TunedWeights.of(self._model(self._connections.shared))
        return link

    def model_for(self, connections: ColumnConnections, seen: Sequence[Seen]) -> LanguageModel:
        """Return the model with the weights that were trained."""
        return self._model(connections.shared)

    def text_states(self, model: LanguageModel, batch: QuestionBatch) -> torch.Tensor:
        """Return the texts embedded again, as the table of embeddings is trained too."""
        return model.embed(batch.layout) if batch.first == 0 else batch.hidden

    def _answer_batch(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens],
                      connections: ColumnConnections, evidence: Evidence) -> list[Reply]:
        with self.lm.autocast():
            return super()._answer_batch(questions, tokens, connections, evidence)

    def accept(self, link: Any) -> Link:
        """See Method; the model with the weights of the link is made here."""
        accepted = super().accept(link)
        self._model(link.shared)
        return accepted

    def _model(self, weights: TunedWeights | None) -> LanguageModel:
        if weights is None:
            return self.lm
        if weights not in self._tuned:
            self._tuned[weights] = weights.in_place_of(self.lm)
        return self._tuned[weights]


SPEC = MethodSpec('full_llm', 'tokens in front, and the whole model is tuned', FullLlm, FullLlmLink,
                  trains_whole_model=True)
