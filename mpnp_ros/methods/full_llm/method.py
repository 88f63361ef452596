"""Full LLM: tokens of modalities at the input of a language model all of whose weights are trained."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.batch import QuestionBatch
from mpnp_ros.methods.columns.link import ColumnConfig, ColumnConnections
from mpnp_ros.methods.columns.method import ColumnMethod, Seen
from mpnp_ros.methods.full_llm.link import FullLlmLink, TunedWeights
from mpnp_ros.methods.mpnp.counting import Evidence
from mpnp_ros.methods.registry import AskedQuestion, Reply, Tokens, register_method


@register_method('full_llm')
class FullLlm(ColumnMethod):
    """Projected tokens in front of the text; the projection and the whole model are trained (papers.md A.6).

    The method's own model is never changed: each link brings a float32 copy of its weights, 540 MB for the
    default model.  They are run in the model's number format.
    """

    link_type = FullLlmLink
    trains_embeddings = True

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **options)
        self._tuned: WeakKeyDictionary[TunedWeights, LanguageModel] = WeakKeyDictionary()

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> FullLlmLink:
        """An untrained link with the weights in use."""
        config = ColumnConfig.for_model(self.lm, modality, encoder, token_width, **options)
        link = FullLlmLink(config, {})
        link.shared = TunedWeights.of(self._model(self._connections.shared))
        return link

    def model_for(self, connections: ColumnConnections, seen: Sequence[Seen]) -> LanguageModel:
        """The model with the weights that were trained."""
        return self._model(connections.shared)

    def text_states(self, model: LanguageModel, batch: QuestionBatch) -> torch.Tensor:
        """The texts embedded anew, as the table of embeddings is trained too."""
        return model.embed(batch.layout) if batch.first == 0 else batch.hidden

    def _answer_batch(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens],
                      connections: ColumnConnections, evidence: Evidence) -> list[Reply]:
        with self.lm.autocast():
            return super()._answer_batch(questions, tokens, connections, evidence)

    def _own(self, link: FullLlmLink) -> FullLlmLink:
        link = super()._own(link)
        self._model(link.shared)
        return link

    def _model(self, weights: TunedWeights | None) -> LanguageModel:
        if weights is None:
            return self.lm
        if weights not in self._tuned:
            self._tuned[weights] = weights.in_place_of(self.lm)
        return self._tuned[weights]
