"""What a storage file of a bag says of a topic, in the same words for every kind of file.

Recorders spell types and QoS in several ways; here they are read leniently, because one odd entry is no
reason to lose a bag.
"""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import yaml

CDR = 'cdr'
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


@dataclass(frozen=True)
class Offered:
    """The QoS that publishers of a topic offered while it was recorded.

    known: whether the bag says so at all. latched: durability was transient local for one of them.
    best_effort: none of them was reliable.
    """

    known: bool = False
    latched: bool = False
    best_effort: bool = False

    def __or__(self, other: Offered) -> Offered:
        if not (self.known and other.known):
            return self if self.known else other
        return Offered(True, self.latched or other.latched, self.best_effort and other.best_effort)


@dataclass(frozen=True)
class RecordedTopic:
    """One topic of one type in one storage file.

    key: the file's own number of it. encoding: of its messages; ROS 2 messages are ``cdr``.
    definition_format: ``ros2msg``, ``ros2idl`` or another word. digest: hash of the type, may be empty.
    count: of its messages; 0 where the file does not say.
    """

    key: int
    name: str
    type_name: str
    encoding: str = CDR
    definition_format: str = ''
    definition: str = ''
    digest: str = ''
    offered: Offered = Offered()
    count: int = 0


def type_in_full(name: str) -> str:
    """Spell a type as ``std_msgs/msg/String``; before Dashing ``msg`` was left out, DDS tools use colons."""
    if match := re.fullmatch(r'(\w+)::(\w+)::dds_::(\w+)_', name):
        return '/'.join(match.groups())
    parts = name.split('/')
    return f'{parts[0]}/msg/{parts[1]}' if len(parts) == 2 else name


def offered_qos(profiles: object) -> Offered:
    """Read ``offered_qos_profiles``: YAML text or a list, with numbers (to Iron) or words (from Jazzy).

    What cannot be read counts as not said.
    """
    if isinstance(profiles, str | bytes):
        try:
            profiles = yaml.safe_load(profiles)
        except yaml.YAMLError:
            return Offered()
    if isinstance(profiles, dict):
        profiles = [profiles]
    if not isinstance(profiles, Iterable) or isinstance(profiles, str):
        return Offered()
    found = [profile for profile in profiles if isinstance(profile, dict)]
    durability = [_word(profile.get('durability')) for profile in found]
    reliability = [_word(profile.get('reliability')) for profile in found]
    return Offered(bool(found), any(word in ('1', 'transient_local') for word in durability),
                   bool(found) and all(word in ('2', 'best_effort') for word in reliability))


def _word(value: object) -> str:
    """``RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL`` and ``transient_local`` alike; numbers as text."""
    return re.sub(r'^rmw_qos_policy_[a-z]+?_(?=[a-z])', '', str(value).strip().lower())
