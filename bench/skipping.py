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
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from bench.methods.answering import FOLDED, ROUNDS, UNFOLDED, WARM_UP, Answering
from bench.methods.data import BenchData
from bench.methods.plan import Run
from bench.methods.run import LINK
from bench.timing import Summary, machine, take_turns
from mpnp_ros.errors import DatasetError, MpnpError
from mpnp_ros.files import write_file
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.eas.method import Eas, EasConfig, EasLink
from mpnp_ros.methods.eas.redundancy import SkipProfile, recommended_count
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.mma import MmaConfig, MmaLink
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import Share

TRAINED = 'mma'
WHOLE = 'all attentions'
FEW = 60
"""Number of questions answered in float32."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write skipping.json; returns the exit code."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        result = measure(options)
    except MpnpError as error:
        print(f'skipping: {error}', file=sys.stderr)
        return 1
    write_file(options.output / 'skipping.json', (json.dumps(result, indent=1) + '\n').encode())
    print(json.dumps(result, indent=1))
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The recommended number and its results.  Raises DatasetError if there are no trained adapters."""
    folder = _trained(options.work, options.seed)
    lm, data = load_language_model(Run.load(folder).language_model), BenchData.load(options.work / 'data')
    trained = load_link(folder / LINK, lm=lm)
    drawn = random.Random(options.seed).sample(data.train.examples, options.questions + options.judged)
    profile = _profile(lm, trained, data.train, drawn[:options.questions], options.count)
    judged = _Judged(lm, trained, replace(data.train, examples=tuple(drawn[options.questions:])))
    count = recommended_count(judged, profile, options.tolerance)
    answering = {WHOLE: Answering(_method(lm, trained, ()), data.test),
                 **_forms(lm, trained, profile.first(count), data.test)}
    seconds = take_turns({name: method.to_new_frame for name, method in answering.items()}, ROUNDS, WARM_UP)
    moved = {str(lm.dtype): _difference(answering),
             str(torch.float32): _exact(folder, data.test, profile.first(count))}
    right = {name: Share(sum(method.right()), len(data.test.examples)) for name, method in answering.items()}
    return {'machine': machine(), 'settings': {'seed': options.seed, 'tolerance': options.tolerance,
                                               'questions': options.questions, 'judged': options.judged},
            'profile': asdict(profile), 'judged': judged.found, 'recommended': count,
            'right': {name: [share.right, share.n] for name, share in right.items()},
            'largest difference of probabilities': moved,
            'seconds': {name: asdict(Summary.of(times)) for name, times in seconds.items()}}


def _profile(lm: LanguageModel, trained: MmaLink, data: TokenDataset, examples: Sequence[Example],
             count: int) -> SkipProfile:
    """The effect of skipping each attention on the answers to some questions."""
    method = _method(lm, trained, (), calibration_questions=len(examples))
    book = PreparedQuestions(method)
    frames = [data.frames[example.frame] for example in examples]
    return method.profile([book[example] for example in examples], frames, count)


class _Judged:
    """The probabilities of true answers with some attentions skipped.

    found: number of blocks, mean probability of true answers, right answers and questions, per call.
    """

    def __init__(self, lm: LanguageModel, trained: MmaLink, questions: TokenDataset) -> None:
        self._lm, self._trained, self._questions = lm, trained, questions
        self.found: list[tuple[int, float, int, int]] = []

    def __call__(self, skipped: frozenset[int]) -> torch.Tensor:
        answering = Answering(_method(self._lm, self._trained, sorted(skipped)), self._questions)
        truth = torch.tensor([probabilities[example.choices.index(example.answer)]
                              for (_, probabilities), example in
                              zip(answering.replies, self._questions.examples, strict=True)])
        self.found.append((len(skipped), float(truth.mean()), sum(answering.right()), len(truth)))
        return truth


def _method(lm: LanguageModel, trained: MmaLink, skip: Sequence[int], **options: Any) -> Eas:
    """The method with trained adapters, without attention in the blocks `skip`."""
    known = {entry.name: getattr(trained.config, entry.name) for entry in fields(MmaConfig)}
    link = EasLink(EasConfig(**known, skipped=len(skip)))
    tensors = link.state_dict()
    link.load_state_dict({name: trained.state_dict().get(name, tensor) for name, tensor in tensors.items()
                          if not name.startswith('shared.adapters')}, strict=False)
    link.shared.choose(skip)
    kept = [place for place, block in enumerate(trained.config.blocks) if block not in skip]
    for own, place in zip(link.shared.adapters, kept, strict=True):
        own.load_state_dict(trained.shared.adapters[place].state_dict())
    method = Eas(lm, **options)
    method.plug(link)
    return method


def _forms(lm: LanguageModel, trained: MmaLink, skip: Collection[int],
           test: TokenDataset) -> dict[str, Answering]:
    """The method without some attentions, folded and unfolded."""
    return {form: Answering(_method(lm, trained, sorted(skip), fold=form == FOLDED), test)
            for form in (FOLDED, UNFOLDED)}


def _exact(folder: Path, test: TokenDataset, skip: Collection[int]) -> float:
    """The largest change of probabilities by folding in float32, on a few questions."""
    lm = load_language_model(Run.load(folder).language_model, dtype='float32')
    few = replace(test, examples=test.examples[::max(1, len(test.examples) // FEW)])
    return _difference(_forms(lm, load_link(folder / LINK, lm=lm), skip, few))


def _difference(forms: Mapping[str, Answering]) -> float:
    return max(abs(first - other) for (_, ours), (_, its) in zip(
                   forms[FOLDED].replies, forms[UNFOLDED].replies, strict=True)
               for first, other in zip(ours, its, strict=True))


def _trained(work: Path, seed: int) -> Path:
    for folder in sorted((work / 'runs').glob(f'{TRAINED}-{seed}-*')):
        if (folder / LINK).is_dir():
            return folder
    raise DatasetError(f'{work} has no {TRAINED} of seed {seed}; run bench.methods --methods {TRAINED} first')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, required=True, help='work folder of bench.methods')
    parser.add_argument('--output', type=Path, default=Path('docs/results'), help='folder for skipping.json')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=6, help='number of attentions to try')
    parser.add_argument('--questions', type=int, default=48, help='questions used to choose blocks')
    parser.add_argument('--judged', type=int, default=600,
                        help='held-out questions used to choose the number of skipped attentions')
    parser.add_argument('--tolerance', type=float, default=.01, help='allowed loss of probability')
    return parser


if __name__ == '__main__':
    sys.exit(main())
