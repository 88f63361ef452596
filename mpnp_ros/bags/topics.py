"""Topics of a storage file, in one form for all formats.

Recorders write types and QoS in several ways. They are read leniently, because one invalid entry must not
make a bag unusable.
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
    """The QoS of the recorded publishers of a topic.

    known: whether the bag has it. latched: one of them was transient local. best_effort: none of them was
    reliable.
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

    key: its number in the file. encoding: of its messages; ROS 2 messages are ``cdr``.
    definition_format: ``ros2msg``, ``ros2idl`` or another name. digest: hash of the type, may be empty.
    count: number of messages; 0 if unknown.
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
    """Return a type as ``std_msgs/msg/String``; bags before Dashing omit ``msg``, DDS tools use colons."""
    if match := re.fullmatch(r'(\w+)::(\w+)::dds_::(\w+)_', name):
        return '/'.join(match.groups())
    parts = name.split('/')
    return f'{parts[0]}/msg/{parts[1]}' if len(parts) == 2 else name


def offered_qos(profiles: object) -> Offered:
    """Return the QoS of ``offered_qos_profiles``; unreadable profiles count as unknown.

    profiles: YAML text or a list, with numbers (up to Iron) or words (from Jazzy on).
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

    def words(policy: str) -> list[str]:
        """Values as transient_local, RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL too; numbers as text."""
        return [re.sub(r'^rmw_qos_policy_[a-z]+?_(?=[a-z])', '', str(profile.get(policy)).strip().lower())
                for profile in found]

    return Offered(bool(found), any(word in ('1', 'transient_local') for word in words('durability')),
                   bool(found) and all(word in ('2', 'best_effort') for word in words('reliability')))
