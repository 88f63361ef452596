from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

from mpnp_ros import files
from mpnp_ros.errors import ConfigurationError, StorageError
from mpnp_ros.files import (
    cache_root,
    cached_folder,
    is_whole,
    locked,
    new_folder,
    sha256_of,
    state_root,
    write_file,
)


def build(folder: Path) -> None:
    (folder / 'sub').mkdir()
    (folder / 'a').write_bytes(b'one')
    (folder / 'sub' / 'b').write_bytes(b'two')


def refuse(folder: Path) -> None:
    raise AssertionError('made again without need')


def build_and_count(target: Path) -> None:
    def slow(folder: Path) -> None:
        build(folder)
        with open(target.parent / 'count', 'a') as stream:
            stream.write('x')
    cached_folder(target, 'v1', slow)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / 'file').write_bytes(data)
    assert sha256_of(tmp_path / 'file') == hashlib.sha256(data).hexdigest()


def test_written_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_file(tmp_path / 'file', b'old')
    write_file(tmp_path / 'file', b'new')
    assert (tmp_path / 'file').read_bytes() == b'new'
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / 'file', b'old')
    with pytest.raises(TypeError):
        write_file(tmp_path / 'file', 'not bytes')
    assert (tmp_path / 'file').read_bytes() == b'old'
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_folder_keeps_the_old_one(tmp_path: Path) -> None:
    with new_folder(tmp_path / 'folder') as folder:
        build(folder)
    with pytest.raises(RuntimeError), new_folder(tmp_path / 'folder') as folder:
        (folder / 'a').write_bytes(b'half')
        raise RuntimeError
    assert (tmp_path / 'folder' / 'a').read_bytes() == b'one'
    assert len(list(tmp_path.iterdir())) == 1


def test_cached_folder_is_made_once(tmp_path: Path) -> None:
    path = cached_folder(tmp_path / 'entry', 'v1', build)
    assert (path / 'sub' / 'b').read_bytes() == b'two'
    assert cached_folder(path, 'v1', refuse) == path


@pytest.mark.parametrize('damage', [
    lambda path: (path / 'a').write_bytes(b'onE'),
    lambda path: (path / 'a').unlink(),
    lambda path: (path / 'manifest.json').unlink(),
    lambda path: (path / 'manifest.json').write_bytes(b'{"schema": 1'),
    lambda path: (path / 'manifest.json').write_bytes(b'[]'),
])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: object) -> None:
    path = cached_folder(tmp_path / 'entry', 'v1', build)
    damage(path)
    assert not is_whole(path, 'v1')
    cached_folder(path, 'v1', build)
    assert is_whole(path, 'v1')
    assert (path / 'a').read_bytes() == b'one'


@pytest.fixture
def old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cached folder that was made and checked a while ago."""
    path = cached_folder(tmp_path / 'entry', 'v1', build)
    monkeypatch.setattr(files, 'SETTLED', 0)
    assert is_whole(path, 'v1')
    return path


def test_unchanged_files_are_read_once(old_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, 'sha256_of', refuse)
    assert is_whole(old_folder, 'v1')


@pytest.mark.parametrize('damage', [
    lambda path: (path / 'a').write_bytes(b'onE'),
    lambda path: (path / 'sub' / 'b').unlink(),
    lambda path: os.replace(path / 'sub' / 'b', path / 'a'),
])
def test_a_file_that_changes_after_it_was_checked_is_found(old_folder: Path, damage: object) -> None:
    before = (old_folder / 'a').stat()
    time.sleep(.02)  # longer than a tick of the clock of the file system
    damage(old_folder)
    if (old_folder / 'a').stat().st_size == before.st_size:
        os.utime(old_folder / 'a', ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not is_whole(old_folder, 'v1')


def test_a_file_that_has_just_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached_folder(tmp_path / 'entry', 'v1', build)
    assert is_whole(path, 'v1')
    monkeypatch.setattr(files, 'sha256_of', lambda path: 'another')
    assert not is_whole(path, 'v1')


def test_another_source_is_made_again(tmp_path: Path) -> None:
    path = cached_folder(tmp_path / 'entry', 'v1', build)
    with pytest.raises(AssertionError, match='again'):
        cached_folder(path, 'v2', refuse)
    assert is_whole(path, 'v1')


def test_leftovers_of_killed_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / '.entry.dead').mkdir()
    (tmp_path / '.entry.dead' / 'a').write_bytes(b'half')
    cached_folder(tmp_path / 'entry', 'v1', build)
    assert not (tmp_path / '.entry.dead').exists()


def test_two_processes_make_a_folder_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=build_and_count, args=(tmp_path / 'entry',)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / 'count').read_text() == 'x'


def test_lock_is_held_alone(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / 'entry'):
            order.append('second')

    with locked(tmp_path / 'entry'):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append('first')
    thread.join(10)
    assert order == ['first', 'second']


def test_cache_folder_is_the_argument_then_the_environment(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'environment'))
    assert cache_root() == tmp_path / 'environment'
    assert cache_root(tmp_path / 'argument') == tmp_path / 'argument'
    assert (tmp_path / 'argument').is_dir()


def test_a_cache_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(ConfigurationError, match='MPNP_CACHE'):
        cache_root(tmp_path / 'file' / 'cache')


def test_what_a_robot_has_learned_lies_apart_from_the_cache(tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MPNP_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('MPNP_STATE', str(tmp_path / 'state'))
    assert state_root() == tmp_path / 'state'
    assert state_root('/fleet/robot1') == tmp_path / 'state' / 'fleet' / 'robot1'
    assert not (tmp_path / 'cache').exists()
    (tmp_path / 'state' / 'file').touch()
    with pytest.raises(ConfigurationError, match='state folder .* set MPNP_STATE'):
        state_root('file')


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('variable', ['MPNP_CACHE', 'MPNP_STATE'])
def test_a_full_disk_is_named_with_the_folder_and_what_to_set(tmp_path: Path, monkeypatch,
                                                              variable: str) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(StorageError) as caught:
        write_file(tmp_path / 'file', b'new')
    said = str(caught.value)
    assert said.startswith(f'{tmp_path} cannot be written: the disk is full (') and 'MB are free' in said
    assert said.endswith(f'make room, or set {variable} to a folder on another disk')
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_by_the_words_of_safetensors_too(tmp_path: Path) -> None:
    text = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left" }'
    with pytest.raises(StorageError, match='the disk is full') as caught, new_folder(tmp_path / 'folder'):
        raise SafetensorError(text)
    assert isinstance(caught.value, OSError)
    with pytest.raises(SafetensorError), new_folder(tmp_path / 'folder'):
        raise SafetensorError('header too large')


def test_what_does_not_fit_is_not_begun_and_the_need_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r'\(1000000000000 MB are needed, [0-9.]+ MB are free\)'):
        cached_folder(tmp_path / 'entry', 'v1', refuse, size=10 ** 18)
    cached_folder(tmp_path / 'entry', 'v1', build)
    assert cached_folder(tmp_path / 'entry', 'v1', refuse, size=10 ** 18) == tmp_path / 'entry'


def test_a_disk_that_can_only_be_read_is_named(tmp_path: Path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(Path, 'touch', refused)
    with pytest.raises(StorageError, match='can only be read'), locked(tmp_path / 'entry'):
        pass
