"""Accuracies as text."""
from __future__ import annotations

from mpnp_ros.cli.output import condition_table, table
from mpnp_ros.training.evaluation import Accuracy, Share

ROWS = {'sensors': Accuracy(Share(5, 10), {'count': Share(5, 10)}, {0: Share(1, 2), 1: Share(4, 8)},
                            {'day': Share(4, 6), 'night': Share(1, 4), 'clear': Share(5, 10)}),
        'blind': Accuracy(Share(1, 4), {'exist': Share(1, 4)}, {})}


def test_a_row_each_and_gaps_where_nothing_was_asked():
    lines = table(ROWS).splitlines()
    assert lines[0].split() == ['overall', 'n', 'count', 'exist', '0', 'hop', '1', 'hop']
    assert lines[1].split() == ['sensors', '50.0', '%', '[23.7,', '76.3]', '10', '50.0', '-', '50.0', '50.0']
    assert lines[2].split()[-4:] == ['-', '25.0', '-', '-']


def test_light_and_weather_are_shown_where_they_differ():
    others = {'trained on': Accuracy(Share(1, 2), {}, {}, {'day': Share(1, 2), 'night': Share(0, 1)})}
    lines = condition_table(ROWS | others).splitlines()
    assert [line.split() for line in lines] == [
        ['clear', 'day', 'night'], ['questions', '10', '6', '4'], ['sensors', '50.0', '66.7', '25.0']]
    alike = {'sensors': Accuracy(Share(1, 1), {}, {}, {'day': Share(1, 1), 'clear': Share(1, 1)})}
    assert condition_table(alike) == condition_table({'blind': ROWS['blind']}) == ''
