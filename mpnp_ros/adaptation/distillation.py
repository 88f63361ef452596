"""Labels from answers: trusted modalities teach a new one."""
from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from mpnp_ros.adaptation.batches import QuestionBook
from mpnp_ros.adaptation.dataset import Example, Frame, TokenDataset
from mpnp_ros.adaptation.evaluation import replies_of
from mpnp_ros.adaptation.moments import balanced
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import Reply

Accept = Callable[[Example, Reply], bool]


def confident(at_least: float) -> Accept:
    """Return a filter for replies of at least some confidence, 0..1."""
    return lambda example, reply: reply.confidence >= at_least


def distilled(dataset: TokenDataset, method: Method, teachers: Collection[str],
              students: Collection[str] = (), accept: float | Accept = .6, book: QuestionBook | None = None,
              cancelled: Callable[[], bool] | None = None, by: str = 'type', seed: int = 0) -> TokenDataset:
    """Return the questions of a data set with the answers that the method gives from the teachers' tokens.

    The answers of the data set are ignored.  Frames without tokens of a teacher or of any student, questions
    without choices, and answers without linked teachers are omitted, so the result may be empty.  A turned
    frame is answered separately.
    students: modalities of the result, default: all.  accept: the least confidence of an answer to use, or a
    function that selects answers.  book: questions read before.  cancelled: called before every batch;
    answers until then are used.  by: balancing of the answers, see
    :func:`~mpnp_ros.adaptation.moments.balanced`; empty: none.
    """
    seen = {key: _part(frame, teachers) for key, frame in dataset.frames.items()}
    shown = {key: _part(frame, students) if students else frame for key, frame in dataset.frames.items()}
    asked = [one for one in dataset.examples if one.choices and seen[one.frame] and shown[one.frame]]
    accepted = accept if callable(accept) else confident(accept)
    replies = replies_of(method, asked, book or QuestionBook(method), lambda one: seen[one.frame],
                         cancelled=cancelled) if asked else []
    labelled = tuple(replace(example, answer=reply.text)
                     for example, reply in zip(asked, replies, strict=True)
                     if reply is not None and reply.used and accepted(example, reply))
    used = {example.frame for example in labelled}
    result = replace(dataset, frames={key: shown[key] for key in shown if key in used}, examples=labelled)
    return balanced(result, by, seed) if by else result


def _part(frame: Frame, modalities: Collection[str]) -> Frame:
    return {name: tokens for name, tokens in frame.items() if name in modalities}
