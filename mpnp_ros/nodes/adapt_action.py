"""The action ``adapt``: train within a budget, with feedback.

No thread waits for a training: feedback is published periodically, and the goal is concluded when the job
ends.
"""
from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from mpnp_ros.action import Adapt
from mpnp_ros.adaptation.adapter import AdaptationManager
from mpnp_ros.adaptation.budget import Budget
from mpnp_ros.adaptation.job import CANCELLED, FAILED, TRAINED, JobResult
from mpnp_ros.adaptation.job_orders import Request
from mpnp_ros.errors import MpnpError
from mpnp_ros.msg import LinkInfo

PERIOD, PATIENCE = .2, 1.


class AdaptAction:
    """Serves ``adapt`` with an adapter."""

    def __init__(self, node: Node, adapter: AdaptationManager, group: CallbackGroup) -> None:
        """group: callback group of everything that uses the adapter."""
        self._adapter = adapter
        self._handle: ServerGoalHandle | None = None
        self._server = ActionServer(
            node, Adapt, 'adapt', execute_callback=lambda handle: Adapt.Result(),
            handle_accepted_callback=self._accept, cancel_callback=self._cancel, callback_group=group)
        self._timer = node.create_timer(PERIOD, self._feed_back, callback_group=group,
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()  # until there is a goal

    def _accept(self, handle: ServerGoalHandle) -> None:
        try:
            done = self._adapter.adapt(_request(handle.request))
        except MpnpError as error:
            handle.execute(partial(self._conclude, JobResult(FAILED, str(error))))
            return
        self._handle = handle
        self._timer.reset()
        done.add_done_callback(lambda future: handle.execute(partial(self._conclude, future.result())))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if handle is not self._handle:
            return CancelResponse.REJECT
        self._adapter.cancel()
        return CancelResponse.ACCEPT

    def _feed_back(self) -> None:
        handle, progress = self._handle, self._adapter.progress
        if handle is not None and handle.is_active and progress is not None:
            handle.publish_feedback(Adapt.Feedback(
                stage=progress.stage, step=progress.step, steps=progress.steps, loss=progress.loss,
                accuracy=progress.accuracy, remaining=progress.remaining))

    def _conclude(self, result: JobResult, handle: ServerGoalHandle) -> Adapt.Result:
        if handle is self._handle:
            self._handle = None
            self._timer.cancel()
        if result.status == TRAINED:
            handle.succeed()
        elif _is_cancelled(handle, result):
            handle.canceled()
        else:
            handle.abort()
        return _result(result)


def _is_cancelled(handle: ServerGoalHandle, result: JobResult) -> bool:
    """Return whether the goal is cancelled; a job can end before rclpy has recorded its cancellation."""
    end = time.monotonic() + PATIENCE
    while result.status == CANCELLED and not handle.is_cancel_requested and time.monotonic() < end:
        time.sleep(.001)
    return handle.is_cancel_requested


def _request(goal: Adapt.Goal) -> Request:
    budget = Budget(goal.budget_duration, goal.budget_macs, float(goal.budget_memory), goal.target_accuracy)
    return Request(tuple(goal.modalities), goal.supervision, goal.linked_blocks, budget)


def _result(result: JobResult) -> Adapt.Result:
    links = [LinkInfo(modality=name, version=Path(path).name, path=path)
             for name, path in result.links.items()]
    return Adapt.Result(
        success=result.status == TRAINED, message=result.message, links=links, accuracy=result.accuracy,
        start_accuracy=result.start_accuracy, blind_accuracy=result.blind_accuracy, duration=result.seconds,
        macs=result.macs, peak_memory=result.peak_bytes)
