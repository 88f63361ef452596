"""What the tokens of sounds tell, and the classes of pre-trained classifiers that mean it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpnp_ros.questions.subjects import SOUND_CHANNELS

CHANNELS = tuple(name for name, _ in SOUND_CHANNELS)
"""The values of a token of sound, in this order: the probability that each is heard."""

CLASSES: Mapping[str, Sequence[str]] = {
    'siren': ('Siren', 'Civil defense siren', 'Police car (siren)', 'Ambulance (siren)',
              'Fire engine, fire truck (siren)', 'Emergency vehicle'),
    'horn': ('Vehicle horn, car horn, honking', 'Air horn, truck horn', 'Toot', 'car_horn'),
    'engine': ('Engine', 'Idling', 'Medium engine (mid frequency)', 'Heavy engine (low frequency)',
               'Engine starting', 'Engine knocking', 'Accelerating, revving, vroom', 'engine_idling'),
    'tyres': ('Tire squeal', 'Skidding', 'Car passing by', 'Traffic noise, roadway noise'),
    'speech': ('Speech', 'Child speech, kid speaking', 'Conversation', 'Narration, monologue', 'Babbling',
               'Speech synthesizer', 'Shout', 'Yell', 'Children shouting', 'Whispering', 'Chatter',
               'Hubbub, speech noise, speech babble'),
    'alarm': ('Car alarm', 'Alarm clock', 'Smoke detector, smoke alarm', 'Fire alarm', 'Buzzer',
              'Reversing beeps', 'Beep, bleep', 'clock_alarm'),
}
"""Classes of AudioSet, ESC-50 and UrbanSound8K (the names with a lower-case first letter) by channel.

AudioSet's class Alarm is left out: it is the parent of Siren, so classifiers report it for every siren.  So
are the classes of vehicles, such as Car: they are labelled where only a horn or a siren is heard.
"""


def classes_of(names: Sequence[str]) -> list[list[int]]:
    """Return the positions of the classes of each channel among the class names of a classifier.

    Case, spaces and underscores do not matter.  A channel without a class is unknown to the classifier.
    """
    places = {_plain(name): place for place, name in enumerate(names)}
    return [sorted({places[plain] for name in (channel, *CLASSES[channel])
                    if (plain := _plain(name)) in places}) for channel in CHANNELS]


def _plain(name: str) -> str:
    return ' '.join(name.lower().replace('_', ' ').split())
