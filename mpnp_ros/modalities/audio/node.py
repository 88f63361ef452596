"""Node: encodes the sound of one or several microphones to audio tokens."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.qos import DurabilityPolicy

from mpnp_ros.conversions.audio import (
    SAMPLES,
    TYPES,
    SoundFormat,
    StampedSound,
    from_info,
    to_samples,
)
from mpnp_ros.conversions.detections import message_class
from mpnp_ros.endpoints import LATCHED, qos_profile
from mpnp_ros.errors import AudioError, ConfigurationError, MpnpError
from mpnp_ros.modalities.audio.config import AudioConfig
from mpnp_ros.modalities.audio.direction import spans_plane
from mpnp_ros.modalities.audio.frames import AudioChunk, AudioFrame, SoundBuffer
from mpnp_ros.modalities.audio.health import AudioLimits
from mpnp_ros.modalities.audio.registration import INFO
from mpnp_ros.nodes.discovery import FoundSensor, FoundSensors, Topic, below
from mpnp_ros.nodes.encoder_node import EncoderNode, EncoderOptions, Input
from mpnp_ros.nodes.parameters import topic_problem
from mpnp_ros.options import Change, option
from mpnp_ros.tokens import SECOND

LATCHING = DurabilityPolicy.TRANSIENT_LOCAL
LEAST = 0.5
"""Seconds of sound before the first token."""
STARTS = ('auto', 'start', 'end')
GENERIC = ('audio', 'audio_stamped', 'audio_data', 'audio_raw', 'raw_audio', 'sound', 'raw', 'data')


@dataclass(frozen=True)
class AudioOptions(EncoderOptions):
    """Parameters of the audio encoder node."""

    topic: str = option(
        '', 'topic of the sound; empty: the one that is published below the namespace of the node, '
            'messages with stamps first', change=Change.CONFIGURE)
    type: str = option(
        'auto', 'its messages; stamped: AudioDataStamped; plain: AudioData; raw: RawAudio; auto: what is '
                'published', choices=('auto', *TYPES), change=Change.CONFIGURE)
    info_topic: str = option(
        '', 'topic of AudioInfo; empty: audio_info beside the sound', change=Change.CONFIGURE)
    sample_format: str = option(
        '', 'format of the samples; empty: as the messages or AudioInfo tell', choices=('', *SAMPLES),
        change=Change.CONFIGURE)
    rate: int = option(
        0, 'samples per second; 0: as the messages or AudioInfo tell', unit='Hz', low=0, high=384000,
        change=Change.CONFIGURE)
    microphones: int = option(
        0, 'number of microphones; 0: as the messages or AudioInfo tell', low=0, high=64,
        change=Change.CONFIGURE)
    stamps: str = option(
        'auto', 'what the stamp of a message is the time of; auto: the first sample of RawAudio, and the '
                'last one of the others, as audio_capture has it', choices=STARTS, change=Change.ACTIVATE)
    period: float = option(
        0.5, 'time from token to token', unit='s', low=0.1, high=10.0, change=Change.ACTIVATE)
    gap: float = option(
        0.25, 'difference of stamps up to which messages follow each other without a gap', unit='s', low=0.0,
        high=5.0, change=Change.ACTIVATE)
    positions: tuple[float, ...] = option(
        (), 'x y z of each microphone in base_frame; with them tokens have directions', unit='m', low=-100,
        high=100, change=Change.CONFIGURE)
    frames: tuple[str, ...] = option(
        (), 'in place of positions: the frame of each microphone, in the order of the channels',
        change=Change.CONFIGURE)
    encoder: AudioConfig = option(AudioConfig(), 'the encoder', change=Change.CONFIGURE)
    health: AudioLimits = option(AudioLimits(), 'how good the input is', change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """Topics must be some, a format whole, and positions those of microphones."""
        for key in ('topic', 'info_topic'):
            if self[key] and (problem := topic_problem(key, self[key])):
                yield problem
        if len(self.positions) % 3:
            yield f'positions has {len(self.positions)} numbers; give x y z of each microphone'
        if self.positions and self.frames:
            yield 'positions and frames both tell where the microphones are; give one of them'


class AudioNode(EncoderNode):
    """Joins the messages of one stream and encodes its newest sound once a period."""

    MODALITY, OPTIONS = 'audio', AudioOptions
    HINT = 'set `topic`'

    def __init__(self) -> None:
        super().__init__()
        self._buffer: SoundBuffer | None = None
        self._waiting: list[Input] = []
        self._due_ns = self._period_ns = 0
        self._stamps = 'auto'
        self._info: Any = None
        self._latched: Any = None
        self._told_on = ''
        self._name = 'audio'
        self._found = FoundSensors(
            self, 'sound', 'topic', tuple(TYPES.values()), kin='audio|sound|microphone', find=find_sound,
            same=str, read=lambda found: self._read(found.topic, found.transport),
            leave=lambda found: self._leave(found.topic))

    @property
    def discovers(self) -> bool:
        """Return whether the graph tells the topic or its type."""
        return not self.values.topic or self.values.type == 'auto'

    def start(self) -> None:
        """Subscribe, where parameters tell topic and type."""
        super().start()
        values = self.values
        self._buffer = SoundBuffer(values.encoder.window, values.gap)
        self._info, self._due_ns, self._stamps = None, 0, values.stamps
        self._period_ns = round(values.period * SECOND)
        if not self.discovers:
            self._read(values.topic, TYPES[values.type])

    def stop(self) -> None:
        """Unsubscribe; messages that wait for the next token count as superseded."""
        super().stop()
        self.supersede(self._waiting)
        self._waiting = []
        self._forget_latched()
        self._found.clear()

    def discover(self, graph: Sequence[Topic]) -> None:
        """Subscribe to the sound."""
        if self.values.topic:
            name = self.resolve_topic_name(self.values.topic)
            graph = [topic for topic in graph if topic.name == name]
        if self.values.type != 'auto':
            graph = [topic for topic in graph if topic.type == TYPES[self.values.type]]
        self._found.follow(graph, graph, {})

    def readable(self, graph: Sequence[Topic]) -> list[str]:
        """Return the topics of sound."""
        return [found.topic for found in find_sound(graph, '/', {})]

    def part(self, item: Input) -> AudioFrame:
        """Return the newest sound; it is there since the message came."""
        frame: AudioFrame = item.message
        return frame

    def frame(self, parts: Sequence[AudioFrame]) -> AudioFrame:
        """Return the newest sound, with the places of the microphones."""
        newest = parts[-1]
        return AudioFrame(newest.samples, newest.rate, newest.stamp_ns, self._positions(len(newest.samples)),
                          newest.missing, self._name, self.values.base_frame)

    def check(self) -> None:
        """Ask for a format that was told once and for all: only a latched subscription gets it."""
        if not self._told_on or self._info is not None or self._latched is not None:
            return
        offers = self.get_publishers_info_by_topic(self._told_on)
        if offers and all(offer.qos_profile.durability == LATCHING for offer in offers):
            topic = self._told_on
            self._latched = self.create_subscription(
                message_class(INFO), topic, lambda message: self._take_info(topic, message),
                qos_profile(LATCHED), callback_group=self.inputs_group)

    def _read(self, topic: str, type_name: str) -> None:
        try:
            kind = message_class(type_name)
        except ConfigurationError as error:
            self.conditions.set('type', f'{topic}: {error}')
            return
        self._name = stream_name(self.resolve_topic_name(topic))
        self._info = None
        if type_name != TYPES['raw']:
            self._told_on = self._info_topic(topic)
            self.listen(message_class(INFO), self._told_on, self._take_info)
        self.expect(topic)
        self.listen(kind, topic, self._take)

    def _leave(self, topic: str) -> None:
        self.forget(topic)
        self.forget(self._info_topic(topic))
        self._forget_latched()

    def _forget_latched(self) -> None:
        self._told_on = ''
        if self._latched is not None:
            self.destroy_subscription(self._latched)
            self._latched = None

    def _info_topic(self, topic: str) -> str:
        return self.values.info_topic or f'{self.resolve_topic_name(topic).rpartition("/")[0]}/audio_info'

    def _take_info(self, topic: str, message: Any) -> None:
        self._info = message

    def _take(self, topic: str, message: Any) -> None:
        """Add the sound of a message; once a period, pass the newest sound on."""
        sound = StampedSound(message, self.get_clock().now().to_msg())
        item = self.receive(topic, self._name, sound)
        buffer = self._buffer
        assert buffer is not None  # start makes it
        try:
            self._add(buffer, sound, item)
        except MpnpError as error:
            self.reject(item, error)
            return
        self._waiting.append(item)
        # Where they are further apart, time has begun again.
        early = 0 < self._due_ns - buffer.end_ns < 2 * self._period_ns
        if not early and buffer.seconds >= LEAST:
            samples, missing = buffer.window(self.values.encoder.window)
            frame = AudioFrame(samples, buffer.rate, buffer.end_ns, missing=missing)
            items = tuple(Input(one.topic, one.source, frame, one.arrived, one.age) for one in self._waiting)
            self._waiting = []
            self._due_ns = buffer.end_ns + self._period_ns
            self.submit(items)

    def _add(self, buffer: SoundBuffer, sound: StampedSound, item: Input) -> None:
        samples, rate = to_samples(sound.data, self._format(sound.told))
        at_end = sound.at_end if self._stamps == 'auto' else self._stamps == 'end'
        lasts = samples.shape[1] * SECOND // rate
        chunk = AudioChunk(samples, rate, item.stamp_ns + (0 if at_end else lasts))
        before = buffer.seconds
        if before and 0 <= buffer.end_ns - chunk.stamp_ns < SECOND:
            raise AudioError('its stamp is not after the one before; let the driver stamp each message, or '
                             'publish AudioData, which has no stamp')
        if not buffer.add(chunk) and before:
            self.diagnostics.count('interruptions')
            self.supersede(self._waiting)
            self._waiting = []

    def _format(self, told: SoundFormat | None) -> SoundFormat | None:
        """Return the format of a message, by parameters, by the message itself, or by AudioInfo."""
        values = self.values
        given = values.sample_format, values.rate, values.microphones
        if not all(given) and told is None and self._info is not None:
            told = from_info(self._info)
        if told is not None:
            given = (given[0] or told.sample_format, given[1] or told.rate, given[2] or told.microphones)
        return SoundFormat(*given) if all(given) else None

    def _positions(self, count: int) -> np.ndarray | None:
        """Return the places of the microphones, None where they are not known; the reason is a concern."""
        values, places, problem = self.values, None, ''
        if values.positions:
            places = np.array(values.positions).reshape(-1, 3)
        elif values.frames:
            mounts = self.mounts
            assert mounts is not None  # the encoder is loaded
            poses = [mounts.pose(frame, frame, values.base_frame, 'sounds have no direction')
                     for frame in values.frames]
            found = [pose[:3, 3] for pose in poses if pose is not None]
            places = np.array(found) if len(found) == len(poses) else None
        if places is not None and len(places) != count:
            key = 'positions' if values.positions else 'frames'
            problem = (f'{key} names {len(places)} microphones, the sound has {count}; sounds have no '
                       'direction')
            places = None
        elif places is not None and not spans_plane(places):
            problem = ('the microphones lie on one line, whose two sides sound the same; sounds have no '
                       'direction')
        self.concerns.set('microphones', problem, quality=1.)
        return places


def find_sound(topics: Sequence[Topic], namespace: str, named: Any) -> list[FoundSensor]:
    """Return the topic of sound below a namespace, messages with stamps first; its type is the transport."""
    ranks = {type_name: rank for rank, type_name in enumerate(TYPES.values())}
    inside = sorted((topic for topic in below(topics, namespace) if topic.type in ranks),
                    key=lambda topic: (ranks[topic.type], topic.name))
    return [FoundSensor(stream_name(topic.name), topic.name, topic.type) for topic in inside[:1]]


def stream_name(topic: str) -> str:
    """Return the name of a stream: the last part of its topic that is not a generic word."""
    telling = [part for part in topic.split('/') if part and part.lower() not in GENERIC]
    return telling[-1] if telling else 'audio'
