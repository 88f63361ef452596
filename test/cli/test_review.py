"""`mpnp review` and what it reads: answers, tokens and images of a recording, and labels for them."""
from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')

from mpnp_ros.bags.labels import PERSON, ROBOT, Label, read_labels
from mpnp_ros.cli.main import main
from mpnp_ros.cli.recording import Recording, most_uncertain_first
from mpnp_ros.errors import BagError
from mpnp_ros.tokens import SECOND

CHOICES = ['yes', 'no', '1', '10', 'moving', 'motorcycle']
CARS, COUNT, STATUS = 'Are there any cars?', 'How many cars are there?', 'What status is the car?'


def answer(second: float, question: str = CARS, text: str = 'yes', confidence: float = .8, **others) -> dict:
    rest = (1 - confidence) / (len(CHOICES) - 1)
    odds = [confidence if choice == text else rest for choice in CHOICES]
    return {'stamp_ns': round(second * SECOND), 'question': question, 'text': text, 'confidence': confidence,
            'choices': CHOICES, 'probabilities': odds, **others}


@pytest.fixture
def drive(write_recording, toy_tokens):
    """Three seconds of camera and LiDAR, 20 ms apart, and four answers."""
    tokens = [replace(toy_tokens(name, 0, second), stamp_ns=round((second + later) * SECOND))
              for second in (1, 2, 3) for name, later in (('camera', 0.), ('lidar', .02))]
    return write_recording(tokens, [
        answer(1), answer(1, COUNT, '1', .4), answer(2, confidence=.95), answer(3, STATUS, 'moving', .6),
        answer(3, status=3), answer(2, 'Say something', choices=[], probabilities=[])])


@pytest.fixture
def type_lines(monkeypatch):
    """Give a function that lets a person type these lines and then leave."""
    def give(*lines: str) -> list[str]:
        left = list(lines)

        def read(prompt: str) -> str:
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr('builtins.input', read)
        return left

    return give


def test_a_recording_has_answers_with_choices_tokens_and_images(drive):
    with Recording(drive) as recording:
        assert [(known.stamp_ns, known.text, known.type) for known in recording.answers] == [
            (SECOND, 'yes', 'exist'), (SECOND, '1', 'count'), (2 * SECOND, 'yes', 'exist'),
            (3 * SECOND, 'moving', 'status')]
        assert 'rests on camera (0.10 s old)' in recording.answers[0].rests
        moments = recording.moments([
            recording.answers[0].label('no', PERSON), recording.answers[1].label('10', PERSON),
            Label(2 * SECOND + 20_000_000, COUNT, tuple(CHOICES), '1', PERSON),
            recording.answers[2].label('no', PERSON), recording.answers[3].label('', PERSON),
            Label(9 * SECOND, CARS, tuple(CHOICES), 'yes', PERSON)])
        assert [(moment.stamp_ns, sorted(moment.tokens), [known.answer for known in moment.questions])
                for moment in moments] == [(SECOND, ['camera', 'lidar'], ['no', '10']),
                                           (2 * SECOND, ['camera', 'lidar'], ['no', '1'])]
        assert moments[0].tokens['lidar'].stamp_ns == SECOND + 20_000_000
        (path, later), = recording.pictures(3 * SECOND + 20_000_000)
        assert path.read_bytes() == b'\xff\xd8\xff image' and later == 0.
        assert not recording.pictures(20 * SECOND)


def test_a_sensor_belongs_to_the_moment_up_to_the_newest_image_of_a_set(write_recording, toy_tokens):
    camera = replace(toy_tokens('camera', 0, 1), stamp_ns=SECOND, sources=('front', 'back'),
                     source_stamps_ns=(SECOND, SECOND + 90_000_000))
    lidar, late = (replace(toy_tokens('lidar', 0, 1), stamp_ns=SECOND + later)
                   for later in (100_000_000, 400_000_000))
    folder = write_recording([camera, lidar, late], [answer(1)])
    with Recording(folder) as recording:
        moment, = recording.moments([recording.answers[0].label('no', PERSON)])
    assert {name: tokens.stamp_ns for name, tokens in moment.tokens.items()} == {
        'camera': SECOND, 'lidar': SECOND + 100_000_000}


def test_the_least_certain_come_first_by_types_in_turn(drive):
    with Recording(drive) as recording:
        assert [known.confidence for known in most_uncertain_first(recording.answers)] == pytest.approx(
            [.4, .6, .8, .95])


def test_moments_take_turns_among_about_equally_uncertain_answers(write_recording, toy_tokens):
    folder = write_recording([toy_tokens('camera', 0, 1)], [
        answer(second, f'{CARS}{number}', confidence=.5 + .01 * number)
        for number, second in enumerate((1, 1, 1, 2, 2, 3))])
    with Recording(folder) as recording:
        assert [known.stamp_ns // SECOND for known in most_uncertain_first(recording.answers)] == [
            1, 2, 3, 1, 2, 1]


def test_a_person_accepts_corrects_skips_and_goes_on_later(drive, type_lines, capsys):
    type_lines('a', 'mo', 'mot', 'q')
    assert main(['review', str(drive)]) == 0
    said = capsys.readouterr().out
    first, second = '1 of 4: How many cars are there?', '2 of 4: What status is the car?'
    assert said.index(first) < said.index(second)
    assert 'the robot says: 1  (1 0.40' in said and 'images/1000000000_front.jpg' in said
    assert 'moving, motorcycle' in said
    assert 'labels.jsonl: 2 of 4 answers are labelled (2 by a person)' in said
    assert 'the robot was right in 1 of the 2 that others judged (50.0 %)' in said
    assert [(label.question, label.answer, label.by) for label in read_labels(drive / 'labels.jsonl')] == [
        (COUNT, '1', PERSON), (STATUS, 'motorcycle', PERSON)]

    left = type_lines('nonsense', '?', 'S', 'no', 'more')
    assert main(['review', str(drive)]) == 0
    assert left == ['more']
    said = capsys.readouterr().out
    assert '1 of 2: Are there any cars?' in said and said.count('  yes, no, 1, 10, moving, motorcycle') == 2
    assert '3 of 4 answers are labelled (3 by a person); 1 cannot be told' in said
    type_lines()
    assert main(['review', str(drive)]) == 0 and '1 of' not in capsys.readouterr().out.splitlines()[0]


def test_the_limit_and_the_end_of_the_input_end_a_review(drive, type_lines, capsys):
    left = type_lines('a', 'a')
    assert main(['review', str(drive), '--limit', '1']) == 0 and left == ['a']
    type_lines('a')
    assert main(['review', str(drive)]) == 0
    assert '2 of 4 answers are labelled' in capsys.readouterr().out


def test_scripts_accept_and_import(drive, tmp_path, capsys):
    assert main(['review', str(drive), '--accept-above', '0.7']) == 0
    said = capsys.readouterr().out
    assert '2 answers of a confidence of 70.0 % or more are taken' in said and '2 by the robot itself' in said
    assert 'the robot was right' not in said
    file = tmp_path / 'mine.jsonl'
    entries = {'stamp_ns': SECOND, 'question': CARS, 'choices': CHOICES, 'answer': 'no', 'by': 'person'}
    lines = [entries, {**entries, 'stamp_ns': 50 * SECOND},
             {**entries, 'stamp_ns': 2 * SECOND, 'question': 'Is one red?', 'choices': ['yes', 'no']}]
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    assert main(['review', str(drive), '--labels', str(file)]) == 0
    said = capsys.readouterr().out
    assert '2 labels of' in said and '1 are left out, as nothing was recorded at their times' in said
    assert {(label.stamp_ns, label.by) for label in read_labels(drive / 'labels.jsonl')} == {
        (SECOND, ROBOT), (2 * SECOND, ROBOT), (SECOND, PERSON), (2 * SECOND, PERSON)}
    file.write_text(json.dumps({**entries, 'stamp_ns': 50 * SECOND}) + '\n')
    assert main(['review', str(drive), '--labels', str(file)]) == 2
    assert 'none of the 1 labels' in capsys.readouterr().err


def test_corrections_of_the_drive_are_those_of_a_person(write_recording, toy_tokens, type_lines):
    folder = write_recording([replace(toy_tokens('camera', 0, 1), stamp_ns=SECOND)], [
        answer(1), answer(1, COUNT, '1')], feedback=[
        {'id': '0', 'answer': ' no '}, {'id': '7', 'answer': 'no'}, {'id': '1', 'answer': 'many'},
        {'question': COUNT, 'stamp_ns': SECOND, 'answer': '10'}])
    type_lines()
    for _ in range(2):
        assert main(['review', str(folder)]) == 0
        labels = read_labels(folder / 'labels.jsonl')
        assert [(label.question, label.answer, label.by) for label in labels] == [
            (CARS, 'no', PERSON), (COUNT, '10', PERSON)]


def test_what_is_not_a_recording_is_named(write_recording, tmp_path, capsys):
    assert main(['review', str(tmp_path / 'absent')]) == 2
    assert 'no such file or folder' in capsys.readouterr().err
    folder = write_recording([], [answer(1)])
    with pytest.raises(BagError, match='has no tokens; record a running robot with `mpnp record`'):
        Recording(folder)
