"""The stages of a job: what is drawn and read, what links begin with, what is trained and stored."""
from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mpnp_ros.adaptation import job_prepare, job_train
from mpnp_ros.adaptation.job import (
    CANCELLED,
    SPEC,
    TRAINED,
    WORSE,
    JobProgress,
    JobResult,
    JobSpec,
    NewLink,
)
from mpnp_ros.adaptation.job_prepare import draw, read
from mpnp_ros.adaptation.job_train import train
from mpnp_ros.adaptation.known import LinkCatalogue
from mpnp_ros.adaptation.moments import ASKED, BufferedQuestion
from mpnp_ros.adaptation.policy import DISTILLED
from mpnp_ros.adaptation.replay_buffer import ReplayBuffer
from mpnp_ros.errors import BudgetError, TrainingError
from mpnp_ros.methods.link_files import load_link, read_manifest
from mpnp_ros.methods.link_store import LinkStore
from mpnp_ros.methods.registry import create_method, find_method, methods
from mpnp_ros.training.budget import Budget
from mpnp_ros.training.trainer import Trainer, TrainerConfig

ANSWERS = ('yes', 'no', 'car', 'truck')


def noise(number: int) -> str:
    """An answer that tokens do not tell."""
    return random.Random(number).choice(ANSWERS)


def ran(spec: JobSpec, folder: Path, said: list[JobProgress] | None = None) -> JobResult:
    """Both stages of a job in a folder."""
    say = [].append if said is None else said.append
    spec.save(folder)
    read(folder, say, lambda: False)
    return train(folder, say, lambda: False)


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    """All tensors of stored links."""
    return dict(load_link(path).state_dict())


def assert_same(one: str | Path, other: str | Path) -> None:
    """To the last bit."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture
def camera(job, experience, tmp_path) -> str:
    """The folder of camera links that answer every question rightly, in a store of their own."""
    experience(tmp_path / 'camera-buffer')
    spec = job(buffer=str(tmp_path / 'camera-buffer'), store=str(tmp_path / 'first'))
    result = ran(spec, tmp_path / 'camera-job')
    assert result.accuracy == 1.
    return result.links['camera']


def test_links_that_are_better_than_blind_are_stored_with_what_they_took(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    said: list[JobProgress] = []
    result = ran(job(), tmp_path / 'job', said)
    assert (result.status, result.held_out, result.steps) == (TRAINED, 64, 40)
    assert result.accuracy > .9
    assert result.blind_accuracy == .25
    assert [one.stage for one in said if one.stage != 'training'] == ['reading', 'evaluating']
    assert [one.step for one in said if one.stage == 'training'] == [*range(1, 41), 40]
    assert said[-1].accuracy == result.accuracy
    assert all(before.macs <= after.macs for before, after in zip(said, said[1:], strict=False))
    adapted = read_manifest(result.links['camera']).provenance.adaptation
    assert (adapted.supervision, adapted.started_from, adapted.steps) == ('labelled', '', 40)
    assert (adapted.accuracy_after, adapted.accuracy_blind) == (result.accuracy, result.blind_accuracy)
    assert 0 < adapted.seconds <= result.seconds
    assert adapted.macs == result.macs > 0


def test_what_is_held_out_is_apart_in_time_and_drawn_once(job, experience, tmp_path):
    buffer = experience(tmp_path / 'buffer')
    spec = job(most_questions=100, most_held_out=20)
    spec.save(tmp_path / 'job')
    first = draw(spec, tmp_path / 'job')
    for stamp in range(0, 80_000_000_000, 500_000_000):
        buffer.extend(stamp, [BufferedQuestion('what is it?', 'yes', ANSWERS, 'object', 0, 'feedback')])
    again = draw(spec, tmp_path / 'job')
    assert [one.examples for one in again] == [one.examples for one in first]
    assert [len(one.examples) for one in first] == [100, 20]
    stamps = [{int(example.frame.split('/')[1]) for example in one.examples} for one in first]
    assert min(abs(a - b) for a in stamps[0] for b in stamps[1]) >= 1_000_000_000


def test_labels_that_are_noise_give_no_links(job, experience, tmp_path):
    experience(tmp_path / 'buffer', labels=noise)
    result = ran(job(), tmp_path / 'job')
    assert (result.status, result.links) == (WORSE, {})
    assert 'not offered' in result.message
    assert LinkStore(tmp_path / 'store').list() == []


def test_links_of_another_modality_hand_over_what_they_know(job, experience, camera, tmp_path):
    experience(tmp_path / 'buffer', ('lidar',))
    said: list[JobProgress] = []
    result = ran(job('lidar', (str(tmp_path / 'gone'), camera)), tmp_path / 'job', said)
    assert result.status == TRAINED
    assert result.start_accuracy > .9
    offered = [one.offers['lidar'] for one in said if one.offers]
    assert len(offered) == 1, 'what is begun with is offered once'
    assert read_manifest(offered[0]).provenance.adaptation.accuracy_before == result.start_accuracy
    assert [one.stage for one in said if one.offers] == ['evaluating']
    link = load_link(result.links['lidar'])
    assert (link.config.modality, link.config.encoder) == ('lidar', 'lidar-encoder')
    assert read_manifest(result.links['lidar']).provenance.adaptation.started_from == 'camera/000001'
    assert not [one for one in said if one.stage == 'training' and one.offers]


def test_without_offers_nothing_is_used_before_the_end(job, experience, camera, tmp_path):
    experience(tmp_path / 'buffer', ('lidar',))
    said: list[JobProgress] = []
    result = ran(job('lidar', (camera,), offer_starts=False), tmp_path / 'job', said)
    assert not any(one.offers for one in said)
    assert [link.name for link in LinkStore(tmp_path / 'store').list()] == ['lidar/000001']
    assert Path(result.links['lidar']).name == '000001'


def test_half_way_between_what_was_known_and_what_was_learned(job, experience, camera, tmp_path, monkeypatch):
    """Taken where it answers as well, which it does here."""
    experience(tmp_path / 'buffer')
    halfway = ran(job(starts=(camera,)), tmp_path / 'one').links['camera']
    monkeypatch.setattr(job_train, '_midway', lambda begun, trained: trained)
    trained = ran(job(starts=(camera,)), tmp_path / 'two').links['camera']
    begun, end, taken = weights(camera), weights(trained), weights(halfway)
    assert any(not torch.equal(begun[name], end[name]) for name in begun)
    assert all(torch.equal(taken[name], (begun[name] + end[name]) / 2 if begun[name].is_floating_point() else
                           end[name]) for name in begun)


@pytest.mark.parametrize(('least', 'taken'), [(.6, .765), (.8, .8), (.9, .8)])
def test_half_way_is_not_taken_below_what_was_asked_for(monkeypatch, least, taken):
    """Of 100 questions held out, 80 % are answered rightly after training and 76.5 % half way."""
    training, found = object.__new__(job_train._Training), iter((.8, .765))
    training.sources, training.held_out = {'camera': 'links'}, SimpleNamespace(examples=range(100))
    monkeypatch.setattr(training, '_own', dict)
    monkeypatch.setattr(training, '_accuracy', lambda: next(found))
    assert training._average({}, least) == taken


def test_what_training_made_a_little_worse_is_undone(job, experience, camera, tmp_path, monkeypatch):
    """By less than the noise of an accuracy, so it would be offered; the last report names the result."""
    experience(tmp_path / 'buffer')
    asked: list[float] = []
    monkeypatch.setattr(job_train._Training, '_average',
                        lambda self, initial, least: asked.append(least) or .995)
    said: list[JobProgress] = []
    result = ran(job(starts=(camera,)), tmp_path / 'job', said)
    assert (result.status, result.start_accuracy, result.accuracy) == (TRAINED, 1., 1.)
    assert_same(result.links['camera'], camera)
    assert said[-1].accuracy == 1.
    assert asked == [1.], 'the average must not be below the links before if the trained ones are not'


def test_a_new_modality_is_tried_without_training(job, experience, camera, tmp_path):
    experience(tmp_path / 'buffer', ('lidar',))
    result = ran(job('lidar', (camera,), only_try=True), tmp_path / 'job')
    assert (result.status, result.steps) == (TRAINED, 0)
    assert read_manifest(result.links['lidar']).provenance.adaptation.accuracy_after == result.accuracy > .9


def test_a_try_that_sees_nothing_gives_nothing(job, experience, tmp_path):
    experience(tmp_path / 'buffer', ('lidar',))
    result = ran(job('lidar', only_try=True), tmp_path / 'job')
    assert (result.status, result.links, result.steps) == (WORSE, {}, 0)
    assert 'the most frequent answers 25.0%' in result.message


@pytest.fixture
def made_up(monkeypatch) -> None:
    """Let the questions that are made up be those that the toys answer."""
    asked = [BufferedQuestion(text, '', ANSWERS, kind, 0, ASKED) for text, kind in (
        ('what is it?', 'object'), ('what is to the front left of the truck?', 'status'))]
    monkeypatch.setattr(job_prepare, 'unlabelled_questions', lambda seed, count: asked)


@pytest.mark.usefixtures('made_up')
def test_a_trusted_modality_teaches_a_new_one(job, experience, camera, tmp_path, monkeypatch):
    """The labels in the buffer are noise and not looked at; the teacher's links stay to the last bit."""
    methods = []
    monkeypatch.setattr(job_train, 'create_method',
                        lambda *given: methods.append(create_method(*given)) or methods[-1])
    experience(tmp_path / 'buffer', ('camera', 'lidar'), labels=noise)
    before = weights(camera)
    spec = job('lidar', beside=(camera,), supervision=DISTILLED, teachers=('camera',))
    result = ran(spec, tmp_path / 'job')
    assert result.status == TRAINED
    assert result.accuracy > .9 > result.start_accuracy
    after = methods[0].links()['camera'].state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert read_manifest(result.links['lidar']).provenance.adaptation.supervision == DISTILLED


@pytest.mark.usefixtures('made_up')
def test_a_teacher_that_is_not_sure_is_not_believed(job, experience, camera, tmp_path):
    experience(tmp_path / 'buffer', ('camera', 'lidar'))
    spec = job('lidar', beside=(camera,), supervision=DISTILLED, teachers=('camera',), confidence=1.)
    with pytest.raises(TrainingError, match='camera answered no question with a confidence of 1'):
        ran(spec, tmp_path / 'job')


@pytest.mark.usefixtures('made_up')
def test_a_trusted_sensor_that_counts_teaches_by_comparison(job, experience, toy, tmp_path, monkeypatch):
    """The new sensor takes every sort for the next one, and counts half; no question is answered for it.

    It learns only what makes the answers clearly better.
    """
    counting = {**job().link, 'pooling': 'counting', 'channels': tuple('abcdefgh'), 'probes': 3}
    experience(tmp_path / 'camera-buffer')
    first = ran(job(buffer=str(tmp_path / 'camera-buffer'), store=str(tmp_path / 'first'), link=counting,
                    training=TrainerConfig(steps=120, batch=32, warm_up=5)), tmp_path / 'camera-job')
    assert first.accuracy > .5
    camera = first.links['camera']
    buffer = ReplayBuffer(tmp_path / 'buffer')
    for number, frame in enumerate(toy(160, 1).frames.values()):
        seen = frame['camera']
        odd = replace(seen, modality='lidar', encoder='lidar-encoder',
                      values=np.roll(seen.values.clip(0), 1, 1) / 2)
        asked = [BufferedQuestion('what is it?', noise(number), ANSWERS, 'object', 0, ASKED)]
        buffer.add({'camera': seen, 'lidar': odd}, asked, number * 500_000_000)
    spec = job('lidar', starts=(camera,), beside=(camera,), supervision=DISTILLED, teachers=('camera',),
               confidence=.3)
    result = ran(spec, tmp_path / 'job')
    assert (result.status, result.steps) == (TRAINED, 1)
    assert LinkCatalogue(LinkStore(spec.store), '').is_trained(result.links['lidar'])
    assert result.accuracy > .9 > result.start_accuracy
    assert 'the comparison with camera' in result.message
    learned, before = weights(result.links['lidar']), weights(camera)
    assert {name.split('.')[0] for name, tensor in learned.items()
            if not torch.equal(tensor, before[name])} == {'worth'}
    copy = NewLink('camera', 'camera-encoder', 8, (camera,))
    again = ran(replace(spec, beside=(), copied=(copy,)), tmp_path / 'again')
    assert (again.status, again.accuracy) == (TRAINED, result.accuracy)
    monkeypatch.setattr(job_train, 'CLEAR', 100.)  # a gain that is not clear
    kept = ran(spec, tmp_path / 'third')
    assert kept.accuracy == kept.start_accuracy == result.start_accuracy
    assert torch.equal(weights(kept.links['lidar'])['worth.confusion'], torch.eye(8))


def test_a_cancelled_job_goes_on_to_the_same_links(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    whole = ran(job(), tmp_path / 'whole')
    job().save(tmp_path / 'job')
    read(tmp_path / 'job', lambda progress: None, lambda: False)
    said: list[JobProgress] = []
    first = train(tmp_path / 'job', said.append, lambda: said[-1:] != [] and said[-1].step == 7)
    assert (first.status, first.links, said[-1].step) == (CANCELLED, {}, 7)
    second = train(tmp_path / 'job', said.append, lambda: False)
    assert (second.status, second.accuracy) == (TRAINED, whole.accuracy)
    assert_same(second.links['camera'], whole.links['camera'])


def test_reading_that_is_cancelled_is_not_finished(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    job().save(tmp_path / 'job')
    read(tmp_path / 'job', lambda progress: None, lambda: True)
    with pytest.raises(TrainingError, match='have not been read'):
        train(tmp_path / 'job', lambda progress: None, lambda: False)


def test_nan_gives_an_error_and_no_links(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    spec = job(anew_learning_rate=1e30)
    with pytest.raises(TrainingError, match=r'(?i)nan|finite'):
        ran(spec, tmp_path / 'job')
    assert LinkStore(tmp_path / 'store').list() == []


def test_training_ends_when_the_accuracy_is_reached(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    result = ran(job(budget=Budget(accuracy=.3)), tmp_path / 'job')
    assert (result.status, result.message, result.steps) == (TRAINED, 'stopped by accuracy', 20)


def test_an_accuracy_below_that_of_the_links_before_ends_no_training(
        job, experience, camera, tmp_path, monkeypatch):
    """Or what it ends with would be thrown away."""
    experience(tmp_path / 'buffer')
    stops = []

    def trainer(method, config, *rest):
        stops.append(config.stop_accuracy)
        return Trainer(method, config, *rest)

    monkeypatch.setattr(job_train, 'Trainer', trainer)
    result = ran(job(starts=(camera,), budget=Budget(accuracy=.3)), tmp_path / 'job')
    assert (result.status, result.start_accuracy) == (TRAINED, 1.)
    assert stops == [.99]
    ran(job(starts=(camera,)), tmp_path / 'without')
    assert stops[1] == 0


@pytest.mark.parametrize(('budget', 'message'), [
    (Budget(bytes=1e6), 'where 1.0 MB of memory are allowed'),
    (Budget(macs=1e6), 'where 0.1 GMACs are allowed')])
def test_a_budget_that_is_too_small_is_named(job, experience, tmp_path, budget, message):
    experience(tmp_path / 'buffer')
    with pytest.raises(BudgetError, match=message):
        ran(job(budget=budget), tmp_path / 'job')


def test_nothing_to_learn_from(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    with pytest.raises(TrainingError, match='replay buffer about frames with tokens of radar'):
        ran(job('radar'), tmp_path / 'job')


def test_a_spec_is_what_was_saved_and_a_damaged_one_is_named(job, tmp_path):
    spec = job(starts=('a', 'b'), beside=('c',), budget=Budget(seconds=3.), teachers=('camera',))
    spec.save(tmp_path / 'job')
    assert JobSpec.load(tmp_path / 'job') == replace(spec)
    for damage in ('', '{', '[]', '{"new": [{}]}', '{"new": [], "colour": 1}'):
        (tmp_path / 'job' / SPEC).write_text(damage)
        with pytest.raises(TrainingError, match=r'spec\.json is not a valid job file'):
            JobSpec.load(tmp_path / 'job')


@pytest.mark.parametrize('name', [name for name in methods() if name != 'mpnp'])
def test_links_of_every_method_are_trained_from_what_was_lived_through(job, experience, tmp_path, name):
    experience(tmp_path / 'buffer')
    spec = job(method=name, starts=(), link={'hidden': 16})
    result = ran(spec, tmp_path / 'job')
    assert result.status == TRAINED, result.message
    assert result.accuracy > .5 or name == 'mpnp_published'  # the published form learns more slowly
    assert read_manifest(result.links['camera']).kind == find_method(name).link.kind


def test_links_of_another_method_are_no_start_and_macs_that_nobody_foresees_no_budget(
        job, experience, camera, tmp_path):
    experience(tmp_path / 'buffer')
    spec = job(method='prompt_fuse', starts=(camera,))
    result = ran(spec, tmp_path / 'job')
    assert read_manifest(result.links['camera']).provenance.adaptation.started_from == ''
    for name in ('prompt_fuse', 'mpnp_published'):
        with pytest.raises(BudgetError, match=f'{name} takes is not foreseen'):
            ran(replace(spec, method=name, budget=Budget(macs=1e9)), tmp_path / name)
