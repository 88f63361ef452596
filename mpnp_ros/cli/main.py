"""The ``mpnp`` command: a table with one module per subcommand."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from mpnp_ros import __version__
from mpnp_ros.cli import signals, simulator
from mpnp_ros.errors import MpnpError

FAILED, INTERRUPTED = 2, 130


@dataclass(frozen=True)
class Command:
    """One subcommand; its module has ``add_arguments(parser)`` and ``run(arguments) -> exit code``.

    simulator: whether the module is one of the simulator, named relative to its package.
    """

    name: str
    module: str
    summary: str
    simulator: bool = False

    def load(self) -> ModuleType:
        """Import the module of the command, and no other.

        Raises ConfigurationError if it is one of the simulator, which is not installed.
        """
        return simulator.load(self.module) if self.simulator else import_module(self.module)


COMMANDS = (
    Command('demo', 'demo.command', 'demo: a drive from day into night with live accuracy', simulator=True),
    Command('doctor', 'mpnp_ros.cli.doctor', 'check this machine and suggest fixes'),
    Command('bringup', 'mpnp_ros.cli.bringup', 'start encoders, fusion and adaptation'),
    Command('ask', 'mpnp_ros.cli.ask', 'ask a question and print the answer as it is generated'),
    Command('watch', 'mpnp_ros.cli.watch', 'tell when something begins and ends'),
    Command('past', 'mpnp_ros.cli.past', 'ask about what the robot remembers, or a bag of tokens'),
    Command('questions', 'mpnp_ros.cli.questions', 'list and withdraw standing questions'),
    Command('status', 'mpnp_ros.cli.status', 'show the state of each modality'),
    Command('adapt', 'mpnp_ros.cli.adapt', 'train links on the running robot within a budget'),
    Command('links', 'mpnp_ros.cli.links', 'list, show, use, roll back and prune the links of a robot'),
    Command('record', 'mpnp_ros.cli.record', 'record tokens, answers and images of a running robot'),
    Command('review', 'mpnp_ros.cli.review', 'accept or correct the answers of a recording'),
    Command('train', 'mpnp_ros.cli.train', 'train links on nuScenes key frames'),
    Command('pretrain', 'mpnp_ros.cli.pretrain', 'train a head that counts objects by direction'),
    Command('evaluate', 'mpnp_ros.cli.evaluate', 'measure accuracy: of a running system on a bag, of links'),
    Command('convert', 'mpnp_ros.cli.convert', 'convert nuScenes scenes to ROS 2 bags'),
    Command('replay', 'mpnp_ros.cli.replay', 'play a bag with its clock and its questions'),
    Command('world', 'cli', 'generate, show or run the simulated world', simulator=True),
    Command('docs', 'mpnp_ros.cli.docs', 'write the pages of docs/reference and config/mpnp.yaml'),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 2 after a named error, 130 after Ctrl-C.

    argv: default: the arguments of the process; signals before and after the command end it silently.
    """
    with signals.at_once():
        code = _run(sys.argv[1:] if argv is None else argv)
    if argv is None:
        signals.end_at_once()
    return code


def _run(argv: Sequence[str]) -> int:
    width = max(len(entry.name) for entry in COMMANDS)
    here = [entry for entry in COMMANDS if not entry.simulator or simulator.is_installed()]
    lines = [f'  {entry.name:{width}}  {entry.summary}' for entry in here]
    overview = argparse.ArgumentParser(
        prog='mpnp', description='Ask a robot about what its sensors perceive.',
        epilog='\n'.join(['commands:', *lines, '', '`mpnp COMMAND --help` lists the options of a command.']),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    overview.add_argument('--version', action='version', version=f'mpnp_ros {__version__}')
    overview.add_argument('command', choices=[entry.name for entry in COMMANDS], metavar='COMMAND')
    overview.add_argument('arguments', nargs=argparse.REMAINDER, metavar='...')
    chosen = overview.parse_args(argv)
    command = next(entry for entry in COMMANDS if entry.name == chosen.command)
    try:
        module = command.load()
        parser = argparse.ArgumentParser(prog=f'mpnp {command.name}', description=module.__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(parser)
        parser.add_argument('--debug', action='store_true', help='show the traceback of an error')
        arguments = parser.parse_args(chosen.arguments)
    except MpnpError as error:
        return _complain(command, error)
    try:
        with signals.raised():
            return module.run(arguments)
    except MpnpError as error:
        if arguments.debug:
            raise
        return _complain(command, error)
    except signals.Interrupted as interruption:
        return interruption.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 0


def _complain(command: Command, error: MpnpError) -> int:
    print(f'mpnp {command.name}: {error}', file=sys.stderr)
    return FAILED


if __name__ == '__main__':
    sys.exit(main())
