"""Reads the labelled questions of a bag."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.serde import SerdeError

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.older_types import completed
from mpnp_ros.bags.storage import Bag
from mpnp_ros.errors import BagError
from mpnp_ros.questions.generator import LabelledQuestion

TOPIC, TYPE_NAME = '/labelled_questions', 'mpnp_ros/msg/LabelledQuestions'


@dataclass(frozen=True)
class FrameQuestions:
    """The labelled questions of one key frame.  choices: possible answers of each question."""

    sample_token: str
    questions: tuple[LabelledQuestion, ...]
    choices: tuple[tuple[str, ...], ...]

    @classmethod
    def from_message(cls, message: Any) -> FrameQuestions:
        """Return the questions of a LabelledQuestions message of rosbags or ROS."""
        questions = tuple(LabelledQuestion(label.question.text, label.answer, label.type, label.hops, '',
                                           message.sample_token) for label in message.questions)
        return cls(message.sample_token, questions,
                   tuple(tuple(label.question.choices) for label in message.questions))


def read_questions(bag: str | Path) -> list[FrameQuestions]:
    """Return the questions of all key frames of a bag, in order.

    Raises BagError if the bag cannot be read or has no questions.
    """
    opened = Bag(Path(bag), lambda text: None)
    try:
        found = opened.topics.get(TOPIC)
        if found is None or found.type_name != TYPE_NAME:
            raise BagError(f'bag {bag} has no questions: no topic {TOPIC} of {TYPE_NAME}; write it with '
                           '`mpnp convert`, without --no-questions')
        types = message_types()
        complete = completed(types, found) or bytes
        frames = [FrameQuestions.from_message(types.deserialize_cdr(complete(message.data), TYPE_NAME))
                  for message in opened.messages([TOPIC])]
    except SerdeError as error:
        raise BagError(f'bag {bag}: a message on {TOPIC} cannot be read ({error}); convert the scene again'
                       ) from None
    finally:
        opened.close()
    frames = [frame for frame in frames if frame.questions]
    if not frames:
        raise BagError(f'bag {bag} has no questions: none of its key frames is annotated')
    return frames
