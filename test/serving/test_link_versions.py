"""What links are in use again after a restart."""
from __future__ import annotations

import pytest

from mpnp_ros.errors import LinksError
from mpnp_ros.methods.link_store import LinkStore, StoredLink, Usage
from mpnp_ros.methods.registry import create_method
from mpnp_ros.serving.answer_server import AnswerServer
from mpnp_ros.serving.link_versions import LinkVersion, LinkVersions, copied_link_version, links_at_start

WAIT = 10
COUNTING = {'last': 2, 'hidden': 16, 'pooling': 'counting', 'pooling_width': 16, 'pooling_layers': 1,
            'pooling_heads': 2, 'entries': 2, 'channels': ('car', 'bus')}


@pytest.fixture
def store(tmp_path) -> LinkStore:
    """What the robot has learned: nothing yet."""
    return LinkStore(tmp_path / 'learned')


@pytest.fixture
def shipped(tmp_path, link) -> dict[str, StoredLink]:
    """A camera link that comes with the package."""
    return {'camera': LinkStore(tmp_path / 'shipped').save(link('camera'))}


def start(bench, store: LinkStore, shipped: dict[str, StoredLink]) -> AnswerServer:
    """Do what a fusion node does when it starts."""
    for stored in links_at_start(store, shipped, ('camera', 'lidar')):
        bench.server.install(version_of(bench, stored)).result(WAIT)
    bench.server.links.keep_in(store)
    return bench.server


def version_of(bench, stored: StoredLink) -> LinkVersion:
    """A link as a node reads it from its folder; tiny ones need no model."""
    from mpnp_ros.methods.link_files import load_link
    return LinkVersion(load_link(stored.path), str(stored.path), stored.sha256)


def learn(bench, store: LinkStore, link, **options: object) -> StoredLink:
    """Save a new version and put it into use."""
    stored = store.save(link('camera', **options))
    bench.server.install(version_of(bench, stored)).result(WAIT)
    return stored


def active(server: AnswerServer) -> list[str]:
    """Folders of all links at hand, the one in use first."""
    return [version.path for version, _ in server.links]


def test_a_restart_finds_the_last_good_links_and_what_to_go_back_to(make_bench, store, shipped, link):
    first = make_bench()
    start(first, store, shipped)
    one, two = learn(first, store, link), learn(first, store, link)
    before = active(first.server)
    second = make_bench()
    assert active(start(second, store, shipped)) == before == [
        str(stored.path) for stored in (two, one, shipped['camera'])]
    assert second.server.rollback('camera').result(WAIT).path == str(one.path)
    assert store.current('camera') == one
    third = make_bench()
    assert active(start(third, store, shipped))[0] == str(one.path)
    assert third.server.rollback('camera').result(WAIT).path == str(shipped['camera'].path)
    assert store.current('camera') is None
    assert store.usage('camera').withdrawn == (two.version, one.version)
    assert links_at_start(store, shipped, ('camera', 'lidar')) == [shipped['camera']]


def test_links_that_are_offered_twice_are_gone_back_from_at_once(bench, store, shipped, link):
    server = start(bench, store, shipped)
    one, two = learn(bench, store, link), learn(bench, store, link)
    server.install(version_of(bench, two)).result(WAIT)
    assert active(server) == [str(stored.path) for stored in (two, one, shipped['camera'])]
    assert server.rollback('camera').result(WAIT).path == str(one.path)


def test_a_damaged_version_is_passed_over_at_the_start(make_bench, bench, store, shipped, link, caplog):
    start(bench, store, shipped)
    one, two = learn(bench, store, link), learn(bench, store, link)
    (two.path / 'link.safetensors').write_bytes(b'')
    again = make_bench()
    assert active(start(again, store, shipped))[0] == str(one.path)
    assert f'{two.path} is damaged' in caplog.text


def test_refused_links_and_links_from_elsewhere_change_nothing_in_the_store(bench, store, shipped, link,
                                                                           tmp_path):
    start(bench, store, shipped)
    one = learn(bench, store, link)
    with pytest.raises(LinksError):
        bench.server.install(LinkVersion(link('camera', 'refused'), str(one.path))).result(WAIT)
    elsewhere = LinkStore(tmp_path / 'elsewhere').save(link('camera'))
    bench.server.install(version_of(bench, elsewhere)).result(WAIT)
    bench.server.install(LinkVersion(link('lidar'))).result(WAIT)
    assert store.usage('camera') == Usage((one.version,))
    assert store.usage('lidar') == Usage()
    assert bench.server.rollback('camera').result(WAIT).path == str(one.path)
    assert store.usage('camera') == Usage((one.version,))


def test_links_are_used_even_where_it_cannot_be_noted(bench, store, link, caplog):
    start(bench, store, {})
    stored = store.save(link('camera'))
    (store.folder / '.camera.lock').unlink()
    (store.folder / '.camera.lock').mkdir()
    bench.server.install(version_of(bench, stored)).result(WAIT)
    assert active(bench.server) == [str(stored.path)]
    assert 'after a restart others will be' in caplog.text


def test_nothing_is_noted_without_a_store(bench, store, link):
    versions = LinkVersions(bench.method)
    versions.install(version_of(bench, store.save(link('camera'))))
    assert store.usage('camera') == Usage()


def test_a_copy_of_other_links_is_called_as_they_are_and_has_no_folder(tiny_lm, tmp_path):
    lm = tiny_lm()
    link = create_method('mpnp', lm).new_link('objects', 'true', 2, **COUNTING)
    stored = LinkStore(tmp_path).save(link)
    copy = copied_link_version(stored.path, 'detections', 'detector', lm)
    assert (copy.modality, copy.fit.encoder, copy.version, copy.path) == (
        'detections', 'detector', 'objects/000001', '')
    with pytest.raises(LinksError):
        copied_link_version(stored.path, 'detections', 'detector', tiny_lm('opt'))


def test_links_can_be_made_while_answering(bench, link):
    made = bench.server.make_links(lambda: LinkVersion(link('camera'))).result(WAIT)
    assert made.modality == 'camera' and [version for version, _ in bench.server.links][0] is made
