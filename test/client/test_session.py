"""`mpnp_ros.client.session` without a robot."""
from __future__ import annotations

import asyncio

import pytest

from mpnp_ros.client.session import within


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
