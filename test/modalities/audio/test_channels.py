"""Channels of sound, and the classes of classifiers that mean them."""
from __future__ import annotations

import subprocess
import sys

from mpnp_ros.modalities.audio.channels import CHANNELS, CLASSES, classes_of


def test_every_channel_has_classes_and_no_class_has_two_channels():
    assert tuple(CLASSES) == CHANNELS == ('siren', 'horn', 'engine', 'tyres', 'speech', 'alarm')
    names = [name for classes in CLASSES.values() for name in classes]
    assert len(set(names)) == len(names)


def test_names_are_found_whatever_their_case_and_separators():
    names = ['dog', 'SIREN', 'car horn', 'clock_alarm', 'engine', 'Speech']
    assert classes_of(names) == [[1], [2], [4], [], [5], [3]]


def test_channels_can_be_imported_without_torch_and_ros():
    code = ('import sys; import mpnp_ros.modalities.audio.channels, mpnp_ros.modalities.audio.registration; '
            'print(sorted({"torch", "rclpy", "scipy"} & set(sys.modules)))')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          check=True).stdout.strip() == '[]'
