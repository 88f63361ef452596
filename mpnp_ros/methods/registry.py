"""What a method is, and which methods there are.

A new method is one new module in this folder that registers a class of the shape of :class:`Method`::

    @register_method('mpnp')
    class Mpnp: ...
"""
from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from mpnp_ros import methods
from mpnp_ros.errors import ConfigurationError
from mpnp_ros.llm.generation import Fragment
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.prepared import PreparedQuestion
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.methods.link_files import Link
from mpnp_ros.methods.mpnp.counting import Counted
from mpnp_ros.tokens import ModalityTokens

Tokens = Mapping[str, ModalityTokens]

_registered: dict[str, type[Method]] = {}


@dataclass(frozen=True, eq=False)
class AskedQuestion:
    """A question as :meth:`Method.prepare` read it; good for any number of frames and across plugging."""

    text: str
    choices: tuple[str, ...]
    prepared: PreparedQuestion


@dataclass(frozen=True, eq=False)
class AnsweredQuestion:
    """A question with its true answer, for training: as text, and as a choice or token ids."""

    question: AskedQuestion
    answer: str
    target: int | tuple[int, ...]


@dataclass(frozen=True)
class Reply:
    """An answer.

    confidence: in [0, 1], of the choice, or the geometric mean over generated tokens.  probabilities:
    one per choice in their order; they add up to 1; empty for a generated answer.  used: modalities it
    rests on, sorted.  seconds: of computing, shared evenly where several were answered at once.  counted:
    what links that count have counted for it.  answerable: probability that counts can answer it at all, 1
    where no link counts; both only of questions that are answered alone.
    """

    text: str
    confidence: float
    probabilities: tuple[float, ...]
    used: tuple[str, ...]
    seconds: float
    counted: tuple[Counted, ...] = ()
    answerable: float = 1.


class Method(Protocol):
    """Questions in, answers out, with modalities that plug and unplug.

    Safe among threads: an answer rests on the links there were when it began.
    """

    name: str
    lm: LanguageModel

    link_type: type[Link]
    """The kind of its links."""
    depth_is_free: bool
    """Whether links may be to any number of the uppermost blocks."""
    cost_is_foreseen: bool
    """Whether the cost model knows what training them takes, so that a budget can decide how many."""
    trains_embeddings: bool
    """Whether training takes the whole language model, the table of token embeddings too."""

    @property
    def first_block(self) -> int:
        """The lowest block in which plugged modalities have a say; below it, questions are read once."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose tokens have a say: plugged, and not closed by their gates; sorted."""

    def prepare(self, question: str, choices: Sequence[str] = ()) -> AskedQuestion:
        """Read a question as far as no modality has a say; no choices: the answer is generated.

        Raises QuestionError.
        """

    def answer(self, question: AskedQuestion, tokens: Tokens) -> Reply:
        """Answer from the tokens of one frame; modalities without a link are not read."""

    def answer_batch(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens]) -> list[Reply]:
        """Answer questions with choices in one pass, each from its own frame."""

    def stream(self, question: AskedQuestion, tokens: Tokens, max_new_tokens: int = 32,
               cancelled: Callable[[], bool] | None = None) -> Iterator[Fragment]:
        """Generate the answer to a question without choices, token by token."""

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> Link:
        """An untrained link of this method's kind, not plugged; options as in LinkConfig."""

    def plug(self, link: Link) -> None:
        """Plug a link of a modality that has none.  Raises LinksError."""

    def replace(self, link: Link) -> Link | None:
        """Swap a link in at once, between two answers; gives back the one before."""

    def unplug(self, modality: str) -> Link:
        """Unplug a modality and give back its link.  Raises LinksError."""

    def links(self) -> Mapping[str, Link]:
        """Modality -> link, as plugged now."""

    def prune(self, threshold: float) -> dict[str, int]:
        """Close gates below the threshold exactly; gives how many per modality."""

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """All that training may change; nothing of the language model is among it."""

    def prepare_answer(self, question: str, answer: str, choices: Sequence[str] = ()) -> AnsweredQuestion:
        """Read a question with its true answer, once for all epochs.  Raises QuestionError."""

    def prepare_answers(self, pairs: Sequence[tuple[str, str]], choices: Sequence[str],
                        files: QuestionFiles | None = None) -> list[AnsweredQuestion]:
        """As `prepare_answer`, (question, answer) pairs with the same choices in one pass.

        files: what was read before is taken from there, and what is read now is kept there.
        """

    def calibrate(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> None:
        """Let untrained links measure what they standardise by; once, before they are trained."""

    def answer_losses(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> torch.Tensor:
        """[B] minus log-probability of each answer, from its own frame, with gradients into the links.

        All questions have choices, or none has.
        """


def register_method(name: str) -> Callable[[type], type]:
    """Register the decorated class, called as class(lm, **options), under `name`, which it also gets."""
    def register(method: type) -> type:
        _registered[name] = method
        method.name = name
        return method
    return register


def method_names() -> tuple[str, ...]:
    """The names of all methods, sorted."""
    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f'{methods.__name__}.{module.name}{".method" * module.ispkg}')
    return tuple(sorted(_registered))


def method_type(name: str) -> type[Method]:
    """The class of a method; raises ConfigurationError that names those there are."""
    if name not in method_names():
        raise ConfigurationError(f'method {name!r} is unknown; there are {", ".join(method_names())}')
    return _registered[name]


def build_method(name: str, lm: LanguageModel, **options: Any) -> Method:
    """Build a method; errors as of :func:`method_type`."""
    return method_type(name)(lm, **options)
