"""Measure what the audio encoder hears and from where, or fit the calibration that the package has.

    python -m bench.audio --root CLIPS [--weights WEIGHTS ...] [--page docs/results/audio.md]
    python -m bench.audio --fit mpnp_ros/data/sounds.yaml

CLIPS is a folder with labels.csv (file, label, source_id) and FLAC or WAV files, such as
../shared/data/urban_sounds; pip install soundfile==0.14.0 for FLAC.  Nothing is trained on them: the
calibration is fitted on synthetic sounds (bench/audio/synthetic.py).  Directions are measured on simulated
arrays of microphones, and in the embedded world.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from bench.audio.arrays import SNRS, DirectionScore, measure_directions
from bench.audio.clips import Clips, SoundScore, alarms_by_label, read_clips, score_clips
from bench.audio.drive import AUDIBLE, DriveScore, measure_drive
from bench.audio.synthetic import MAKERS, RATE, windows
from bench.common.page import markdown_table
from bench.common.program import exit_code, program_parser
from mpnp_ros.modalities.audio.channels import CHANNELS
from mpnp_ros.modalities.audio.config import YAMNET, AudioConfig
from mpnp_ros.modalities.audio.encoder import LARGEST_LOGIT, AudioEncoder

FIT_SEED, FIT_WINDOWS = 1, 800
PULL = 2.0
"""Weight by which scale and bias are pulled towards 1 and 0."""
SEEDS, DRIVE_WINDOWS = range(200, 212), 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = program_parser('audio', str(__doc__))
    parser.add_argument('--root', type=Path, help='folder of clips')
    parser.add_argument('--weights', nargs='+', default=[YAMNET], help='as encoder.weights')
    parser.add_argument('--page', type=Path, help='write this page, and a JSON file beside it')
    parser.add_argument('--trials', type=int, default=30, help='simulated sounds of each SNR')
    parser.add_argument('--fit', type=Path, metavar='YAML', help='fit the calibration and write this file')
    given = parser.parse_args(arguments)
    return exit_code('audio', lambda: fit(given.fit) if given.fit else measure(given))


def fit(path: Path) -> None:
    """Fit scale and bias of every channel that synthetic sounds have, and write them."""
    encoder = AudioEncoder(AudioConfig(device='cpu'))
    names, raw = zip(*((name, encoder.raw(sound, RATE)) for name, sound in windows(FIT_SEED, FIT_WINDOWS)),
                     strict=True)
    lines = ['# Scale and bias of the logits of each classifier by channel (Platt scaling), made by',
             '# `python -m bench.audio --fit`, from synthetic sounds alone; other channels have 1 and 0.',
             f'{YAMNET}:']
    for channel in MAKERS:
        scale, bias = platt(np.array(raw)[:, CHANNELS.index(channel)], np.array(names) == channel)
        lines.append(f'  {channel}: [{scale:.3f}, {bias:.3f}]')
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    print('\n'.join(lines))


def platt(probability: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return scale and bias of logits with the least log loss (J. Platt, 1999), pulled towards 1 and 0."""
    with np.errstate(divide='ignore'):
        logit = (np.log(probability) - np.log1p(-probability)).clip(-LARGEST_LOGIT, LARGEST_LOGIT)
    sign = np.where(truth, -1.0, 1.0)

    def loss(pair: np.ndarray) -> float:
        made = pair[0] * logit + pair[1]
        return float(np.logaddexp(0, sign * made).sum() + PULL * ((pair[0] - 1) ** 2 + pair[1] ** 2))

    scale, bias = minimize(loss, (1.0, 0.0), bounds=((0.1, 10), (-10, 10))).x
    return float(scale), float(bias)


def measure(given: argparse.Namespace) -> None:
    """Measure, print and write the page."""
    parts: list[str] = []
    results: dict[str, object] = {}
    for weights in given.weights if given.root else ():
        encoder = AudioEncoder(AudioConfig(weights=weights, device='cpu'))
        clips = read_clips(given.root, encoder)
        scores = list(score_clips(clips))
        name = Path(weights).name
        results[name] = [asdict(score) for score in scores]
        parts += [clip_part(name, given.root.name, clips, scores)]
        print(parts[-1])
    drive = measure_drive(AudioEncoder(AudioConfig(device='cpu')), SEEDS, DRIVE_WINDOWS)
    directions = list(measure_directions(given.trials))
    results |= {'directions': [asdict(score) for score in directions], 'world': asdict(drive)}
    parts += [direction_part(directions, given.trials), drive_part(drive)]
    print('\n'.join(parts[-2:]))
    if given.page:
        given.page.write_text('\n'.join([HEAD, *parts]), encoding='utf-8')
        given.page.with_suffix('.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')


def clip_part(weights: str, folder: str, clips: Clips, scores: Sequence[SoundScore]) -> str:
    """Return the tables of recorded clips."""
    def percent(*values: float) -> list[str]:
        return [f'{100 * value:.1f}' for value in values]

    rows = [(score.channel, score.clips, *percent(score.ap), f'{100 * score.low:.0f}-{100 * score.high:.0f}',
             *percent(score.chance, score.fair, score.recall, score.false, score.error, score.raw_error),
             f'{score.brier:.3f}', f'{score.prior:.3f}', *percent(score.accuracy, score.majority))
            for score in scores]
    heads = ('channel', 'clips', 'AP', '95 %', 'chance', 'fair', 'recall', 'false alarms', 'ECE', 'ECE raw',
             'Brier', 'prior', 'accuracy', 'majority')
    labels = [(label, count, *(f'{100 * share:.0f}' for share in said))
              for label, count, said in alarms_by_label(clips)]
    sources = len(set(clips.sources))
    return '\n'.join([
        f'## {folder}: {len(clips.labels)} clips of {sources} sources, weights {weights}', '',
        markdown_table(heads, rows, True), '',
        'Share of the clips of each label with a probability of 0.5 or more, in percent:', '',
        markdown_table(('label', 'clips', *CHANNELS), labels, True), ''])


def direction_part(scores: Sequence[DirectionScore], trials: int) -> str:
    """Return the table of simulated arrays."""
    by = {(score.array, score.source, score.snr): score for score in scores}
    rows = [(array, source, *(cell(by[array, source, snr]) for snr in SNRS))
            for array, source in dict.fromkeys((score.array, score.source) for score in scores)]
    return '\n'.join([
        '## Direction, simulated arrays', '',
        f'Median error in degrees of the directions that were told / percent of all {trials} sounds with a '
        'direction within 10 degrees, by SNR at each microphone. Sounds of 2 s from random directions with '
        'three echoes from others, each a third of the amplitude; each microphone has noise of its own.', '',
        markdown_table(('array', 'source', *(f'{snr} dB' for snr in SNRS)), rows, True), ''])


def cell(score: DirectionScore) -> str:
    """Return one cell of the table of directions."""
    return f'{"-" if np.isnan(score.median) else f"{score.median:.1f}"} / {100 * score.near:.0f}'


def drive_part(score: DriveScore) -> str:
    """Return what was heard in the world."""
    return '\n'.join([
        '## The embedded world', '',
        f'{score.windows} windows of 2 s in the streets of seeds {SEEDS.start} to {SEEDS.stop - 1}, four '
        f'microphones on the roof; {score.sirens} with a siren within {AUDIBLE:g} m. Sound there is '
        'synthetic.', '',
        markdown_table(('AP of siren', 'chance', 'with a direction', 'median error', 'within 15 degrees'), [(
            f'{100 * score.ap:.1f}', f'{100 * score.chance:.1f}', f'{100 * score.told:.0f} %',
            f'{score.median:.1f} degrees', f'{100 * score.near:.0f} %')], True), ''])


HEAD = """# Audio: what is heard, and from where

Output of `python -m bench.audio --root ../shared/data/urban_sounds --weights yamnet
../shared/models/yamnet/yamnet.tflite --page docs/results/audio.md`. The calibration was fitted by
`python -m bench.audio --fit mpnp_ros/data/sounds.yaml` on synthetic sounds alone.

AP: average precision of the clips of a label against all others; 95 %: its interval over draws of sources.
Fair: without clips in which the channel is heard too although they are called something else (chainsaws,
jackhammers, drills and helicopters have engines; children speak). Recall and false alarms: shares of its
clips and of the others (fair ones) with a probability of 0.5 or more. ECE: expected calibration error in
percent (fair clips), raw: as the classifier gives probabilities. Brier score beside that of the share of its
clips as the probability of each. Accuracy of "0.5 or more" beside that of always "no".

A clip of 3 s is one window. Speech there is spoken digits with nothing above 4 kHz. tyres and alarm have no
clips. Recordings were used for measuring only. With them in view it was decided to take the mean over the
patches of a window (as YAMNet's own example does) instead of the greatest, and to leave the classes of
vehicles out of engine. The siren of the embedded world was made to wail after a first run: YAMNet did not
take one of two pure tones for a siren (AP 27.8 there).
"""

if __name__ == '__main__':
    sys.exit(main())
