"""One of several processes that train together; test_processes.py starts it, as torchrun would.

Arguments: folder with the data, folder of the language model, folder for what comes out.
"""
from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from mpnp_ros.errors import TrainingError
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.checkpoint import link_tensors
from mpnp_ros.training.dataset import TokenDataset
from mpnp_ros.training.distributed import DistributedContext, joined
from mpnp_ros.training.trainer import Trainer, TrainerConfig

# Adam turns the rounding of a gradient that is about zero into a step: at small rates these stay small.
CONFIG = TrainerConfig(steps=6, batch=7, warm_up=2, learning_rate=1e-4, evaluate_every=2, checkpoint_every=2)
LINK = {'last': 2, 'hidden': 16, 'pooling_width': 16, 'pooling_layers': 1, 'pooling_heads': 2, 'entries': 2}


class Rank:
    """What every process does: the same calls in the same order."""

    def __init__(self, data: Path, lm: Path, output: Path) -> None:
        self.lm, self.output = load_language_model(str(lm), 'cpu'), output
        self.train, self.validation = (TokenDataset.load(data / name) for name in ('train', 'validation'))
        self.processes = DistributedContext.current()

    def method(self, seed: int = 0) -> Method:
        """Untrained links to two modalities."""
        method = create_method('mpnp', self.lm)
        torch.manual_seed(seed)
        for name in self.train.modalities:
            method.plug(method.new_link(name, f'{name}-encoder', 8, **LINK))
        return method

    def whole(self) -> dict:
        """Six steps with evaluations; links that differ at first become those of the first process."""
        method = self.method(self.processes.rank)
        report = Trainer(method, CONFIG).fit(self.train, self.validation)
        return self.noted('whole', method, report)

    def stopped(self) -> dict:
        """The last process alone is told to stop after three steps; then the run goes on."""
        method, steps = self.method(), []
        is_last, folder = self.processes.rank == self.processes.count - 1, self.output / 'checkpoint'
        report = Trainer(method, CONFIG).fit(self.train, self.validation, steps.append,
                                             lambda: is_last and len(steps) == 3, folder)
        first = self.noted('stopped', method, report)
        method = self.method()
        report = Trainer(method, CONFIG).fit(self.train, self.validation, checkpoint=folder)
        return first | self.noted('resumed', method, report)

    def failed(self) -> dict:
        """The loss is NaN in the last process alone."""
        method = self.method()
        before, losses = link_tensors(method.links()), method.answer_losses
        if self.processes.rank == self.processes.count - 1:
            method.answer_losses = lambda questions, tokens: losses(questions, tokens) * torch.nan
        try:
            Trainer(method, CONFIG).fit(self.train)
        except TrainingError as error:
            same = all(torch.equal(one, before[name]) for name, one in link_tensors(method.links()).items())
            return {'error': str(error), 'as before': same}
        return {}

    def more_processes_than_questions(self) -> dict:
        """Batches of one question leave a process without any."""
        method = self.method()
        report = Trainer(method, replace(CONFIG, batch=1, steps=2)).fit(self.train)
        return self.noted('single', method, report)

    def noted(self, name: str, method: Method, report: object) -> dict:
        """Write the links; gives what happened."""
        tensors = {key.replace('/', '.'): one for key, one in link_tensors(method.links()).items()}
        save_file(tensors, self.output / f'{name}-{self.processes.rank}.safetensors')
        return {name: {'stopped': report.stopped, 'losses': report.losses, 'accuracies': report.accuracies,
                       'macs': report.macs_per_step}}


def main(data: str, lm: str, output: str) -> None:
    """Go through all scenarios and write what happened."""
    with joined('cpu'):
        rank = Rank(Path(data), Path(lm), Path(output))
        noted = rank.whole() | rank.stopped() | rank.failed() | rank.more_processes_than_questions()
        (rank.output / f'{rank.processes.rank}.json').write_text(json.dumps(noted))


if __name__ == '__main__':
    main(*sys.argv[1:])
