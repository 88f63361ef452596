"""A job in processes of its own: watched, killed, cancelled, begun again, given up."""
from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpnp_ros.adaptation.job import CANCELLED, FAILED, RESULT, SPEC, TRAINED, JobProgress, JobResult
from mpnp_ros.adaptation.job_prepare import read
from mpnp_ros.adaptation.job_process import JobProcess
from mpnp_ros.adaptation.job_train import train
from mpnp_ros.methods.link_files import load_link, read_manifest
from mpnp_ros.training.budget import Budget

PATIENCE = 120.


class Watched:
    """A job's processes and what they have said; calls back at a training step."""

    def __init__(self, folder: Path, at: int = 0, then: Callable[[JobProcess], None] = id) -> None:
        self.said: list[JobProgress] = []
        self.niceness: set[int] = set()
        self._at, self._then = at, then
        self.process = JobProcess(folder, self._heard)

    def result(self) -> JobResult:
        """Of the job, when it has ended."""
        return self.process.future.result(PATIENCE)

    @property
    def steps(self) -> list[int]:
        """Those of training, in the order in which they came."""
        return [one.step for one in self.said if one.stage == 'training']

    def _heard(self, progress: JobProgress) -> None:
        self.said.append(progress)
        self.niceness.add(os.getpriority(os.PRIO_PROCESS, self.process.pid))
        if progress.stage == 'training' and progress.step == self._at:
            self._at = 0
            self._then(self.process)


def assert_same(one: JobResult, other: JobResult) -> None:
    """The same accuracy from the same links, to the last bit."""
    assert one.accuracy == other.accuracy
    first, second = (load_link(result.links['camera']).state_dict() for result in (one, other))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture
def undisturbed(job, experience, tmp_path) -> JobResult:
    """What the job gives in one go, with a buffer for it to be repeated on."""
    experience(tmp_path / 'buffer')
    job().save(tmp_path / 'undisturbed')
    read(tmp_path / 'undisturbed', lambda progress: None, lambda: False)
    return train(tmp_path / 'undisturbed', lambda progress: None, lambda: False)


@pytest.mark.timeout(300)
def test_a_training_that_is_killed_goes_on_and_ends_the_same(job, undisturbed, tmp_path):
    spec = job()
    spec.save(tmp_path / 'job')
    watched = Watched(tmp_path / 'job', 13, lambda process: os.kill(process.pid, signal.SIGKILL))
    result = watched.result()
    assert result.status == TRAINED
    assert_same(result, undisturbed)
    assert watched.steps[-31:] == [*range(11, 41), 40], 'on from step 10; the last report has the result'
    assert watched.steps[:13] == list(range(1, 14))
    assert watched.process.pid is None
    assert watched.niceness == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + spec.niceness)}
    assert JobResult.load(tmp_path / 'job') == result
    adapted = read_manifest(result.links['camera']).provenance.adaptation
    assert (adapted.accuracy_after, adapted.questions) == (result.accuracy, result.questions)
    assert JobProcess(tmp_path / 'job', watched.said.append).future.result(PATIENCE) == result


@pytest.mark.timeout(300)
def test_a_cancelled_job_ends_within_a_step_and_goes_on_later(job, undisturbed, tmp_path):
    job().save(tmp_path / 'job')
    watched = Watched(tmp_path / 'job', 13, JobProcess.cancel)
    result = watched.result()
    assert (result.status, result.links) == (CANCELLED, {})
    assert 13 <= watched.steps[-1] <= 16, 'a step, and those that had been taken before it was told'
    assert not (tmp_path / 'job' / RESULT).exists()
    went_on = Watched(tmp_path / 'job')
    assert_same(went_on.result(), undisturbed)
    assert went_on.steps == [*range(watched.steps[-1] + 1, 41), 40], 'the last report has the result'


@pytest.mark.timeout(300)
@pytest.mark.parametrize(('budget', 'message'), [
    (Budget(seconds=.001), 'BudgetError: no training fits'), (Budget(bytes=1e8), 'raise')])
def test_a_budget_that_nothing_fits_fails_and_says_so(job, experience, tmp_path, budget, message):
    experience(tmp_path / 'buffer')
    job(budget=budget).save(tmp_path / 'job')
    result = Watched(tmp_path / 'job').result()
    assert (result.status, result.links) == (FAILED, {})
    assert message in result.message
    assert JobResult.load(tmp_path / 'job') == result, 'nobody tries that again'


def test_a_damaged_spec_fails_and_is_named(job, tmp_path):
    job().save(tmp_path / 'job')
    (tmp_path / 'job' / SPEC).write_text('{')
    result = Watched(tmp_path / 'job').result()
    assert result.status == FAILED
    assert result.message.startswith('TrainingError')
    assert 'spec.json is not a valid job file' in result.message


def test_a_job_that_is_closed_leaves_no_process(job, experience, tmp_path):
    experience(tmp_path / 'buffer')
    job(training=replace(job().training, steps=100_000)).save(tmp_path / 'job')
    process = JobProcess(tmp_path / 'job', lambda progress: None)
    while process.pid is None:
        pass
    pid = process.pid
    process.close()
    assert process.pid is None
    assert not Path(f'/proc/{pid}').exists()
    assert process.future.result(0).status == CANCELLED


def test_progress_survives_a_line_and_anything_else_is_refused():
    said = JobProgress('training', 3, 40, 1.5, offers={'camera': '/store/camera/000001'}, accuracy=.5,
                       start_accuracy=.25, remaining=3.)
    assert JobProgress.from_line(said.to_line()) == said
    for line in ('', 'Traceback', '[]', '3', '{"step": 3}'):
        with pytest.raises(ValueError, match=''):
            JobProgress.from_line(line)
