"""`mpnp_ros.client.session` without a robot."""
from __future__ import annotations

import asyncio
import time

import pytest

from mpnp_ros.client.session import action_client_class, ros_session, within


def test_a_result_in_time_is_returned_and_a_late_one_is_not_awaited():
    async def main() -> None:
        assert await within(asyncio.sleep(0., 'soon'), 10.) == 'soon'
        queue: asyncio.Queue[str] = asyncio.Queue()
        with pytest.raises(asyncio.TimeoutError):
            await within(queue.get(), .01)
        queue.put_nowait('kept')
        assert await within(queue.get(), None) == 'kept'

    asyncio.run(main())


def test_a_cancellation_that_comes_with_the_result_is_a_cancellation():
    async def main() -> None:
        result = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(within(result, 10.))
        await asyncio.sleep(.01)
        result.set_result('answer')
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.ros
def test_a_session_that_has_ended_leaves_nothing_in_the_graph(ros):
    """With what is in a participant that stays, a client that comes later counts servers wrongly."""
    from mpnp_ros.action import Ask
    from rclpy.action import ActionClient
    from ros_harness import wait_until

    def sessions() -> list[str]:
        return [name for name in ros.node.get_node_names() if name.startswith('_mpnp')]

    with ros_session('/test') as node:
        client = ActionClient(node, Ask, 'ask_stream')
        wait_until(sessions, 'the session in the graph')
    wait_until(lambda: not sessions(), 'the session gone from the graph', 10.)
    assert client  # it is the end of the session that has ended it, not the last reference


class SlowHandle:
    """Sends a goal, and returns only after the response has come."""

    def __init__(self, handle):
        self._handle = handle

    def __getattr__(self, name):
        return getattr(self._handle, name)

    def __enter__(self):
        return self._handle.__enter__()

    def __exit__(self, *error):
        return self._handle.__exit__(*error)

    def send_goal_request(self, request):
        number = self._handle.send_goal_request(request)
        time.sleep(.5)
        return number


@pytest.mark.ros
def test_a_response_that_comes_while_a_goal_is_being_sent_is_not_lost(ros):
    from mpnp_ros.action import Ask
    from rclpy.action import ActionServer
    from ros_harness import wait_until

    def answer(handle):
        handle.succeed()
        return Ask.Result()

    server = ActionServer(ros.node, Ask, '/test/ask_stream', answer)
    with ros_session('/test') as node:
        client = action_client_class()(node, Ask, 'ask_stream')
        wait_until(client.server_is_ready, 'the server')
        client._client_handle = SlowHandle(client._client_handle)
        sent = client.send_goal_async(Ask.Goal())
        wait_until(sent.done, 'the acceptance', 5.)
        result = sent.result().get_result_async()
        wait_until(result.done, 'the result', 5.)
    server.destroy()
