"""The base class of methods: questions in, answers out, while modalities are plugged and unplugged."""
from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, cast
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import nn

from mpnp_ros.errors import LinksError, QuestionError, UnsupportedModelError
from mpnp_ros.llm import generation
from mpnp_ros.llm.attention import Prefix
from mpnp_ros.llm.choices import ChoiceTrie, answer_tokens
from mpnp_ros.llm.generation import Fragment
from mpnp_ros.llm.language_model import LanguageModel
from mpnp_ros.llm.layout import TextLayout
from mpnp_ros.llm.packed_blocks import PackedBlocks
from mpnp_ros.llm.prepared import (
    ChoiceText,
    PreparedQuestion,
    PromptTemplate,
    QuestionCache,
    open_rows,
    prepare,
    prepare_batch,
)
from mpnp_ros.llm.question_files import QuestionFiles
from mpnp_ros.llm.text_cache import TextCache
from mpnp_ros.methods.connections import Connections
from mpnp_ros.methods.link import Link, QuestionStates, TokenBatch
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.questions import (
    AnsweredQuestion,
    AskedQuestion,
    Evidence,
    Influence,
    QuestionBatch,
    Reply,
    Tokens,
    question_states,
    rows_to_decide,
)
from mpnp_ros.methods.registry import MethodSpec
from mpnp_ros.tokens import ModalityTokens

LOG = logging.getLogger(__name__)
CACHE_BYTES = 256_000_000
BATCHES = 2
"""Bytes for questions as they are laid out for answers, relative to those for prepared questions: float32."""
GENERATED_TOKENS = 32
CALIBRATION_BATCH = 64


class Completion(Protocol):
    """Runs the linked blocks on some questions about their frames."""

    @property
    def lm(self) -> LanguageModel:
        """The model whose final norm and head read the result of :meth:`run`."""

    def run(self, batch: QuestionBatch, texts: torch.Tensor) -> torch.Tensor:
        """Return the last block's output [b, R, d] on some questions; texts: [b] their indices, rising."""

    def begin(self, question: PreparedQuestion) -> tuple[LanguageModel, PreparedQuestion, Prefix | None]:
        """Return what generates the answer to the only question: a model, the text to continue, a prefix."""


@dataclass(frozen=True, eq=False)
class PrefixCompletion:
    """The linked blocks attend to a prefix beside the texts.

    packed: runs them where they are packed already; None: as they are.
    """

    lm: LanguageModel
    prefix: Prefix
    packed: PackedBlocks | None = None

    def run(self, batch: QuestionBatch, texts: torch.Tensor) -> torch.Tensor:
        """See Completion."""
        prefix = {block: part.of_texts(texts) for block, part in self.prefix.items()}
        if self.packed is not None and self.packed.ready(batch.first):
            return self.packed.run(batch, prefix)
        return batch.complete(self.lm, prefix)

    def begin(self, question: PreparedQuestion) -> tuple[LanguageModel, PreparedQuestion, Prefix]:
        """See Completion."""
        return self.lm, question, self.prefix


class Method(ABC):
    """A frozen language model that reads modalities through plugged links.

    The blocks below the lowest link see the question only and are run once per question.  So are the keys and
    values of all rows that links with reach 'answer' do not reach.  A further frame costs the linked blocks
    on the remaining rows, and the head at the deciding positions.

    A subclass runs the linked blocks in :meth:`completion`; all else is here.  Methods are thread-safe: an
    answer rests on the links that are plugged when it begins.

    spec: the registration of the method.  connections_type: class that keeps its plugged links together.
    packed: the upper blocks in the form in which they answer fastest, see :meth:`pack`; None: as they are.
    tells_influence: whether frames whose modalities are closed differ for it, see :meth:`closed`.
    """

    spec: ClassVar[MethodSpec]
    connections_type: ClassVar[type[Connections]] = Connections
    tells_influence: ClassVar[bool] = False
    _connections: Connections

    def __init__(self, lm: LanguageModel, *, template: PromptTemplate | None = None,
                 question_cache_bytes: int = CACHE_BYTES) -> None:
        self.lm = lm
        self.template = template or PromptTemplate()
        self.cache: QuestionCache[PreparedQuestion] = QuestionCache(question_cache_bytes)
        self._batches: QuestionCache[QuestionBatch] = QuestionCache(BATCHES * question_cache_bytes)
        self.packed: PackedBlocks | None = None
        self._connections = self.connections_type(lm)
        self._without: WeakKeyDictionary[PreparedQuestion, tuple[Any, ...]] = WeakKeyDictionary()

    @abstractmethod
    def completion(self, questions: Sequence[PreparedQuestion], tokens: Sequence[Tokens],
                   connections: Any, evidence: Evidence | None = None) -> Completion:
        """Return how to run the linked blocks on questions, each about its own frame.

        connections: the links of this moment, of `connections_type`.  evidence: filled in by methods whose
        links make statements beside the answer.  Gradients lead into the links where they are enabled.
        """

    @property
    def name(self) -> str:
        """The name under which the method is registered."""
        return self.spec.name

    @property
    def first_block(self) -> int:
        """The lowest linked block; the number of blocks where nothing is linked."""
        return self._connections.first_block

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose tokens are read, sorted."""
        return self._connections.modalities

    def pack(self, four_bit: bool = True) -> bool:
        """Answer from packed upper blocks (:mod:`mpnp_ros.llm.packed_blocks`); returns whether it can.

        They are packed on a thread, and until then, or where the model cannot be packed, which is logged, the
        blocks run as they are.  Methods whose linked blocks do not attend to a prefix run them as they are.
        four_bit: as of PackedBlocks.
        """
        try:
            self.packed = PackedBlocks(self.lm, four_bit)
        except UnsupportedModelError as error:
            LOG.info('the upper blocks run as they are: %s', error)
            return False
        self.packed.ready(self.first_block)
        return True

    def prepare(self, question: str, choices: Sequence[str] = ()) -> AskedQuestion:
        """Read a question up to the lowest linked block, once while it is in the question cache."""
        return AskedQuestion(question, tuple(choices),
                             self._prepared(question, tuple(choices), self._connections.snapshot()))

    def answer(self, question: AskedQuestion, tokens: Tokens, influence: bool = False) -> Reply:
        """Answer from the tokens of one frame: the most probable choice, or generated text.

        influence: whether to tell the influence of each modality, by further rows of the same pass: one for
        each of two modalities, two for each of more.  The first answer to a question has a pass more.
        Without choices, and by methods that cannot, it is not told.
        """
        if not question.choices:
            started, connections = time.perf_counter(), self._connections.snapshot()
            fragments = list(self.stream(question, tokens))
            logs = [math.log(max(fragment.probability, 1e-30)) for fragment in fragments]
            return Reply(''.join(fragment.text for fragment in fragments).strip(),
                         math.exp(sum(logs) / len(logs)) if logs else 0., (), _used(connections, tokens),
                         time.perf_counter() - started)
        connections = self._connections.snapshot()
        used = self.answering(question, tokens) if influence and self.tells_influence else ()
        everything = frozenset(used)
        shut = {frozenset([name]) for name in used} | {everything - {name} for name in used}
        rows = sorted(shut - {everything, frozenset()}, key=sorted)
        frames = [tokens, *(self.closed(tokens, row, connections) for row in rows)]
        reply, *others = self._told([question] * len(frames), frames, connections, 1)
        if not used:
            return reply
        guess, text = self._frameless(question, tokens, connections, everything)
        without = {everything: guess, frozenset(): reply.probabilities,
                   **{row: other.probabilities for row, other in zip(rows, others, strict=True)}}
        best = max(range(len(text)), key=text.__getitem__)
        return replace(reply, seconds=reply.seconds * len(frames), influence=Influence(
            {name: total_variation(reply.probabilities, without[frozenset([name])]) for name in used},
            {name: total_variation(without[everything - {name}], guess) for name in used},
            total_variation(reply.probabilities, guess), question.choices[best], text[best]))

    def answer_each(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens]) -> list[Reply]:
        """As `answer`, without influences, for several questions with choices in one pass.

        Raises QuestionError.
        """
        return self._told(questions, tokens, self._connections.snapshot(), len(questions))

    def answering(self, question: AskedQuestion, tokens: Tokens) -> tuple[str, ...]:
        """Return the modalities among the tokens that have a say in the answer, sorted.

        A method may leave out those whose links say that they cannot answer the question.
        """
        return _used(self._connections.snapshot(), tokens)

    def closed(self, tokens: Tokens, names: Set[str], connections: Connections) -> Tokens:
        """Return a frame in which some modalities are closed, see Influence."""
        return {name: frame for name, frame in tokens.items() if name not in names}

    def _frameless(self, question: AskedQuestion, tokens: Tokens, connections: Connections,
                   everything: frozenset[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the probabilities with all modalities closed, and those of the text alone.

        They are the same for all frames, so they are kept with the question while the links stay the same.
        """
        prepared = self._batch([question], connections, True).questions[0]
        made_by = (everything, *((ref(link), link.open_blocks, sum(part._version for part in (
            *link.parameters(), *link.buffers()))) for link in connections.links.values()))
        kept_by, *kept = self._without.get(prepared, (None,))
        if kept_by != made_by:
            frames = [self.closed(tokens, everything, connections), {}]
            kept = [reply.probabilities for reply in self._told([question] * 2, frames, connections, 1)]
            self._without[prepared] = (made_by, *kept)
        return kept[0], kept[1]

    def _told(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens], connections: Connections,
              told: int) -> list[Reply]:
        """Return the replies of :meth:`_answer_batch`, the first `told` of them with their evidence."""
        evidence = Evidence(told=told)
        replies = self._answer_batch(questions, tokens, connections, evidence)
        said = [replace(reply, counted=tuple(counted), answerable=answerable, grounding=tuple(grounding))
                for reply, counted, answerable, grounding in zip(
                    replies, evidence.counted, evidence.answerable, evidence.grounding, strict=False)]
        return [*said, *replies[told:]]

    def answer_batch(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens]) -> list[Reply]:
        """Answer questions with choices in one pass, each from its own frame.  Raises QuestionError."""
        return self._answer_batch(questions, tokens, self._connections.snapshot(), Evidence())

    @torch.no_grad()
    def _answer_batch(self, questions: Sequence[AskedQuestion], tokens: Sequence[Tokens],
                      connections: Connections, evidence: Evidence) -> list[Reply]:
        if not all(question.choices for question in questions):
            raise QuestionError('only questions with choices are answered in a batch; stream the others')
        started = time.perf_counter()
        batch = self._batch(questions, connections, bool(evidence.told))
        completion = self.completion(batch.questions, tokens, connections, evidence)
        hidden = completion.run(batch, torch.arange(len(questions), device=self.lm.device))
        scores = batch.choice_log_probabilities(completion.lm, hidden)
        if evidence.temperature is not None:
            scores = [(row / warmth).log_softmax(-1)
                      for row, warmth in zip(scores, evidence.temperature, strict=True)]
        shares = [tuple(row.exp().tolist()) for row in scores]
        seconds = (time.perf_counter() - started) / len(questions)
        replies = []
        for place, (question, row, frame) in enumerate(zip(batch.questions, shares, tokens, strict=True)):
            best = max(range(len(row)), key=row.__getitem__)
            used = tuple(name for name in _used(connections, frame) if evidence.has_say(name, place))
            replies.append(Reply(question.choice_tree.choices[best], row[best], row, used, seconds))
        return replies

    def stream(self, question: AskedQuestion, tokens: Tokens, max_new_tokens: int = GENERATED_TOKENS,
               cancelled: Callable[[], bool] | None = None) -> Iterator[Fragment]:
        """Generate the answer token by token.  Raises QuestionError for a question with choices."""
        connections = self._connections.snapshot()
        with torch.no_grad():
            batch = self._batch([question], connections)
            begun = self.completion(batch.questions, [tokens], connections).begin(batch.questions[0])
        return generation.stream(*begun, max_new_tokens, cancelled)

    def new_link(self, modality: str, encoder: str, token_width: int, **options: Any) -> Link:
        """Return an untrained link, not plugged; options: of this method's links."""
        link = self.spec.link
        return link(link.config_type.for_model(self.lm, modality, encoder, token_width,
                                               **{**self.alike(), **options}))

    def alike(self) -> dict[str, Any]:
        """Return the options that a new link must have in common with those that are plugged."""
        config = next((link.config for link in self.links().values()), None)
        return {} if config is None else {name: getattr(config, name) for name in config.alike}

    def plug(self, link: Link) -> None:
        """Plug a link of a modality that has none.  Raises LinksError."""
        self._connections.plug(self.accept(link))

    def replace(self, link: Link) -> Link | None:
        """Swap a link in and return the one before, with which running answers end."""
        return self._connections.replace(self.accept(link))

    def unplug(self, modality: str) -> Link:
        """Unplug a modality and return its link.  Raises LinksError."""
        return self._connections.unplug(modality)

    def links(self) -> Mapping[str, Link]:
        """Return the plugged links by modality."""
        return self._connections.links

    def prune(self, threshold: float) -> dict[str, int]:
        """Close gates below the threshold exactly; return how many per modality."""
        return self._connections.prune(threshold)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of all plugged links, each once."""
        return iter(nn.ModuleDict(dict(self.links())).parameters())

    def prepare_answer(self, question: str, answer: str, choices: Sequence[str] = ()) -> AnsweredQuestion:
        """Read a question with its true answer.

        With choices, the loss is over the tokens that compete in them; without, over the full vocabulary
        and with the end of text.  The question cache does not keep it: the caller keeps it for all epochs.
        Raises QuestionError.
        """
        connections = self._connections.snapshot()
        first, reach = connections.first_block, connections.reach
        if choices:
            prepared = prepare(self.lm, self.template, question, choices, first, reach)
            return AnsweredQuestion(AskedQuestion(question, tuple(choices), prepared), answer,
                                    _place(answer, prepared.choice_tree.choices))
        plain, end = ' '.join(answer.split()), self.lm.tokenizer.eos_token_id
        if not plain:
            raise QuestionError('the answer is empty; give one, or choices')
        target = answer_tokens(self.lm.tokenizer, plain) + (() if end is None else (end,))
        # The text is the prompt with the answer behind it, all but its last token.
        prompt = self.template.ids(self.lm.tokenizer, question)
        ids = torch.cat([prompt, prompt.new_tensor(target[:-1])])
        layout = TextLayout.causal(ids[None]).to(self.lm.device)
        with torch.no_grad():
            hidden = self.lm.run_blocks(self.lm.embed(layout), layout, 0, first)
        rows = open_rows(self.lm, layout, hidden, first, len(prompt), reach)
        prepared = PreparedQuestion(layout, len(prompt), hidden, first, rows, None, TextCache())
        return AnsweredQuestion(AskedQuestion(question, (), prepared), answer, target)

    def prepare_answers(self, pairs: Sequence[tuple[str, str]], choices: Sequence[str],
                        files: QuestionFiles | None = None) -> list[AnsweredQuestion]:
        """As `prepare_answer`, (question, answer) pairs with the same choices in one pass."""
        connections, trie = self._connections.snapshot(), ChoiceTrie(self.lm.tokenizer, choices)
        texts = [ChoiceText(self.lm, self.template, question, trie) for question, _ in pairs]
        read = files.prepare if files else prepare_batch
        prepared = read(self.lm, texts, connections.first_block, connections.reach)
        return [AnsweredQuestion(AskedQuestion(question, tuple(choices), own), answer,
                                 _place(answer, trie.choices))
                for (question, answer), own in zip(pairs, prepared, strict=True)]

    def calibrate(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> None:
        """Measure the statistics by which the plugged links standardise, once, before their first training.

        questions: of `prepare_answer`; tokens: frames to be trained on.  Links that have been measured
        before keep their statistics; those pruned away are left alone.
        """
        connections = self._connections.snapshot()
        states: list[QuestionStates] = []
        if blocks := connections.question_blocks:
            prepared = [_at(entry.question.prepared, connections) for entry in questions]
            states = [question_states(self.lm, prepared[start:start + CALIBRATION_BATCH], blocks)
                      for start in range(0, len(prepared), CALIBRATION_BATCH)]
        for name, link in connections.links.items():
            if link.open_blocks:
                frames = (of_encoder(frame.get(name), link.config) for frame in tokens)
                values = [frame.values for frame in frames if frame is not None]
                block = link.config.question_block
                link.calibrate([batch.at(block) for batch in states if block in batch.states],
                               torch.from_numpy(np.concatenate(values)) if values else None)

    def answer_losses(self, questions: Sequence[AnsweredQuestion], tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return minus the log-probability of each answer, [B], with gradients into the links only.

        All questions have choices, or none has.  A frame that several questions share (the same
        ModalityTokens object) goes through the aligner once.  Raises LinksError if links were plugged
        below the block up to which the questions were prepared.
        """
        connections = self._connections.snapshot()
        prepared = [_at(entry.question.prepared, connections) for entry in questions]
        completion = self.completion(prepared, tokens, connections)
        if not questions[0].question.choices:
            batch, spelled = QuestionBatch.stack(prepared), [entry.target for entry in questions]
            hidden = completion.run(batch, torch.arange(len(prepared), device=self.lm.device))
            return -batch.text_log_probabilities(completion.lm, hidden,
                                                 cast('list[tuple[int, ...]]', spelled))
        # Texts that as many rows decide go together, without the rows behind.
        targets = cast('list[int]', [entry.target for entry in questions])
        groups: dict[int, list[int]] = defaultdict(list)
        for place, (question, target) in enumerate(zip(prepared, targets, strict=True)):
            groups[rows_to_decide(question, target)].append(place)
        losses, order = [], []
        for count, places in groups.items():
            batch = QuestionBatch.stack([
                replace(prepared[place], rows=prepared[place].rows.head(count)) for place in places])
            texts = torch.tensor(places, device=self.lm.device)
            hidden = completion.run(batch, texts)
            losses.append(-batch.answer_log_probabilities(completion.lm, hidden,
                                                          [targets[at] for at in places]))
            order += places
        return torch.cat(losses)[torch.tensor(order, device=losses[0].device).argsort()]

    def accept(self, link: Link) -> Link:
        """Return a link in the form to be plugged; raises LinksError for one of another method."""
        if link.kind != self.spec.link.kind:
            raise LinksError(f'the {link.config.modality} link is of kind {link.kind!r}, but the method '
                             f'{self.name} takes {self.spec.link.kind!r}; train one with this method')
        return link

    def _prepared(self, question: str, choices: tuple[str, ...],
                  connections: Connections) -> PreparedQuestion:
        first, reach = connections.first_block, connections.reach
        return self.cache.get((question, choices, first, reach),
                              lambda: prepare(self.lm, self.template, question, choices, first, reach))

    def _batch(self, questions: Sequence[AskedQuestion], connections: Connections,
               again: bool = False) -> QuestionBatch:
        """Return the questions at the lowest linked block, read again if the links have changed since.

        again: whether they may be asked again together, so that the batch is kept.
        """
        wanted = connections.first_block, connections.reach
        prepared = tuple(
            question.prepared if (question.prepared.first, question.prepared.rows.reach) == wanted
            else self._prepared(question.text, question.choices, connections) for question in questions)
        return self._batches.get(prepared, lambda: QuestionBatch.stack(prepared)) if again else (
            QuestionBatch.stack(prepared))

    def frames(self, tokens: Sequence[Tokens], connections: Connections) -> dict[str, TokenBatch]:
        """Return the tokens of each modality that is read, for a batch of texts."""
        frames = {}
        for name in connections.modalities:
            fitting = [of_encoder(frame.get(name), connections.links[name].config) for frame in tokens]
            if any(frame is not None for frame in fitting):
                frames[name] = TokenBatch.stack(fitting, self.lm.device)
        return frames


def total_variation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the total variation distance of two distributions over the same choices, 0..1."""
    return min(1., sum(abs(one - other) for one, other in zip(first, second, strict=True)) / 2)


def _used(connections: Connections, tokens: Tokens) -> tuple[str, ...]:
    return tuple(sorted(name for name in connections.modalities if name in tokens))


def of_encoder(tokens: ModalityTokens | None, config: LinkConfig) -> ModalityTokens | None:
    """Return the tokens; raises LinksError unless the link was trained on their encoder."""
    if tokens is not None and tokens.encoder != config.encoder:
        raise LinksError(f'the {config.modality} link was trained on encoder {config.encoder[:12]}, but the '
                         f'tokens are of {tokens.encoder[:12]}; use that encoder or train a new link')
    return tokens


def _at(prepared: PreparedQuestion, connections: Connections) -> PreparedQuestion:
    """Return a question; LinksError if it was read further than the links allow.  No links: any reach."""
    same_rows = prepared.rows.reach == connections.reach or not connections.links
    if prepared.first > connections.first_block or not same_rows:
        raise LinksError(f'a training question is prepared up to block {prepared.first} for links that reach '
                         f'{prepared.rows.reach!r}, but block {connections.first_block} is linked now with '
                         f'reach {connections.reach!r}; prepare the questions after plugging')
    return prepared


def _place(answer: str, choices: Sequence[str]) -> int:
    plain = ' '.join(answer.split())
    if plain not in choices:
        raise QuestionError(f'the answer {answer!r} is not among the {len(choices)} choices; add it to them')
    return choices.index(plain)
