"""Tiny links on a tiny language model and tiny encoders, for the demo and whatever starts a whole system."""
from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml
from rich.console import Console

from mpnp_ros.llm.weights import load_language_model
from mpnp_ros.methods.link_files import save_link
from mpnp_ros.methods.registry import create_method
from mpnp_ros.modalities.registry import create_encoder
from mpnp_ros.nuscenes.standin import write_standin

if TYPE_CHECKING:
    from ros_harness import RosHarness


@pytest.fixture
def console() -> Console:
    """A console that writes into memory, as wide as a log."""
    return Console(file=io.StringIO(), width=132)


@pytest.fixture(scope='session')
def tiny_system(tmp_path_factory: pytest.TempPathFactory, tiny_lm_folder: Path, tiny_camera: dict,
                tiny_lidar: dict) -> Path:
    """A parameter file of a whole system without any pre-trained weights: untrained links, small images."""
    folder = tmp_path_factory.mktemp('tiny_system')
    method = create_method('mpnp', load_language_model(tiny_lm_folder, 'cpu', 'float32'))
    links = []
    for name, given in (('camera', tiny_camera), ('lidar', tiny_lidar)):
        encoder = create_encoder(name, {key.removeprefix('encoder.'): value for key, value in given.items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            link = method.new_link(name, encoder.fingerprint, encoder.token_width, last=2)
        links.append(str(folder / name))
        save_link(link, folder / name)
    nodes = {'camera_encoder': {'encoder.tokens': 'columns', **tiny_camera}, 'lidar_encoder': tiny_lidar,
             'fusion': {'llm': str(tiny_lm_folder), 'dtype': 'float32', 'links': links},
             'world': {'width': 96, 'height': 54, 'questions': 1}}
    path = folder / 'params.yaml'
    path.write_text(yaml.safe_dump({f'/**/{name}': {'ros__parameters': values}
                                    for name, values in nodes.items()}))
    return path


@pytest.fixture(scope='session')
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated nuScenes root of one key frame, to be read only."""
    return Path(write_standin(tmp_path_factory.mktemp('standin') / 'root', seed=3, scenes=1, key_frames=1))


@pytest.fixture
def report(ros: RosHarness) -> Iterator[Callable[..., Callable[[], None]]]:
    """Give a function: text -> what a fusion node says of itself, until it is called or the test ends."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

    from mpnp_ros.nodes.worker import Ticker

    with contextlib.ExitStack() as left:
        def begin(text: str, level: int = 0, namespace: str = '/test', state: str = '') -> Callable[[], None]:
            node = rclpy.create_node('fusion', context=ros.node.context, namespace=namespace)
            left.callback(node.destroy_node)
            publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
            message = DiagnosticArray(status=[DiagnosticStatus(
                name=f'{namespace[1:]}/fusion: fusion', message=text, level=bytes([level]),
                values=[KeyValue(key='state', value=state or text)])])
            ticker = Ticker('report', .2, lambda: publisher.publish(message))
            left.callback(ticker.close)
            return ticker.close

        yield begin
