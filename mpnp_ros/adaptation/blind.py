"""The blind baseline: equal links on learned constants, trained by the same code on the same questions."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mpnp_ros.adaptation.batches import QuestionBook
from mpnp_ros.adaptation.dataset import TokenDataset
from mpnp_ros.adaptation.trainer import Trainer, TrainerConfig, TrainingReport, TrainingStep
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method

SOFT_TOKENS = 24


def blind_method(method: Method) -> Method:
    """Return a method of the same kind with an equal blind link in place of each link.

    Constants cannot be counted: the twin of a counting link pools by the question.  Raises ConfigurationError
    if a kind of link cannot be blind.
    """
    blind = create_method(method.name, method.lm, template=method.template)
    for modality, link in method.links().items():
        counts = {'pooling': 'question', 'channels': ()} if link.config.pooling == 'counting' else {}
        config = replace(link.config, modality=f'blind_{modality}', encoder='', soft_tokens=SOFT_TOKENS,
                         **counts)
        blind.plug(type(link)(config))
    return blind


def train_blind(method: Method, train: TokenDataset, config: TrainerConfig | None = None,
                validation: TokenDataset | None = None,
                progress: Callable[[TrainingStep], None] | None = None,
                cancelled: Callable[[], bool] | None = None,
                book: QuestionBook | None = None) -> tuple[Method, TrainingReport]:
    """Train the blind twin of a method; its answers use the text alone.  book: see Trainer."""
    blind = blind_method(method)
    return blind, Trainer(blind, config, book).fit(train, validation, progress, cancelled)
