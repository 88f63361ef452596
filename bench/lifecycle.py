"""Run every node through its life cycle repeatedly while data arrives.

    python -m bench.lifecycle --cycles 1000

Networks are tiny, so that a cycle takes a fraction of a second.  Memory, threads and descriptors are printed
regularly.  The exit code is 1 if a transition fails, a node logs an error, or memory grows by more than
``--most`` MB after the first tenth of the cycles.
"""
from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.jobs import status
from bench.common.program import program_parser

NAMESPACE = '/lifecycle'
CYCLE = ('configure', 'activate', 'deactivate', 'cleanup')
SERVICE_TIMEOUT, DATA_PERIOD, SHOWN = 60., .1, 20
NODES = ('camera_encoder', 'lidar_encoder', 'radar_encoder', 'fusion')
WRONG = ('[ERROR]', '[FATAL]', 'Traceback', 'never retrieved', 'never awaited')


@dataclass(frozen=True)
class NodeLoad:
    """Resident memory in MB, threads and open descriptors of a process."""

    megabytes: float
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> NodeLoad:
        """The current load of a process."""
        fields = status(pid)
        return cls(int(fields['VmRSS'].split()[0]) / 1024, int(fields['Threads']),
                   len(os.listdir(f'/proc/{pid}/fd')))


@dataclass
class Report:
    """The result of a node: loads by cycle, failed transitions and suspicious lines of its log."""

    node: str
    loads: dict[int, NodeLoad] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Growth of memory after the first tenth of the cycles, MB."""
        last = max(self.loads)
        first = min(cycle for cycle in self.loads if cycle >= last / 10)
        return self.loads[last].megabytes - self.loads[first].megabytes

    def verdict(self, most: float) -> str:
        """The faults as text; empty if there are none.  most: allowed growth of memory, MB."""
        wrong = [f'{len(self.failed)} transitions failed, first {self.failed[0]}'] if self.failed else []
        wrong += [f'its log: {line}' for line in self.lines[:3]]
        wrong += [f'memory grew by {self.growth:.1f} MB'] if self.growth > most else []
        return '; '.join(wrong)


def tiny_networks(folder: Path) -> dict[str, dict[str, object]]:
    """Write random networks to a folder; returns the parameters of each node."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, ViTConfig, ViTModel

    torch.manual_seed(0)
    vision, language = folder / 'vision', folder / 'language'
    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       image_size=32, patch_size=16), add_pooling_layer=False).save_pretrained(vision)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(['is the car moving? yes no'], trainers.BpeTrainer(
        special_tokens=['<pad>', '</s>'], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token='</s>',
                            pad_token='<pad>').save_pretrained(language)
    AutoModelForCausalLM.from_config(LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=48, bos_token_id=None, eos_token_id=1, pad_token_id=0)).save_pretrained(language)
    on = {'encoder.device': 'cpu', 'encoder.dtype': 'float32', 'threads': 1}
    return {'camera_encoder': {**on, 'encoder.backbone': str(vision), 'encoder.tokens': 'columns',
                               'encoder.height': 32, 'encoder.width': 64, 'encoder.blocks': [1, 2],
                               'encoder.columns': 2, 'cameras': ['front', 'back']},
            'lidar_encoder': on, 'radar_encoder': {**on, 'radars': ['radar_front', 'radar_back']},
            'fusion': {'llm': str(language), 'device': 'cpu', 'dtype': 'float32', 'threads': 1,
                       'links': [''], 'link_store': '', 'choices': ''}}


class SensorPublishers:
    """Publishes all inputs of a node at 10 Hz, from construction until :meth:`close`."""

    def __init__(self, node: Any, kind: str) -> None:
        publish = getattr(self, f'_for_{kind}')(node)
        self._closed = threading.Event()

        def run() -> None:
            while not self._closed.wait(DATA_PERIOD):
                publish(time.time_ns())

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop publishing."""
        self._closed.set()
        self._thread.join()

    def _for_camera_encoder(self, node: Any) -> Callable[[int], object]:
        from PIL import Image as Picture
        from sensor_msgs.msg import CameraInfo, CompressedImage

        from mpnp_ros.conversions.images import from_encoded

        stream, noise = io.BytesIO(), np.random.default_rng(0)
        Picture.fromarray(noise.integers(0, 255, (48, 64, 3), np.uint8)).save(stream, 'JPEG')
        images = {name: node.create_publisher(CompressedImage, f'{name}/image_rect/compressed', 5)
                  for name in ('front', 'back')}
        infos = [node.create_publisher(CameraInfo, f'{name}/camera_info', 5) for name in images]

        def publish(stamp: int) -> None:
            for name, publisher in images.items():
                publisher.publish(from_encoded(stream.getvalue(), name, stamp))
            for publisher in infos:
                publisher.publish(CameraInfo(width=64, height=48))

        return publish

    def _for_lidar_encoder(self, node: Any) -> Callable[[int], object]:
        from sensor_msgs.msg import PointCloud2

        from mpnp_ros.conversions.pointclouds import Points, from_points

        publisher = node.create_publisher(PointCloud2, 'lidar_top', 5)
        xyz = np.random.default_rng(0).normal(0, 10, (5000, 3)).astype(np.float32)
        points = Points(xyz, np.ones(len(xyz), np.float32))
        return lambda stamp: publisher.publish(from_points(points, 'lidar_top', stamp))

    def _for_radar_encoder(self, node: Any) -> Callable[[int], object]:
        from sensor_msgs.msg import PointCloud2

        publishers = [node.create_publisher(PointCloud2, name, 5) for name in ('radar_front', 'radar_back')]
        return lambda stamp: [publisher.publish(PointCloud2()) for publisher in publishers]

    def _for_fusion(self, node: Any) -> Callable[[int], object]:
        from mpnp_ros.msg import ModalityTokens as Message
        from std_msgs.msg import String

        from mpnp_ros.conversions.messages import to_message
        from mpnp_ros.tokens import ModalityTokens

        tokens = {name: node.create_publisher(Message, f'tokens/{name}', 5) for name in ('camera', 'lidar')}
        question = node.create_publisher(String, 'question_text', 5)

        def publish(stamp: int) -> None:
            for name, publisher in tokens.items():
                publisher.publish(to_message(ModalityTokens(
                    name, 'none', np.zeros((4, 8), np.float32), np.zeros(4, np.float32), stamp_ns=stamp)))
            question.publish(String(data='is the car moving?'))

        return publish


class MeasuredNode:
    """A node in its own process and a client of its life cycle."""

    def __init__(self, kind: str, parameters: Mapping[str, object], node: Any) -> None:
        from lifecycle_msgs.srv import ChangeState

        from mpnp_ros.cli.node_processes import Placement, node_process

        spec = node_process(kind, Placement(NAMESPACE, autostart=False), parameters)
        self._process = subprocess.Popen(spec.command, env={**os.environ, **spec.environment}, text=True,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors='replace')
        self.lines: list[str] = []
        output = self._process.stdout
        assert output is not None  # a pipe
        self._reader = threading.Thread(target=lambda: self.lines.extend(output), daemon=True)
        self._reader.start()
        self._client = node.create_client(ChangeState, f'{NAMESPACE}/{kind}/change_state')
        if not self._client.wait_for_service(SERVICE_TIMEOUT):
            raise TimeoutError(f'{kind} did not start within {SERVICE_TIMEOUT:g} s: {"".join(self.lines)}')
        time.sleep(1.)  # the node must discover this client, or its first response is lost

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def change(self, transition: str) -> bool:
        """Request a transition; returns False if it fails or the node does not answer."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = transition
        future, end = self._client.call_async(request), time.monotonic() + SERVICE_TIMEOUT
        while not future.done():
            if time.monotonic() > end or self._process.poll() is not None:
                self._client.remove_pending_request(future)
                return False
            time.sleep(.002)
        return future.result().success

    def close(self) -> None:
        """Stop the node."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SERVICE_TIMEOUT)
        self._process.kill()
        self._process.wait()
        self._reader.join(5.)


def run(kind: str, parameters: Mapping[str, object], cycles: int,
        show: Callable[[int, NodeLoad], None] = lambda cycle, load: None) -> Report:
    """Run one node through `cycles` life cycles.  show: called regularly with cycle and load."""
    from mpnp_ros.cli.session import ros_session

    report, every = Report(kind), max(1, cycles // SHOWN)
    with ros_session(NAMESPACE) as node, ExitStack() as stack:
        subject = MeasuredNode(kind, parameters, node)
        stack.callback(subject.close)
        sensors = SensorPublishers(node, kind)
        stack.callback(sensors.close)
        for cycle in range(1, cycles + 1):
            for transition in CYCLE:
                if not subject.change(transition):
                    report.failed.append(f'{transition} in cycle {cycle}')
                if transition == 'activate':
                    time.sleep(DATA_PERIOD)
            if len(report.failed) > SHOWN:
                break
            if cycle % every == 0 or cycle == cycles:
                report.loads[cycle] = NodeLoad.of(subject.pid)
                show(cycle, report.loads[cycle])
    report.lines = [line.strip() for line in subject.lines if any(word in line for word in WRONG)]
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = program_parser('lifecycle', __doc__)
    parser.add_argument('nodes', nargs='*', default=NODES, metavar='NODE', help=f'of {", ".join(NODES)}')
    parser.add_argument('--cycles', type=int, default=100, help='cycles per node (default: %(default)s)')
    parser.add_argument('--most', type=float, default=5.,
                        help='allowed growth of memory, MB (default: %(default)s)')
    chosen = parser.parse_args(arguments)
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        parameters = tiny_networks(Path(folder))
        for node in chosen.nodes:
            print(f'{node}: {chosen.cycles} cycles', flush=True)
            report = run(node, parameters[node], chosen.cycles, lambda cycle, load: print(
                f'  {cycle:5d}  {load.megabytes:7.1f} MB  {load.threads} threads  '
                f'{load.descriptors} descriptors', flush=True))
            verdict = report.verdict(chosen.most)
            wrong |= bool(verdict)
            print(f'  {verdict or f"well; memory grew by {report.growth:.1f} MB"}', flush=True)
    return int(wrong)


if __name__ == '__main__':
    sys.exit(main())
