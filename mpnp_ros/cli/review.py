"""Review recorded answers: accept or correct them, so that links can be trained on them.

    mpnp review drive                             # asks you, the least certain answers first
    mpnp review drive --web                       # the same in the browser, with images and buttons
    mpnp review drive --teacher http://localhost:11434/v1 --model qwen2.5vl    # asks a vision model
    mpnp review drive --accept-above 0.95         # takes what the robot is sure of as true
    mpnp review drive --labels answers.jsonl      # takes labels from a file

Corrections that were published while the robot was recorded count as labels of a person. Labels are kept in
FOLDER/labels.jsonl, one JSON object in a line; the next review goes on where one ended.
The images of a moment are put into FOLDER/images. An answer of a person counts more than one of a vision
model, and that more than one of the robot.
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpnp_ros.bags.labels import PERSON, ROBOT, TEACHER, read_labels
from mpnp_ros.cli.arguments import count, positive, share
from mpnp_ros.cli.output import percent
from mpnp_ros.cli.signals import interruptible
from mpnp_ros.errors import BagError
from mpnp_ros.progress import progress

if TYPE_CHECKING:
    from mpnp_ros.cli.recording import RecordedAnswer, Recording

ACCEPT, SKIP, LIST, QUIT = 'a', 's', '?', 'q'
HELP = (f'[{ACCEPT}] accept  [{SKIP}] cannot be told  [{LIST}] list the answers  [{QUIT}] quit, or type the '
        'right answer')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('recording', type=Path, metavar='FOLDER', help='written by `mpnp record`')
    parser.add_argument('--limit', type=count, default=0, metavar='N',
                        help='number of answers to review (default: all)')
    parser.add_argument('--accept-above', type=share, metavar='P',
                        help='take answers of at least this confidence, 0 to 1, as true, and ask nothing')
    parser.add_argument('--labels', type=Path, metavar='FILE',
                        help='take labels from a file of JSON lines, and ask nothing')
    teacher = parser.add_argument_group('by a vision model')
    teacher.add_argument('--teacher', metavar='URL',
                         help='API of an OpenAI-style chat endpoint that looks at images, as llama.cpp, '
                         'Ollama, vLLM and llama_ros have it; the images are sent there')
    teacher.add_argument('--model', default='', metavar='NAME', help='model (default: the only one there)')
    teacher.add_argument('--timeout', type=positive, default=120., metavar='S',
                         help='seconds to wait for each reply (default: %(default)g)')
    teacher.add_argument('--quiet', action='store_true', help='print no progress')
    web = parser.add_argument_group('in the browser')
    web.add_argument('--web', action='store_true', help='serve a page until Ctrl-C')
    web.add_argument('--host', default='127.0.0.1',
                     help='address to serve on; whoever reaches it can label (default: %(default)s, this '
                     'machine only)')
    web.add_argument('--port', type=count, default=8470, help='0: any (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Review; exit code 0, also where the review was ended before all answers were seen."""
    from mpnp_ros.cli.recording import Recording

    with Recording(arguments.recording) as recording:
        recording.labels.add([label for label in recording.corrections
                              if (known := recording.labels.get(label.asked)) is None or known.by != PERSON])
        if arguments.labels is not None or arguments.accept_above is not None:
            if arguments.labels is not None:
                print(take_labels(recording, arguments.labels))
            if arguments.accept_above is not None:
                added = recording.labels.add(answer.label(answer.text, ROBOT) for answer in recording.answers
                                             if answer.confidence >= arguments.accept_above)
                print(f'{added} answers of a confidence of {percent(arguments.accept_above)} or more are '
                      'taken as true')
        elif arguments.teacher:
            print(ask_teacher(recording, arguments))
        elif arguments.web:
            from mpnp_ros.cli.review_web import serve

            serve(recording, arguments.limit, arguments.host, arguments.port)
        else:
            review(recording, arguments.limit, input)
        print(summary(recording))
    return 0


def take_labels(recording: Recording, path: Path) -> str:
    """Add the labels of a file, and return in words what became of them.

    Raises BagError where none of them is about what was recorded.
    """
    labels = read_labels(path)
    known = {answer.asked for answer in recording.answers}
    fitting = [label for label in labels if label.asked in known or recording.moments([label])]
    if labels and not fitting:
        raise BagError(f'none of the {len(labels)} labels of {path} is about a moment of {recording.folder}; '
                       'stamp_ns is that of the recorded answer')
    added = recording.labels.add(fitting)
    left_out = len(labels) - len(fitting)
    return f'{added} labels of {path} are taken' + (
        f'; {left_out} are left out, as nothing was recorded at their times' if left_out else '')


def ask_teacher(recording: Recording, arguments: Namespace) -> str:
    """Let a vision model label answers, and return in words what came of it; Ctrl-C ends it in order."""
    from mpnp_ros.cli.teacher import Teacher, teach

    teacher = Teacher(arguments.teacher, arguments.model, arguments.timeout)
    with interruptible() as cancelled, progress('teacher', 'question', arguments.quiet) as show:
        return teach(recording, teacher, arguments.limit, show, cancelled)


def review(recording: Recording, limit: int, ask: Callable[[str], str]) -> None:
    """Ask a person about one answer after the other until all are seen or the person quits.

    limit: number of answers; 0: all.  ask: shows a prompt and returns a line; EOFError quits.
    """
    answers = recording.to_review()[:limit or None]
    for place, answer in enumerate(answers, 1):
        print(f'\n{place} of {len(answers)}: {described(answer)}')
        for path, later in recording.pictures(answer.stamp_ns):
            print(f'  {path}' + (f' ({later:+.1f} s)' if abs(later) >= .05 else ''))
        said = judgement(answer, ask)
        if said is None:
            return
        recording.labels.add([answer.label(said, PERSON)])


def judgement(answer: RecordedAnswer, ask: Callable[[str], str]) -> str | None:
    """Return the true answer as a person says it; empty: it cannot be told; None: to quit."""
    print(f'  {HELP}')
    while True:
        try:
            line = ' '.join(ask('> ').split()).lower()
        except EOFError:
            return None
        if line == QUIT:
            return None
        if line in (ACCEPT, SKIP):
            return answer.text if line == ACCEPT else ''
        found = meant(line, answer.choices) if line and line != LIST else []
        if len(found) == 1:
            return found[0]
        print(f'  {", ".join(found or answer.choices)}')


def meant(text: str, choices: Sequence[str]) -> list[str]:
    """Return the choices that a text may mean: the one it is, or those that begin with it."""
    exact = [choice for choice in choices if choice.lower() == text]
    return exact or [choice for choice in choices if choice.lower().startswith(text)]


def described(answer: RecordedAnswer) -> str:
    """Return question, answer, other likely answers, and what it rests on."""
    from mpnp_ros.cli.recording import LIKELY

    likely = sorted(answer.probabilities, key=lambda choice: -answer.probabilities[choice])[:LIKELY]
    odds = ', '.join(f'{choice} {answer.probabilities[choice]:.2f}' for choice in likely)
    rests = '\n  '.join(answer.rests.splitlines())
    return f'{answer.question}\n  the robot says: {answer.text}  ({odds})\n  {rests}'


def summary(recording: Recording) -> str:
    """Return the number of labels by who said them, and what comes next."""
    counts, labels = recording.labels.counts(), recording.labels
    names = {PERSON: 'by a person', TEACHER: 'by a vision model', ROBOT: 'by the robot itself'}
    said = ', '.join(f'{counts[by]} {name}' for by, name in names.items() if counts[by]) or 'none'
    skipped = sum(not label.answer for label in labels)
    lines = [f'{labels.path}: {sum(counts.values())} of {len(recording.answers)} answers are labelled '
             f'({said}){f"; {skipped} cannot be told" if skipped else ""}']
    judged = [(answer, label) for answer in recording.answers
              if (label := labels.get(answer.asked)) is not None and label.by != ROBOT and label.answer]
    if judged:
        right = sum(answer.text == label.answer for answer, label in judged)
        lines.append(f'the robot was right in {right} of the {len(judged)} that others judged '
                     f'({percent(right / len(judged))})')
    if any(counts.values()):
        lines.append(f'train on them: mpnp train --recording {recording.folder} --output LINKS')
    return '\n'.join(lines)

