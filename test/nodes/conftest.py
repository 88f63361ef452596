"""The fixture ``ros``: real nodes in real processes, among themselves."""
from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ros_harness import RosHarness


@pytest.fixture(scope='session')
def ros_harness() -> Iterator[RosHarness]:
    """The one harness of a test run."""
    pytest.importorskip('rclpy', reason='rclpy is not installed: no ROS 2 on this machine')
    path = Path(__file__).parents[1] / 'ros_harness.py'
    spec = importlib.util.spec_from_file_location('ros_harness', path)
    sys.modules['ros_harness'] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    harness = module.RosHarness()
    yield harness
    harness.close()


@pytest.fixture
def ros(ros_harness: RosHarness) -> Iterator[RosHarness]:
    """The harness, with everything that a test started stopped at its end."""
    mark = ros_harness.mark()
    yield ros_harness
    ros_harness.clean(mark)


@pytest.fixture(scope='module')
def module_ros(ros_harness: RosHarness) -> Iterator[RosHarness]:
    """The harness, for what the tests of one module share."""
    mark = ros_harness.mark()
    yield ros_harness
    ros_harness.clean(mark)
