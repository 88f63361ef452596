"""How many attentions a trained model can go without, and what that saves, for docs/benchmarks.md.

    python -m mpnp_ros.bench.skipping --work methods --seed 0

Takes the adapters that bench/methods trained (mma), measures by loss on some questions which attentions it
can go without, and on others by answers how many it recommends, and then answers the test without them, as
they are, untrained: with adapters folded, unfolded, and with all attentions.  Both are questions about the
scenes that were trained on, hardly any of which the training has seen.
"""
from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from mpnp_ros.adaptation.batches import QuestionBook
from mpnp_ros.adaptation.dataset import Example, TokenDataset
from mpnp_ros.adaptation.evaluation import Share
from mpnp_ros.bench.methods_answering import FOLDED, ROUNDS, UNFOLDED, WARM_UP, Answering
from mpnp_ros.bench.methods_data import BenchData
from mpnp_ros.bench.methods_plan import Run
from mpnp_ros.bench.methods_run import LINK
from mpnp_ros.bench.timing import Summary, machine, take_turns
from mpnp_ros.cache import write_file
from mpnp_ros.errors import DatasetError, MpnpError
from mpnp_ros.links.eas import EasConfig, EasLink
from mpnp_ros.links.files import load_link
from mpnp_ros.links.mma import MmaConfig, MmaLink
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.eas import Eas
from mpnp_ros.methods.redundancy import SkipProfile, recommended_count

TRAINED = 'mma'
WHOLE = 'all attentions'


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write skipping.json; gives the exit code."""
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
    """What is recommended, and what comes of it.  Raises DatasetError where nothing was trained."""
    folder = _trained(options.work, options.seed)
    lm, data = load_language_model(Run.load(folder).language_model), BenchData.load(options.work / 'data')
    trained = load_link(folder / LINK, lm=lm)
    drawn = random.Random(options.seed).sample(data.train.examples, options.questions + options.judged)
    profile = _profile(lm, trained, data.train, drawn[:options.questions], options.count)
    judged = _Judged(lm, trained, replace(data.train, examples=tuple(drawn[options.questions:])))
    count = recommended_count(judged, profile, options.tolerance)
    forms = {WHOLE: _method(lm, trained, ()), FOLDED: _method(lm, trained, profile.order[:count]),
             UNFOLDED: _method(lm, trained, profile.order[:count], fold=False)}
    answering = {name: Answering(method, data.test) for name, method in forms.items()}
    seconds = take_turns({name: one.to_new_frame for name, one in answering.items()}, ROUNDS, WARM_UP)
    right = {name: Share(sum(one.right()), len(data.test.examples)) for name, one in answering.items()}
    return {'machine': machine(), 'settings': {'seed': options.seed, 'tolerance': options.tolerance,
                                               'questions': options.questions, 'judged': options.judged},
            'profile': asdict(profile), 'judged': judged.found, 'recommended': count,
            'right': {name: [share.right, share.n] for name, share in right.items()},
            'largest difference of probabilities': _difference(answering[FOLDED], answering[UNFOLDED]),
            'seconds': {name: asdict(Summary.of(times)) for name, times in seconds.items()}}


def _profile(lm: LanguageModel, trained: MmaLink, data: TokenDataset, examples: Sequence[Example],
             count: int) -> SkipProfile:
    """What skipping does to the loss on some questions."""
    method = _method(lm, trained, (), calibration_questions=len(examples))
    book = QuestionBook(method)
    frames = [data.frames[one.frame] for one in examples]
    return method.profile([book[one] for one in examples], frames, count)


class _Judged:
    """Which questions are answered rightly with some blocks skipped.  found: [blocks skipped, right, of]."""

    def __init__(self, lm: LanguageModel, trained: MmaLink, questions: TokenDataset) -> None:
        self._lm, self._trained, self._questions = lm, trained, questions
        self.found: list[tuple[int, int, int]] = []

    def __call__(self, skipped: frozenset[int]) -> torch.Tensor:
        right = Answering(_method(self._lm, self._trained, sorted(skipped)), self._questions).right()
        self.found.append((len(skipped), sum(right), len(right)))
        return torch.tensor(right)


def _method(lm: LanguageModel, trained: MmaLink, skip: Sequence[int], **options: Any) -> Eas:
    """The method with adapters as trained, but for some blocks, which go without attention."""
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


def _difference(folded: Answering, unfolded: Answering) -> float:
    return max(abs(one - other) for (_, ours), (_, its) in zip(folded.replies, unfolded.replies, strict=True)
               for one, other in zip(ours, its, strict=True))


def _trained(work: Path, seed: int) -> Path:
    for folder in sorted((work / 'runs').glob(f'{TRAINED}-{seed}-*')):
        if (folder / LINK).is_dir():
            return folder
    raise DatasetError(f'{work} has no {TRAINED} of seed {seed}; run bench.methods --methods {TRAINED} first')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work', type=Path, required=True, help='that of bench.methods')
    parser.add_argument('--output', type=Path, default=Path('docs'), help='where skipping.json goes')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=6, help='attentions that are tried')
    parser.add_argument('--questions', type=int, default=48, help='that blocks are chosen by')
    parser.add_argument('--judged', type=int, default=600, help='other questions, that recommend how many')
    parser.add_argument('--tolerance', type=float, default=.01, help='share of answers that may be lost')
    return parser


if __name__ == '__main__':
    sys.exit(main())
