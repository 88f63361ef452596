"""The fusion node: hosts the frozen language model and answers questions from the current sensor data.

The node passes tokens to the board, questions to the answer server and answers to the topic.  No callback
waits. Everything slow happens on the thread of the server, so that tokens are received, answers cancelled and
services answered while the model computes.

Topics, services and the action are created once, at start (the token and question topics at the first
activation), and kept: a subscription that is destroyed and created again loses messages in rclpy.  While the
node is not active it rejects questions with a reason.
"""
from __future__ import annotations

import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from resource import RUSAGE_SELF, getrusage
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import String

from mpnp_ros.action import Ask as AskAction
from mpnp_ros.action import AskPast
from mpnp_ros.conversions.messages import from_message
from mpnp_ros.device import DTYPES, release_memory
from mpnp_ros.endpoints import LATCHED, SENSOR_DATA, qos_profile
from mpnp_ros.errors import ConfigurationError, LinksError, QuestionError, TokensError
from mpnp_ros.llm.weights import DEFAULT_MODEL, load_language_model
from mpnp_ros.methods.link_store import LinkStore, default_store, shipped_link, shipped_links
from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
from mpnp_ros.modalities.registry import sensors
from mpnp_ros.msg import Adaptation, EncoderInfo, ModalityStates
from mpnp_ros.msg import Answer as AnswerMessage
from mpnp_ros.msg import Event as EventMessage
from mpnp_ros.msg import ModalityTokens as TokensMessage
from mpnp_ros.msg import Question as QuestionMessage
from mpnp_ros.node_names import encoder_nodes
from mpnp_ros.nodes.fusion_messages import (
    answer_to_message,
    event_to_message,
    facts_from_message,
    link_to_message,
    question_from_message,
    recollection_to_message,
    standing_to_message,
    state_to_message,
    states_to_message,
)
from mpnp_ros.nodes.grounding import GroundingPublisher
from mpnp_ros.nodes.parameters import method_problem, topic_problem
from mpnp_ros.nodes.runtime import ManagedNode, ManagedOptions, run_node, set_threads
from mpnp_ros.nodes.services import GoalServer, create_deferred_service, then
from mpnp_ros.options import Change, option
from mpnp_ros.questions.subjects import all_answers
from mpnp_ros.questions.vocabulary import ANSWERS
from mpnp_ros.serving.answer_server import AnswerServer
from mpnp_ros.serving.answers import Answer, Inquiry, Progress, Status
from mpnp_ros.serving.events import Event
from mpnp_ros.serving.link_versions import (
    LinkVersion,
    copied_link_version,
    links_at_start,
    read_link_version,
)
from mpnp_ros.serving.memory import TokenMemory
from mpnp_ros.serving.modality_board import ModalityBoard
from mpnp_ros.serving.modality_state import EncoderFacts, ModalityStatus, State, WatchLimits
from mpnp_ros.serving.past import PastInquiry, Recollection
from mpnp_ros.serving.questions import MOST_NEW_TOKENS, Question
from mpnp_ros.srv import Ask, ListLinks, ListQuestions, LoadLinks, RollbackLinks, SetModality

DEPTH = 100
TICK, SHOWING, QUIET, SEARCH = 0.1, 1.0, 5., 10.
"""Seconds between checks of the board while tokens arrive, and otherwise; each check wakes a core.

QUIET: between two publications of unchanged states while no tokens arrive.  SEARCH: between two searches for
encoder nodes whose number does not change.
"""
INACTIVE = 'fusion is not active; activate it'
DEACTIVATED = 'the fusion node was deactivated'
UNCONFIGURED = 'fusion is not configured; configure and activate it'
SHIPPED, AUTO = 'shipped', 'auto'
PACKINGS = AUTO, 'exact', 'off'
NAMED_CHOICES = {'': (), 'nuscenes_qa': ANSWERS, 'all': all_answers()}


@dataclass(frozen=True)
class FusionOptions(ManagedOptions):
    """Parameters of the fusion node."""

    llm: str = option(
        DEFAULT_MODEL,
        'language model: the name of the packaged one, a folder in the format of transformers, or a hub id',
        change=Change.CONFIGURE)
    device: str = option(
        'auto', 'where the model runs: auto, cpu, cuda or cuda:<index>', change=Change.CONFIGURE)
    dtype: str = option('auto', 'number format of the model', choices=DTYPES, change=Change.CONFIGURE)
    threads: int = option(
        0, 'CPU threads of the model; 0: half of the cores', low=0, high=256, change=Change.CONFIGURE)
    packed: str = option(
        AUTO,
        'how the linked blocks run for questions with choices, on a CPU. auto: packed for this processor, '
        'with weights that were stored in 4 bits read in 4 bits and inputs rounded to bfloat16; '
        'probabilities change by up to 0.04, as by a model in bfloat16. exact: packed in the number format '
        'of the model. off: not packed',
        choices=PACKINGS, change=Change.CONFIGURE)
    method: str = option(
        DEFAULT_METHOD,
        'method that connects modalities to the model: a built-in one, see docs/guide/methods.md, or one of '
        'an installed package', change=Change.CONFIGURE)
    modalities: tuple[str, ...] = option(
        tuple(encoder_nodes()), 'modalities to listen to, each on tokens/<modality>', installed=True)
    links: tuple[str, ...] = option(
        (SHIPPED,), f'folders of the links to load; {SHIPPED}: those of the package, where they fit the '
                    'model; an empty name: none', change=Change.CONFIGURE)
    link_store: str = option(
        AUTO, 'folder of links that are learned on the robot. Those in use when the node ends are used again '
              f'at its next start. {AUTO}: in the state folder; an empty name: none',
        change=Change.CONFIGURE)
    choices: str = option(
        'all',
        'named list of answers for questions without choices; nuscenes_qa: the 30 of NuScenes-QA; all: also '
        'those about own motion and sounds; empty: none, the answer is generated',
        choices=tuple(NAMED_CHOICES), change=Change.LIVE)
    answer_without_sensors: bool = option(
        False,
        'whether a question for which no sensor can be used is answered from its text, with the status '
        'NO_SENSOR; false: that status and no text', change=Change.LIVE)
    influence: bool = option(
        True, 'whether answers with choices tell the influence of each modality, for a few milliseconds; '
              'only methods that can close gates do', change=Change.LIVE)
    watch: WatchLimits = option(
        WatchLimits(), 'limits of a healthy modality', change=Change.CONFIGURE, flat=True)
    queue_size: int = option(
        16, 'maximum number of waiting questions that do not stand; more are rejected', low=1, high=1000,
        change=Change.CONFIGURE)
    standing_size: int = option(
        128, 'maximum number of standing questions; more are rejected', low=0, high=1000,
        change=Change.CONFIGURE)
    max_new_tokens: int = option(
        32, 'maximum length of a generated answer, unless the question gives one', unit='tokens', low=1,
        high=MOST_NEW_TOKENS, change=Change.CONFIGURE)
    memory_duration: float = option(
        600., 'time of which tokens are remembered for questions about the past; 0: none', unit='s', low=0,
        high=864000, change=Change.CONFIGURE)
    memory_interval: float = option(
        0.5, 'shortest time between two remembered moments', unit='s', low=0.01, high=3600,
        change=Change.CONFIGURE)
    memory_mb: float = option(
        64.0,
        'most memory for remembered tokens; the oldest are forgotten first',
        unit='MB',
        low=0,
        high=65536,
        change=Change.CONFIGURE,
    )
    question_cache_mb: float = option(
        64., 'memory for prepared questions; laid out for answers, they take up to twice as much again',
        unit='MB', low=0, high=65536,
        change=Change.CONFIGURE)

    def check(self) -> Iterator[str]:
        """The method must exist, and every modality must have a topic."""
        topics = (topic_problem('modalities', f'tokens/{name}') for name in self.modalities)
        yield from filter(None, (method_problem(self.method), *topics))


PARAMETERS = FusionOptions


class FusionNode(ManagedNode):
    """Answers questions from the current sensor data; interface in docs/reference/interfaces.md."""

    def __init__(self, **options: object) -> None:
        super().__init__('fusion', FusionOptions, **options)
        self._server: AnswerServer | None = None
        self._listening = self._active = False
        self._inputs: dict[str, Any] = {}
        self._shown: list[tuple[Any, ...]] = []
        self._showing = threading.Lock()
        self._encoders: dict[str, EncoderFacts] = {}
        self._encoder_nodes: set[str] = set()
        self._encoders_seen = -1, -math.inf  # number of their publishers, and time of the search
        self._fits: dict[str, str] = {}
        self._seen: dict[str, str] = {}  # modality -> encoder
        self._replacing: set[str] = set()  # modalities whose links are being replaced by shipped ones
        self._reading_alike = threading.Lock()
        self._copy_link: Callable[..., LinkVersion] = copied_link_version
        self._clock_amiss = False
        self._shown_again, self._repeated, self._quiet = 0., -math.inf, True
        self._group = MutuallyExclusiveCallbackGroup()
        self._inputs['encoders'] = self.create_subscription(
            EncoderInfo, 'encoders', self._on_encoder, qos_profile(LATCHED, DEPTH),
            callback_group=self._group)
        self._answers = self.create_publisher(AnswerMessage, 'answer', DEPTH)
        self._answer_texts = self.create_publisher(String, 'answer_text', DEPTH)
        self._events = self.create_publisher(EventMessage, 'event', DEPTH)
        self._grounding = GroundingPublisher(self)
        self._states = self.create_publisher(ModalityStates, 'modalities', qos_profile(LATCHED))
        create_deferred_service(self, Ask, 'ask', self._on_ask, self._group, DEPTH)
        create_deferred_service(self, LoadLinks, 'load_links', self._on_load_links, self._group)
        create_deferred_service(self, RollbackLinks, 'rollback_links', self._on_rollback_links, self._group)
        self.create_service(ListLinks, 'list_links', self._on_list_links, callback_group=self._group)
        self.create_service(ListQuestions, 'list_questions', self._on_list_questions,
                            callback_group=self._group)
        self.create_service(SetModality, 'set_modality', self._on_set_modality, callback_group=self._group)
        self._goal_servers = (
            GoalServer(self, AskAction, 'ask_stream', self._on_goal, _answered),
            GoalServer(self, AskPast, 'ask_past', self._on_past, _recalled))
        self.every(TICK, self._tick)
        self.diagnostics.add_source(self._facts)
        self.diagnostics.add_check(self._amiss)

    def load(self) -> None:
        """Load model, method and links; questions are still rejected."""
        values = self.values
        set_threads(values.threads)
        lm = load_language_model(values.llm, values.device, values.dtype)
        self._seen, self._replacing = {}, set()
        self._copy_link = partial(copied_link_version, lm=lm)
        method = create_method(values.method, lm, question_cache_bytes=round(values.question_cache_mb * 1e6))
        board = ModalityBoard(self._now, values.modalities, values.watch)
        self._server = AnswerServer(
            method, board, capacity=values.queue_size, standing_capacity=values.standing_size,
            max_new_tokens=values.max_new_tokens, read_links=partial(read_link_version, lm=lm),
            deliver=self._deliver, tell=self._tell,
            without_sensors=lambda: self.values.answer_without_sensors,
            influence=lambda: self.values.influence,
            memory=TokenMemory(values.memory_duration, round(values.memory_mb * 1e6), values.memory_interval))
        self._server.pause(INACTIVE)
        for path in filter(None, set(values.links) - {SHIPPED}):
            self._server.load_links(path).result()
        # the shipped links, and those in use when the node last ended, if they fit
        name = values.link_store
        store = default_store(self.get_namespace()) if name == AUTO else LinkStore(name) if name else None
        shipped = shipped_links() if SHIPPED in values.links else {}
        stored = links_at_start(store, shipped, values.modalities) if store else \
            [shipped[modality] for modality in values.modalities if modality in shipped]
        for link in stored:
            try:
                self._server.load_links(str(link.path), link.sha256).result()
            except LinksError as error:
                self.get_logger().warning(f'links skipped: {error}')
        if store:
            self._server.links.keep_in(store)
        if values.packed != 'off':
            method.pack(four_bit=values.packed == AUTO)
        self._read_alike(list(self._encoders.values()))  # encoders may have started before
        self.get_logger().info(f'{lm.name} on {lm.device}, links: {self._server.links.name or "none"}')

    def start(self) -> None:
        """Subscribe and answer."""
        if not self._listening:
            subscribe = partial(self.create_subscription, callback_group=self._group)
            for modality in self.values.modalities:
                topic = f'tokens/{modality}'
                self._inputs[topic] = subscribe(TokensMessage, topic, partial(self._on_tokens, modality),
                                                qos_profile(SENSOR_DATA))
            subscribe(QuestionMessage, 'question', self._on_question, DEPTH)
            subscribe(String, 'question_text', self._on_question_text, DEPTH)
            self._inputs['adaptation'] = subscribe(Adaptation, 'adaptation', self._on_adaptation,
                                                   qos_profile(LATCHED))
            self._listening = True
        self._active = True
        assert self._server is not None  # load has made it
        self._server.resume()

    def stop(self) -> None:
        """Reject questions, waiting ones included, and ignore tokens."""
        self._active = False
        if self._server is not None:
            self._server.pause(INACTIVE, DEACTIVATED)

    def release(self) -> None:
        """Release model, links and caches."""
        server, self._server, self._copy_link = self._server, None, copied_link_version
        if server is not None:
            server.close()
        del server
        release_memory()

    def _on_tokens(self, modality: str, message: TokensMessage) -> None:
        server = self._server
        if server is None or not self._active:
            return
        try:
            tokens = from_message(message)
            if tokens.modality != modality:
                raise TokensError(f'tokens/{modality} carries {tokens.modality[:80]} tokens; remap it')
        except TokensError as error:
            server.board.reject(modality, str(error))
            self.diagnostics.warn(f'{modality}_rejected', str(error))
            return
        if modality not in self._replacing and not server.offer(tokens):
            self.diagnostics.warn(f'{modality}_rejected', server.board.state(modality).detail)
        if self._quiet:
            self._show()

    def _on_adaptation(self, message: Adaptation) -> None:
        """Record the modalities in training."""
        if (server := self._server) is not None:
            server.board.adapting(set(message.modalities) & set(server.board.modalities))
            self._show()

    def _on_encoder(self, message: EncoderInfo) -> None:
        """Record the description of an encoder, use links that fit it, and log which do."""
        if message.modality in self.values.modalities:
            self._encoders[message.node] = facts_from_message(message)
            if (server := self._server) is not None:
                server.board.introduce(self._encoders[message.node])
                self._read_alike([facts for facts in self._encoders.values()
                                  if facts.modality == message.modality])
                self._tell_fits(server.board)

    def _read_alike(self, there: Sequence[EncoderFacts]) -> None:
        """When the encoder of a modality changes and the links in use do not fit it, use shipped ones.

        These are the links that were trained with it, or else a copy of those that count the same.  Until
        they are in use its tokens are left out, and nobody is warned.
        """
        server = self._server
        if server is None or SHIPPED not in self.values.links:
            return
        with self._reading_alike:
            for name in sorted({facts.modality for facts in there}):
                encoders = {facts.encoder: facts for facts in there if facts.modality == name}
                if self._seen.get(name) in encoders:
                    continue
                facts = encoders[min(encoders)]
                self._seen[name] = facts.encoder
                fit, sensor = server.links.fits().get(name), sensors().get(name)
                if fit is not None and fit.encoder in encoders:
                    continue
                link = shipped_link(name, facts.encoder, facts.token_width,
                                    sensor.reads_like if sensor else '')
                if link is None:
                    continue
                change = partial(AnswerServer.load_links, path=str(link.path)) if link.modality == name else \
                    partial(AnswerServer.make_links,
                            make=partial(self._copy_link, link.path, name, facts.encoder))
                self._replacing.add(name)
                self._change_links(LoadLinks, change).add_done_callback(partial(self._replaced, name))

    def _replaced(self, modality: str, done: Future[Any]) -> None:
        """Take its tokens again."""
        self._replacing.discard(modality)

    def _tell_fits(self, board: ModalityBoard) -> None:
        """Log changes of which links fit which encoder."""
        fits = self._settled_fits(board)
        for node, (good, text) in fits.items():
            if self._fits.get(node) == text:
                continue
            if good:  # on a line of its own: rclpy refuses two severities of one line of code
                self.get_logger().info(text)
            else:
                self.get_logger().warning(text)
        self._fits = {node: text for node, (_, text) in fits.items()}

    def _settled_fits(self, board: ModalityBoard) -> dict[str, tuple[bool, str]]:
        """Return which links fit which encoder, without modalities whose links are being replaced."""
        return {node: said for node, said in board.fits().items()
                if node not in self._encoders or self._encoders[node].modality not in self._replacing}

    def _on_question(self, message: QuestionMessage) -> None:
        self._ask(self._question(message))

    def _on_question_text(self, message: String) -> None:
        self._ask(self._question(QuestionMessage(text=message.data)))

    def _on_ask(self, request: Ask.Request) -> Future[Ask.Response]:
        def respond(done: Future[Answer]) -> Ask.Response:
            answer = done.result()
            return Ask.Response(success=answer.status is Status.OK, message=answer.error,
                                answer=answer_to_message(answer))

        return then(self._ask(self._question(request.question)).future, respond)

    def _on_goal(
        self, goal: AskAction.Goal, publish_feedback: Callable[[AskAction.Feedback], None]
    ) -> Inquiry:
        def feed_back(progress: Progress) -> None:
            publish_feedback(
                AskAction.Feedback(text=progress.text, stage=progress.stage, tokens=progress.tokens)
            )

        return self._ask(self._question(goal.question), feed_back, goal.max_new_tokens)

    def _on_past(
        self, goal: AskPast.Goal, publish_feedback: Callable[[AskPast.Feedback], None]
    ) -> PastInquiry:
        server = self._server
        remembered = 0

        def feed_back(count: int) -> None:
            publish_feedback(AskPast.Feedback(moments=count, remembered=remembered))

        try:
            if server is None:
                raise QuestionError(UNCONFIGURED)
            choices = tuple(goal.choices) or NAMED_CHOICES[self.values.choices]
            inquiry = server.recall(goal.text, choices, goal.window or math.inf, feed_back)
            remembered = len(inquiry.moments)
        except QuestionError as error:
            self.diagnostics.warn('questions_rejected', str(error))
            return PastInquiry.refused(error)
        return inquiry

    def _question(self, message: QuestionMessage) -> Question:
        return question_from_message(message, NAMED_CHOICES[self.values.choices])

    def _ask(self, question: Question, on_progress: Callable[[Progress], None] | None = None,
             max_new_tokens: int = 0) -> Inquiry:
        server = self._server
        if server is not None:
            return server.stream(question, on_progress, max_new_tokens)
        inquiry = Inquiry(question.named(), self._now(), max_new_tokens)
        answer = inquiry.rejection(UNCONFIGURED)
        self._deliver(answer)
        inquiry.future.set_result(answer)
        return inquiry

    def _deliver(self, answer: Answer) -> None:
        """Publish an answer; called on the thread that computed it."""
        message = answer_to_message(answer)
        self._answers.publish(message)
        self._grounding.publish(message)
        said = f'[{answer.error}] {answer.text}'.rstrip() if answer.error else answer.text
        self._answer_texts.publish(String(data=said))
        self.diagnostics.count(f'answers_{answer.status.name.lower()}')
        if answer.status is not Status.OK:
            self.diagnostics.warn(f'questions_{answer.status.name.lower()}', answer.error)

    def _tell(self, event: Event) -> None:
        """Publish an event; called on any thread."""
        self._events.publish(event_to_message(event))
        self.diagnostics.count(f'events_{event.kind.name.lower()}')

    def _on_load_links(self, request: LoadLinks.Request) -> Future[LoadLinks.Response]:
        return self._change_links(LoadLinks, lambda server: server.load_links(request.path, request.sha256))

    def _on_rollback_links(self, request: RollbackLinks.Request) -> Future[RollbackLinks.Response]:
        return self._change_links(RollbackLinks, lambda server: server.rollback(request.modality))

    def _change_links(self, kind: Any,
                      change: Callable[[AnswerServer], Future[LinkVersion]]) -> Future[Any]:
        def respond(done: Future[LinkVersion]) -> object:
            if error := done.exception():
                self.diagnostics.warn('links_refused', str(error))
                return kind.Response(success=False, message=f'{type(error).__name__}: {error}')
            version = done.result()
            message = f'{version.modality} links {version.version} are in use'
            self.get_logger().info(message)
            self._show()
            return kind.Response(success=True, message=message, link=link_to_message(version, True))

        server = self._server
        if server is None:
            changed: Future[LinkVersion] = Future()
            changed.set_exception(ConfigurationError(UNCONFIGURED))
        else:
            changed = change(server)
        return then(changed, respond)

    def _on_list_links(self, request: ListLinks.Request, response: ListLinks.Response) -> ListLinks.Response:
        server = self._server
        if server is not None:
            response.links = [link_to_message(version, active) for version, active in server.links]
        return response

    def _on_list_questions(self, request: ListQuestions.Request,
                           response: ListQuestions.Response) -> ListQuestions.Response:
        server = self._server
        return response if server is None else standing_to_message(server.standing())

    def _on_set_modality(self, request: SetModality.Request,
                         response: SetModality.Response) -> SetModality.Response:
        server = self._server
        try:
            if server is None:
                raise ConfigurationError(UNCONFIGURED)
            status = server.board.command(request.modality, request.command)
        except ConfigurationError as error:
            response.message = str(error)
            return response
        response.success, response.state = True, state_to_message(status)
        response.message = f'{status.modality} is {"plugged" if status.plugged else "not plugged"}, ' \
                           f'{"by hand" if status.pinned else "automatic"}'
        self._show()
        return response

    def _tick(self) -> float | None:
        """Count publishers, and publish the board on change and regularly."""
        server = self._server
        if server is None:
            return SHOWING
        now = time.monotonic()
        if now >= self._shown_again:
            self._shown_again = now + SHOWING
            self._look_around(server.board)
            server.look()
            if not self._quiet or now - self._repeated >= QUIET:
                self._shown, self._repeated = [], now
        self._quiet = all(status.state is State.STALE or not status.accepted for status in self._show())
        return SHOWING if self._quiet else TICK

    def _look_around(self, board: ModalityBoard) -> None:
        """Update the publishers on the board, and log new problems."""
        for modality in board.modalities:
            board.announce(modality, self._publisher_count(f'tokens/{modality}'))
        if not self._publisher_count('adaptation'):
            board.adapting(())
        board.hold(self.count_publishers('/clock') > 0)
        present = self._present()
        there = [self._encoders[node] for node in sorted(present & set(self._encoders))]
        for facts in there:
            board.introduce(facts)
        self._read_alike(there)
        board.retain_encoders(present)
        self._tell_fits(board)
        note = board.clock_note()
        if note and not self._clock_amiss:
            self.get_logger().warning(note)
        self._clock_amiss = bool(note)

    def _publisher_count(self, topic: str) -> int:
        """Return the number of publishers of an input; a subscription knows them without a search."""
        subscription = self._inputs.get(topic)
        return subscription.get_publisher_count() if subscription else self.count_publishers(topic)

    def _present(self) -> set[str]:
        """Return the names of the encoder nodes in the graph.

        It is searched when their number changes, and while one has not introduced itself.
        """
        count, now = self._publisher_count('encoders'), time.monotonic()
        known, (counted, searched) = self._encoder_nodes, self._encoders_seen
        if count != counted or count != len(known) or not known <= self._encoders.keys() \
                or now - searched >= SEARCH:
            infos = self.get_publishers_info_by_topic(self.resolve_topic_name('encoders'))
            self._encoder_nodes = known = {f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                                           for info in infos}
            self._encoders_seen = count, now
        return known

    def _amiss(self) -> str:
        """Return the lasting problems for /diagnostics: encoders without fitting links, and the clock."""
        server = self._server
        if server is None:
            return ''
        misfits = [text for good, text in self._settled_fits(server.board).values() if not good]
        return '; '.join(filter(None, [*misfits, server.board.clock_note()]))

    def _show(self) -> list[ModalityStatus]:
        """Return the states of the modalities; publish them if they changed."""
        with self._showing:
            server = self._server
            states = server.board.states() if server is not None else []
            shown = [(s.modality, s.state, s.plugged, s.pinned, s.links_version, s.encoder) for s in states]
            if states and shown != self._shown:
                self._states.publish(states_to_message(states, self._now()))
                self._shown = shown
            return states

    def _facts(self) -> dict[str, object]:
        """Return the values on /diagnostics beside the counters."""
        server = self._server
        if server is None:
            return {}
        load = server.load()
        facts = {'questions_waiting': load.waiting, 'questions_standing': load.standing,
                 'questions_expired': load.expired,
                 'frames_skipped': load.skipped_frames, 'links': server.links.name,
                 'memory_peak_mb': getrusage(RUSAGE_SELF).ru_maxrss / 1024}
        for status in server.board.states():
            facts[f'{status.modality}_state'] = status.state.name.lower()
            facts[f'{status.modality}_rate'] = status.rate
            facts[f'{status.modality}_age'] = status.age
            facts[f'{status.modality}_quality'] = status.quality
        return facts

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds


def _answered(done: Future[Answer]) -> tuple[bool, AskAction.Result]:
    answer = done.result()
    return answer.status is Status.OK, AskAction.Result(answer=answer_to_message(answer))


def _recalled(done: Future[Recollection]) -> tuple[bool, AskPast.Result]:
    if error := done.exception():
        return False, AskPast.Result(message=str(error))
    return True, recollection_to_message(done.result())


def main() -> int:
    """Run the node; returns the exit code."""
    try:
        return run_node(FusionNode)
    finally:
        gc.freeze()  # or Python looks through all objects of torch before it ends, for seconds


if __name__ == '__main__':
    sys.exit(main())
