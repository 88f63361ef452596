"""Ask about the past: a running robot, from what it remembers, or a bag that holds tokens.

    mpnp past "When was the last bus?"
    mpnp past "How many cars are there?" --window 30
    mpnp past "Did a pedestrian pass?" --bag recorded

`ros2 bag record` of the topics tokens/<modality> makes such a bag.  Exit code 0: answered. 1: the question is
not understood, or nothing is remembered. 2: not running. 4: the sensors do not tell the answer.
"""
from __future__ import annotations

import json
import math
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from mpnp_ros.cli.arguments import add_namespace, not_negative, positive
from mpnp_ros.cli.ask import UNKNOWN
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import BagError, LinksError, QuestionError, RequestError, TokensError
from mpnp_ros.progress import progress
from mpnp_ros.tokens import SECOND

TOKENS_TYPE = 'mpnp_ros/msg/ModalityTokens'


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('question', help='the question; one about the present is asked of every moment')
    parser.add_argument('--choices', nargs='+', default=[], metavar='ANSWER',
                        help='closed list of answers (default: the parameter choices of the fusion node)')
    parser.add_argument('--window', type=not_negative, default=0., metavar='S',
                        help='seconds that are looked at (default: as the question says, else all)')
    parser.add_argument('--bag', type=Path, help='bag with tokens, in place of a running robot')
    parser.add_argument('--interval', type=positive, default=0.5, metavar='S',
                        help='with --bag, shortest time between two moments (default: %(default)s)')
    parser.add_argument('--timeout', type=positive, default=600., metavar='S',
                        help='seconds to wait for the node and the answer (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    add_namespace(parser)


def run(arguments: Namespace) -> int:
    """Print the answer and the times that it rests on; exit code 0, 1 or 4, see above.

    Without a fusion node it raises NotAnsweringError, for which the command ends with 2.
    """
    from mpnp_ros.nodes.fusion_messages import recollection_to_message

    with progress('moments', 'moment', arguments.json) as show:
        try:
            if arguments.bag is None:
                with connected('past', arguments.namespace, arguments.timeout) as robot:
                    result = robot.ask_past(
                        arguments.question, arguments.choices, window=arguments.window,
                        progress=lambda feedback: show(feedback.moments, feedback.remembered))
            else:
                result = recollection_to_message(_of_bag(arguments, show))
        except (RequestError, QuestionError) as error:
            print(f'mpnp past: {error}', file=sys.stderr)
            return 1
    if arguments.json:
        print(json.dumps(as_dict(result)))
    elif result.message:
        print(f'mpnp past: {result.message}', file=sys.stderr)
    else:
        print(result.text)
        for span in as_dict(result)['spans']:
            print(f'  {in_words(span)}')
    return UNKNOWN if result.message else 0


def _of_bag(arguments: Namespace, show: Any) -> Any:
    """Return the Recollection of a bag, from the shipped links that fit its tokens."""
    from mpnp_ros.cli.evaluate_links import link_to
    from mpnp_ros.llm.weights import load_language_model
    from mpnp_ros.methods.link_store import shipped_link
    from mpnp_ros.methods.registry import DEFAULT_METHOD, create_method
    from mpnp_ros.modalities.registry import sensors
    from mpnp_ros.questions.past import past_question
    from mpnp_ros.questions.subjects import all_answers
    from mpnp_ros.serving.past import PastInquiry

    asked = past_question(arguments.question)
    memory = remembered(arguments.bag, arguments.interval)
    moments = memory.moments()
    lm = load_language_model()
    method = create_method(DEFAULT_METHOD, lm)
    for tokens in {name: tokens for moment in moments for name, tokens in moment.tokens.items()}.values():
        sensor = sensors().get(tokens.modality)
        link = shipped_link(
            tokens.modality, tokens.encoder, tokens.width, sensor.reads_like if sensor else ''
        )
        if link is not None:
            method.plug(link_to(link, tokens.modality, tokens.encoder, lm))
    if not method.modalities:
        raise LinksError(f'bag {arguments.bag}: no shipped links read its tokens')
    inquiry = PastInquiry(asked, arguments.choices or all_answers(), moments,
                          lambda count: show(count, len(moments)), arguments.window or math.inf)
    return inquiry.answer(method)


def remembered(bag: Path, interval: float) -> Any:
    """Return a TokenMemory of all tokens of a bag.  Raises BagError if there are none."""
    from rclpy.serialization import deserialize_message

    from mpnp_ros.bags.storage import Bag
    from mpnp_ros.conversions.messages import from_message
    from mpnp_ros.msg import ModalityTokens
    from mpnp_ros.serving.memory import TokenMemory

    opened = Bag(bag, lambda text: print(f'mpnp past: {text}', file=sys.stderr))
    memory = TokenMemory(math.inf, sys.maxsize, interval)
    try:
        topics = [name for name, topic in opened.topics.items() if topic.type_name == TOKENS_TYPE]
        for message in opened.messages(topics):
            try:
                memory.remember(from_message(deserialize_message(message.data, ModalityTokens)))
            except (TokensError, RuntimeError) as error:  # RuntimeError: not a message of this type
                raise BagError(
                    f'bag {bag}: a message on {message.topic} cannot be read ({error}); record it again'
                ) from None
    finally:
        opened.close()
    if not memory.moments():
        raise BagError(f'bag {bag} has no tokens; record the topics tokens/<modality> of a running system')
    return memory


def as_dict(result: Any) -> dict[str, Any]:
    """Return an AskPast.Result as plain data; times in seconds."""
    def seconds(stamp: Any) -> float:
        return stamp.sec + stamp.nanosec / SECOND

    return {'text': result.text, 'message': result.message, 'moments': result.moments,
            'spans': [{'begin': seconds(span.begin), 'end': seconds(span.end), 'answer': span.answer,
                       'probability': span.probability} for span in result.spans]}


def in_words(span: dict[str, Any]) -> str:
    """Return a span with the times of day of its stamps."""
    begin, end = (time.strftime('%H:%M:%S', time.localtime(span[name])) for name in ('begin', 'end'))
    return f'{begin if begin == end else f"{begin} to {end}"}  {span["answer"]} ({span["probability"]:.2f})'
