"""Link configurations: checked, and the same after JSON."""
from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from mpnp_ros.errors import ConfigurationError
from mpnp_ros.methods.link_options import LinkConfig


def test_the_same_after_json_and_every_option_has_help(tiny_lm):
    config = LinkConfig.for_model(tiny_lm('llama'), 'camera', 'abc', 384, last=2, pooling='none', reach='all')
    assert config.blocks == (2, 3) and config.question_block == 2
    assert LinkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert all(entry.metadata['help'] for entry in fields(config))


@pytest.mark.parametrize('change', [
    {'modality': '../camera'}, {'modality': ''}, {'hidden': 0}, {'blocks': ()}, {'blocks': (3, 2)},
    {'blocks': (-1, 2)}, {'gate': float('nan')}, {'temperature': 0.}, {'pooling': 'max'}, {'soft_tokens': 3},
    {'reach': 'some'}, {'encoder': ''}, {'pooling_width': 30, 'pooling_heads': 8}, {'pooling_heads': 0}])
def test_values_out_of_range_are_refused(tiny_lm, change):
    config = LinkConfig.for_model(tiny_lm('llama'), 'camera', 'abc', 384)
    with pytest.raises(ConfigurationError, match='link'):
        replace(config, **change)


@pytest.mark.parametrize('key, value', [('hidden', '256'), ('hidden', True), ('gate', None), ('per_block', 1),
                                        ('blocks', [2.5]), ('modality', 7), ('surplus', 1)])
def test_wrong_types_and_unknown_keys_are_refused(tiny_lm, key, value):
    entries = LinkConfig.for_model(tiny_lm('llama'), 'camera', 'abc', 384).to_dict()
    with pytest.raises(ConfigurationError, match=key):
        LinkConfig.from_dict({**entries, key: value})
    entries.pop('tau', None)
    with pytest.raises(ConfigurationError, match='blocks'):
        LinkConfig.from_dict({name: entry for name, entry in entries.items() if name != 'blocks'})


@pytest.mark.parametrize('last', [0, 5])
def test_more_blocks_than_there_are(tiny_lm, last):
    with pytest.raises(ConfigurationError, match=f'{last} linked blocks'):
        LinkConfig.for_model(tiny_lm('llama'), 'camera', 'abc', 384, last=last)
