"""Reads what `mpnp record` has written: answers, the tokens that they rest on, images of their moments."""
from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpnp_ros.adaptation.moments import LABELLED, BufferedQuestion, Moment
from mpnp_ros.adaptation.supervision import TokenHistory, span
from mpnp_ros.bags.labels import LABELS, PERSON, ROBOT, Asked, Label, LabelFile
from mpnp_ros.bags.storage import Bag
from mpnp_ros.cli.ask import describe, describe_counted
from mpnp_ros.cli.record import COMPRESSED, TOKENS, stamp_of
from mpnp_ros.errors import BagError, TokensError
from mpnp_ros.files import write_file
from mpnp_ros.tokens import ModalityTokens

if TYPE_CHECKING:
    from mpnp_ros.bags.storage import StoredMessage

ANSWER, FEEDBACK = 'mpnp_ros/msg/Answer', 'mpnp_ros/msg/Feedback'
FOR_EVER = 1e9
"""Seconds for which tokens of a recording are held."""
NEAR = 2.
"""Seconds within which an image belongs to a moment."""
ALIKE, MOST_ALIKE = .1, 8
"""Difference of confidences up to which answers count as about equally uncertain, and their number."""
OF_EVERY_CAMERA = ('compressed', 'image', 'image_raw', 'image_rect', 'image_color', 'image_rect_color')
"""Parts of topics that do not tell cameras apart."""
LIKELY = 4
"""Number of the most probable answers that a review shows."""
IMAGES = 'images'
"""Folder of the recording in which images of moments are put."""


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer of the robot with the status OK.

    stamp_ns: of the oldest data that it rests on.  type: of the question.  used: stamps of the tokens of each
    modality.  rests: what it rests on, in words.
    """

    stamp_ns: int
    question: str
    type: str
    choices: tuple[str, ...]
    text: str
    confidence: float
    probabilities: Mapping[str, float]
    used: Mapping[str, int]
    rests: str = field(repr=False)

    @property
    def asked(self) -> Asked:
        """Return what identifies the question."""
        return self.stamp_ns, self.question

    def label(self, answer: str, by: str) -> Label:
        """Return a label of the question."""
        return Label(self.stamp_ns, self.question, self.choices, answer, by)

    @classmethod
    def of(cls, message: Any) -> RecordedAnswer:
        """Return the answer of an Answer message."""
        from mpnp_ros.conversions.messages import to_nanoseconds

        stamps = map(to_nanoseconds, message.modality_stamps)
        counted = [f'counted {describe_counted(counted)}' for counted in message.counted]
        question = BufferedQuestion.read(message.question, '', (), LABELLED)
        return cls(to_nanoseconds(message.header.stamp), message.question, question.type,
                   tuple(message.choices), message.text, message.confidence,
                   dict(zip(message.choices, message.probabilities, strict=False)),
                   dict(zip(message.used_modalities, stamps, strict=False)),
                   '\n'.join([describe(message), *counted]))


class Recording:
    """A recording, read once.

    folder: its bag.  answers: with choices, each question of a moment once, in the order in which they were
    asked.  labels: of its file of labels.  corrections: that were published meanwhile, as labels.
    Raises BagError if it cannot be read or has no tokens.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bag = Bag(folder, lambda text: print(f'mpnp: {text}', file=sys.stderr))
        self._history = TokenHistory(FOR_EVER)
        self._tokens: dict[tuple[str, int], ModalityTokens] = {}
        self._answers: dict[Asked, RecordedAnswer] = {}
        self._named: dict[str, RecordedAnswer] = {}
        corrections: list[Label] = []
        for message in self._bag.messages({*self._topics(ANSWER), *self._topics(TOKENS),
                                           *self._topics(FEEDBACK)}):
            try:
                corrections += self._take(self._bag.topics[message.topic].type_name, message.data)
            except (TokensError, RuntimeError) as error:  # RuntimeError: not a message of this type
                raise BagError(f'recording {folder}: a message on {message.topic} cannot be read ({error}); '
                               'record it again with this version of the package') from None
        if not self._tokens:
            raise BagError(f'{folder} has no tokens; record a running robot with `mpnp record`')
        self.answers = tuple(self._answers.values())
        self.labels = LabelFile(folder / LABELS)
        self.corrections = tuple(corrections)

    def _take(self, kind: str, data: bytes) -> list[Label]:
        """Keep a message; return what a correction says of an answer."""
        from rclpy.serialization import deserialize_message

        from mpnp_ros.conversions.messages import from_message, to_nanoseconds
        from mpnp_ros.msg import Answer, Feedback
        from mpnp_ros.msg import ModalityTokens as TokensMessage

        if kind == TOKENS:
            tokens = from_message(deserialize_message(data, TokensMessage))
            if (tokens.modality, tokens.stamp_ns) not in self._tokens:
                self._tokens[tokens.modality, tokens.stamp_ns] = tokens
                self._history.add(tokens)
        elif kind == ANSWER:
            said = deserialize_message(data, Answer)
            if said.status == Answer.OK and said.choices and said.used_modalities:
                answer = RecordedAnswer.of(said)
                self._answers[answer.asked] = self._named[said.id] = answer
        else:
            said = deserialize_message(data, Feedback)
            corrected = self._named.get(said.id) if said.id else self._answers.get(
                (to_nanoseconds(said.header.stamp), said.question))
            plain = ' '.join(said.answer.split())
            if corrected is not None and plain in corrected.choices:
                return [corrected.label(plain, PERSON)]
        return []

    def to_review(self) -> list[RecordedAnswer]:
        """Return the answers that nobody but the robot itself has judged, in the order to review them."""
        def is_open(answer: RecordedAnswer) -> bool:
            label = self.labels.get(answer.asked)
            return label is None or label.by == ROBOT

        return most_uncertain_first([answer for answer in self.answers if is_open(answer)])

    @property
    def images(self) -> Path:
        """Return the folder of the images that :meth:`pictures` has written."""
        return self.folder / IMAGES

    def close(self) -> None:
        """Close the bag."""
        self._bag.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def moments(self, labels: Iterable[Label]) -> list[Moment]:
        """Return the moments with labelled questions, oldest first.

        Tokens are those that the recorded answer rests on, and those of the other modalities of that time:
        they lie between the oldest and the newest data of the answer, or are no more than 60 ms apart.
        Labels that share tokens are about one moment.  Labels without an answer, and those of times without
        tokens, are left out.
        """
        used = {answer.asked: answer.used for answer in self.answers}
        moments: list[Moment] = []
        for label in sorted(labels, key=lambda label: label.stamp_ns):
            rests = {name: known for name, stamp in used.get(label.asked, {}).items()
                     if (known := self._tokens.get((name, stamp))) is not None}
            newest = max((span(known)[1] for known in rests.values()), default=label.stamp_ns)
            tokens = {**self._history.at(newest), **self._history.at(label.stamp_ns), **rests}
            if not tokens or not label.answer:
                continue
            question = BufferedQuestion.read(label.question, label.answer, label.choices, LABELLED)
            if moments and any(moments[-1].tokens.get(name) is known for name, known in tokens.items()):
                moments[-1] = moments[-1].joined(Moment(moments[-1].stamp_ns, {
                    name: known for name, known in tokens.items() if name not in moments[-1].tokens},
                    (question,)))
            else:
                moments.append(Moment(label.stamp_ns, tokens, (question,)))
        return moments

    def pictures(self, stamp_ns: int) -> list[tuple[Path, float]]:
        """Write the images of a moment into the folder `images`, where they are not there yet.

        Returns the file of each camera with the seconds by which it is later than the moment; only images
        within 2 s.  Raises StorageError if they cannot be written.
        """
        found = []
        for topic, stamps in sorted(self._images.items()):
            stamp = min(stamps, key=lambda stamp: abs(stamp - stamp_ns))
            if abs(stamp - stamp_ns) > NEAR * 1e9:
                continue
            camera = '_'.join(part for part in topic.split('/')[1:] if part not in OF_EVERY_CAMERA)
            path = self.images / f'{stamp}_{camera}.jpg'
            if not path.is_file():
                path.parent.mkdir(exist_ok=True)
                write_file(path, self._image(topic, stamps[stamp], stamp), durable=False)
            found.append((path, (stamp - stamp_ns) / 1e9))
        return found

    @cached_property
    def _images(self) -> Mapping[str, Mapping[int, int]]:
        """Return the log time of each image by its stamp, by topic."""
        images: dict[str, dict[int, int]] = {}
        for message in self._bag.messages(self._topics(COMPRESSED)):
            images.setdefault(message.topic, {})[stamp_of(message.data)] = message.stamp_ns
        return images

    def _image(self, topic: str, logged: int, stamp: int) -> bytes:
        """Return the image file of a stamp; logged: its log time."""
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import CompressedImage

        found: StoredMessage = next(message for message in self._bag.messages([topic], logged)
                                    if stamp_of(message.data) == stamp)
        return bytes(deserialize_message(found.data, CompressedImage).data)

    def _topics(self, kind: str) -> set[str]:
        return {name for name, topic in self._bag.topics.items() if topic.type_name == kind}


def most_uncertain_first(answers: Sequence[RecordedAnswer]) -> list[RecordedAnswer]:
    """Return the answers in the order in which to review them.

    Types of questions take turns; within a type the least confident answers come first, of those about
    equally uncertain the one about the moment that was reviewed least.
    """
    left: dict[str, list[RecordedAnswer]] = {}
    for answer in sorted(answers, key=lambda answer: (answer.confidence, answer.stamp_ns, answer.question)):
        left.setdefault(answer.type, []).append(answer)
    of_type, of_moment = dict.fromkeys(left, 0), {answer.stamp_ns: 0 for answer in answers}
    ordered: list[RecordedAnswer] = []
    while left:
        kind = min(left, key=lambda kind: (of_type[kind], left[kind][0].confidence))
        alike = [answer for answer in left[kind][:MOST_ALIKE]
                 if answer.confidence <= left[kind][0].confidence + ALIKE]
        chosen = min(alike, key=lambda answer: (of_moment[answer.stamp_ns], answer.confidence))
        left[kind].remove(chosen)
        if not left[kind]:
            del left[kind]
        of_type[kind] += 1
        of_moment[chosen.stamp_ns] += 1
        ordered.append(chosen)
    return ordered
