"""A clock that obeys, tokens, links and a method that says what it was given."""
from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest

from mpnp_ros.errors import LinksError
from mpnp_ros.llm.generation import Fragment
from mpnp_ros.llm.language_model import check_interruption
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.link import LatentLink
from mpnp_ros.methods.questions import Reply
from mpnp_ros.serving.answer_server import AnswerServer
from mpnp_ros.serving.link_versions import LinkVersion
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.modality_state import WatchLimits
from mpnp_ros.tokens import ModalityTokens

SECOND = 1_000_000_000
START = 100 * SECOND


class FakeClock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class FakeMethod:
    """A method whose answers are its inputs: question, modalities with their first value, link versions.

    Like a real one it refuses tokens that do not fit its links, and it computes on one thread only.
    gate: cleared, it makes the method wait, so that tests decide when an answer is made.
    failures: raised by the next answers, one each, and by any pass over several.  together: the numbers of
    questions of passes over several.  deaf: modalities whose links are closed.  silent: those whose links
    cannot answer the questions.
    """

    name = 'fake'

    def __init__(self) -> None:
        self.plugged: dict[str, LatentLink] = {}
        self.threads: set[int] = set()
        self.failures: list[Exception] = []
        self.deaf: set[str] = set()
        self.silent: set[str] = set()
        self.together: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)

    def prepare(self, question: str, choices: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        return question, tuple(choices)

    def answering(self, prepared: tuple, tokens: Mapping[str, ModalityTokens]) -> tuple[str, ...]:
        return tuple(sorted(set(tokens) - self.silent))

    def answer(self, prepared: tuple, tokens: Mapping[str, ModalityTokens],
               influence: bool = False) -> Reply:
        self._compute(tokens)
        return self._reply(prepared, tokens)

    def _reply(self, prepared: tuple, tokens: Mapping[str, ModalityTokens]) -> Reply:
        choices = prepared[1]
        weights = np.arange(1, len(choices) + 1) / sum(range(1, len(choices) + 1))
        return Reply(choices[-1], float(weights[-1]), tuple(weights.tolist()), tuple(tokens), 0.)

    def answer_each(self, prepared: Sequence[tuple], tokens: Sequence[Mapping[str, ModalityTokens]],
                    ) -> list[Reply]:
        if self.failures:
            raise RuntimeError('one of them fails')
        self.together.append(len(prepared))
        self._compute(tokens[0])
        return [self._reply(one, frame) for one, frame in zip(prepared, tokens, strict=True)]

    def stream(self, prepared: tuple, tokens: Mapping[str, ModalityTokens],
               max_new_tokens: int) -> Iterator[Fragment]:
        words = [prepared[0], *(f'{name}:{entry.values[0, 0]:g}:{self.plugged[name].version}'
                                for name, entry in sorted(tokens.items()))]
        for word in [*words, *['on'] * max_new_tokens][:max_new_tokens]:
            self._compute(tokens)
            yield Fragment(f' {word}', .5)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.plugged) - self.deaf))

    def links(self) -> Mapping[str, LatentLink]:
        return dict(self.plugged)

    def replace(self, link: LatentLink) -> None:
        if link.version == 'refused':
            raise LinksError('these links do not fit')
        self.plugged[link.config.modality] = link

    def _compute(self, tokens: Mapping[str, ModalityTokens]) -> None:
        self.threads.add(threading.get_ident())
        self.begun.release()
        assert self.gate.wait(10)
        check_interruption()
        for name, entry in tokens.items():
            assert entry.encoder == self.plugged[name].config.encoder
            assert entry.width == self.plugged[name].config.token_width
        if self.failures:
            raise self.failures.pop(0)


def make_link(modality: str, version: str = 'v1', encoder: str = 'e1', width: int = 4) -> LatentLink:
    """A real link, small."""
    config = LinkConfig(modality=modality, encoder=encoder, token_width=width, base_model='m',
                        base_model_name='m', blocks=(1,), kv_heads=1, head_dim=2, text_width=4, hidden=4)
    link = LatentLink(config)
    link.version = version
    return link


def make_tokens(modality: str, value: float = 1., encoder: str = 'e1', width: int = 4, count: int = 3,
                stamp_ns: int = START, **more: object) -> ModalityTokens:
    """Tokens that all hold `value`."""
    return ModalityTokens(modality, encoder, np.full((count, width), value, np.float32),
                          **{'azimuth': np.zeros(count, np.float32), 'stamp_ns': stamp_ns, **more})


class Bench:
    """A server on a fake method with its board and clock; `delivered` holds every answer it has given out.

    It says what the text suggests where no sensor can be used.
    """

    def __init__(self, **options: object) -> None:
        options = {'without_sensors': lambda: True, **options}
        self.clock = FakeClock()
        self.method = FakeMethod()
        self.board = ModalityBoard(self.clock, ('camera', 'lidar'), WatchLimits(stale_after=1.),
                                   self.clock)
        self.delivered: list = []
        self.files: dict[str, LatentLink] = {}
        self.server = AnswerServer(self.method, self.board, deliver=self.delivered.append,
                                   read_links=self._read_links, **options)

    def plug(self, modality: str, **options: object) -> None:
        self.server.install(LinkVersion(make_link(modality, **options))).result(5)

    def offer(self, modality: str, value: float = 1., **options: object) -> bool:
        return self.server.offer(make_tokens(modality, value, **{'stamp_ns': self.clock.now, **options}))

    def _read_links(self, path: str, sha256: str) -> LinkVersion:
        if path not in self.files:
            raise LinksError(f'{path} cannot be read')
        return LinkVersion(self.files[path], path, sha256)


@pytest.fixture
def make_bench() -> Iterator:
    """Makes benches with options of the server; closed at the end of the test."""
    benches: list[Bench] = []

    def make(**options: object) -> Bench:
        benches.append(Bench(**options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.method.gate.set()
        bench.server.close()


@pytest.fixture
def bench(make_bench) -> Bench:
    """A server with the default options."""
    return make_bench()


@pytest.fixture(scope='session')
def tokens():
    """Makes tokens that all hold one value."""
    return make_tokens


@pytest.fixture(scope='session')
def link():
    """Makes small real links."""
    return make_link


@pytest.fixture(scope='session')
def make_clock() -> type[FakeClock]:
    """Makes clocks that stand still."""
    return FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture(scope='session')
def bench_type() -> type[Bench]:
    """For property tests, which close theirs themselves."""
    return Bench
