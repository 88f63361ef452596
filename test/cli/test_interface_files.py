"""Reading interface files with their comments."""
from __future__ import annotations

from pathlib import Path

import pytest

from mpnp_ros.cli.interface_files import Field, read_interface, read_interfaces

ROOT = Path(__file__).parents[2]


def test_a_message_with_constant_array_and_comments(tmp_path):
    file = tmp_path / 'Thing.msg'
    file.write_text('# A thing.\n# In two lines.\n\nuint8 OK=0   # fine\nstring[<=3] names # of it\n'
                    'float32 x\n')
    thing = read_interface(file)
    assert (thing.full_name, thing.summary) == ('mpnp_ros/msg/Thing', 'A thing. In two lines.')
    assert thing.sections[''] == (Field('uint8', 'OK', 'fine', '0'), Field('string[<=3]', 'names', 'of it'),
                                  Field('float32', 'x', ''))


def test_sections_of_a_service_and_an_action(tmp_path):
    (tmp_path / 'Do.srv').write_text('# Do.\n---\nbool done\n')
    assert read_interface(tmp_path / 'Do.srv').sections == {
        'request': (), 'response': (Field('bool', 'done', ''),)}
    (tmp_path / 'Go.action').write_text('# Go.\nstring to\n---\nbool there\n---\nfloat32 left  # m\n')
    assert read_interface(tmp_path / 'Go.action').sections['feedback'] == (Field('float32', 'left', 'm'),)


def test_the_fields_are_those_that_were_built():
    pytest.importorskip('mpnp_ros.msg', reason='the messages are not built')
    import mpnp_ros.action
    import mpnp_ros.msg
    import mpnp_ros.srv
    interfaces = read_interfaces(ROOT)
    assert len(interfaces) > 10
    for interface in interfaces:
        built = getattr(getattr(mpnp_ros, interface.kind), interface.name)
        for section, fields in interface.sections.items():
            part = getattr(built, section.capitalize()) if section else built
            names = [field.name for field in fields if not field.value]
            assert list(part.get_fields_and_field_types()) == names
