"""Plays rosbag2 bags with their original timing, without ROS: whoever iterates gets the serialised messages.

The iterating thread sleeps between messages; any other thread may pause, resume, stop or change the rate.
"""
from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rosbags.serde import SerdeError

from mpnp_ros.errors import BagError, ConfigurationError
from mpnp_ros.nuscenes.bag_records import RecordedTopic
from mpnp_ros.nuscenes.bag_storage import Bag, StoredMessage
from mpnp_ros.nuscenes.bag_types import learn_type
from mpnp_ros.nuscenes.playback_clock import PlaybackClock
from mpnp_ros.nuscenes.stamps import StampShifter
from mpnp_ros.nuscenes.typestore import message_types

MIN_LOOP_GAP_NS = 1_000_000
"""Nanoseconds between the last message of a pass and the first of the next."""
STATIC_NS = 5 * 10 ** 9
"""Nanoseconds after the first message of a static topic in which others of it belong to the opening."""
OPENING_DEPTH = 100
"""Most messages of one topic in the opening."""
STAMP_TOLERANCE_NS = 2 * 10 ** 9
"""Between the stamp in a header and the log time; more is said."""


@dataclass(frozen=True)
class BagMessage:
    """One message, due now. stamp_ns: its log time, moved along where the player restamps."""

    stamp_ns: int
    topic: str
    type_name: str
    data: bytes


@dataclass(frozen=True)
class BagTopic:
    """What a publisher of a topic needs to know.

    latched: late subscribers get the last messages too; best_effort: it was recorded from publishers that did
    not send again what was lost; message_count: 0 where the bag does not say.
    """

    name: str
    type_name: str
    latched: bool
    message_count: int
    best_effort: bool = False


class BagPlayer:
    """Iterates the messages of a bag, each when it is due.

    path: bag folder, or a storage file of one.
    rate: speed, 1 is real time. start: seconds into the bag to begin at. loop: begin again at the end, every
    ``loop_period`` seconds of bag time or when the bag is over, whichever is later (a bag of one key frame is
    over at once).
    restamp: in a loop, move all stamps so that time keeps running forward; otherwise it jumps back.
    topics: play these only; exclude: do not play these. Both may hold wildcards: ``/camera/*``.
    longest_gap: seconds; a longer time in which nothing was recorded is skipped; 0: never.
    report: called with a sentence, once for each, about what is wrong with the bag. clock: for tests.
    Raises BagError, naming the file and the cause, where the bag cannot be played.

    opening: what holds before everything else: static transforms, robot descriptions, and latched messages
    from before the start. left_out: topics that are not played, and why.
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
        self._said: set[str] = set()
        self._longest_gap_ns = round(longest_gap * 1e9)
        self._loop_period_ns = round(loop_period * 1e9)
        self._types = message_types()
        self._shifter = StampShifter(self._types)
        self._bag = Bag(self.path, self._say)
        self.left_out = dict(self._bag.left_out)
        self.topics = {topic.name: _topic(topic) for topic in self._playable(topics, exclude)}
        self._seen: set[str] = set()
        self._find_start(start)
        self.opening = tuple(self._opening())

    @property
    def duration(self) -> float:
        """Seconds of bag time from the start of playback to the last message of one pass."""
        return (self._bag.end_ns - self._start_ns) / 1e9

    @property
    def now_ns(self) -> int:
        """Bag time at this moment, for ``/clock``: stands still in a pause, jumps or runs on in a loop."""
        return self._clock.position_ns + self._origin_ns

    @property
    def rate(self) -> float:
        """Speed; 1 is real time."""
        return self._clock.rate

    @property
    def paused(self) -> bool:
        """Whether playback is paused."""
        return self._clock.paused

    @property
    def running(self) -> bool:
        """Whether time goes on: playback has begun and is not paused."""
        return self._clock.running

    def pause(self) -> None:
        """Stand still until :meth:`resume`."""
        self._clock.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._clock.resume()

    def set_rate(self, rate: float) -> None:
        """Change the speed from now on; ConfigurationError unless it is above zero."""
        self._clock.set_rate(rate)

    def stop(self) -> None:
        """End the iteration for good, also while it waits."""
        self._clock.stop()

    def __iter__(self) -> Iterator[BagMessage]:
        """Give the opening, then :meth:`play`."""
        if not self._clock.stopped:
            yield from self.opening
        yield from self.play()

    def play(self) -> Iterator[BagMessage]:
        """Let time run; wait for and give one message after another of what follows the opening.

        A player is played once.
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

    def _play_once(self, begin: int) -> Iterator[BagMessage]:
        """Play a pass that begins at that position of the clock; return where it ends, None where stopped."""
        offset = self._origin_ns + begin - self._start_ns
        due, last = begin, self._start_ns
        for message in self._bag.messages(self.topics, self._start_ns):
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
        """Move all stamps by ``offset`` nanoseconds; a message in which that fails is left out."""
        for message in messages:
            data = message.data
            try:
                if offset:
                    data = self._shifter.shift(message.type_name, data, offset)
            except Exception as error:  # whatever foreign bytes lead to
                self._say(f'{message.topic}: messages skipped, because their stamps cannot be moved '
                          f'({type(error).__name__}); set restamp: false or exclude the topic')
                continue
            yield BagMessage(message.stamp_ns + offset, message.topic, message.type_name, data)

    def _look_at(self, message: StoredMessage) -> bool:
        """Leave a topic out whose first message does not decode; say if its stamp is far from log time."""
        self._seen.add(message.topic)
        topic = self.topics[message.topic]
        if topic.type_name not in self._types.fielddefs:
            return True
        try:
            content = self._types.deserialize_cdr(message.data, topic.type_name)
        except SerdeError as error:
            if message.data[1:2] > b'\1':  # an encapsulation that rosbags does not know, but DDS may
                return True
            self.left_out[topic.name] = f'its first message does not decode as {topic.type_name} ({error}) ' \
                                        'It was recorded with another definition, or is damaged'
            self._say(f'{topic.name} skipped: {self.left_out[topic.name]}')
            return False
        except Exception:  # a type that rosbags cannot decode, as one with wstring
            return True
        header = getattr(content, 'header', None)
        if topic.latched or not hasattr(header, 'stamp'):
            return True
        stamp = header.stamp.sec * 10 ** 9 + header.stamp.nanosec
        ahead = (stamp - message.stamp_ns) / 1e9
        if stamp and abs(ahead) * 1e9 > STAMP_TOLERANCE_NS and 'stamps' not in self._said:
            self._said.add('stamps')
            remedy = 'The bag holds a /clock of its own; with clock_rate: 0 that is played' \
                if '/clock' in self._bag.topics else 'Record a simulated robot with use_sim_time'
            side, age = ('after', 'new') if ahead > 0 else ('before', 'old')
            self._say(f'bag {self.path}: the stamps on {topic.name} are {span(abs(ahead))} {side} the times '
                      'at which it was recorded. /clock follows these, so nodes see messages as that much '
                      f'too {age}. {remedy}')
        return True

    def _playable(self, topics: Collection[str] | None, exclude: Collection[str]) -> list[RecordedTopic]:
        """Choose topics, learn their types, and note why others are left out; BagError where none is left."""
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
                if not reason and moved and topic.type_name not in self._types.fielddefs:
                    reason = f'{topic.type_name} is defined neither in the bag nor here, so its stamps ' \
                             'cannot be moved; install its package'
                if reason:
                    self.left_out[name] = reason
                else:
                    found.append(topic)
        for name, reason in self.left_out.items():
            self._say(f'{name}: {reason}' if name in map(_name, found) else f'{name} skipped: {reason}')
        self.left_out = {name: reason for name, reason in self.left_out.items()
                         if name not in map(_name, found)}
        if not found:
            reasons = '; '.join(f'{name}: {reason}' for name, reason in self.left_out.items())
            raise BagError(f'bag {self.path}: no topic to play.  '
                           f'{reasons or "All topics are excluded"}')
        return found

    def _find_start(self, start: float) -> None:
        """Set where playback begins; a hole before the first message is skipped."""
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
            if message := next(self._bag.messages([name]), None):
                self._static_end_ns[name] = max(begin, message.stamp_ns) + STATIC_NS

    def _opening(self) -> Iterator[BagMessage]:
        """Give the opening: of static topics each content once, of others the last one before the start."""
        found: dict[object, BagMessage] = {}
        limit = max(self._first_other_ns, *self._static_end_ns.values(), self._start_ns) + 1
        for number, message in enumerate(self._bag.messages(self._latched) if self._latched else ()):
            if message.stamp_ns > limit:
                break
            if self._in_opening(message) and self._look_at(message):
                static, early = message.topic in self._static_end_ns, message.stamp_ns < self._start_ns
                key = (message.topic, message.data if static else None if early else number)
                found.pop(key, None)
                found[key] = BagMessage(message.stamp_ns, message.topic, self.topics[message.topic].type_name,
                                        message.data)
        counts = Counter(message.topic for message in found.values())
        for message in sorted(found.values(), key=lambda item: item.stamp_ns):
            counts[message.topic] -= 1
            if counts[message.topic] < OPENING_DEPTH:
                yield message

    def _in_opening(self, message: StoredMessage) -> bool:
        if message.topic not in self._latched or message.topic in self.left_out:
            return False
        return message.stamp_ns <= self._static_end_ns.get(message.topic, self._first_other_ns - 1)

    def _say_gap(self, gap: int, since: int) -> None:
        self._say(f'bag {self.path}: no messages for {span(gap / 1e9)} after {since / 1e9:.3f} s; '
                  'the gap is skipped (parameter longest_gap)')

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._report(text)


def span(seconds: float) -> str:
    """A length of time in words: ``0.5 s``, ``3 h``, ``19676 days``."""
    for size, name in ((86400., 'days'), (3600., 'h'), (60., 'min')):
        if seconds >= 2 * size:
            return f'{seconds / size:.0f} {name}'
    return f'{seconds:.3g} s'


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name.lstrip('/'), pattern.lstrip('/')) for pattern in patterns)


def _is_static(name: str) -> bool:
    """Whether a topic holds what never changes, and is latched whatever the bag says."""
    return name.endswith(('/tf_static', '/robot_description', '/robot_description_semantic')) \
        or name in ('tf_static', 'robot_description')


def _topic(topic: RecordedTopic) -> BagTopic:
    said = topic.offered
    once = (topic.type_name == 'sensor_msgs/msg/CameraInfo' and topic.count == 1) \
        or topic.type_name in ('nav_msgs/msg/OccupancyGrid', 'nav_msgs/msg/MapMetaData')
    latched = said.latched or _is_static(topic.name) or (once and not said.known)
    return BagTopic(topic.name, topic.type_name, latched, topic.count, said.best_effort and not latched)


def _name(topic: RecordedTopic) -> str:
    return topic.name
