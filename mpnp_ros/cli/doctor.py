"""Check packages, ROS 2, messages, transport and weights of this machine, and suggest fixes.

Camera and LiDAR drivers need the transport environment too; without it Fast DDS loses large messages. Run in
the terminal or service that starts them: eval "$(mpnp doctor --exports)"
"""
from __future__ import annotations

import json
import os
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from mpnp_ros.cli import simulator
from mpnp_ros.cli.checks import CHECKS, MISSING, NOTE, OK, WARNING, Finding
from mpnp_ros.transport import additions

COLOURS = {OK: 'green', NOTE: 'cyan', WARNING: 'yellow', MISSING: 'red'}
ENOUGH = .9


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


def checks() -> Sequence[Callable[[], Iterator[Finding]]]:
    """Return all checks, those of the simulator where it is installed."""
    return (*CHECKS, *simulator.load('checks').CHECKS) if simulator.is_installed() else CHECKS


def send_images(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Send large images from one process to another, if ROS is available."""
    if any(finding.name in ('rclpy', 'ROS messages') and finding.state == MISSING for finding in findings):
        return
    from mpnp_ros.cli.transport_probe import COUNT, images_received

    count = images_received()
    state = MISSING if count == 0 else WARNING if count < COUNT * ENOUGH else OK
    text = f'{count} of {COUNT} images of 4.3 MB arrived from another process'
    yield Finding('large messages', state, text,
                  'allow UDP on the loopback interface, give /dev/shm 1 GB (containers: --shm-size=1g '
                  '--ipc=host), and remove segments of killed processes (`fastdds shm clean`)')


def show(findings: Sequence[Finding]) -> None:
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
