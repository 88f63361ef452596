"""What training costs: the formula against torch's counter, and plans that budgets allow."""
from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import BudgetError, ConfigurationError
from mpnp_ros.llm.cost import head_macs, macs
from mpnp_ros.llm.families import ModelShape
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.questions import AnsweredQuestion
from mpnp_ros.methods.registry import create_method, find_method
from mpnp_ros.training import cost_model
from mpnp_ros.training.budget import Budget, format_amount, measure_macs
from mpnp_ros.training.cost_model import Aim, CostModel, Speed, TimedStep, fit_rates, machine_key
from mpnp_ros.training.dataset import Frame, TokenDataset
from mpnp_ros.training.speedometer import machine_speed, measure_speed
from mpnp_ros.training.workload import Workload

FREE = Speed(0, 0, 0, 0)
SLOW = Speed(.1, .01, 1e-9, 1e-9, 1e-10, 5., 4e8)
SMALL = {'hidden': 16, 'pooling_width': 18, 'pooling_layers': 2, 'pooling_heads': 6, 'entries': 2}

METHOD = find_method('mpnp')
WORK = [(depth, batch * (1e7 + 1e5 * depth), batch * depth * 5e6) for depth in (3, 15) for batch in (16, 64)]


def linked(lm, names: tuple[str, ...] = ('camera',), **options: object) -> Method:
    """A method with an untrained link for each modality."""
    method = create_method('mpnp', lm)
    for name in names:
        method.plug(method.new_link(name, f'{name}-encoder', 8, **{'last': 2, **SMALL, **options}))
    return method


def costs_of(method: Method, data: TokenDataset, speed: Speed = FREE) -> CostModel:
    """The cost model of a method's links on a data set."""
    links = [link.config for link in method.links().values()]
    return CostModel.for_model(method.lm, method.spec, links, Workload.of(data, method.lm.tokenizer), speed)


def of_one_length(data: TokenDataset) -> TokenDataset:
    """Without questions of another length, which a step would pad."""
    return replace(data, examples=tuple(one for one in data.examples if one.type == 'status'))


def read(method: Method, data: TokenDataset) -> tuple[list[AnsweredQuestion], list[Frame]]:
    """All questions of a data set and the frames they are about."""
    questions = method.prepare_answers([(one.question, one.answer) for one in data.examples],
                                       data.examples[0].choices)
    return questions, [data.frames[one.frame] for one in data.examples]


def counted_step(method: Method, data: TokenDataset) -> int:
    """MACs of one step on all questions, as torch counts them."""
    questions, tokens = read(method, data)
    return measure_macs(lambda: method.answer_losses(questions, tokens).mean().backward())


@pytest.mark.parametrize('options', [
    {}, {'last': 4}, {'reach': 'all', 'last': 3}, {'pooling': 'none'}, {'additive': True},
    {'pooling': 'counting', 'channels': tuple('abcdefgh')}, {'per_block': False}], ids=str)
def test_a_step_costs_what_is_counted(tiny_lm: Callable, toy: Callable, family: str, options: dict) -> None:
    data = of_one_length(toy(16, 1, ('camera', 'lidar')))
    method = linked(tiny_lm(family), ('camera', 'lidar'), **options)
    blocks = len(method.links()['camera'].config.blocks)
    assert costs_of(method, data).step(blocks, 16).macs == pytest.approx(counted_step(method, data), rel=.001)


def test_padding_is_the_only_thing_that_is_not_counted(tiny_lm: Callable, toy: Callable) -> None:
    data, method = toy(16, 1), linked(tiny_lm())
    counted = counted_step(method, data)
    assert .8 * counted < costs_of(method, data).step(2, len(data.examples)).macs < counted


def test_links_on_learned_constants_cost_what_is_counted(tiny_lm: Callable, toy: Callable) -> None:
    data, method = of_one_length(toy(16, 1)), create_method('mpnp', tiny_lm())
    blind = LinkConfig.blind(method.lm, 8, 5, last=2, **SMALL)
    method.plug(LatentLink(blind))
    assert costs_of(method, data).step(2, 16).macs == pytest.approx(counted_step(method, data), rel=.001)


@pytest.mark.parametrize('reach', ['answer', 'all'])
def test_texts_are_read_once(tiny_lm: Callable, toy: Callable, reach: str) -> None:
    data, method = of_one_length(toy(16, 1)), linked(tiny_lm(), reach=reach)
    first = replace(data, examples=data.examples[:1])
    assert costs_of(method, data).reading(2) == measure_macs(lambda: read(method, first))


def test_answers_cost_what_is_counted(tiny_lm: Callable, toy: Callable) -> None:
    data, method = of_one_length(toy(16, 1)), linked(tiny_lm())
    example = data.examples[0]
    asked = method.prepare(example.question, example.choices)
    counted = measure_macs(lambda: method.answer(asked, data.frames[example.frame]))
    assert costs_of(method, data).answer(2).macs == pytest.approx(counted, rel=.02)


@pytest.mark.parametrize('options', [{}, {'reach': 'all'}, {'last': 4}, {'pooling': 'none'}], ids=str)
def test_activations_are_about_what_is_held(tiny_lm: Callable, toy: Callable, options: dict) -> None:
    data, method = of_one_length(toy(16, 1)), linked(tiny_lm(), **options)
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    frozen = {one.data_ptr() for one in (*method.lm.model.parameters(), *method.trainable_parameters())}
    questions, tokens = read(method, data)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
        losses = method.answer_losses(questions, tokens)
    count = sum(size for place, size in held.items() if place not in frozen) / len(losses)
    blocks = len(method.links()['camera'].config.blocks)
    assert count / 2 < costs_of(method, data).activations(blocks) < 2 * count


def test_trained_parameters_are_counted(tiny_lm: Callable, toy: Callable) -> None:
    method = linked(tiny_lm(), ('camera', 'lidar'), last=3)
    trained = sum(one.numel() for one in method.trainable_parameters())
    assert costs_of(method, toy(4, 1, ('camera', 'lidar'))).parameters(3) == trained


# Sizes of OPT-1.3B.
OPT = ModelShape(24, 2048, 32, 32, 64, 8192, False, 2048, 50272)


@pytest.mark.parametrize('share', [.2, .3, .4])
def test_blocks_follow_from_the_share_of_a_full_step(share: float) -> None:
    """N(rho) of A.4 with cached encoders and lower blocks, every row of the text seeing the prefix."""
    forward, head, answer = macs(OPT, 0, 24, 76), head_macs(OPT, 76), head_macs(OPT, 3)
    allowed = share * (2 * (forward + head))
    blocks = math.floor(24 * (allowed / 2 - answer) / forward)
    link = LinkConfig('lidar', 'e', 384, 'opt', 'opt', (23,), 32, 64, 2048, pooling='none', reach='all',
                      hidden=1, per_block=False)
    work = Workload(73, 3, 3, 3, 50272, 1, 1, 1, {'lidar': 4})
    model = CostModel(OPT, find_method('mpnp'), [link], work, FREE)
    budget = Budget(macs=model.reading(blocks) + allowed)
    plan = model.plan(budget, Aim(1, 1, 1, most_blocks=24))
    assert abs(plan.linked_blocks - blocks) <= 1 and 1 < blocks < 24


@pytest.fixture(scope='module')
def model(tiny_lm: Callable, toy: Callable) -> CostModel:
    """Of one link on a tiny model, with rates of a machine that is about as slow as its own overhead."""
    return costs_of(linked(tiny_lm(), reach='answer'), toy(16, 1), SLOW)


limits = st.builds(Budget, st.floats(1, 60), st.floats(1e8, 1e11), st.floats(4e8, 5e8))
factors = st.tuples(*[st.floats(1, 4)] * 3)


@given(limits, factors, st.sampled_from([0, 1, 3]))
def test_a_larger_budget_never_gives_a_smaller_plan(model: CostModel, budget: Budget, factors: tuple,
                                                    existing: int) -> None:
    larger = Budget(*(factor * value for factor, value in
                      zip(factors, (budget.seconds, budget.macs, budget.bytes), strict=True)))
    aim = Aim(64, 40, 400, linked_blocks=existing, most_blocks=4, evaluated=100)
    try:
        plan = model.plan(budget, aim)
    except BudgetError:
        return
    assert not budget.too_small_for(plan)
    better = model.plan(larger, aim)
    assert (better.linked_blocks, better.batch, better.steps) >= (plan.linked_blocks, plan.batch, plan.steps)


def test_without_limits_half_of_the_blocks_and_all_steps(model: CostModel) -> None:
    plan = model.plan(Budget(), Aim(most_steps=77))
    assert (plan.linked_blocks, plan.batch, plan.steps) == (2, 64, 77)
    assert plan == model.plan(Budget(plan.seconds, plan.macs, plan.bytes), Aim(most_steps=77))


def test_links_keep_their_blocks_where_that_fits_and_else_have_fewer(model: CostModel) -> None:
    aim = Aim(linked_blocks=3)
    assert model.plan(Budget(), aim).linked_blocks == 3
    fewer = model.plan(Budget(seconds=model.cost(2, 40, 64).seconds), aim)
    assert fewer.linked_blocks == 2 and fewer.steps == 40
    assert re.fullmatch('2 linked blocks, not as many as the links have: 40 steps of 64 questions with 3 '
                        r'linked blocks take [\d.]+ s where [\d.]+ s are allowed', fewer.reason)


def test_memory_that_is_short_makes_batches_smaller_and_steps_more(model: CostModel) -> None:
    plan = model.plan(Budget(bytes=model.bytes(2, 32)), Aim(64, 40, 40))
    assert (plan.linked_blocks, plan.batch, plan.steps) == (2, 32, 80)


@pytest.mark.parametrize('limit', ['seconds', 'macs', 'bytes'])
def test_a_budget_for_nothing_useful_is_refused_with_what_would_fit(model: CostModel, limit: str) -> None:
    needed = getattr(model.cost(1, 160, 16) if limit == 'bytes' else model.cost(1, 40, 64), limit)
    with pytest.raises(BudgetError, match=re.escape(f'take {format_amount(limit, needed)} where')):
        model.plan(Budget(**{limit: needed * .9}))
    enough = Budget(**{limit: needed * 1.001})
    assert not enough.too_small_for(model.plan(enough))


def test_nonsense_is_refused(model: CostModel) -> None:
    with pytest.raises(ConfigurationError, match='5 linked blocks'):
        model.plan(Budget(), Aim(linked_blocks=5))
    for odd in ({'batch': 0}, {'least_steps': 9, 'most_steps': 8}, {'evaluated': -1}):
        with pytest.raises(ConfigurationError):
            Aim(**odd)


def test_rates_are_found_again() -> None:
    true = Speed(.05, .01, 2e-10, 1e-11)
    found = fit_rates([TimedStep(*work, true.step(*work)) for work in WORK])
    assert found == pytest.approx((.05, .01, 2e-10, 1e-11), rel=1e-3)


@given(st.lists(st.floats(1e-4, 100), min_size=4, max_size=4))
def test_whatever_the_clock_says_more_work_never_takes_less_time(seconds: list[float]) -> None:
    rates = fit_rates([TimedStep(*work, took) for work, took in zip(WORK, seconds, strict=True)])
    assert all(rate >= 0 for rate in rates) and any(rates)


def test_a_damaged_or_old_file_is_not_used(tmp_path: Path) -> None:
    path, speed = tmp_path / 'speed.json', Speed(*range(1, 9))
    assert Speed.load(path) is None
    speed.save(path)
    assert Speed.load(path) == Speed.load(path, 7) == speed and Speed.load(path, 8) is None
    for text in (path.read_text()[:20], path.read_text().replace('"schema": 1', '"schema": 0'), '[]',
                 path.read_text().replace('"per_step": 1', '"per_step": -1'), '{"schema": 1, "odd": 2}'):
        path.write_text(text)
        assert Speed.load(path) is None


@pytest.fixture
def link(tiny_lm: Callable) -> LinkConfig:
    """A small link to a tiny model."""
    return LinkConfig.for_model(tiny_lm(), 'lidar', 'lidar-encoder', 8, hidden=16, pooling_width=16,
                                pooling_layers=1, pooling_heads=2)


def test_real_steps_are_measured(tiny_lm: Callable, link: LinkConfig) -> None:
    speed = measure_speed(tiny_lm(), METHOD, link, batch=4)
    assert all(getattr(speed, entry.name) >= 0 for entry in fields(Speed))
    assert speed.step(2, 1e6, 1e6) > 0 and speed.per_reading_mac > 0
    assert speed.startup > 0 and speed.process_bytes > 5e7 and speed.measured <= time.time()


def test_measured_again_only_when_old_or_another(tiny_lm: Callable, link: LinkConfig, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(lm: object, method: object, config: LinkConfig) -> Speed:
        measured.append(config.reach)
        return Speed(1, 1, 1, 1, measured=time.time())

    for _ in range(2):
        machine_speed(tiny_lm(), METHOD, link, tmp_path, measure=measure)
    assert len(measured) == 1
    machine_speed(tiny_lm(), METHOD, link, tmp_path, max_age=-1, measure=measure)
    machine_speed(tiny_lm('opt'), METHOD, link, tmp_path, measure=measure)
    monkeypatch.setattr(cost_model.platform, 'machine', lambda: 'another machine')
    machine_speed(tiny_lm(), METHOD, link, tmp_path, measure=measure)
    assert len(measured) == 4


def test_threads_and_reach_count(tiny_lm: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {machine_key(tiny_lm(), reach) for reach in ('answer', 'all')}
    monkeypatch.setattr(cost_model.torch, 'get_num_threads', lambda: 77)
    assert len(keys | {machine_key(tiny_lm(), 'answer')}) == 3
