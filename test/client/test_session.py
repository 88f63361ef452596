"""`mpnp_ros.client.session` without a robot."""
from __future__ import annotations

import asyncio

import pytest

from mpnp_ros.client.session import ros_session, within


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
