"""Measure how many attentions a trained model can skip and the saved time, for docs/lab/benchmarks.md.

    python -m bench.skipping --work methods --seed 0

It uses the adapters that bench.methods trained (mma).  Some questions choose the attentions to skip, others
the recommended number.  The test is then answered with the skipped attentions, without further training: with
folded adapters, unfolded adapters, and all attentions.  The questions are about training scenes; few of them
were used in training.
"""
from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from bench.common.page import RESULTS
from bench.common.program import exit_code, program_parser
from bench.common.timing import Summary, machine, take_turns
from bench.methods.answering import FOLDED, ROUNDS, UNFOLDED, WARM_UP, Answering, largest_difference
from bench.methods.data import BenchData
from bench.methods.plan import Run
from bench.methods.train import LINK
from mpnp_ros.errors import DatasetError
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.eas.method import Eas, EasConfig, EasLink
from mpnp_ros.methods.eas.redundancy import recommended_count
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.mma import MmaConfig, MmaLink
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import TokenDataset

TRAINED = 'mma'
WHOLE = 'all attentions'
FEW = 60
"""Number of questions answered in float32."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write skipping.json; returns the exit code."""
    parser = program_parser('skipping', __doc__)
    parser.add_argument('--work', type=Path, required=True, help='work folder of bench.methods')
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder for skipping.json')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=6, help='number of attentions to try')
    parser.add_argument('--questions', type=int, default=48, help='questions used to choose blocks')
    parser.add_argument('--judged', type=int, default=600,
                        help='held-out questions used to choose the number of skipped attentions')
    parser.add_argument('--tolerance', type=float, default=.01, help='allowed loss of probability')
    options = parser.parse_args(arguments)

    def run() -> None:
        torch.set_num_threads(1)
        text = json.dumps(measure(options), indent=1)
        write_file(options.output / 'skipping.json', (text + '\n').encode())
        print(text)

    return exit_code('skipping', run)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The recommended number and its results.  Raises DatasetError if there are no trained adapters."""
    folders = sorted((options.work / 'runs').glob(f'{TRAINED}-{options.seed}-*'))
    folder = next((folder for folder in folders if (folder / LINK).is_dir()), None)
    if folder is None:
        raise DatasetError(f'{options.work} has no {TRAINED} of seed {options.seed}; '
                           f'run bench.methods --methods {TRAINED} first')
    lm, data = load_language_model(Run.load(folder).language_model), BenchData.load(options.work / 'data')
    trained = load_link(folder / LINK, lm=lm)
    drawn = random.Random(options.seed).sample(data.train.examples, options.questions + options.judged)
    choosing, judging = drawn[:options.questions], drawn[options.questions:]
    method = skipping_method(lm, trained, (), calibration_questions=len(choosing))
    book = PreparedQuestions(method)
    profile = method.profile([book[example] for example in choosing],
                             [data.train.frames[example.frame] for example in choosing], options.count)
    judged = _Judged(lm, trained, replace(data.train, examples=tuple(judging)))
    count = recommended_count(judged, profile, options.tolerance)
    skip = profile.first(count)
    answering = {WHOLE: Answering(skipping_method(lm, trained, ()), data.test),
                 **forms(lm, trained, skip, data.test)}
    seconds = take_turns({name: method.to_new_frame for name, method in answering.items()}, ROUNDS, WARM_UP)
    # In float32 the effect of folding itself, on a few questions.
    exact = load_language_model(Run.load(folder).language_model, dtype='float32')
    few = replace(data.test, examples=data.test.examples[::max(1, len(data.test.examples) // FEW)])
    in_float32 = forms(exact, load_link(folder / LINK, lm=exact), skip, few)
    moved = {str(lm.dtype): largest_difference(answering[FOLDED], answering[UNFOLDED]),
             str(torch.float32): largest_difference(in_float32[FOLDED], in_float32[UNFOLDED])}
    return {'machine': machine(), 'settings': {'seed': options.seed, 'tolerance': options.tolerance,
                                               'questions': options.questions, 'judged': options.judged},
            'profile': asdict(profile), 'judged': judged.found, 'recommended': count,
            'right': {name: [sum(method.right()), len(data.test.examples)]
                      for name, method in answering.items()},
            'largest difference of probabilities': moved,
            'seconds': {name: asdict(Summary.of(times)) for name, times in seconds.items()}}


class _Judged:
    """The probabilities of true answers with some attentions skipped.

    found: number of blocks, mean probability of true answers, right answers and questions, per call.
    """

    def __init__(self, lm: LanguageModel, trained: MmaLink, questions: TokenDataset) -> None:
        self._lm, self._trained, self._questions = lm, trained, questions
        self.found: list[tuple[int, float, int, int]] = []

    def __call__(self, skipped: frozenset[int]) -> torch.Tensor:
        answering = Answering(skipping_method(self._lm, self._trained, sorted(skipped)), self._questions)
        truth = torch.tensor([probabilities[example.choices.index(example.answer)]
                              for (_, probabilities), example in
                              zip(answering.replies, self._questions.examples, strict=True)])
        self.found.append((len(skipped), float(truth.mean()), sum(answering.right()), len(truth)))
        return truth


def skipping_method(lm: LanguageModel, trained: MmaLink, skip: Sequence[int], **options: Any) -> Eas:
    """The method with trained adapters, without attention in the blocks `skip`."""
    known = {entry.name: getattr(trained.config, entry.name) for entry in fields(MmaConfig)}
    link = EasLink(EasConfig(**known, skipped=len(skip)))
    tensors = link.state_dict()
    link.load_state_dict({name: trained.state_dict().get(name, tensor) for name, tensor in tensors.items()
                          if not name.startswith('shared.adapters')}, strict=False)
    link.shared.choose(skip)
    kept = [place for place, block in enumerate(trained.config.blocks) if block not in skip]
    shared = trained.shared
    assert shared is not None  # see MmaLink.new_shared
    for own, place in zip(link.shared.adapters, kept, strict=True):
        own.load_state_dict(shared.adapters[place].state_dict())
    method = Eas(lm, **options)
    method.plug(link)
    return method


def forms(lm: LanguageModel, trained: MmaLink, skip: Collection[int],
          test: TokenDataset) -> dict[str, Answering]:
    """The method without some attentions, folded and unfolded."""
    return {form: Answering(skipping_method(lm, trained, sorted(skip), fold=form == FOLDED), test)
            for form in (FOLDED, UNFOLDED)}


if __name__ == '__main__':
    sys.exit(main())
