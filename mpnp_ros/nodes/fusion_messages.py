"""Conversions of questions, answers, states and links to and from messages."""
from __future__ import annotations

import array
from collections.abc import Sequence

from std_msgs.msg import Header

from mpnp_ros.action import AskPast
from mpnp_ros.conversions.messages import from_nanoseconds
from mpnp_ros.msg import Answer as AnswerMessage
from mpnp_ros.msg import Condition as ConditionMessage
from mpnp_ros.msg import Counted as CountedMessage
from mpnp_ros.msg import EncoderInfo, LinkInfo, ModalityState, ModalityStates
from mpnp_ros.msg import Event as EventMessage
from mpnp_ros.msg import Grounding as GroundingMessage
from mpnp_ros.msg import Question as QuestionMessage
from mpnp_ros.msg import Span as SpanMessage
from mpnp_ros.serving.answers import UNKNOWN, Answer
from mpnp_ros.serving.coverage import direction_of
from mpnp_ros.serving.events import Event
from mpnp_ros.serving.link_versions import LinkVersion
from mpnp_ros.serving.modality_state import EncoderFacts, ModalityStatus
from mpnp_ros.serving.past import Recollection
from mpnp_ros.serving.questions import Condition, Question, Standing
from mpnp_ros.srv import ListQuestions


def question_from_message(message: QuestionMessage, default_choices: Sequence[str] = ()) -> Question:
    """Return the question of `message`; one without choices gets the default ones."""
    choices = tuple(message.choices) or tuple(default_choices)
    asked = message.condition
    begin = asked.begin or Condition.begin
    condition = Condition(tuple(asked.answers), begin, asked.end or min(Condition.end, begin), asked.hold)
    return Question(message.text, choices, message.id, message.standing, message.period, message.lease,
                    condition, message.on_change, message.max_age, tuple(message.require),
                    message.refuse_below)


def question_to_message(question: Question) -> QuestionMessage:
    """Return `question` as a message."""
    condition = question.condition
    return QuestionMessage(
        id=question.id, text=question.text, choices=list(question.choices), standing=question.standing,
        period=question.period, lease=question.lease, on_change=question.on_change,
        max_age=question.max_age, require=list(question.require), refuse_below=question.refuse_below,
        condition=ConditionMessage() if not condition.answers else ConditionMessage(
            answers=list(condition.answers), begin=condition.begin, end=condition.end, hold=condition.hold))


def standing_to_message(standing: Sequence[Standing]) -> ListQuestions.Response:
    """Return the standing questions as the response that lists them."""
    return ListQuestions.Response(
        questions=[question_to_message(entry.question) for entry in standing],
        answered=array.array('I', [entry.answered for entry in standing]),
        remaining=array.array('f', [entry.remaining for entry in standing]))


def facts_from_message(message: EncoderInfo) -> EncoderFacts:
    """Return the description of an encoder."""
    return EncoderFacts(message.modality, message.node, message.encoder, message.token_width,
                        tuple(message.changed), tuple(message.topics))


def answer_to_message(answer: Answer) -> AnswerMessage:
    """Return `answer` as a message."""
    message = AnswerMessage(
        id=answer.question.id, question=answer.question.text, status=int(answer.status), error=answer.error,
        text=answer.text, confidence=answer.confidence, choices=list(answer.question.choices),
        probabilities=array.array('f', answer.probabilities),
        used_modalities=[entry.modality for entry in answer.used],
        modality_stamps=[from_nanoseconds(entry.stamp_ns) for entry in answer.used],
        modality_ages=array.array('f', [entry.age for entry in answer.used]),
        missing_modalities=list(answer.missing), concerns=list(answer.concerns),
        counted=[CountedMessage(modality=count.modality, direction=direction_of(count.sectors),
                                reach=count.reach, sort=count.sort, expected=count.expected, none=count.none,
                                covered=count.covered)
                 for count in answer.counted],
        links_version=answer.links_version, method=answer.method,
        latency=answer.latency, compute_duration=answer.compute,
        grounding=[GroundingMessage(
            modality=token.modality, source=token.source, azimuth=token.azimuth, distance=token.distance,
            sort=token.sort, expected=token.expected, weight=token.weight, box=array.array('f', token.box))
            for token in answer.grounding])
    if (told := answer.influence) is not None:
        message.modality_influences = array.array(
            'f', [told.of.get(entry.modality, 0.) for entry in answer.used])
        message.modality_supports = array.array(
            'f', [told.alone.get(entry.modality, 0.) for entry in answer.used])
        message.sensor_influence = told.sensors
        message.text_alone, message.text_alone_confidence = told.text, told.confidence
    message.header.stamp, message.header.frame_id = from_nanoseconds(answer.stamp_ns), answer.frame_id
    return message


def event_to_message(event: Event) -> EventMessage:
    """Return `event` as a message."""
    message = EventMessage(
        id=event.question.id, question=event.question.text, kind=int(event.kind),
        since=from_nanoseconds(event.since_ns), answer=event.answer, probability=event.probability,
        used_modalities=list(event.used), reason=event.reason)
    message.header.stamp = from_nanoseconds(event.stamp_ns)
    return message


def recollection_to_message(answer: Recollection) -> AskPast.Result:
    """Return an answer about the past as the result of its action."""
    return AskPast.Result(
        success=True, message=answer.unknown, text=UNKNOWN if answer.unknown else answer.text,
        moments=answer.moments,
        spans=[SpanMessage(begin=from_nanoseconds(span.begin_ns), end=from_nanoseconds(span.end_ns),
                           answer=span.answer, probability=span.probability) for span in answer.spans])


def state_to_message(status: ModalityStatus) -> ModalityState:
    """Return one row of the board as a message."""
    return ModalityState(
        modality=status.modality, state=int(status.state), plugged=status.plugged, pinned=status.pinned,
        rate=status.rate, age=status.age, quality=status.quality, links_version=status.links_version,
        encoder=status.encoder, detail=status.detail)


def states_to_message(states: Sequence[ModalityStatus], stamp_ns: int) -> ModalityStates:
    """Return the whole board as a message."""
    return ModalityStates(header=Header(stamp=from_nanoseconds(stamp_ns)),
                          modalities=[state_to_message(status) for status in states])


def link_to_message(version: LinkVersion, active: bool) -> LinkInfo:
    """Return one version of a modality's links as a message."""
    link, config = version.link, version.link.config
    return LinkInfo(
        modality=version.modality, version=version.version, path=version.path, sha256=version.sha256,
        base_model=config.base_model_name, encoder=config.encoder,
        linked_blocks=array.array('H', config.blocks),
        gates=array.array('f', link.gates.detach().cpu().tolist()),
        parameters=sum(parameter.numel() for parameter in link.parameters()), active=active)
