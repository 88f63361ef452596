"""Plays bags of rosbag2 with their original timing, without ROS; iteration yields serialised messages.

The iterating thread sleeps between messages. Other threads may pause, resume, stop or change the rate.
"""
from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from rosbags.serde import SerdeError

from mpnp_ros.bags.messages import message_types
from mpnp_ros.bags.older_types import completed
from mpnp_ros.bags.playback_clock import PlaybackClock
from mpnp_ros.bags.storage import Bag, StoredMessage
from mpnp_ros.bags.topics import RecordedTopic
from mpnp_ros.bags.types import StampShifter, learn_type
from mpnp_ros.errors import BagError, ConfigurationError

MIN_LOOP_GAP_NS = 1_000_000
"""Nanoseconds between the last message of a pass and the first of the next."""
STATIC_NS = 5 * 10 ** 9
"""Nanoseconds after the first message of a static topic during which its messages belong to the opening."""
OPENING_DEPTH = 100
"""Maximum number of messages per topic in the opening."""
STAMP_TOLERANCE_NS = 2 * 10 ** 9
"""Difference between header stamp and log time that is reported, nanoseconds."""


@dataclass(frozen=True)
class BagMessage:
    """A message that is due. stamp_ns: log time, shifted if the player restamps."""

    stamp_ns: int
    topic: str
    type_name: str
    data: bytes


@dataclass(frozen=True)
class BagTopic:
    """Properties of a topic for its publisher.

    latched: transient local; best_effort: recorded from best-effort publishers; message_count: 0 if unknown.
    """

    name: str
    type_name: str
    latched: bool
    message_count: int
    best_effort: bool = False


class BagPlayer:
    """Iterates the messages of a bag in time.

    path: bag folder, or a storage file of one. rate: speed, 1 is real time. start: offset of the first
    message, seconds. loop: repeat every ``loop_period`` seconds of bag time or at the end of the bag,
    whichever is later. restamp: in a loop, shift all stamps so that time increases; otherwise it jumps back.
    topics: play only these; exclude: do not play these. Both may have wildcards: ``/camera/*``. longest_gap:
    seconds; longer gaps in the recording are skipped; 0: never. report: called once with each message about a
    problem of the bag. clock: for tests. Raises BagError with file and cause if the bag cannot be played.

    opening: messages before all others: static transforms, robot descriptions, and latched messages from
    before the start. left_out: topics that are not played, with reasons.
    """

    def __init__(self, path: str | Path, rate: float = 1.0, start: float = 0.0, loop: bool = False,
                 loop_period: float = 0.5, restamp: bool = False, topics: Collection[str] | None = None,
                 clock: PlaybackClock | None = None, *, exclude: Collection[str] = (),
                 longest_gap: float = 60.0, report: Callable[[str], None] | None = None) -> None:
        if start < 0 or loop_period < 0 or longest_gap < 0:
            raise ConfigurationError(f'start ({start:g} s), loop_period ({loop_period:g} s) and longest_gap '
                                     f'({longest_gap:g} s) must not be negative')
        self.path = Path(path)
        self.loop = loop
        self._clock = clock or PlaybackClock(rate)
        self._restamp = restamp
        self._report = report or logging.getLogger(__name__).warning
        self._reported: set[str] = set()
        self._longest_gap_ns = round(longest_gap * 1e9)
        self._loop_period_ns = round(loop_period * 1e9)
        self._types = message_types()
        self._shifter = StampShifter(self._types)
        self._complete: dict[str, Callable[[bytes], bytes]] = {}
        self._bag = Bag(self.path, self._say)
        self.left_out = dict(self._bag.left_out)
        self.topics = {topic.name: _topic(topic) for topic in self._playable(topics, exclude)}
        self._seen: set[str] = set()
        self._start_ns = self._origin_ns = 0
        self._find_start(start)
        self.opening = tuple(self._opening())

    @property
    def duration(self) -> float:
        """Return the seconds of bag time from the start of playback to the last message of one pass."""
        return (self._bag.end_ns - self._start_ns) / 1e9

    @property
    def now_ns(self) -> int:
        """Return the current bag time for ``/clock``; in a loop it jumps back or, restamped, continues."""
        return self._clock.position_ns + self._origin_ns

    @property
    def rate(self) -> float:
        """Return the speed; 1 is real time."""
        return self._clock.rate

    @property
    def paused(self) -> bool:
        """Return whether playback is paused."""
        return self._clock.paused

    @property
    def running(self) -> bool:
        """Return whether playback has begun and is not paused."""
        return self._clock.running

    def pause(self) -> None:
        """Pause until :meth:`resume`."""
        self._clock.pause()

    def resume(self) -> None:
        """Continue after :meth:`pause`."""
        self._clock.resume()

    def set_rate(self, rate: float) -> None:
        """Change the speed; raises ConfigurationError unless it is above zero."""
        self._clock.set_rate(rate)

    def stop(self) -> None:
        """End the iteration permanently, also during a wait."""
        self._clock.stop()

    def __iter__(self) -> Iterator[BagMessage]:
        """Yield the opening, then :meth:`play`."""
        if not self._clock.stopped:
            yield from self.opening
        yield from self.play()

    def play(self) -> Iterator[BagMessage]:
        """Start time and yield the messages after the opening, each when due.

        A player can be played once.
        """
        self._clock.start()
        begin = 0
        try:
            while (end := (yield from self._play_once(begin))) is not None:
                begin = max(end + MIN_LOOP_GAP_NS, begin + self._loop_period_ns)
                if not self.loop or not self._clock.wait_until(begin):
                    return
                if not self._restamp:
                    self._origin_ns = self._start_ns - begin
                offset = self._origin_ns + begin - self._start_ns
                yield from self._moved(self.opening, offset)
        finally:
            self._bag.close()

    def _play_once(self, begin: int) -> Generator[BagMessage, None, int | None]:
        """Yield the messages of one pass from a clock position; return its end, or None if stopped."""
        offset = self._origin_ns + begin - self._start_ns
        due, last = begin, self._start_ns
        for message in self._messages(self.topics, self._start_ns):
            if message.topic in self.left_out or self._in_opening(message):
                continue
            gap = message.stamp_ns - last
            if 0 < self._longest_gap_ns < gap:
                if not self._clock.wait_until(due):
                    return None
                self._say_gap(gap, last)
                self._origin_ns += gap
            else:
                due += max(0, gap)
            last = max(last, message.stamp_ns)
            if not self._clock.wait_until(due):
                return None
            if message.topic in self._seen or self._look_at(message):
                due_now = BagMessage(message.stamp_ns, message.topic, self.topics[message.topic].type_name,
                                     message.data)
                yield from self._moved([due_now], offset)
        return due

    def _moved(self, messages: Iterable[BagMessage], offset: int) -> Iterator[BagMessage]:
        """Yield messages with stamps shifted by ``offset`` nanoseconds; messages that fail are skipped."""
        for message in messages:
            data = message.data
            try:
                if offset:
                    data = self._shifter.shift(message.type_name, data, offset)
            except Exception as error:  # arbitrary bytes raise various exceptions
                self._say(f'{message.topic}: messages skipped, because their stamps cannot be moved '
                          f'({type(error).__name__}); set restamp: false or exclude the topic')
                continue
            yield BagMessage(message.stamp_ns + offset, message.topic, message.type_name, data)

    def _messages(self, topics: Collection[str], start_ns: int = 0) -> Iterator[StoredMessage]:
        """Yield messages of the bag; those of older types have all fields."""
        for message in self._bag.messages(topics, start_ns):
            if complete := self._complete.get(message.topic):
                with contextlib.suppress(Exception):  # of arbitrary bytes; its topic is left out by _look_at
                    message = replace(message, data=complete(message.data))
            yield message

    def _look_at(self, message: StoredMessage) -> bool:
        """Check the first message of a topic; skip topics that do not decode, report deviating stamps."""
        self._seen.add(message.topic)
        topic = self.topics[message.topic]
        if topic.type_name not in self._types.fielddefs:
            return True
        try:
            content = self._types.deserialize_cdr(message.data, topic.type_name)
        except SerdeError as error:
            if message.data[1:2] > b'\1':  # an encapsulation unknown to rosbags, perhaps known to DDS
                return True
            self.left_out[topic.name] = f'its first message does not decode as {topic.type_name} ({error}) ' \
                                        'It was recorded with another definition, or is damaged'
            self._say(f'{topic.name} skipped: {self.left_out[topic.name]}')
            return False
        except Exception:  # rosbags cannot decode the type, e.g. wstring
            return True
        time = getattr(getattr(content, 'header', None), 'stamp', None)
        if topic.latched or time is None:
            return True
        stamp = time.sec * 10 ** 9 + time.nanosec
        ahead = (stamp - message.stamp_ns) / 1e9
        if stamp and abs(ahead) * 1e9 > STAMP_TOLERANCE_NS and 'stamps' not in self._reported:
            self._reported.add('stamps')
            remedy = 'The bag holds a /clock of its own; with clock_rate: 0 that is played' \
                if '/clock' in self._bag.topics else 'Record a simulated robot with use_sim_time'
            side, age = ('after', 'new') if ahead > 0 else ('before', 'old')
            self._say(f'bag {self.path}: the stamps on {topic.name} are {span(abs(ahead))} {side} the times '
                      'at which it was recorded. /clock follows these, so nodes see messages as that much '
                      f'too {age}. {remedy}')
        return True

    def _playable(self, topics: Collection[str] | None, exclude: Collection[str]) -> list[RecordedTopic]:
        """Return the topics to play, with known types; record the reasons for others.

        Raises BagError if none is left.
        """
        names = sorted({*self._bag.topics, *self._bag.left_out})
        absent = [pattern for pattern in topics or () if not any(_fits(name, [pattern]) for name in names)]
        if absent:
            raise BagError(f'bag {self.path} has no topic {", ".join(sorted(absent))}; it has '
                           f'{", ".join(names)}')
        for pattern in exclude:
            if not any(_fits(name, [pattern]) for name in names):
                self._say(f'bag {self.path} has no topic {pattern} to exclude')
        chosen = [name for name in names if (topics is None or _fits(name, topics))
                  and not _fits(name, exclude)]
        self.left_out = {name: reason for name, reason in self.left_out.items() if name in chosen}
        found, moved = [], self._restamp and self.loop
        for name in chosen:
            if topic := self._bag.topics.get(name):
                reason = learn_type(self._types, topic)
                if complete := completed(self._types, topic):
                    self._complete[name] = complete
                if not reason and moved and topic.type_name not in self._types.fielddefs:
                    reason = f'{topic.type_name} is defined neither in the bag nor here, so its stamps ' \
                             'cannot be moved; install its package'
                if reason:
                    self.left_out[name] = reason
                else:
                    found.append(topic)
        played = {topic.name for topic in found}
        for name, reason in self.left_out.items():
            self._say(f'{name}: {reason}' if name in played else f'{name} skipped: {reason}')
        self.left_out = {name: reason for name, reason in self.left_out.items() if name not in played}
        if not found:
            reasons = '; '.join(f'{name}: {reason}' for name, reason in self.left_out.items())
            raise BagError(f'bag {self.path}: no topic to play.  '
                           f'{reasons or "All topics are excluded"}')
        return found

    def _find_start(self, start: float) -> None:
        """Set the start of playback; a gap before the first message is skipped."""
        first = next(self._bag.messages(self._bag.topics), None)
        if first is None:
            raise BagError(f'bag {self.path} contains no readable messages; record it again')
        begin = first.stamp_ns + round(start * 1e9)
        self._latched = {topic.name for topic in self.topics.values() if topic.latched}
        others = [name for name in self.topics if name not in self._latched]
        following = next(self._bag.messages(others, begin), None) if others else None
        if following is None and next(self._bag.messages(self.topics, begin), None) is None:
            whole = (self._bag.end_ns - first.stamp_ns) / 1e9
            raise BagError(f'bag {self.path} is over before {start:g} s: it lasts {whole:.3g} s; start '
                           'earlier' if start else
                           f'bag {self.path} holds no messages on {", ".join(self.topics)}')
        self._first_other_ns = begin if following is None else following.stamp_ns
        self._start_ns = begin
        if 0 < self._longest_gap_ns < self._first_other_ns - begin:
            self._say_gap(self._first_other_ns - begin, begin)
            self._start_ns = self._first_other_ns
        self._origin_ns = self._start_ns
        self._static_end_ns: dict[str, int] = {}
        counted = any(topic.message_count for topic in self.topics.values())
        for name in filter(_is_static, self.topics):
            if counted and not self.topics[name].message_count:
                continue  # do not search the whole bag
            if message := next(self._messages([name]), None):
                self._static_end_ns[name] = max(begin, message.stamp_ns) + STATIC_NS

    def _opening(self) -> Iterator[BagMessage]:
        """Yield the distinct messages of static topics, and the last ones of others before the start."""
        found: dict[object, BagMessage] = {}
        limit = max(self._first_other_ns, *self._static_end_ns.values(), self._start_ns) + 1
        for number, message in enumerate(self._messages(self._latched) if self._latched else ()):
            if message.stamp_ns > limit:
                break
            if self._in_opening(message) and self._look_at(message):
                static, early = message.topic in self._static_end_ns, message.stamp_ns < self._start_ns
                key = (message.topic, message.data if static else None if early else number)
                found.pop(key, None)
                found[key] = BagMessage(message.stamp_ns, message.topic, self.topics[message.topic].type_name,
                                        message.data)
        counts = Counter(message.topic for message in found.values())
        for opening in sorted(found.values(), key=lambda item: item.stamp_ns):
            counts[opening.topic] -= 1
            if counts[opening.topic] < OPENING_DEPTH:
                yield opening

    def _in_opening(self, message: StoredMessage) -> bool:
        if message.topic not in self._latched or message.topic in self.left_out:
            return False
        return message.stamp_ns <= self._static_end_ns.get(message.topic, self._first_other_ns - 1)

    def _say_gap(self, gap: int, since: int) -> None:
        self._say(f'bag {self.path}: no messages for {span(gap / 1e9)} after {since / 1e9:.3f} s; '
                  'the gap is skipped (parameter longest_gap)')

    def _say(self, text: str) -> None:
        """Report a text once."""
        if text not in self._reported:
            self._reported.add(text)
            self._report(text)


def span(seconds: float) -> str:
    """Return a duration as text: ``0.5 s``, ``3 h``, ``19676 days``."""
    for size, name in ((86400., 'days'), (3600., 'h'), (60., 'min')):
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {name}'
    return f'{seconds:.3g} s'


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name.lstrip('/'), pattern.lstrip('/')) for pattern in patterns)


def _is_static(name: str) -> bool:
    """Return whether a topic is static by its name, hence latched."""
    return name.endswith(('/tf_static', '/robot_description', '/robot_description_semantic')) \
        or name in ('tf_static', 'robot_description')


def _topic(topic: RecordedTopic) -> BagTopic:
    """Return how a topic is published: latched as recorded, or because of its name or type."""
    offered = topic.offered
    once = (topic.type_name == 'sensor_msgs/msg/CameraInfo' and topic.count == 1) \
        or topic.type_name in ('nav_msgs/msg/OccupancyGrid', 'nav_msgs/msg/MapMetaData')
    latched = offered.latched or _is_static(topic.name) or (once and not offered.known)
    return BagTopic(topic.name, topic.type_name, latched, topic.count, offered.best_effort and not latched)
