"""Answers about the past, from remembered tokens.

The present question is asked of moments in batches, newest first, and no further than the answer needs.
Between two batches the caller may do something else: :func:`recall` is a generator.  A question about one
thing beside another is answered in steps at each moment, see :mod:`~mpnp_ros.serving.relations`.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import fmean

from mpnp_ros.errors import CancelledError, QuestionError
from mpnp_ros.methods.method import Method
from mpnp_ros.methods.questions import AskedQuestion, Reply, Tokens
from mpnp_ros.questions.past import PastQuestion, Wanted
from mpnp_ros.questions.relations import RelatedQuestion, related_question
from mpnp_ros.questions.vocabulary import CATEGORIES, MAX_COUNT
from mpnp_ros.questions.wording import Description
from mpnp_ros.serving.answers import CANCELLED, UNKNOWN
from mpnp_ros.serving.coverage import not_known
from mpnp_ros.serving.memory import RememberedMoment
from mpnp_ros.serving.relations import YES_NO, answer_related, placed
from mpnp_ros.tokens import SECOND

NUMBERS = tuple(map(str, range(MAX_COUNT + 1)))
BATCH = 16
NEAREST = (5, 10, 15, 20, 25, 30)
"""Metres within which a thing is looked for, to tell whether it comes closer."""
CLOSER = 2.5
"""Metres by which it must have come closer."""
LIKELY, JUST_NOW = 0.5, 0.5
"""Expected number from which a token holds it, and seconds for which what was seen is still there."""


@dataclass(frozen=True)
class Span:
    """A time in which the answer stayed the same.

    begin_ns, end_ns: stamps of its first and last moment.  probability: mean over its moments.
    """

    begin_ns: int
    end_ns: int
    answer: str
    probability: float


@dataclass(frozen=True)
class Recollection:
    """The answer to a question about the past.

    text: in words.  spans: what it rests on, newest first.  moments: how many were asked.  unknown: why the
    sensors cannot tell, in words; then the rest is empty.
    """

    text: str
    spans: tuple[Span, ...]
    moments: int
    unknown: str = ''


Asking = Generator[int, None, Recollection]
"""Yields the number of moments asked so far, and returns the answer."""


class PastInquiry:
    """A question about the past on its way to its answer.

    future: resolves to a Recollection, or raises the error that says why there is none.  reason: why it was
    cancelled, empty if it was not.
    """

    def __init__(self, asked: PastQuestion, choices: Sequence[str], moments: Sequence[RememberedMoment],
                 on_progress: Callable[[int], None] = lambda count: None, window: float = math.inf) -> None:
        """on_progress: called with the number of moments asked so far; must not wait.

        window: seconds that are looked at; inf: as the question says.
        """
        self.asked = replace(asked, window=window) if math.isfinite(window) else asked
        self.choices, self.moments = tuple(choices), tuple(moments)
        self.future: Future[Recollection] = Future()
        self.future.set_running_or_notify_cancel()
        self.reason = ''
        self._on_progress = on_progress
        self._asking: Asking | None = None

    @classmethod
    def refused(cls, error: QuestionError) -> PastInquiry:
        """Return the inquiry of a question that is refused."""
        inquiry = cls(PastQuestion(Wanted.HISTORY, ''), (), ())
        inquiry.future.set_exception(error)
        return inquiry

    def cancel(self, reason: str = CANCELLED) -> bool:
        """Give up before the next batch of moments; returns whether that was in time."""
        if self.future.done():
            return False
        self.reason = self.reason or reason
        return True

    def go_on(self, method: Method) -> bool:
        """Ask the next batch of moments; returns whether the answer is there."""
        try:
            if self.reason:
                raise CancelledError(self.reason)
            self._asking = self._asking or recall(method, self.asked, self.choices, self.moments)
            self._on_progress(next(self._asking))
        except StopIteration as answered:
            self.future.set_result(answered.value)
        except Exception as error:
            self.future.set_exception(error)
        return self.future.done()

    def answer(self, method: Method) -> Recollection:
        """Ask all batches of moments; return the answer, or raise the error of the future."""
        while not self.go_on(method):
            pass
        return self.future.result()


@dataclass(frozen=True)
class _Told:
    moment: RememberedMoment
    reply: Reply


def recall(method: Method, asked: PastQuestion, choices: Sequence[str],
           moments: Sequence[RememberedMoment]) -> Asking:
    """Answer a question about the past from moments, oldest first.

    choices: answers of a present question other than whether something is there.
    Raises QuestionError if nothing is remembered of the time, or the method refuses the present question.
    """
    usable = _answering(method, asked, choices, moments)
    if not usable:
        raise QuestionError('nothing is remembered that links can read; see the parameter memory_duration')
    newest = usable[-1].stamp_ns
    usable = [moment for moment in usable if moment.stamp_ns >= newest - asked.window * SECOND]
    if asked.wanted in (Wanted.CLOSER, Wanted.CHANGED):
        return (yield from (_closer if asked.wanted is Wanted.CLOSER else _changed)(method, asked, usable))
    if asked.wanted is Wanted.THEN:
        then = newest - asked.ago * SECOND
        if then < usable[0].stamp_ns - SECOND:
            raise QuestionError(f'nothing is remembered of {in_words(asked.ago)} ago; the memory begins '
                                f'{in_words((newest - usable[0].stamp_ns) / SECOND)} ago')
        usable = [min(usable, key=lambda moment: abs(moment.stamp_ns - then))]
    text, answers = _present(asked, choices)
    question, related = method.prepare(text, answers), related_question(text) if answers else None
    steps = _in_steps(method, related, answers, usable[-1]) if related else None
    told: list[_Told] = []
    reasons: list[str] = []
    batches = [usable[-1:], *_backwards(usable[:-1])] if steps is None else [[each] for each in usable[::-1]]
    for batch in batches:
        said = {entry.reply.text for entry in told}
        if asked.wanted is Wanted.LAST and 'yes' in said or asked.wanted is Wanted.SINCE and 'no' in said:
            break
        if related and steps is not None:
            found = _in_steps(method, related, answers, batch[0]) if told else steps
            reply, reason = found or (Reply(UNKNOWN, 0., (), (), 0.), 'unknown: nobody looks')
            replies = [reply]
            reasons.append(reason)
        else:
            replies = method.answer_batch([question] * len(batch), [moment.tokens for moment in batch]) \
                if told else [method.answer(question, batch[0].tokens)]  # batches do not tell what is counted
            if not told and (reason := not_known(replies[0].counted, replies[0].answerable)):
                return Recollection('', (), 1, reason)
        told += [_Told(moment, reply) for moment, reply in zip(batch, replies, strict=True)]
        yield len(told)
    clear = [entry for entry in told if entry.reply.text != UNKNOWN]
    if steps is not None and not clear:
        return Recollection('', (), len(told), reasons[0])
    whether = asked.wanted in (Wanted.EVER, Wanted.LAST, Wanted.SINCE)
    return replace(_told_words(asked, clear if steps is not None and whether else told, newest),
                   moments=len(told))


def _in_steps(method: Method, related: RelatedQuestion, choices: Sequence[str],
              moment: RememberedMoment) -> tuple[Reply, str] | None:
    """Answer a question about one thing beside another at one moment; None: it must be asked as it is.

    Where the other thing is not seen, or no sensor can tell, the answer is `unknown`, with the reason.
    """
    found = answer_related(method, related, choices, moment.tokens)
    if found is None:
        return None
    told = (not_known(step.counted, step.answerable) for step in found.steps)
    reason = next(filter(None, told), found.unknown)
    if reason or found.reply is None:
        return Reply(UNKNOWN, 0., (), (), 0.), reason
    return found.reply, ''


def _present(asked: PastQuestion, choices: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return a question about the present that moments are asked, and its choices."""
    if asked.wanted is Wanted.CLOSER:
        return _is_within(asked.text, NEAREST[-1]), YES_NO
    if asked.wanted is Wanted.CHANGED:
        return _how_many(CATEGORIES[0]), NUMBERS
    return asked.text, tuple(choices) if asked.wanted in (Wanted.HISTORY, Wanted.THEN) else YES_NO


def _is_within(thing: str, metres: int) -> str:
    return f'Is there a {thing} within {metres} m?'


def _how_many(category: str) -> str:
    return f'How many {Description(category).plural} are there?'


def _answering(method: Method, asked: PastQuestion, choices: Sequence[str],
               moments: Sequence[RememberedMoment]) -> list[RememberedMoment]:
    """Return the moments with tokens of a modality that has a say in the question, and only these tokens.

    Tokens of an encoder that the links in use were not trained for are left out.
    """
    links = {name: method.links()[name].config for name in method.modalities}
    fitting = [{name: frame for name, frame in moment.tokens.items() if name in links
                and (links[name].encoder, links[name].token_width) == (frame.encoder, frame.width)}
               for moment in moments]
    newest = {name: frame for tokens in fitting for name, frame in tokens.items()}
    if not newest:
        return []
    say = method.answering(method.prepare(*_present(asked, choices)), newest)
    return [replace(moment, tokens={name: tokens[name] for name in say if name in tokens})
            for moment, tokens in zip(moments, fitting, strict=True) if any(name in tokens for name in say)]


def _backwards(moments: Sequence[RememberedMoment]) -> Iterator[list[RememberedMoment]]:
    """Yield moments in batches, newest first."""
    reverse = list(reversed(moments))
    for start in range(0, len(reverse), BATCH):
        yield reverse[start:start + BATCH]


def spans_of(told: Iterable[_Told]) -> tuple[Span, ...]:
    """Return runs of equal answers, in the order given: newest first."""
    runs = [list(run) for _, run in groupby(told, key=lambda entry: entry.reply.text)]
    return tuple(Span(run[-1].moment.stamp_ns, run[0].moment.stamp_ns, run[0].reply.text,
                      fmean(entry.reply.confidence for entry in run)) for run in runs)


def _told_words(asked: PastQuestion, told: list[_Told], newest: int) -> Recollection:
    """Return what the answers of moments, newest first, say about the past."""
    spans, oldest = spans_of(told), told[-1].moment.stamp_ns
    yes = [span for span in spans if span.answer == 'yes']
    within = in_words((newest - oldest) / SECOND)
    if asked.wanted is Wanted.EVER:
        text, spans = ('yes' if yes else 'no'), tuple(yes)
    elif asked.wanted is Wanted.LAST:
        ago = (newest - yes[0].end_ns) / SECOND if yes else math.nan
        text = f'not in the last {within}' if not yes else 'now' if ago == 0 else f'{in_words(ago)} ago'
        spans = tuple(yes[:1])
    elif asked.wanted is Wanted.SINCE:
        lasts = spans[0].answer == 'yes'
        whole = len(spans) == 1
        lasted = in_words((newest - spans[0].begin_ns) / SECOND)
        text = 'not now' if not lasts else f'for {lasted} or longer' if whole else f'for {lasted}'
        spans = spans[:1] if lasts else ()
    else:
        text = spans[0].answer if len(spans) == 1 else '; '.join(
            f'{span.answer} {_when(span, newest)}' for span in spans)
    return Recollection(text, spans, len(told))


def _when(span: Span, newest: int) -> str:
    first, last = ((newest - stamp) / SECOND for stamp in (span.begin_ns, span.end_ns))
    if first == last:
        return f'{in_words(first)} ago' if first else 'now'
    return f'from {in_words(first)} ago to {f"{in_words(last)} ago" if last else "now"}'


def _closer(method: Method, asked: PastQuestion, moments: list[RememberedMoment]) -> Asking:
    """Whether the nearest such thing has come closer.

    Its distance is that of the nearest token that an answer rests on.  Where tokens have none, it is looked
    for within growing distances.
    """
    questions = [method.prepare(_is_within(asked.text, metres), YES_NO) for metres in NEAREST]
    newest = moments[-1].stamp_ns
    first = method.answer(questions[-1], moments[-1].tokens)
    if reason := not_known(first.counted, first.answerable):
        return Recollection('', (), 1, reason)
    distances: dict[int, float] = {}
    for start in range(0, len(moments), BATCH):
        batch = moments[start:start + BATCH]
        measured = [moment for moment in batch if placed(moment.tokens)]
        replies = method.answer_each([questions[-1]] * len(measured),
                                     [moment.tokens for moment in measured]) if measured else []
        nearest = {moment.stamp_ns: _nearest(reply, moment.tokens)
                   for moment, reply in zip(measured, replies, strict=True)}
        for count, moment in enumerate(batch, start + 1):
            distance = nearest.get(moment.stamp_ns)
            if distance is None:
                within = method.answer_batch(questions, [moment.tokens] * len(questions))
                distance = _distance([reply.probabilities[1] for reply in within])
                yield count
            distances[moment.stamp_ns] = distance
        yield start + len(batch)
    seen = [(stamp, distance) for stamp, distance in distances.items() if math.isfinite(distance)]
    if not seen or newest - seen[-1][0] > JUST_NOW * SECOND:
        return Recollection('', (), len(moments), f'no {asked.text} is seen')
    if len(seen) < 2:
        return Recollection('', (), len(moments), f'the {asked.text} has been seen only now')
    third = max(1, len(seen) // 3)
    before, now = (fmean(distance for _, distance in part) for part in (seen[:third], seen[-third:]))
    text = 'yes' if before - now >= CLOSER else 'no'
    span = Span(seen[0][0], seen[-1][0], f'{before:.0f} m, then {now:.0f} m', 1.)
    return Recollection(text, (span,), len(moments))


def _nearest(reply: Reply, tokens: Tokens) -> float | None:
    """Return the distance of the nearest token that holds what an answer counts, metres; inf if none does.

    None: the method does not tell, or only tokens whose distance is not known hold it.
    """
    if not reply.grounding:
        return None
    holding = [entry for entry in reply.grounding if entry.expected >= LIKELY]
    distances = [float(distance) for entry in holding
                 for distance in tokens[entry.modality].distance[entry.token:entry.token + 1]]
    near = [distance for distance in distances if distance <= NEAREST[-1]]
    if not near and (len(distances) < len(holding) or any(map(math.isnan, distances))):
        return None
    return min(near, default=math.inf)


def _distance(within: Sequence[float]) -> float:
    """Return the expected distance of the nearest thing, metres; inf if it is not likely to be there.

    within: probabilities that it is within each of :data:`NEAREST`.
    """
    if within[-1] < 0.5:
        return math.inf
    reached, rising, before = 0., [], 0.
    for probability in within:
        reached = max(reached, probability)
        rising.append(reached)
    expected = 0.
    for metres, probability in zip(NEAREST, rising, strict=True):
        expected += (probability - before) * (metres - 2.5)
        before = probability
    return expected / before


def _changed(method: Method, asked: PastQuestion, moments: list[RememberedMoment]) -> Asking:
    """Which sorts of things are more or fewer than at the beginning."""
    questions = {name: method.prepare(_how_many(name), NUMBERS) for name in CATEGORIES}
    then, now = ([_number(reply) for reply in _ask_all(method, questions.values(), moment)]
                 for moment in (moments[0], moments[-1]))
    yield 2
    parts = []
    for name, before, after in zip(questions, then, now, strict=True):
        change = round(after - before)
        if change:
            much, many = abs(change), Description(name).plural if abs(change) > 1 else name
            parts.append(f'{much} {many} {"more" if change > 0 else "fewer"}')
    span = Span(moments[0].stamp_ns, moments[-1].stamp_ns, ', '.join(parts) or 'nothing', 1.)
    return Recollection(span.answer, (span,), 2)


def _ask_all(method: Method, questions: Iterable[AskedQuestion], moment: RememberedMoment) -> list[Reply]:
    asked = list(questions)
    return method.answer_batch(asked, [moment.tokens] * len(asked))


def _number(reply: Reply) -> float:
    """Return the expected number of an answer to a question of how many."""
    return sum(number * probability for number, probability in enumerate(reply.probabilities))


def in_words(seconds: float) -> str:
    """Return a time such as "12 s", "3 min" or "1 h 20 min"."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'
