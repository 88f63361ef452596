"""The adaptation node without ROS: what it begins, hands over, remembers and refuses."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

from mpnp_ros.adaptation import adapter as module
from mpnp_ros.adaptation.adapter import AdaptationManager
from mpnp_ros.adaptation.job import (
    CANCELLED,
    FAILED,
    TRAINED,
    WORSE,
    JobProgress,
    JobResult,
    JobSpec,
    NewLink,
)
from mpnp_ros.adaptation.job_builder import ModelChoice, Request
from mpnp_ros.adaptation.job_process import JobProcess
from mpnp_ros.adaptation.known import LinkInUse
from mpnp_ros.adaptation.options import AdapterConfig
from mpnp_ros.adaptation.policy import ModalityCondition
from mpnp_ros.errors import ConfigurationError, LinksError, TrainingError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import AdaptationRecord, Provenance, load_link, read_manifest
from mpnp_ros.methods.link_store import LinkStore, StoredLink
from mpnp_ros.methods.registry import create_method
from mpnp_ros.tokens import ModalityTokens
from mpnp_ros.training.budget import Budget

WIDTH = 8
CONFIG = {'min_healthy_duration': 0., 'min_interval': 0., 'retry_delay': 1000., 'min_trial_questions': 0,
          'min_labelled_questions': 100, 'min_paired_moments': 20, 'steps': 40, 'batch': 32,
          'learning_rate': 1e-2, 'scratch_learning_rate': 1e-2, 'headings_per_frame': 1, 'kept_versions': 2}


class FakeProcess:
    """A job that ends as the test says."""

    def __init__(self, folder: Path, on_progress: Callable[[JobProgress], None]) -> None:
        self.folder, self.say, self.spec = folder, on_progress, JobSpec.load(folder)
        self.future: Future[JobResult] = Future()
        self.closed = False

    def end(self, status: str = TRAINED, links: dict[str, StoredLink] | None = None,
            **results: float) -> None:
        """With a result."""
        paths = {name: str(link.path) for name, link in (links or {}).items()}
        self.future.set_result(JobResult(status, 'so it ended', paths, **results))

    def cancel(self) -> None:
        """Within a step."""
        self.end(CANCELLED)

    def close(self) -> None:
        """At once."""
        self.closed = True


class Fusion:
    """What is plugged, or why it refuses."""

    def __init__(self) -> None:
        self.plugged: list[StoredLink] = []
        self.refusal = ''
        self.silent = False
        self.asked: list[Future[None]] = []

    def __call__(self, link: StoredLink | None) -> Future[None]:
        self.asked.append(Future())
        if self.refusal or link is None:
            self.asked[-1].set_exception(LinksError(self.refusal or 'gone'))
        else:
            self.plugged.append(link)
            if not self.silent:
                self.asked[-1].set_result(None)
        return self.asked[-1]


class Robot:
    """An adapter with its processes, its fusion node and its clock at hand."""

    def __init__(self, folder: Path, llm: Path) -> None:
        self.folder, self.llm, self.fusion, self.now = folder, llm, Fusion(), 1000.
        self.begun: list[FakeProcess] = []
        self.store = LinkStore(folder / 'links')
        self.method = create_method('mpnp', load_language_model(llm, 'cpu', 'float32'))

    def start(self, starts: tuple[Path, ...] = (), **config: object) -> AdaptationManager:
        """An adapter on this folder."""
        return AdaptationManager(AdapterConfig(**{**CONFIG, **config}), self.folder,
                                 ModelChoice(str(self.llm), 'mpnp', 'cpu', 'float32'), self.fusion,
                                 starts=starts, clock=lambda: self.now)

    def links(self, modality: str, encoder: str = '', **adaptation: float) -> StoredLink:
        """New untrained links in the store."""
        torch.manual_seed(0)
        link = self.method.new_link(modality, encoder or f'{modality}-encoder', WIDTH, last=2)
        own = AdaptationRecord('labelled', steps=1, **adaptation)
        return self.store.save(link, Provenance(adaptation=own))

    @property
    def process(self) -> FakeProcess:
        """The newest one."""
        return self.begun[-1]


@pytest.fixture
def robot(tmp_path, tiny_lm_folder, own_cache, monkeypatch) -> Robot:
    """Its trainings end as the test says."""
    robot = Robot(tmp_path / 'state', tiny_lm_folder)

    def begin(folder: Path, on_progress: Callable[[JobProgress], None]) -> FakeProcess:
        robot.begun.append(FakeProcess(folder, on_progress))
        return robot.begun[-1]

    monkeypatch.setattr(module, 'JobProcess', begin)
    return robot


def healthy(modality: str, version: str = '', **changes: object) -> ModalityCondition:
    """A condition as the fusion node tells it."""
    return ModalityCondition(modality, **{'state': 'healthy', 'encoder': f'{modality}-encoder', 'quality': 1.,
                                          'links_version': version, **changes})


def tokens(modality: str, **changes: object) -> ModalityTokens:
    """One token of a modality's encoder."""
    return ModalityTokens(modality, f'{modality}-encoder', np.ones((1, WIDTH), np.float32),
                          np.zeros(1, np.float32), **changes)


def in_use(link: StoredLink, encoder: str = '') -> LinkInUse:
    """As the fusion node lists it."""
    return LinkInUse(link.modality, link.version, str(link.path), encoder or f'{link.modality}-encoder')


@pytest.fixture
def lidar(robot, experience) -> AdaptationManager:
    """An adapter that has seen a LiDAR and labelled questions about it."""
    experience(robot.folder / 'replay', ('lidar',), 40)
    adapter = robot.start()
    adapter.seen(tokens('lidar'))
    adapter.conditions([healthy('lidar')])
    return adapter


def test_what_is_missing_is_trained_and_handed_over(robot, lidar):
    lidar.tick()
    assert [(one.modality, one.encoder, one.token_width) for one in robot.process.spec.new] == [
        ('lidar', 'lidar-encoder', WIDTH)]
    assert robot.process.spec.supervision == 'labelled'
    assert lidar.training == robot.process.spec
    robot.process.say(JobProgress('training', 3, 40))
    assert lidar.progress.step == 3
    lidar.tick()
    assert len(robot.begun) == 1, 'one at a time'
    assert 'training on 160 labelled questions' in lidar.reason
    link = robot.links('lidar', accuracy_after=.9)
    robot.process.end(links={'lidar': link}, accuracy=.9)
    lidar.tick()
    assert robot.fusion.plugged == [link]
    assert not robot.process.folder.exists()
    lidar.conditions([healthy('lidar', link.version)])
    lidar.in_use([in_use(link)])
    lidar.tick()
    assert lidar.decision.reason == 'answers rest on lidar; nothing is missing'
    assert (len(robot.begun), lidar.progress, lidar.training) == (1, None, None)


def test_it_is_at_rest_when_nothing_is_under_way_or_waited_for(robot, lidar):
    resting = [lidar.at_rest]
    lidar.tick()  # begins a training
    resting.append(lidar.at_rest)
    robot.fusion.silent = True
    link = robot.links('lidar')
    robot.process.end(links={'lidar': link})
    lidar.conditions([healthy('lidar', link.version)])
    lidar.in_use([in_use(link)])
    lidar.tick()  # hands its links over
    resting.append(lidar.at_rest)
    robot.fusion.asked[-1].set_result(None)
    lidar.tick()
    assert 'nothing is missing' in lidar.decision.reason
    assert resting == [False, False, False] and lidar.at_rest
    lidar.conditions([healthy('lidar')])
    lidar.tick()  # waits
    assert not lidar.at_rest


def test_new_links_count_as_in_use_before_the_fusion_node_lists_them(robot, lidar):
    """Of the same version number as those before, which read another encoder's tokens."""
    old = StoredLink('lidar', '000001', robot.folder / 'elsewhere/lidar/000001', '')
    lidar.in_use([in_use(old, 'another')])
    lidar.conditions([healthy('lidar', '000001')])
    lidar.tick()
    assert 'do not read the tokens' in lidar.decision.reason
    robot.process.end(links={'lidar': robot.links('lidar')})
    lidar.tick()
    assert len(robot.begun) == 1
    assert 'nothing is missing' in lidar.decision.reason


@pytest.mark.parametrize('status', [WORSE, FAILED, CANCELLED])
def test_a_failure_is_remembered_and_tried_again_later(robot, lidar, status):
    lidar.tick()
    robot.process.end(status)
    lidar.tick()
    assert robot.fusion.asked == []
    assert 'failed before' in lidar.decision.reason
    robot.now += 999
    lidar.tick()
    assert len(robot.begun) == 1
    robot.now += 2
    lidar.tick()
    assert len(robot.begun) == 2


def test_links_that_the_fusion_node_refuses_are_a_failure(robot, lidar):
    robot.fusion.refusal = 'they are for another model'
    done = lidar.adapt(Request(('lidar',)))
    robot.process.end(links={'lidar': robot.links('lidar')}, accuracy=.9)
    lidar.tick()
    result = done.result(0)
    assert (result.status, result.accuracy) == (FAILED, .9)
    assert result.message == 'the fusion node refused them:  they are for another model'


def test_a_training_is_over_when_its_links_are_in_use(robot, lidar):
    robot.fusion.silent = True
    done = lidar.adapt(Request(('lidar',)))
    robot.process.end(links={'lidar': robot.links('lidar')})
    lidar.tick()
    assert not done.done()
    robot.fusion.asked[-1].set_result(None)
    assert done.result(0).status == TRAINED


def test_offers_are_used_until_training_has_ended(robot, lidar):
    lidar.tick()
    link = robot.links('lidar')
    robot.process.say(JobProgress('evaluating', offers={'lidar': str(link.path)}))
    assert robot.fusion.plugged == [link]


def test_old_versions_go_but_not_what_is_in_use(robot, lidar):
    links = [robot.links('lidar') for _ in range(4)]
    robot.store.set_current('lidar', links[0].version)
    lidar.adapt(Request(('lidar',)))
    robot.process.end(links={'lidar': links[3]})
    lidar.tick()
    assert robot.store.list('lidar') == [links[0], *links[2:]]


def test_stored_links_are_plugged_rather_than_trained(robot, lidar):
    link = robot.links('lidar', accuracy_after=.8)
    robot.links('lidar', 'another')
    lidar.tick()
    assert (robot.fusion.plugged, robot.begun) == ([link], [])


def test_what_is_rolled_back_is_not_offered_again(robot, lidar):
    """Neither is it trained again at once."""
    link = robot.links('lidar')
    lidar.tick()
    assert robot.fusion.plugged == [link]
    robot.store.set_current('lidar', link.version)
    lidar.conditions([healthy('lidar', link.version)])
    lidar.in_use([in_use(link)])
    robot.store.set_current('lidar', None)
    lidar.conditions([healthy('lidar')])
    lidar.in_use([])
    robot.now += 1e6
    lidar.tick()
    assert robot.fusion.plugged == [link]


def test_trained_links_that_are_rolled_back_are_a_failure(robot, lidar):
    lidar.tick()
    link = robot.links('lidar')
    robot.process.end(links={'lidar': link})
    lidar.tick()
    robot.store.set_current('lidar', link.version)
    robot.store.set_current('lidar', None)
    lidar.conditions([healthy('lidar')])
    lidar.in_use([])
    lidar.tick()
    assert 'failed before' in lidar.decision.reason
    assert len(robot.begun) == 1


def test_a_trusted_modality_teaches_where_there_are_no_labels(robot, experience):
    experience(robot.folder / 'replay', ('camera', 'lidar'), 40)
    adapter, camera = robot.start(supervision='distilled'), robot.links('camera', accuracy_after=.9)
    for name in ('camera', 'lidar'):
        adapter.seen(tokens(name))
    adapter.conditions([healthy('camera', camera.version), healthy('lidar')])
    adapter.in_use([in_use(camera)])
    adapter.tick()
    spec = robot.process.spec
    assert (spec.supervision, spec.teachers, spec.beside) == ('distilled', ('camera',), (str(camera.path),))
    assert str(camera.path) in spec.new[0].starts, 'what the camera knows is a beginning'


def test_a_copy_that_the_fusion_node_made_teaches_too(robot, experience):
    experience(robot.folder / 'replay', ('camera', 'lidar'), 40)
    objects = robot.links('objects')
    adapter = robot.start((objects.path,), supervision='distilled')
    for name in ('camera', 'lidar'):
        adapter.seen(tokens(name))
    adapter.conditions([healthy('camera', objects.name), healthy('lidar')])
    adapter.in_use([LinkInUse('camera', objects.name, '', 'camera-encoder')])
    adapter.adapt(Request(('lidar',), 'distilled'))
    spec = robot.process.spec
    assert (spec.teachers, spec.beside) == (('camera',), ())
    assert spec.copied == (NewLink('camera', 'camera-encoder', WIDTH, (str(objects.path),)),)


def test_a_request_sets_its_own_bounds(robot, lidar):
    lidar.adapt(Request(('lidar', 'lidar'), linked_blocks=1, budget=Budget(7., accuracy=.8)))
    spec = robot.process.spec
    assert (spec.modalities, spec.linked_blocks) == (('lidar',), 1)
    assert spec.budget == Budget(7., accuracy=.8)
    assert robot.start().config.budget.seconds == 120., 'the others as configured'


def test_a_request_without_names_is_for_what_is_missing(robot, lidar):
    lidar.conditions([healthy('lidar'), healthy('camera', state='stale')])
    lidar.adapt(Request())
    assert robot.process.spec.modalities == ('lidar',)


def test_a_sensor_that_counts_is_linked_at_once_by_a_copy(robot):
    sorts = tuple(f'kind {place}' for place in range(WIDTH))
    counting = robot.method.new_link('camera', 'camera-encoder', WIDTH, last=2, pooling='counting',
                                     channels=sorts)
    camera = robot.store.save(counting, Provenance())
    adapter = robot.start()
    adapter.seen(tokens('lidar', known=np.ones(WIDTH, bool)))
    adapter.seen(tokens('radar'))
    adapter.conditions([healthy('camera', camera.version), healthy('lidar'), healthy('radar')])
    adapter.in_use([in_use(camera)])
    adapter.tick()
    made, = robot.fusion.plugged
    assert made.modality == 'lidar', 'radar tokens do not say that they count'
    link = load_link(made.path, encoder='lidar-encoder')
    assert link.reads_like(counting)
    own = read_manifest(made.path).provenance.adaptation
    assert (own.supervision, own.started_from, own.steps) == ('copied', f'camera/{camera.version}', 0)
    adapter.conditions([healthy('camera', camera.version), healthy('lidar', made.version)])
    adapter.tick()
    assert 'were not trained on its tokens yet' in adapter.decision.reason
    assert len(robot.fusion.plugged) == 1
    assert robot.begun == []


def test_automatic_adaptation_can_be_off(robot, experience):
    experience(robot.folder / 'replay', ('lidar',), 40)
    adapter = robot.start(automatic=False)
    adapter.seen(tokens('lidar'))
    adapter.conditions([healthy('lidar')])
    adapter.tick()
    assert robot.begun == []
    assert 'automatic adaptation is disabled' in adapter.decision.reason
    adapter.adapt(Request())
    assert len(robot.begun) == 1


@pytest.mark.parametrize(('request_', 'error', 'message'), [
    (Request(('radar',)), TrainingError, '0 of 100 labelled questions'),
    (Request(('radar',), 'labelled'), TrainingError, 'no radar tokens received; start its encoder'),
    (Request(('lidar',), 'distilled'), TrainingError, '0 of 20 moments with a modality that could teach'),
    (Request(('lidar',), 'guessed'), ConfigurationError, "supervision is 'guessed'; use labelled, distilled"),
])
def test_what_cannot_be_trained_is_said(robot, lidar, request_, error, message):
    with pytest.raises(error, match=message):
        lidar.adapt(request_)
    assert robot.begun == []


def test_nothing_healthy_to_adapt(robot):
    with pytest.raises(TrainingError, match='no healthy modality; start a sensor'):
        robot.start().adapt(Request())


def test_a_second_request_waits_for_the_first_and_a_cancelled_one_makes_room(robot, lidar):
    done = lidar.adapt(Request(('lidar',)))
    with pytest.raises(TrainingError, match='lidar is being trained; cancel that'):
        lidar.adapt(Request(('lidar',)))
    lidar.cancel()
    lidar.tick()
    assert done.result(0).status == CANCELLED
    lidar.adapt(Request(('lidar',)))


def test_a_job_on_disk_goes_on_at_the_next_start(robot, lidar):
    done = lidar.adapt(Request(('lidar',)))
    first = robot.process
    lidar.close()
    assert first.closed
    assert done.result(0).status == CANCELLED and 'resumes' in done.result(0).message
    again = robot.start()
    assert (robot.process.folder, again.training) == (first.folder, first.spec)
    link = robot.links('lidar')
    robot.process.end(links={'lidar': link})
    again.tick()
    assert robot.fusion.plugged == [link]
    assert robot.start().training is None


def test_a_damaged_job_is_given_up(robot, lidar):
    lidar.adapt(Request(('lidar',)))
    (robot.process.folder / 'spec.json').write_text('{')
    assert robot.start().training is None
    assert not robot.process.folder.exists()


def test_links_not_known_yet_are_not_trained_over(robot, lidar):
    """The fusion node has told of their version, and not yet of what they read."""
    lidar.conditions([healthy('lidar', '000007')])
    lidar.tick()
    assert (robot.begun, lidar.decision.reason) == ([], 'answers rest on lidar; nothing is missing')


@pytest.fixture
def ending(lidar) -> Iterator[AdaptationManager]:
    """With real processes, none of which is left behind."""
    yield lidar
    lidar.close()


@pytest.mark.timeout(300)
def test_a_real_training(robot, ending, monkeypatch):
    monkeypatch.setattr(module, 'JobProcess', JobProcess)
    end = time.monotonic() + 240
    while not robot.fusion.plugged and time.monotonic() < end:
        ending.tick()
        time.sleep(.1)
    link = robot.fusion.plugged[0]
    assert link.path.parent.parent == robot.store.folder
    ending.conditions([healthy('lidar', link.version)])
    ending.tick()
    assert 'nothing is missing' in ending.decision.reason
