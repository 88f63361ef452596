"""Measure the answer times of trained methods, in turn in one process; started by bench.methods.

    python -m bench.methods.answering FOLDER DATA RUN [RUN ...]

Methods that skip attention can fold their adapters into other weights.  Both forms are timed and answer the
whole test.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.common.accuracy import right_answers
from bench.common.jobs import RESULT
from bench.common.timing import Summary, machine, take_turns
from bench.methods.data import BenchData
from bench.methods.plan import Run
from bench.methods.train import LINK
from mpnp_ros.errors import MpnpError
from mpnp_ros.files import write_file
from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import load_link
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.registry import create_method
from mpnp_ros.training.batches import PreparedQuestions
from mpnp_ros.training.dataset import Example, TokenDataset
from mpnp_ros.training.evaluation import replies_of

ROUNDS, WARM_UP = 40, 3
FRAME, QUESTION = 'frame', 'question'
FOLDED, UNFOLDED = 'folded', 'unfolded'


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    folder, data, *runs = map(Path, arguments or sys.argv[1:])
    try:
        result = measure(BenchData.load(data).test, runs)
    except MpnpError as error:
        print(error, file=sys.stderr)
        return 1
    write_file(folder / RESULT, json.dumps(result).encode())
    return 0


def measure(test: TokenDataset, runs: Sequence[Path]) -> dict[str, Any]:
    """Times of every method and form, and the differences between forms."""
    lm = load_language_model(Run.load(runs[0]).language_model)
    answering: dict[tuple[str, str], Answering] = {}
    for folder in runs:
        run = Run.load(folder)
        for form in (FOLDED, UNFOLDED):
            method = create_method(run.method, lm)
            method.plug(load_link(folder / LINK, lm=lm))
            if not hasattr(method, 'fold'):
                answering[run.row, ''] = Answering(method, test)
                break
            method.fold = form == FOLDED
            answering[run.row, form] = Answering(method, test)
    ways = {(*key, way): getattr(method, f'to_new_{way}') for key, method in answering.items()
            for way in (FRAME, QUESTION)}
    seconds = take_turns(ways, ROUNDS, WARM_UP)
    forms = [{'row': row, 'form': form, 'right': method.right() if form else None,
              **{way: asdict(Summary.of(seconds[row, form, way])) for way in (FRAME, QUESTION)}}
             for (row, form), method in answering.items()]
    folding = {row: largest_difference(method, answering[row, UNFOLDED])
               for (row, form), method in answering.items() if form == FOLDED}
    return {'machine': machine(), 'forms': forms, 'folding': folding}


class Answering:
    """Answers single questions of a test with a method, another one each round."""

    def __init__(self, method: Method, test: TokenDataset) -> None:
        self.method, self.test = method, test
        texts = {example.question: example for example in test.examples}
        self.examples: list[Example] = list(texts.values())
        self.frames = [test.frames[key] for key in dict.fromkeys(example.frame for example in test.examples)]
        by_length = sorted(self.examples, key=lambda example: len(example.question))
        middle = by_length[len(by_length) // 2]
        self.known = method.prepare(middle.question, middle.choices)

    def to_new_frame(self, number: int) -> None:
        """Answer a prepared question of median length about a new frame."""
        self.method.answer(self.known, self.frames[number % len(self.frames)])

    def to_new_question(self, number: int) -> None:
        """Answer a new question about a new frame."""
        example = self.examples[number % len(self.examples)]
        frame = self.frames[-1 - number % len(self.frames)]
        self.method.answer(self.method.prepare(example.question, example.choices), frame)

    def right(self) -> list[int]:
        """1 for each question of the test with a right answer, 0 for the others."""
        return right_answers(self.test.examples, [text for text, _ in self.replies])

    @cached_property
    def replies(self) -> list[tuple[str, tuple[float, ...]]]:
        """Answer and probabilities of all questions of the test."""
        replies = replies_of(self.method, self.test.examples, PreparedQuestions(self.method),
                             lambda example: self.test.frames[example.frame])
        # Only what is cancelled has no reply, and nothing is.
        return [(reply.text, reply.probabilities) for reply in replies if reply is not None]


def largest_difference(folded: Answering, unfolded: Answering) -> float:
    """The largest difference between the probabilities of two forms of a method."""
    return max(abs(first - other)
               for (_, ours), (_, others) in zip(folded.replies, unfolded.replies, strict=True)
               for first, other in zip(ours, others, strict=True))


if __name__ == '__main__':
    sys.exit(main())
