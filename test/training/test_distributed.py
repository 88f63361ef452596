"""Two processes that train together do what one does."""
from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mpnp_ros.training.distributed import DistributedContext, joined

RANK = Path(__file__).with_name('rank.py')
SCENARIOS = ('whole', 'stopped', 'resumed', 'single')
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason='this torch has no distributed')


def run_alone(folder: Path, data: Path, lm: Path) -> SimpleNamespace:
    """Run rank.py here; gives what it noted, and the links of every scenario."""
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location('rank', RANK))
    module.__spec__.loader.exec_module(module)
    folder.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            module.main(str(data), str(lm), str(folder))
    finally:
        torch.set_num_threads(threads)
    return results(folder, 1)


def run_together(count: int, folder: Path, data: Path, lm: Path) -> SimpleNamespace:
    """Run it in several processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    folder.mkdir()
    shared = {**os.environ, 'WORLD_SIZE': f'{count}', 'LOCAL_WORLD_SIZE': f'{count}', 'OMP_NUM_THREADS': '1',
              'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': f'{port}'}
    started = [subprocess.Popen([sys.executable, str(RANK), str(data), str(lm), str(folder)],
                                env={**shared, 'RANK': f'{rank}', 'LOCAL_RANK': f'{rank}'},
                                stderr=subprocess.PIPE, text=True) for rank in range(count)]
    try:
        errors = [one.communicate()[1] for one in started]
    finally:
        for one in started:
            one.kill()
    assert not any(one.returncode for one in started), errors
    return results(folder, count)


def results(folder: Path, count: int) -> SimpleNamespace:
    """What was noted by each process, and the links of each scenario and process."""
    noted = [json.loads((folder / f'{rank}.json').read_text()) for rank in range(count)]
    links = {name: [load_file(folder / f'{name}-{rank}.safetensors') for rank in range(count)]
             for name in SCENARIOS}
    return SimpleNamespace(noted=noted, links=links)


@pytest.fixture(scope='module')
def both(tmp_path_factory, toy, tiny_lm_folder) -> tuple[SimpleNamespace, SimpleNamespace]:
    """The same scenarios in one process and in two."""
    folder, names = tmp_path_factory.mktemp('processes'), ('camera', 'lidar')
    (folder / 'data').mkdir()
    toy(10, 1, names).save(folder / 'data/train')
    toy(4, 2, names).save(folder / 'data/validation')
    return (run_alone(folder / 'one', folder / 'data', tiny_lm_folder),
            run_together(2, folder / 'two', folder / 'data', tiny_lm_folder))


@pytest.mark.parametrize('name', SCENARIOS)
def test_links_of_two_processes_equal_those_of_one(both, name):
    (alone,), (first, second) = (run.links[name] for run in both)
    for key, tensor in alone.items():
        # Statistics are of states read in other batches, divided by what little two questions differ.
        torch.testing.assert_close(first[key], tensor, rtol=1e-4 if 'standard' in key else 0, atol=1e-5)
        assert torch.equal(first[key], second[key]), key


def test_links_have_gone_much_further_than_they_may_differ(both):
    """So that the comparison above means something: six steps against none but two of one question."""
    whole, single = (both[0].links[name][0] for name in ('whole', 'single'))
    moved = {key: (tensor - single[key]).abs().max().item() for key, tensor in whole.items()
             if tensor.is_floating_point()}
    assert moved['camera.gate_weights'] > 1e-2
    assert sum(step > 1e-4 for step in moved.values()) > len(moved) / 2


@pytest.mark.parametrize('name', SCENARIOS)
def test_losses_evaluations_and_costs_are_those_of_one_process(both, name):
    (alone,), two = (run.noted for run in both)
    for one in two:
        assert one[name]['stopped'] == alone[name]['stopped']
        assert one[name]['losses'] == pytest.approx(alone[name]['losses'], abs=1e-5)
        assert one[name]['accuracies'] == alone[name]['accuracies']
        assert one[name]['macs'] == pytest.approx(alone[name]['macs'], rel=.2)


def test_all_stop_when_one_is_told_to_and_go_on_as_if_they_had_not(both):
    for one in both[1].noted:
        assert one['stopped']['stopped'] == 'cancelled' and len(one['stopped']['losses']) == 3
        assert one['resumed'] == one['whole']
    whole, resumed = (both[1].links[name][0] for name in ('whole', 'resumed'))
    assert all(torch.equal(tensor, whole[key]) for key, tensor in resumed.items())


def test_nan_in_one_stops_all_with_the_links_as_before(both):
    for one in both[1].noted:
        assert one['error'].startswith('the loss is nan at step 1') and one['as before']


def test_one_process_alone_does_not_join_anything(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    with joined('cpu') as device:
        assert device == 'cpu' and DistributedContext.current() == DistributedContext(0, 1)
    alone, parameter = DistributedContext(), nn.Parameter(torch.ones(2))
    assert alone.is_first and alone.any(True) and not alone.any(False)
    assert alone.total(3.5) == 3.5 and alone.of_first((1., 2.)) == [1., 2.] and alone.share('abc') == 'abc'
    loss = torch.tensor(2.)
    assert alone.add_gradients([parameter], loss) is loss and parameter.grad is None


def test_shares_are_all_of_it_and_of_even_size():
    items = list(range(11))
    shares = [DistributedContext(rank, 4).share(items) for rank in range(4)]
    assert sorted(sum(shares, [])) == items
    assert {len(share) for share in shares} == {2, 3}
