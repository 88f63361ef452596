"""Command lines of the programs: parsers, their common options, and exit codes."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.common.page import RESULTS
from mpnp_ros.errors import MpnpError

FAILED, INTERRUPTED = 1, 130


def program_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of `python -m bench.NAME`; its help shows the whole description."""
    return argparse.ArgumentParser(prog=f'python -m bench.{name}', description=description,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)


def add_work_options(parser: argparse.ArgumentParser, kept: str, written: str, study: bool = True) -> None:
    """Add --study, --work, --output and --seeds of a program that keeps finished work.

    kept: content of the work folder.  written: files of the output folder.  study: whether the program
    starts from a study.
    """
    if study:
        parser.add_argument('--study', type=Path, required=True, metavar='FOLDER',
                            help='work folder of bench.study')
    parser.add_argument('--work', type=Path, required=True, metavar='FOLDER',
                        help=f'folder that keeps {kept}')
    parser.add_argument('--output', type=Path, default=RESULTS, metavar='FOLDER',
                        help=f'folder for {written} (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='SEED', help='seeds to run (default: all)')


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses the recipe of a study."""
    parser.add_argument('--recipe', type=Path, metavar='YAML',
                        help='recipe of the study (default: bench/study/study.yaml)')


def exit_code(name: str, run: Callable[[], int | None]) -> int:
    """Run a program; returns its exit code, 1 after a named error, 130 after Ctrl-C."""
    try:
        return run() or 0
    except MpnpError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
