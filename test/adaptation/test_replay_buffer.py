"""A buffer on disk: whole after any interruption, bounded, balanced, readable at any time."""
from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpnp_ros.adaptation import replay_buffer
from mpnp_ros.adaptation.moments import ASKED, FEEDBACK, LABELLED, BufferedQuestion, Moment
from mpnp_ros.adaptation.replay_buffer import RECENT, UNASKED, Holding, Limits, ReplayBuffer, retained
from mpnp_ros.errors import ConfigurationError, DatasetError, StorageError
from mpnp_ros.tokens import ModalityTokens

TENTH = 10 ** 8

cells = st.sampled_from([('labelled', 'count', str(n)) for n in range(6)])
moments = st.lists(st.tuples(st.integers(1, 30), st.lists(cells, max_size=8)), max_size=40)


def tokens(modality: str = 'camera', stamp_ns: int = 7, width: int = 4) -> ModalityTokens:
    """Three tokens, one of them without a direction."""
    values = np.random.default_rng(stamp_ns).standard_normal((3, width)).astype(np.float16)
    return ModalityTokens(modality, f'{modality}-1', values, np.array([0, 1, np.nan], np.float32),
                          ('a', 'b'), np.array([0, 1, 1], np.uint16), (stamp_ns, stamp_ns + 2), stamp_ns,
                          quality=.5, concerns=('a is dark',))


def question(text: str = 'Are there any cars?', answer: str = 'yes', source: str = LABELLED,
             kind: str = 'exist') -> BufferedQuestion:
    """A question with three choices."""
    return BufferedQuestion(text, answer, ('yes', 'no', '1'), kind, 0, source)


def assert_same(one: Moment, other: Moment) -> None:
    assert one.stamp_ns == other.stamp_ns
    assert (one.questions, one.conditions) == (other.questions, other.conditions)
    assert one.tokens.keys() == other.tokens.keys()
    for name, held in one.tokens.items():
        for field, value in vars(held).items():
            np.testing.assert_array_equal(value, getattr(other.tokens[name], field))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2 ** 62), st.sets(st.sampled_from(['camera', 'lidar'])),
       st.lists(st.builds(BufferedQuestion, st.text(max_size=20), st.text(max_size=5),
                          st.sampled_from([(), ('yes', 'no')]), st.just('exist'), st.integers(0, 1),
                          st.sampled_from([LABELLED, FEEDBACK, ASKED])), max_size=5),
       st.sampled_from([(), ('night', 'rain')]))
def test_a_moment_is_read_as_it_was_written(stamp_ns, names, questions, conditions):
    moment = Moment(stamp_ns, {name: tokens(name) for name in names}, tuple(questions), conditions)
    assert_same(Moment.from_bytes(moment.to_bytes()), moment)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_damaged_moment_is_read(data):
    whole = Moment(7, {'camera': tokens()}, (question(),)).to_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from([whole[:place], whole[:place] + bytes(len(whole) - place),
                                        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:]]))
    try:
        read = Moment.from_bytes(damage)
    except DatasetError:
        return
    assert_same(read, Moment.from_bytes(whole))


def test_questions_and_tokens_may_come_later(tmp_path):
    buffer = ReplayBuffer(tmp_path)
    buffer.add({'camera': tokens()}, [question()], 7, ('day', 'clear'))
    buffer.extend(7, [question('How many?', '1', kind='count'), question(source=FEEDBACK, answer='no')])
    buffer.add({'lidar': tokens('lidar')}, (), 7)
    [moment] = ReplayBuffer.read(tmp_path).moments
    asked = question(source=FEEDBACK, answer='no'), question('How many?', '1', kind='count')
    both = {'camera': tokens(), 'lidar': tokens('lidar')}
    assert_same(moment, Moment(7, both, asked, ('day', 'clear')))
    counts = buffer.counts
    assert (counts.frames, counts.evicted) == (1, 0)
    assert counts.questions == {LABELLED: 1, FEEDBACK: 1, ASKED: 0}
    assert counts.modalities == {'camera': 1, 'lidar': 1}
    assert counts.bytes == sum(file.stat().st_size for file in tmp_path.glob('*.safetensors'))
    with pytest.raises(DatasetError, match='no tokens of the moment 8'):
        buffer.extend(8, [question()])


def test_contents_are_counted_once_until_they_change(tmp_path):
    buffer = ReplayBuffer(tmp_path)
    buffer.add({'camera': tokens(), 'lidar': tokens('lidar')}, [question()], 7)
    counted = buffer.counts
    assert buffer.counts is counted
    assert (buffer.labelled('camera'), buffer.moments_with('camera')) == (1, {'lidar': 1})
    buffer.add({'camera': tokens(), 'lidar': tokens('lidar')}, [question()], 8)
    assert (counted.frames, buffer.counts.frames) == (1, 2)
    assert (buffer.labelled('camera'), buffer.moments_with('camera')) == (2, {'lidar': 2})


def test_what_another_encoder_saw_is_counted_apart(tmp_path):
    buffer = ReplayBuffer(tmp_path / 'replay')
    for stamp, encoder in enumerate(('old', 'old', 'new')):
        buffer.add({'lidar': replace(tokens('lidar', stamp), encoder=encoder),
                    'camera': tokens('camera', stamp)}, [question()], stamp)
    for again in (buffer, ReplayBuffer(tmp_path / 'replay')):
        assert [again.labelled('lidar', one) for one in ('', 'old', 'new', 'other')] == [3, 2, 1, 0]
        assert [again.moments_with('lidar', one) for one in ('', 'new')] == [{'camera': 3}, {'camera': 1}]


def test_what_is_known_outweighs_what_is_asked(tmp_path):
    buffer = ReplayBuffer(tmp_path)
    buffer.add({'camera': tokens()}, [question(answer='no')], 7)
    buffer.extend(7, [question(answer='', source=ASKED)])
    assert ReplayBuffer.read(tmp_path).moments[0].questions == (question(answer='no'),)


def test_the_buffer_knows_its_moments(tmp_path):
    buffer = ReplayBuffer(tmp_path)
    assert 100 not in buffer
    buffer.add({'camera': tokens()}, (), 100)
    assert 100 in buffer and 101 not in buffer


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 30), st.lists(st.tuples(st.sampled_from('abcdef'),
       st.sampled_from(['yes', 'yes', 'yes', 'no', '1'])), max_size=6)), max_size=40),
       st.integers(1, 30), st.integers(1200, 9000))
def test_limits_hold_at_any_time_and_after_a_restart(tmp_path_factory, events, most, size):
    folder, limits = tmp_path_factory.mktemp('buffer'), Limits(size, most)
    buffer = ReplayBuffer(folder, limits)
    for stamp, asked in events:
        try:
            buffer.add({'camera': tokens(stamp_ns=stamp)}, [question(*one) for one in asked], TENTH * stamp)
        except ConfigurationError:
            continue
        on_disk = sum(file.stat().st_size for file in folder.glob('*.safetensors'))
        assert on_disk == buffer.counts.bytes <= size
        assert sum(buffer.counts.questions.values()) <= most
    for again in (ReplayBuffer.read(folder), ReplayBuffer(folder, limits) and ReplayBuffer.read(folder)):
        assert sum(max(1, len(moment.questions)) for moment in again.moments) <= most


def test_a_moment_that_grows_beyond_a_full_buffer_is_thinned(tmp_path):
    buffer = ReplayBuffer(tmp_path, Limits(questions=8))
    buffer.add({'camera': tokens()}, [question(str(n)) for n in range(6)], 1)
    buffer.extend(1, [question(str(n)) for n in range(6, 16)])
    assert buffer.counts.bytes == sum(file.stat().st_size for file in tmp_path.glob('*.safetensors'))
    assert 0 < sum(buffer.counts.questions.values()) <= 8
    assert len(ReplayBuffer.read(tmp_path).moments) == 1


def test_rare_answers_and_the_day_stay_when_night_is_long(tmp_path):
    buffer = ReplayBuffer(tmp_path, Limits(questions=80))
    for place in range(120):
        rare = [question('How many cars are there?', '9', kind='count')] if place % 24 == 7 else []
        buffer.add({'camera': tokens(stamp_ns=place)}, [question('a'), question('b', 'no'), *rare],
                   TENTH * place, ('day' if place < 24 else 'night', 'clear'))
    kept = Counter((moment.conditions[0], one.answer) for moment in ReplayBuffer.read(tmp_path).moments
                   for one in moment.questions)
    assert kept['day', '9'] == 1 and kept['night', '9'] == 4
    assert min(kept['day', 'yes'], kept['day', 'no']) >= 8
    assert kept.total() <= 80 and buffer.counts.evicted > 120


def test_a_buffer_with_room_loses_nothing_when_it_is_opened_again(tmp_path):
    for place in range(10):
        ReplayBuffer(tmp_path).add({'camera': tokens(stamp_ns=place)}, [question()], TENTH * place)
    read = ReplayBuffer.read(tmp_path)
    assert [moment.stamp_ns for moment in read.moments] == [TENTH * place for place in range(10)]
    assert_same(read.moments[3], Moment(3 * TENTH, {'camera': tokens(stamp_ns=3)}, (question(),)))


def test_damaged_files_are_left_out_and_removed_by_name(tmp_path, caplog):
    buffer = ReplayBuffer(tmp_path)
    for place in range(3):
        buffer.add({'camera': tokens()}, [question()], place)
    files = sorted(tmp_path.glob('*.safetensors'))
    files[1].write_bytes(files[1].read_bytes()[:-5])
    (tmp_path / f'.{files[2].name}.abc').write_bytes(b'a part')
    with caplog.at_level(logging.WARNING):
        assert [moment.stamp_ns for moment in ReplayBuffer.read(tmp_path).moments] == [0, 2]
    assert files[1].exists() and files[1].name in caplog.text
    assert ReplayBuffer(tmp_path).counts.frames == 2
    assert {file.name for file in tmp_path.iterdir()} == {'limits.json', files[0].name, files[2].name}


def test_a_file_that_somebody_removes_does_not_stop_the_others(tmp_path):
    buffer = ReplayBuffer(tmp_path, Limits(questions=8))
    buffer.add({'camera': tokens()}, [question(str(n)) for n in range(6)], 1)
    next(tmp_path.glob('*.safetensors')).unlink()
    for place in range(2, 6):
        buffer.add({'camera': tokens()}, [question(str(n)) for n in range(6)], place)
    assert sum(buffer.counts.questions.values()) <= 8
    assert {moment.stamp_ns for moment in ReplayBuffer.read(tmp_path).moments} <= {2, 3, 4, 5}


WRITER = """
import sys
from test_replay_buffer import ReplayBuffer, question, tokens
buffer = ReplayBuffer(sys.argv[1])
for place in range(100000):
    buffer.add({'camera': tokens(width=2000)}, [question(str(n)) for n in range(5)], place)
    print(place, flush=True)
"""


def test_a_killed_writer_loses_at_most_the_moment_it_was_writing(tmp_path):
    for written in (1, 4, 15):
        environment = {**os.environ, 'PYTHONPATH': f'{Path(__file__).parent}:{Path(__file__).parents[2]}'}
        with subprocess.Popen([sys.executable, '-c', WRITER, tmp_path], stdout=subprocess.PIPE, text=True,
                              env=environment) as process:
            done = [int(process.stdout.readline()) for _ in range(written)]
            process.send_signal(signal.SIGKILL)
        assert {moment.stamp_ns for moment in ReplayBuffer.read(tmp_path).moments} >= set(done)
        assert all(Moment.from_bytes(file.read_bytes()) for file in tmp_path.glob('0*.safetensors'))


def test_a_moment_larger_than_the_buffer_is_refused(tmp_path):
    buffer = ReplayBuffer(tmp_path, Limits(bytes=500))
    with pytest.raises(ConfigurationError, match='does not fit'):
        buffer.add({'camera': tokens(width=1000)}, (), 1)
    assert buffer.counts.frames == 0


def test_a_folder_that_is_no_buffer_is_named(tmp_path):
    with pytest.raises(DatasetError, match='is not a replay buffer'):
        ReplayBuffer.read(tmp_path / 'none')
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='cannot be written'):
        ReplayBuffer(tmp_path / 'file')


def test_quality_and_concerns_survive(tmp_path):
    ReplayBuffer(tmp_path).add({'camera': replace(tokens(), quality=.25)}, (), 7)
    kept = ReplayBuffer.read(tmp_path).moments[0].tokens['camera']
    assert (kept.quality, kept.concerns) == (.25, ('a is dark',))


def test_a_moment_that_could_not_be_written_is_not_counted(tmp_path, monkeypatch):
    buffer = ReplayBuffer(tmp_path)
    buffer.add({'camera': tokens()}, [question()], 7)

    def full(*_, **__):
        raise StorageError('the disk is full')

    monkeypatch.setattr(replay_buffer, 'write_file', full)
    for stamp in (7, 8):
        with pytest.raises(StorageError):
            buffer.add({'lidar': tokens('lidar', stamp)}, [question('Is it dark?')], stamp)
    assert buffer.counts.frames == 1
    assert [list(moment.tokens) for moment, _ in replay_buffer._moments(tmp_path)] == [['camera']]
    monkeypatch.undo()
    buffer.add({'lidar': tokens('lidar', 8)}, [question('Is it dark?')], 8)
    assert buffer.counts.frames == 2


def holdings(entries: list[tuple[int, list]]) -> list[Holding]:
    """Moments every tenth of a second."""
    return [Holding(10 ** 8 * place, size, tuple(asked)) for place, (size, asked) in enumerate(entries)]


def units(held: list[Holding], kept: dict[int, tuple[int, ...]]) -> Counter:
    """Questions of each cell that are kept."""
    return Counter(cell for one in held if one.stamp_ns in kept
                   for cell in ([one.cells[at] for at in kept[one.stamp_ns]] if one.cells else [UNASKED]))


@settings(deadline=None)
@given(moments, st.integers(1, 400), st.integers(1, 150))
def test_never_more_than_the_limits(entries, size, questions):
    held = holdings(entries)
    kept = retained(held, Limits(size, questions))
    assert sum(one.size for one in held if one.stamp_ns in kept) <= size
    assert units(held, kept).total() <= questions
    assert all(kept[one.stamp_ns] for one in held if one.cells and one.stamp_ns in kept)


@settings(deadline=None)
@given(moments, st.integers(1, 150))
def test_rare_cells_keep_all_and_the_others_are_shared_out_evenly(entries, questions):
    held = holdings(entries)
    before = Counter(cell for one in held for cell in one.units)
    after = units(held, retained(held, Limits(10 ** 9, questions)))
    quota = int((1 - RECENT) * questions) // max(1, len(before))
    assert all(after[cell] == count for cell, count in before.items() if count <= quota)
    assert all(after[cell] >= quota for cell, count in before.items() if count > quota)


@settings(deadline=None)
@given(moments)
def test_nothing_goes_while_there_is_room(entries):
    held = holdings(entries)
    room = Limits(max(1, sum(one.size for one in held)), max(1, sum(len(one.units) for one in held)))
    assert retained(held, room) == {one.stamp_ns: tuple(range(len(one.cells))) for one in held}


@settings(deadline=None, max_examples=50)
@given(moments, st.integers(1, 40), st.integers(1, 150), st.randoms())
def test_the_order_in_which_moments_come_does_not_matter(entries, size, questions, rng):
    held = holdings(entries)
    mixed = rng.sample(held, len(held))
    limits = Limits(10 * size, questions)
    assert retained(held, limits) == retained(mixed, limits)


def test_bytes_too_are_shared_by_common_and_rare_cells():
    day, night = ('exist', 'day'), ('exist', 'night')
    held = [Holding(place, 10, (night if place % 50 == 0 else day,)) for place in range(1000)]
    kept = units(held, retained(held, Limits(1000, 10 ** 6)))
    assert kept[night] == 20 and kept[day] == 80


def test_what_is_kept_is_spread_over_all_the_time_with_the_newest_whole():
    held = [Holding(place, 1, (('count', '1'),)) for place in range(1000)]
    kept = set(retained(held, Limits(10 ** 6, 100)))
    assert set(range(975, 1000)) <= kept and len(kept) == 100
    assert all(5 <= len(kept & set(range(start, start + 195))) <= 30 for start in range(0, 975, 195))


def test_a_buffer_that_may_hold_nothing_is_refused():
    with pytest.raises(ConfigurationError, match='is too small'):
        Limits(bytes=0)
