"""Training on a task that only tokens answer: what is learned, stopped, resumed and undone."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpnp_ros.errors import ConfigurationError, TrainingError
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.methods.link_files import load_link, save_link
from mpnp_ros.methods.mpnp.method import Mpnp
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training import batches
from mpnp_ros.training.checkpoint import STATE, TENSORS
from mpnp_ros.training.evaluation import evaluate, majority, sensor_dependence
from mpnp_ros.training.trainer import Trainer, TrainerConfig, train_blind

QUICK = TrainerConfig(steps=150, batch=16, warm_up=5, learning_rate=1e-2)
SHORT = replace(QUICK, steps=12, checkpoint_every=4)


def weights(method) -> dict[str, torch.Tensor]:
    """A copy of all tensors of a method's links."""
    return {f'{name}.{key}': tensor.clone() for name, link in method.links().items()
            for key, tensor in link.state_dict().items()}


def assert_equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope='module')
def trained(toy, toy_method):
    """A method with one link, trained, and its report."""
    method = toy_method()
    return method, Trainer(method, QUICK).fit(toy(32, 1))


def test_learns_what_only_tokens_tell_and_shuffling_undoes_it(trained, toy):
    method, _ = trained
    train, test = toy(32, 1), toy(24, 2)
    found = sensor_dependence(method, test, seed=1)
    blind, _ = train_blind(method, train, replace(QUICK, steps=20))
    floor = evaluate(blind, test)
    assert found.sensors.value > .9
    assert floor.value <= .5
    assert found.shuffled.overall.interval[0] < floor.overall.interval[1] < found.sensors.overall.interval[0]
    assert found.unplugged.value <= .5
    assert majority(train, test).value == .25
    assert found.alone == {'camera': found.sensors}


def test_reports_what_was_measured(trained, toy, toy_method):
    method, report = trained
    assert (report.stopped, report.steps, len(report.losses)) == ('steps', 150, 150)
    assert report.parameters == sum(one.numel() for one in method.trainable_parameters())
    assert report.final_loss < report.losses[0]
    assert report.seconds > 0 and report.seconds_per_step == report.seconds / 150
    assert report.peak_bytes > 50e6
    half = Trainer(toy_method(), replace(QUICK, steps=1, batch=8)).fit(toy(32, 1))
    assert 0 < half.macs_per_step < report.macs_per_step


def test_reloaded_links_answer_the_same(trained, toy, toy_method, tmp_path):
    method, _ = trained
    save_link(method.links()['camera'], tmp_path / '000001')
    fresh, test = toy_method(), toy(8, 3)
    fresh.replace(load_link(tmp_path / '000001', lm=method.lm, encoder='camera-encoder'))
    tokens = [test.frames[example.frame] for example in test.examples]
    answers = [one.answer_batch([one.prepare(e.question, e.choices) for e in test.examples], tokens)
               for one in (method, fresh)]
    assert [reply.probabilities for reply in answers[0]] == [reply.probabilities for reply in answers[1]]


def test_dropout_leaves_every_modality_usable_alone(toy, toy_method):
    method, names = toy_method('camera', 'lidar'), ('camera', 'lidar')
    Trainer(method, replace(QUICK, modality_dropout=1.)).fit(toy(32, 1, names))
    alone = sensor_dependence(method, toy(24, 2, names)).alone
    assert sorted(alone) == ['camera', 'lidar'] and all(one.value > .9 for one in alone.values())


def test_cancel_ends_before_the_next_step(toy, toy_method):
    steps = []
    report = Trainer(toy_method(), SHORT).fit(toy(8, 1), progress=steps.append,
                                              cancelled=lambda: len(steps) == 3)
    assert (report.stopped, report.steps) == ('cancelled', 3)
    assert [(one.step, one.steps, one.loss) for one in steps] == [
        (place + 1, 12, loss) for place, loss in enumerate(report.losses)]


def test_cancel_ends_while_questions_are_read(toy, toy_method, monkeypatch):
    monkeypatch.setattr(batches, 'READ_AT_ONCE', 1)
    method, asked = toy_method(), []
    before = weights(method)
    report = Trainer(method, SHORT).fit(toy(8, 1), cancelled=lambda: asked.append(1) or len(asked) > 1)
    assert (report.stopped, report.steps, len(asked)) == ('cancelled', 0, 2)
    assert_equal(weights(method), before)


def test_an_evaluation_that_was_cancelled_is_made_up_for(toy, toy_method, tmp_path):
    config, data = replace(SHORT, evaluate_every=2), (toy(16, 1), toy(40, 2))
    whole, method, steps, asked = toy_method(), toy_method(), [], []

    def cancelled() -> bool:
        asked.append(len(steps) == 4)
        return sum(asked) > 2  # the loop and one batch of the second evaluation have passed

    expected = Trainer(whole, config).fit(*data)
    partly = Trainer(method, config).fit(*data, steps.append, cancelled, tmp_path / 'run')
    assert partly.stopped == 'cancelled' and [step for step, _ in partly.accuracies] == [2]
    again = toy_method()
    assert Trainer(again, config).fit(*data, checkpoint=tmp_path / 'run').accuracies == expected.accuracies
    assert_equal(weights(again), weights(whole))


@pytest.mark.parametrize('stop', [3, 8])
def test_a_resumed_run_equals_an_uninterrupted_one(toy, toy_method, tmp_path, stop):
    names, steps = ('camera', 'lidar'), []
    config = replace(SHORT, evaluate_every=2)
    data = toy(16, 1, names), toy(4, 2, names)
    whole, first, second = (toy_method(*names) for _ in range(3))
    expected = Trainer(whole, config).fit(*data)
    Trainer(first, config).fit(*data, steps.append, lambda: len(steps) == stop, tmp_path / 'run')
    report = Trainer(second, config).fit(*data, checkpoint=tmp_path / 'run')
    assert report.losses == expected.losses and report.accuracies == expected.accuracies
    assert_equal(weights(second), weights(whole))


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_refused(toy, toy_method, tmp_path):
    run, method = tmp_path / 'run', toy_method()
    Trainer(method, SHORT).fit(toy(8, 1), checkpoint=run)
    before = weights(method)
    for config, data in ((replace(SHORT, seed=1), toy(8, 1)), (SHORT, toy(12, 1))):
        with pytest.raises(TrainingError, match='another recipe or other data'):
            Trainer(method, config).fit(data, checkpoint=run)
    (run / TENSORS).write_bytes(b'\x80\x04.')
    with pytest.raises(TrainingError, match='cannot be read'):
        Trainer(method, SHORT).fit(toy(8, 1), checkpoint=run)
    assert_equal(weights(method), before)
    assert json.loads((run / STATE).read_bytes())['step'] == 12


def test_nan_is_an_error_and_the_links_are_as_before(toy, toy_method, monkeypatch):
    method, steps = toy_method(), []
    losses, before = method.answer_losses, weights(method)
    monkeypatch.setattr(method, 'answer_losses', lambda questions, tokens: losses(questions, tokens) * (
        np.nan if len(steps) == 4 else 1.))
    with pytest.raises(TrainingError, match='nan at step 5'):
        Trainer(method, SHORT).fit(toy(8, 1), progress=steps.append)
    assert_equal(weights(method), before)


def test_links_of_a_model_in_bfloat16_learn_in_float32(toy, tiny_model, tiny_tokenizer):
    method = create_method('mpnp', LanguageModel(tiny_model('llama').bfloat16(), tiny_tokenizer, 'half'))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method.plug(method.new_link('camera', 'camera-encoder', 8, last=2, hidden=16, pooling_width=16,
                                    pooling_layers=1, pooling_heads=2, entries=2))
    report = Trainer(method, QUICK).fit(toy(32, 1))
    assert {parameter.dtype for parameter in method.trainable_parameters()} == {torch.float32}
    assert report.macs_per_step > 0
    assert evaluate(method, toy(24, 2)).value > .9


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_links_compute_in_the_number_format_of_their_model(toy, toy_method, monkeypatch, dtype):
    method, formats = toy_method(), set()
    losses = method.answer_losses
    monkeypatch.setattr(type(method.lm), 'dtype', dtype)

    def note(questions, tokens) -> torch.Tensor:
        formats.add(torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else torch.float32)
        monkeypatch.undo()
        return losses(questions, tokens)

    monkeypatch.setattr(method, 'answer_losses', note)
    Trainer(method, replace(SHORT, steps=1)).fit(toy(8, 1))
    assert formats == {dtype}


def test_a_blind_twin_takes_the_questions_that_are_read(toy, toy_method, monkeypatch):
    method, train = toy_method(), toy(8, 1)
    read = Trainer(method, replace(SHORT, steps=1))
    read.fit(train)
    monkeypatch.setattr(Mpnp, 'prepare_answers', None)
    shared, report = train_blind(method, train, SHORT, book=read.book)
    assert report.steps == 12
    assert evaluate(shared, train, read.book).n == len(train.examples)


def test_out_of_memory_leaves_the_links_as_before(toy, toy_method):
    method = toy_method()
    before = weights(method)

    def fail(step) -> None:
        raise torch.OutOfMemoryError('none left')

    with pytest.raises(torch.OutOfMemoryError):
        Trainer(method, SHORT).fit(toy(8, 1), progress=fail)
    assert_equal(weights(method), before)


def test_stops_when_the_loss_is_low_enough(toy, toy_method):
    report = Trainer(toy_method(), replace(QUICK, stop_loss=100.)).fit(toy(8, 1))
    assert (report.stopped, report.steps) == ('loss', 20)


def test_stops_when_validation_does_not_improve_and_keeps_the_best(toy, toy_method):
    method, validation = toy_method(), toy(8, 2)
    config = replace(QUICK, evaluate_every=2, patience=3)
    report = Trainer(method, config).fit(toy(32, 1), validation)
    values = [value for _, value in report.accuracies]
    assert report.stopped == 'patience' and report.steps < 150
    assert max(values[-3:]) <= max(values[:-3])
    assert evaluate(method, validation).value == max(values)


def test_nothing_but_the_links_is_changed(toy, toy_method):
    method = toy_method()
    frozen = {name: tensor.clone() for name, tensor in method.lm.model.state_dict().items()}
    Trainer(method, replace(SHORT, steps=2)).fit(toy(8, 1))
    assert_equal(frozen, dict(method.lm.model.state_dict()))


def test_says_what_is_missing(toy, toy_method, tiny_lm):
    with pytest.raises(TrainingError, match='no questions'):
        Trainer(toy_method(), SHORT).fit(replace(toy(8, 1), examples=()))
    with pytest.raises(TrainingError, match='none of the modalities whose links are trained'):
        Trainer(toy_method('lidar'), SHORT).fit(toy(8, 1))
    method = toy_method()
    method.unplug('camera')
    with pytest.raises(TrainingError, match='no link to train'):
        Trainer(method, SHORT).fit(toy(8, 1))


@pytest.mark.parametrize('wrong', [
    {'steps': 0}, {'batch': 0}, {'learning_rate': 0.}, {'clip': float('nan')}, {'final_rate': 2.},
    {'modality_dropout': -.1}, {'patience': -1}, {'weight_decay': float('inf')}])
def test_a_wrong_recipe_is_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        TrainerConfig(**wrong)


def test_learning_rates_warm_up_and_fall():
    config = TrainerConfig(steps=100, warm_up=10)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(.1) and max(rates) == rates[9] == pytest.approx(.91)
    assert rates[50] == pytest.approx(.5) and rates[99] == .03


def test_trains_one_link_and_leaves_the_other_as_it_was(toy, toy_method):
    method, data = toy_method('camera', 'lidar'), toy(16, 1, ('camera', 'lidar'))
    Trainer(method, replace(SHORT, steps=1)).fit(data)
    before = weights(method)
    report = Trainer(method, replace(SHORT, modality_dropout=1.), trained=['lidar']).fit(data)
    after = weights(method)
    changed = {name.split('.')[0] for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {'lidar'}
    assert report.parameters == sum(one.numel() for one in method.links()['lidar'].parameters())
    assert all(one.requires_grad for one in method.trainable_parameters())
    alone = toy(8, 2, ('camera', 'lidar')).only(['camera'])
    untouched = toy_method('camera')
    untouched.replace(method.links()['camera'])
    tokens = [alone.frames[example.frame] for example in alone.examples]
    replies = [[one.answer(one.prepare(e.question, e.choices), frame).probabilities
                for e, frame in zip(alone.examples, tokens, strict=True)] for one in (method, untouched)]
    assert replies[0] == replies[1]


def test_what_is_trained_must_be_plugged_and_be_seen(toy, toy_method):
    with pytest.raises(TrainingError, match='radar has no plugged link to train'):
        Trainer(toy_method(), SHORT, trained=['radar'])
    with pytest.raises(TrainingError, match='tokens of none of the modalities whose links are trained'):
        Trainer(toy_method('camera', 'lidar'), SHORT, trained=['lidar']).fit(toy(8, 1, ('camera',)))


def test_ends_when_its_seconds_are_over_with_rates_fallen(toy, toy_method):
    config = replace(QUICK, steps=100_000, seconds=.5)
    report = Trainer(toy_method(), config).fit(toy(16, 1))
    assert report.stopped == 'seconds' and report.seconds >= .5
    assert config.rate(50, .25) == pytest.approx(.5) and config.rate(50, .5) == config.final_rate


def test_ends_when_the_answers_are_good_enough(toy, toy_method):
    config = replace(QUICK, steps=2000, evaluate_every=10, stop_accuracy=.6)
    report = Trainer(toy_method(), config).fit(toy(32, 1), toy(16, 2))
    assert report.stopped == 'accuracy' and report.accuracies[-1][1] >= .6
    assert all(value < .6 for _, value in report.accuracies[:-1])


@pytest.mark.parametrize('part, changed', [
    ('trust', {'worth.trust', 'worth.presence'}),
    ('worth', {'worth.trust', 'worth.presence', 'worth.confusion', 'worth.missed'}),
    ('aligners', {'key_aligner', 'value_aligner'})])
def test_only_a_part_of_links_that_count_is_trained(toy, tiny_lm, part, changed):
    """Beside the gates.  Two sensors count by one reader, so that there is somebody to be trusted or not."""
    method = create_method('mpnp', tiny_lm())
    torch.manual_seed(0)
    camera, lidar = (method.new_link(name, f'{name}-encoder', 8, last=2, pooling='counting', hidden=16,
                                     channels=tuple('abcdefgh'), pooling_width=16, pooling_heads=2)
                     for name in ('camera', 'lidar'))
    lidar.start_from(camera)
    for link in (camera, lidar):
        method.plug(link)
    before = {name: tensor.clone() for name, tensor in lidar.state_dict().items()}
    train = toy(16, 0, ('camera', 'lidar'))
    Trainer(method, TrainerConfig(steps=3, batch=16, warm_up=1, part=part, modality_dropout=0.)).fit(train)
    learned = {name for name, tensor in lidar.state_dict().items() if not torch.equal(tensor, before[name])
               and 'standard' not in name and name != 'gate_weights'}
    assert {name if name.startswith('worth') else name.split('.')[0] for name in learned} == changed
