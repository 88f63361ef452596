"""Plays rosbag2 bags with their original timing, without ROS: whoever iterates gets the serialised messages.

The iterating thread sleeps between messages; any other thread may pause, resume, stop or change the rate.
"""
from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Connection, MessageDefinitionFormat, QosDurability
from rosbags.rosbag2 import Reader
from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg

from mpnp_ros.errors import BagError, ConfigurationError, MpnpError
from mpnp_ros.nuscenes.playback_clock import PlaybackClock
from mpnp_ros.nuscenes.stamps import StampShifter
from mpnp_ros.nuscenes.typestore import message_types

MIN_LOOP_GAP_NS = 1_000_000
"""Nanoseconds between the last message of a pass and the first of the next."""


@dataclass(frozen=True)
class BagMessage:
    """One message, due now. stamp_ns: its log time, moved along where the player restamps."""

    stamp_ns: int
    topic: str
    type_name: str
    data: bytes


@dataclass(frozen=True)
class BagTopic:
    """What a publisher of a topic needs to know. latched: late subscribers get the last message too."""

    name: str
    type_name: str
    latched: bool
    message_count: int


class BagPlayer:
    """Iterates the messages of a bag, each when it is due.

    path: bag folder, or a bare ``.mcap`` or ``.db3`` file.
    rate: speed, 1 is real time. start: seconds into the bag to begin at; latched messages from before
    that come first. loop: begin again at the end, every ``loop_period`` seconds of bag time or when the
    bag is over, whichever is later (a bag of one key frame is over at once).
    restamp: in a loop, move all stamps so that time keeps running forward; otherwise it jumps back.
    topics: play these only. clock: for tests.
    Raises BagError, naming the file and the cause, where the bag cannot be played.
    """

    def __init__(self, path: str | Path, rate: float = 1.0, start: float = 0.0, loop: bool = False,
                 loop_period: float = 0.5, restamp: bool = False, topics: Collection[str] | None = None,
                 clock: PlaybackClock | None = None) -> None:
        if start < 0 or loop_period < 0:
            raise ConfigurationError(f'start ({start:g} s) and loop_period ({loop_period:g} s) must not be '
                                     'negative')
        self.path = Path(path)
        self.loop = loop
        self._types = message_types()
        self._shifter = StampShifter(self._types)
        self._clock = clock or PlaybackClock(rate)
        self._restamp = restamp
        with self._reading() as reader:
            chosen = self._choose(reader, topics)
            self._check_types(chosen)
            self._start_ns = reader.start_time + round(start * 1e9)
            self._end_ns = reader.end_time - 1
            self.topics = {connection.topic: _topic(connection) for connection in chosen}
        if self._start_ns > self._end_ns:
            raise BagError(f'bag {self.path} is empty or over before {start:g} s; start earlier')
        self._period_ns = max(self._end_ns - self._start_ns + MIN_LOOP_GAP_NS, round(loop_period * 1e9))
        self._pass = 0

    @property
    def duration(self) -> float:
        """Seconds from the start of playback to the last message of one pass."""
        return (self._end_ns - self._start_ns) / 1e9

    @property
    def now_ns(self) -> int:
        """Bag time at this moment, for ``/clock``: stands still in a pause, jumps or runs on in a loop."""
        position = self._clock.position_ns
        return self._start_ns + position - (0 if self._restamp else self._pass * self._period_ns)

    @property
    def rate(self) -> float:
        """Speed; 1 is real time."""
        return self._clock.rate

    @property
    def paused(self) -> bool:
        """Whether playback is paused."""
        return self._clock.paused

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
        """Wait for and give one message after another. A player is iterated once."""
        self._clock.start()
        with self._reading() as reader:
            while True:
                yield from self._play_once(reader)
                following = self._pass + 1
                if not self.loop or not self._clock.wait_until(following * self._period_ns):
                    return
                self._pass = following

    def _play_once(self, reader: Reader) -> Iterator[BagMessage]:
        begin = self._pass * self._period_ns
        for connection, stamp, data in self._messages(reader):
            if not self._clock.wait_until(begin + max(0, stamp - self._start_ns)):
                return
            yield self._message(connection, stamp, bytes(data))

    def _message(self, connection: Connection, stamp: int, data: bytes) -> BagMessage:
        offset = self._pass * self._period_ns if self._restamp else 0
        if offset:
            data = self._shifter.shift(connection.msgtype, data, offset)
        return BagMessage(stamp + offset, connection.topic, connection.msgtype, data)

    def _messages(self, reader: Reader) -> Iterator[tuple[Connection, int, bytes]]:
        chosen = [item for item in reader.connections if item.topic in self.topics]
        latched = [item for item in chosen if self.topics[item.topic].latched]
        if latched and self._start_ns > reader.start_time:
            last = {item.topic: (item, stamp, data)
                    for item, stamp, data in reader.messages(latched, stop=self._start_ns)}
            yield from last.values()
        yield from reader.messages(chosen, start=self._start_ns)

    def _choose(self, reader: Reader, topics: Collection[str] | None) -> list[Connection]:
        if topics is None:
            return list(reader.connections)
        absent = set(topics) - {connection.topic for connection in reader.connections}
        if absent:
            raise BagError(f'bag {self.path} has no topic {", ".join(sorted(absent))}')
        return [connection for connection in reader.connections if connection.topic in topics]

    def _check_types(self, connections: Collection[Connection]) -> None:
        """Learn types that only the bag defines; refuse types that are not what they are here."""
        for connection in connections:
            name = connection.msgtype
            if name not in self._types.fielddefs:
                self._learn(connection)
            if connection.digest and connection.digest != self._types.hash_rihs01(name):
                raise BagError(f'bag {self.path}: {name} on {connection.topic} was recorded with another '
                               'definition of this type; record or convert the bag with the present one')

    def _learn(self, connection: Connection) -> None:
        parse = _PARSERS.get(connection.msgdef.format)
        try:
            if parse is None:
                raise TypesysError('the bag does not define it')
            known = self._types.fielddefs
            found = parse(connection.msgdef.data, connection.msgtype)
            self._types.register({name: fields for name, fields in found.items() if name not in known})
        except TypesysError as error:
            raise BagError(f'bag {self.path}: unknown type {connection.msgtype} on {connection.topic} '
                           f'({error}); leave the topic out or record to MCAP') from None

    @contextmanager
    def _reading(self) -> Iterator[Reader]:
        try:
            with Reader(self.path) as reader:
                yield reader
        except MpnpError:
            raise
        except FileNotFoundError:
            cause = 'no metadata.yaml; try `ros2 bag reindex`' if self.path.is_dir() else 'no such file'
            raise BagError(f'bag {self.path} cannot be opened: {cause}') from None
        except Exception as error:  # whatever a parser of damaged bytes runs into
            raise BagError(f'bag {self.path} is damaged or of an unknown format: {error}; '
                           'record it again, or try `ros2 bag reindex`') from error


_PARSERS = {
    MessageDefinitionFormat.MSG: get_types_from_msg,
    MessageDefinitionFormat.IDL: lambda text, _: get_types_from_idl(text),
}


def _topic(connection: Connection) -> BagTopic:
    profiles = connection.ext.offered_qos_profiles
    latched = any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)
    return BagTopic(connection.topic, connection.msgtype, latched, connection.msgcount)
