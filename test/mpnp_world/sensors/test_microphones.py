"""The microphones: pitch, delay, loudness, and joins between intervals."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mpnp_world.scene.identity import Conditions
from mpnp_world.scene.state import EgoState, Scenery, WorldObject, WorldState
from mpnp_world.sensors.microphones import (
    FULL_SCALE,
    HORN_TONES,
    SAMPLE_RATE,
    SIREN_PERIOD,
    SIREN_TONES,
    SPEED_OF_SOUND,
    STREET,
    listen,
)

NOWHERE = Scenery((), ())


def moment(time: float, *objects: WorldObject, speed: float = 0.0, weather: str = 'clear',
           light: str = 'day') -> WorldState:
    """The ego vehicle on its way along x."""
    return WorldState(3, Conditions(light, weather), time, EgoState(speed * time, 0, 0, speed), objects, (),
                      NOWHERE)


def ambulance(x: float, y: float, speed: float = 0.0) -> WorldObject:
    """With its siren on."""
    return WorldObject(2, 'ambulance', 'moving', x, y, 0.0, (6.0, 2.2, 2.6), speed, siren=True)


def hooting(x: float, y: float, speed: float) -> WorldObject:
    """A car that hoots while it drives."""
    return WorldObject(2, 'sedan', 'moving', x, y, 0.0, (4.6, 1.9, 1.5), speed, horn=True)


def honking(x: float, y: float, horn: bool = True) -> WorldObject:
    """A parked car."""
    return WorldObject(5, 'sedan', 'parked', x, y, 0.0, (4.6, 1.9, 1.5), horn=horn)


def passing(start: float, end: float) -> np.ndarray:
    """A horn at 20 m/s, 4 m to the left of a vehicle at rest, level with it at t = 4."""
    return listen(*(moment(time, hooting(20 * (time - 4), 4, 20)) for time in (start, end)))


def pitch(sound: np.ndarray) -> float:
    """The strongest frequency, hertz, by FFT."""
    padded = 1 << 17
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), padded))
    return spectrum.argmax() * SAMPLE_RATE / padded


def shift(sound: np.ndarray) -> float:
    """Pitch over that of the horn's nearest tone."""
    heard = pitch(sound)
    return heard / min(HORN_TONES, key=lambda tone: abs(tone - heard))


@pytest.mark.parametrize('time, expected', [(1.0, 1 + 20 / SPEED_OF_SOUND), (6.5, 1 - 20 / SPEED_OF_SOUND)])
def test_a_horn_that_passes_shifts_its_pitch(time: float, expected: float) -> None:
    """Higher as it comes, lower as it goes."""
    assert shift(passing(time, time + 0.5)[0]) == pytest.approx(expected, abs=0.004)


def test_a_horn_at_rest_keeps_its_pitch_and_one_ahead_at_the_same_speed_too() -> None:
    """What counts is how fast the distance changes."""
    still = listen(moment(1.0, hooting(20, 4, 0)), moment(1.5, hooting(20, 4, 0)))
    convoy = listen(*(moment(time, hooting(20 + 15 * time, 0, 15), speed=15) for time in (1.0, 1.5)))
    assert shift(still[0]) == pytest.approx(1.0, abs=0.002)
    assert shift(convoy[0]) == pytest.approx(1.0, abs=0.002)


def test_a_siren_wails_between_its_limits() -> None:
    """Up and down, as its period says."""
    heard = [pitch(listen(moment(time, ambulance(10, 4)), moment(time + 0.1, ambulance(10, 4)))[0])
             for time in np.arange(0, SIREN_PERIOD, 0.1)]
    assert min(heard) == pytest.approx(SIREN_TONES[0], abs=60)
    assert max(heard) == pytest.approx(SIREN_TONES[1], abs=60)
    assert np.abs(np.diff(heard)).max() < 100  # it glides


def lag(earlier: np.ndarray, later: np.ndarray) -> int:
    """Samples by which the second is behind the first, by correlation."""
    reach = 100
    middle = later[reach:-reach]
    scores = [float(np.dot(earlier[reach + step:len(earlier) - reach + step], middle))
              for step in range(-reach, reach)]
    return reach - int(np.argmax(scores))


@pytest.mark.parametrize('x, y, first, second', [(0.75, 30, 0, 1), (0.75, -30, 1, 0), (30, 0, 0, 2),
                                                 (-30, 0, 3, 1)])
def test_the_nearer_microphone_hears_earlier(x: float, y: float, first: int, second: int) -> None:
    """Left before right where the source is on the left, front before back where it is ahead."""
    heard = listen(moment(2.0, honking(x, y)), moment(2.5, honking(x, y)))
    gap = 1.2 if y else 1.5
    assert lag(heard[first], heard[second]) == pytest.approx(gap / SPEED_OF_SOUND * SAMPLE_RATE, abs=2)


def loudness(sound: np.ndarray) -> float:
    """Root mean square, pascals."""
    return float(FULL_SCALE * np.sqrt(np.mean(sound ** 2)))


def test_loudness_falls_with_distance() -> None:
    """A quarter at four times the distance; nothing but the street without a source."""
    near, far, none = (loudness(listen(moment(2.0, *things), moment(2.5, *things))[0])
                       for things in ([honking(0, 10)], [honking(0, 40)], []))
    assert np.sqrt(near ** 2 - none ** 2) / np.sqrt(far ** 2 - none ** 2) == pytest.approx(40 / 10, rel=0.07)
    assert none == pytest.approx(STREET, rel=0.2)


def joined(states: Sequence[WorldState]) -> np.ndarray:
    """Interval after interval."""
    pairs = zip(states, states[1:], strict=False)
    return np.concatenate([listen(before, after) for before, after in pairs], axis=1)


def test_intervals_join_as_if_they_were_one() -> None:
    """Even motion, cut in ten pieces: the same samples."""
    def state(time: float) -> WorldState:
        things = ambulance(30 - 12 * time, 6, -12), honking(5 * time, -8)
        return moment(time, *things, speed=8.0, weather='rain')

    whole = listen(state(0.0), state(1.0))
    pieces = joined([state(0.1 * number) for number in range(11)])
    assert whole.shape == pieces.shape == (4, SAMPLE_RATE)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, pieces, atol=2e-5)


def test_no_click_where_things_brake_and_start() -> None:
    """The step from sample to sample at a join is no larger than those about it."""
    x, states = 10.0, []
    for number in range(8):
        speed = (0.0, 14.0, 3.0, 14.0)[number % 4]
        states.append(moment(number / 5, ambulance(x, 5, speed), speed=2.0))
        x += speed / 5
    steps = np.abs(np.diff(joined(states)))
    for join in np.arange(1, 7) * SAMPLE_RATE // 5 - 1:
        about = np.delete(steps[:, join - 150:join + 151], 150, axis=1)
        assert (steps[:, join] <= 1.02 * about.max(1)).all()


def test_what_begins_ends_appears_or_vanishes_fades() -> None:
    """A horn is sounded for a while by a car that then is gone: loud in the middle, silent at the ends."""
    calls = [honking(3, 5, horn=False), honking(3, 5), honking(3, 5)]
    heard = joined([moment(number / 5, *calls[number:number + 1]) for number in range(4)])[0]
    silence = loudness(listen(moment(0.0), moment(0.5))[0])
    for ends in (heard[:30], heard[-30:]):
        assert loudness(ends) < 2.5 * silence
    assert loudness(heard[SAMPLE_RATE // 5:2 * SAMPLE_RATE // 5]) > 20 * silence


def test_rain_is_heard_and_light_is_not() -> None:
    """Rain adds noise; night sounds like day; the same twice."""
    def hear(weather: str, light: str) -> np.ndarray:
        return listen(*(moment(time, weather=weather, light=light) for time in (0.0, 0.5)))

    assert loudness(hear('rain', 'day')) > 1.8 * loudness(hear('clear', 'day'))
    assert hear('clear', 'night').tobytes() == hear('clear', 'day').tobytes() == hear('fog', 'dusk').tobytes()


def test_who_stands_parked_is_silent_and_who_drives_is_not() -> None:
    """Engine and tyres; a bicycle makes no noise here."""
    def at(attribute: str, kind: str, speed: float) -> float:
        thing = WorldObject(1, kind, attribute, 4, 4, 0, (4, 2, 1.5), speed)
        return loudness(listen(moment(0.0, thing), moment(0.5, thing))[0])

    silence = loudness(listen(moment(0.0), moment(0.5))[0])
    assert at('parked', 'sedan', 0) == at('with rider', 'bicycle', 4) == silence
    assert silence < at('stopped', 'sedan', 0) < at('moving', 'sedan', 10)
