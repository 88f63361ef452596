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


@pytest.fixture(scope='session')
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random vision transformer that loads and runs in milliseconds."""
    import torch
    from transformers import ViTConfig, ViTModel
    folder = tmp_path_factory.mktemp('tiny_vit')
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       image_size=32, patch_size=16)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope='session')
def tiny_camera(tiny_backbone: Path) -> dict[str, object]:
    """Parameters of a camera encoder without pre-trained weights."""
    return {'encoder.backbone': str(tiny_backbone), 'encoder.device': 'cpu', 'encoder.dtype': 'float32',
            'encoder.height': 32, 'encoder.width': 64, 'encoder.blocks': [1, 2], 'encoder.columns': 2}


@pytest.fixture(scope='session')
def tiny_lidar(tiny_backbone: Path) -> dict[str, object]:
    """Parameters of a LiDAR encoder without pre-trained weights."""
    return {'encoder.backbone': str(tiny_backbone), 'encoder.device': 'cpu', 'encoder.dtype': 'float32',
            'encoder.height': 16, 'encoder.width': 64, 'encoder.blocks': [1, 2], 'encoder.sectors': 8,
            'encoder.rows': 8, 'encoder.columns': 64}
