"""Roots that lack scenes, sensors, sweeps or annotations, and files that are not what they should be."""
from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.cli.main import main
from mpnp_world.standin import write_standin

CAMERAS = 6


@pytest.fixture(scope='module')
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated root of two scenes with two key frames each."""
    return Path(write_standin(tmp_path_factory.mktemp('nuscenes') / 'root', seed=1, key_frames=2))


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of it whose tables may be changed and whose files, which are links, may be replaced."""
    copy = tmp_path / 'root'
    for path in sorted(whole.rglob('*')):
        place = copy / path.relative_to(whole)
        if path.is_dir():
            place.mkdir(parents=True)
        elif path.suffix == '.json':
            place.write_bytes(path.read_bytes())
        else:
            place.symlink_to(path)
    return copy


def change_table(root: Path, table: str, change: Callable[[list], object]) -> None:
    path = root / 'v1.0-mini' / f'{table}.json'
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def convert(root: Path, output: Path, *options: str) -> int:
    return main(['convert', str(root), str(output), '--quiet', *options])


def files(root: Path, channel: str) -> list[Path]:
    return sorted((root / 'samples' / channel).iterdir())


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def jpeg(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new('RGB', size).save(stream, 'JPEG')
    return stream.getvalue()


def test_only_the_front_camera_is_written_where_only_that_is_there(root, tmp_path, capsys):
    for folder in (root / 'samples').iterdir():
        if folder.name != 'CAM_FRONT':
            for path in files(root, folder.name):
                path.unlink()
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 0
    *left_out, _ = capsys.readouterr().out.splitlines()
    assert len(left_out) == CAMERAS and all(': 0 of 2 files are there' in line for line in left_out)
    topics = BagPlayer(tmp_path / 'bag').topics
    assert '/cam_front/image_rect/compressed' in topics and '/labelled_questions' in topics
    assert not any('lidar' in topic or 'cam_back' in topic for topic in topics)


def test_missing_files_of_a_sensor_are_counted_and_left_out(root, tmp_path, capsys):
    gone = files(root, 'CAM_BACK')[0]
    gone.unlink()
    assert convert(root, tmp_path / 'bags') == 0
    said = capsys.readouterr().out
    assert f'CAM_BACK: 3 of 4 files are there; left out are the others, such as {gone}\n' in said
    assert sorted(path.name for path in (tmp_path / 'bags').iterdir()) == ['scene-0001', 'scene-0002']


def test_missing_sweeps_are_of_no_interest_where_none_are_written(root, tmp_path, capsys):
    """As with the blobs of key frames only."""
    change_table(root, 'sample_data', lambda records: records.append({
        **records[0], 'token': 'sweep', 'timestamp': records[0]['timestamp'] + 50_000, 'is_key_frame': False,
        'filename': 'sweeps/CAM_FRONT_LEFT/absent.jpg'}))
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 0
    assert 'CAM_FRONT_LEFT: 2 of 3 files are there' in capsys.readouterr().out
    assert convert(root, tmp_path / 'bare', '--scenes', 'scene-0001', '--no-sweeps') == 0
    assert 'files are there' not in capsys.readouterr().out


def test_scenes_without_files_are_left_out_unless_they_were_chosen(root, tmp_path, capsys):
    """As the tables of v1.0-trainval with the file blobs of v1.0-mini."""
    for channel in os.listdir(root / 'samples'):
        for path in files(root, channel):
            if 'scene-0002' in path.name:
                path.unlink()
    assert convert(root, tmp_path / 'bag') == 0
    assert '1 of 2 scenes are left out, none of their files' in capsys.readouterr().out
    assert BagPlayer(tmp_path / 'bag').duration < 60
    assert convert(root, tmp_path / 'other', '--scenes', 'scene-0001', 'scene-0002') == 2
    assert '0 of 14 sensor files of scene-0002 are in' in capsys.readouterr().err
    assert not (tmp_path / 'other').exists()


def test_a_root_without_files_is_refused_with_their_number(root, tmp_path, capsys):
    for channel in os.listdir(root / 'samples'):
        for path in files(root, channel):
            path.unlink()
    assert convert(root, tmp_path / 'bag') == 2
    error = capsys.readouterr().err
    assert '0 of 28 sensor files of scene-0001, scene-0002 are in' in error
    assert 'download the file blobs' in error
    assert not (tmp_path / 'bag').exists()


def test_where_nothing_is_annotated_no_question_is_written(root, tmp_path, capsys):
    """As v1.0-test."""
    for table in ('sample_annotation', 'instance'):
        (root / 'v1.0-mini' / f'{table}.json').write_text('[]')
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 0
    assert 'no labelled questions and no markers are written of scene-0001: v1.0-mini has no annotations' in \
        capsys.readouterr().out
    topics = BagPlayer(tmp_path / 'bag').topics
    assert '/lidar_top' in topics
    assert '/labelled_questions' not in topics and '/markers/annotations' not in topics


def test_published_questions_are_written_though_nothing_is_annotated(root, tmp_path, capsys):
    (root / 'v1.0-mini' / 'sample_annotation.json').write_text('[]')
    token = json.loads((root / 'v1.0-mini' / 'sample.json').read_text())[0]['token']
    (tmp_path / 'qa.json').write_text(json.dumps({'questions': [
        {'sample_token': token, 'question': 'Are there any cars?', 'answer': 'yes', 'template_type': 'exist',
         'num_hop': 0}]}))
    asked = ('--nuscenes-qa', str(tmp_path / 'qa.json'))
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001', *asked) == 0
    assert 'no markers are written of scene-0001' in capsys.readouterr().out
    topics = BagPlayer(tmp_path / 'bag').topics
    assert '/labelled_questions' in topics and '/markers/annotations' not in topics


def test_nothing_to_do_is_no_success(root, tmp_path, capsys):
    (root / 'v1.0-mini' / 'scene.json').write_text('[]')
    assert convert(root, tmp_path / 'bag') == 2
    assert 'no scene in' in capsys.readouterr().err


@pytest.mark.parametrize(('channel', 'data', 'words'), [
    ('CAM_FRONT', b'', 'is empty'), ('CAM_FRONT', b'<!DOCTYPE html><p>', 'is a web page'),
    ('CAM_FRONT', b'version https://git-lfs.github.com/spec/v1\noid', '`git lfs pull`'),
    ('CAM_FRONT', b'GIF89a' + bytes(60), 'is neither JPEG nor PNG'),
    ('CAM_FRONT', jpeg((8, 8)), '8 x 8 pixels'),
    ('CAM_FRONT', jpeg((1600, 900))[:9000], 'is damaged'), ('LIDAR_TOP', b'', 'is empty'),
    ('LIDAR_TOP', b'\x11' * 400, 'is no ring'),
], ids=str)
def test_a_file_that_is_not_what_it_should_be_is_named(root, tmp_path, capsys, channel, data, words):
    path = files(root, channel)[0]
    replace(path, data)
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and str(path) in error and words in error
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['root']


def test_a_png_is_written_as_such(root, tmp_path):
    path = files(root, 'CAM_FRONT')[0]
    stream = io.BytesIO()
    Image.open(path).save(stream, 'PNG', compress_level=0)
    replace(path, stream.getvalue())
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 0


@pytest.mark.parametrize(('channel', 'words'), [
    ('CAM FRONT', 'letters, digits and _'), ('CAM/FRONT', 'letters, digits and _'), ('2D', 'letters, digits'),
    ('Cam_Back', 'another channel differs in case only'), ('TF', '/tf is another topic of the bag')])
def test_a_channel_that_can_be_no_topic_is_named_with_its_record(root, tmp_path, capsys, channel, words):
    token = ''

    def rename(records):
        nonlocal token
        record = next(record for record in records if record['channel'] == 'CAM_FRONT')
        token, record['channel'] = record['token'], channel

    change_table(root, 'sensor', rename)
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 2
    error = capsys.readouterr().err
    assert f"record '{token}' of table sensor" in error and repr(channel) in error and words in error


def test_a_sensor_of_another_modality_is_left_out(root, tmp_path, capsys):
    change_table(root, 'sensor', lambda records: next(
        record for record in records if record['channel'] == 'CAM_BACK'
    ).update(channel='MIC', modality='audio'))
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 0
    said = capsys.readouterr().out
    assert "MIC: left out, as its modality 'audio' is none of camera, lidar, radar\n" in said


def test_a_scene_named_twice_is_written_once(root, tmp_path):
    token = json.loads((root / 'v1.0-mini' / 'scene.json').read_text())[0]['token']
    assert convert(root, tmp_path / 'bag', '--scenes', token, 'scene-0001') == 0
    assert (tmp_path / 'bag' / 'metadata.yaml').is_file()


def test_an_output_that_cannot_be_made_is_an_error_of_one_line(root, tmp_path, capsys):
    (tmp_path / 'taken').write_text('mine')
    for output in (tmp_path / 'taken', tmp_path / 'taken' / 'bags', tmp_path / ('x' * 300)):
        for options in ((), ('--scenes', 'scene-0001')):
            assert convert(root, output, *options) == 2
            error = capsys.readouterr().err
            assert error.count('\n') == 1 and str(output) in error
    assert (tmp_path / 'taken').read_text() == 'mine'


def test_a_full_disk_leaves_no_half_bag(root, tmp_path):
    limit = ('import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); '
             'resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); '
             'from mpnp_ros.cli.main import main; sys.exit(main(sys.argv[1:]))')
    for storage in ('mcap', 'sqlite3'):
        done = subprocess.run([sys.executable, '-c', limit, 'convert', str(root), str(tmp_path / 'bag'),
                               '--quiet', '--scenes', 'scene-0001', '--storage', storage], text=True,
                              timeout=100, capture_output=True)
        assert done.returncode == 2, done.stderr
        assert 'cannot be written' in done.stderr and 'Traceback' not in done.stderr
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ['root']


@pytest.mark.parametrize('content', [
    '[{"utime": NaN, "q": [1,0,0,0], "rotation_rate": [0,0,0], "linear_accel": [0,0,0]}]', '{}', '[7]', '[',
    '[{"utime": 1, "q": [1,0,0], "rotation_rate": [0,0,0], "linear_accel": [0,0,0]}]', '7',
    '[{"utime": 1, "q": [1,0,0,0], "rotation_rate": [0,0,null], "linear_accel": [0,0,0]}]',
    '[{"utime": 1, "q": [1,0,0,0], "rotation_rate": [0,0,0], "linear_accel": [0,0,Infinity]}]',
    '[{"utime": "1", "q": [1,0,0,0], "rotation_rate": [0,0,0], "linear_accel": [0,0,0]}]'])
def test_a_damaged_can_bus_file_is_named(root, tmp_path, capsys, content):
    (root / 'can_bus').mkdir()
    (root / 'can_bus' / 'scene-0001_ms_imu.json').write_text(content)
    assert convert(root, tmp_path / 'bag', '--scenes', 'scene-0001') == 2
    error = capsys.readouterr().err
    assert 'scene-0001_ms_imu.json' in error and 'unpack the CAN bus expansion again' in error
