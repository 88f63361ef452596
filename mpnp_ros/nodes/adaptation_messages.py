"""Conversions between the data of the adaptation node and messages."""
from __future__ import annotations

import math

from mpnp_ros.adaptation.adapter import AdaptationManager
from mpnp_ros.adaptation.job import JobProgress
from mpnp_ros.adaptation.known import LinkInUse
from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion
from mpnp_ros.adaptation.policy import ModalityCondition
from mpnp_ros.msg import Adaptation, LabelledQuestion, LabelledQuestions, LinkInfo, ModalityState
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.serving.modality_state import State

STAGES = {'reading': Adaptation.READING, 'training': Adaptation.TRAINING, 'evaluating': Adaptation.EVALUATING}


def condition_from_message(row: ModalityState) -> ModalityCondition:
    """Return the condition of a modality as published by the fusion node."""
    return ModalityCondition(row.modality, State(row.state).name.lower(), row.encoder, row.quality,
                             unplugged=row.pinned and not row.plugged, links_version=row.links_version)


def in_use_from_message(link: LinkInfo) -> LinkInUse:
    """Return the links that the fusion node uses."""
    return LinkInUse(link.modality, link.version, link.path, link.encoder)


def labelled_from_message(message: LabelledQuestions) -> list[BufferedQuestion]:
    """Return the questions of a key frame with their true answers."""
    return [BufferedQuestion(one.question.text, one.answer, _choices(one), one.type, one.hops, LABELLED)
            for one in message.questions]


def _choices(one: LabelledQuestion) -> tuple[str, ...]:
    """Return the choices of the question; those of NuScenes-QA if it has none and they fit."""
    return tuple(one.question.choices) or (ANSWERS if one.answer in ANSWERS else ())


def adaptation_to_message(adapter: AdaptationManager) -> Adaptation:
    """Return the state of the adaptation as a message without a stamp."""
    counts, spec = adapter.buffer.counts, adapter.training
    message = Adaptation(
        state=Adaptation.IDLE, decision=adapter.reason, accuracy=math.nan, start_accuracy=math.nan,
        labelled_questions=counts.questions[LABELLED], frames=counts.frames)
    progress = adapter.progress
    if spec is not None and progress is not None:
        _add_progress(message, progress, adapter.seconds)
        message.modalities, message.supervision = list(spec.modalities), spec.supervision
    return message


def _add_progress(message: Adaptation, progress: JobProgress, seconds: float) -> None:
    message.state = STAGES[progress.stage]
    message.step, message.steps, message.loss = progress.step, progress.steps, progress.loss
    message.accuracy, message.start_accuracy = progress.accuracy, progress.start_accuracy
    message.duration, message.remaining = seconds, progress.remaining
    message.macs, message.memory = progress.macs, progress.memory
