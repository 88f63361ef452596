"""Bags from before fields were added at the end of a type are played with those fields empty."""
from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from mpnp_ros.bags.messages import MessageFactory, definitions_folder, message_types
from mpnp_ros.bags.player import BagPlayer
from mpnp_ros.bags.questions import TOPIC, TYPE_NAME, read_questions
from mpnp_ros.errors import BagError

ADDED = ('condition', 'on_change', 'max_age', 'require', 'refuse_below')
PACKAGE = 'mpnp_ros/msg'


def write(path: Path, storage: StoragePlugin, without: tuple[str, ...]) -> None:
    """A bag of labelled questions, whose Question has not some of its fields."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name in ('Condition', 'Question', 'LabelledQuestion', 'LabelledQuestions'):
        lines = (definitions_folder() / f'{name}.msg').read_text('utf-8').splitlines()
        kept = [line for line in lines if line.partition('#')[0].split()[1:2] not in [[it] for it in without]]
        store.register(get_types_from_msg('\n'.join(kept), f'{PACKAGE}/{name}'))
    factory = MessageFactory(store)
    asked = factory.new(f'{PACKAGE}/Question', id='a', text='are there cars?', choices=['yes', 'no'])
    message = factory.new(TYPE_NAME, sample_token='s', questions=[
        factory.new(f'{PACKAGE}/LabelledQuestion', question=asked, answer=answer, type='exist')
        for answer in ('yes', 'no')])
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection(TOPIC, TYPE_NAME, typestore=store)
        writer.write(connection, 10, store.serialize_cdr(message, TYPE_NAME))


@pytest.mark.parametrize('storage', list(StoragePlugin))
def test_fields_that_were_added_at_the_end_are_empty(tmp_path, storage):
    write(tmp_path / 'bag', storage, ADDED)
    types = message_types()
    played = [types.deserialize_cdr(item.data, TYPE_NAME) for item in BagPlayer(tmp_path / 'bag')]
    assert [(row.answer, row.question.text, row.question.choices, row.question.max_age, row.question.require)
            for row in played[0].questions] == [
                (answer, 'are there cars?', ['yes', 'no'], 0., []) for answer in ('yes', 'no')]
    assert [question.answer for question in read_questions(tmp_path / 'bag')[0].questions] == ['yes', 'no']


def test_other_differences_are_refused(tmp_path):
    write(tmp_path / 'bag', StoragePlugin.MCAP, ('standing',))
    with pytest.raises(BagError, match='recorded with another definition'):
        BagPlayer(tmp_path / 'bag')
