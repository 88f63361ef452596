"""The action ``ask_stream``: an answer with its text as feedback.

No thread waits for an answer: the thread that computes it publishes the feedback, and the goal is concluded
when the answer is complete.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from mpnp_ros.action import Ask
from mpnp_ros.nodes.fusion_messages import answer_to_message
from mpnp_ros.serving.answers import CANCELLED, Answer, Inquiry, Progress, Status

PATIENCE = 1.0


class AskStream:
    """Serves ``ask_stream`` with what `stream` gives.

    Its callback group is exclusive, so that a goal is known before it can be cancelled.
    """

    def __init__(self, node: Node, stream: Callable[[Ask.Goal, Callable[[Progress], None]], Inquiry]) -> None:
        """stream(goal, on_progress): asks; it never waits."""
        self._stream = stream
        self._goals: dict[bytes, Inquiry] = {}
        self._server = ActionServer(
            node, Ask, 'ask_stream', execute_callback=lambda handle: Ask.Result(),
            handle_accepted_callback=self._accept, cancel_callback=self._cancel,
            callback_group=MutuallyExclusiveCallbackGroup())

    def _accept(self, handle: ServerGoalHandle) -> None:
        inquiry = self._stream(handle.request, partial(_feed_back, handle))
        self._goals[_key(handle)] = inquiry
        inquiry.future.add_done_callback(lambda done: handle.execute(partial(self._conclude, done.result())))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        inquiry = self._goals.get(_key(handle))
        if inquiry is None:
            return CancelResponse.REJECT
        return CancelResponse.ACCEPT if inquiry.cancel() else CancelResponse.REJECT

    def _conclude(self, answer: Answer, handle: ServerGoalHandle) -> Ask.Result:
        inquiry = self._goals.pop(_key(handle))
        if inquiry.reason == CANCELLED:
            _wait_for_cancel(handle)
        if handle.is_cancel_requested:
            handle.canceled()
        elif answer.status is Status.OK:
            handle.succeed()
        else:
            handle.abort()
        return Ask.Result(answer=answer_to_message(answer))


def _key(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)


def _feed_back(handle: ServerGoalHandle, progress: Progress) -> None:
    handle.publish_feedback(Ask.Feedback(text=progress.text, stage=progress.stage, tokens=progress.tokens))


def _wait_for_cancel(handle: ServerGoalHandle) -> None:
    """Wait for the cancellation; the answer can be complete before rclpy has recorded it."""
    end = time.monotonic() + PATIENCE
    while not handle.is_cancel_requested and time.monotonic() < end:
        time.sleep(0.001)
