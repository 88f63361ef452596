"""What reading tokens through a link costs, in multiply-accumulates (MACs), exactly.

Counted as in :mod:`mpnp_ros.llm.cost`: matrix products only.  Going back, a product costs once the
gradient of each of its factors that leads to a parameter: twice, but once where one factor is data.
"""
from __future__ import annotations

from mpnp_ros.methods.link import HARMONICS
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.counting import EDGES, FREQUENCIES, NUMBERS, SUPERVISED, sort_groups
from mpnp_ros.methods.mpnp.pooling import CONTENTS
from mpnp_ros.methods.registry import LinkCost, Passes
from mpnp_ros.tokens import SECTORS

#: Fused attention computes its scores again on the way back: 5 products after 2.
ATTENTION_BACK = 5 / 2


def link_macs(config: LinkConfig, texts: int, frames: float, tokens: float,
              question_tokens: float) -> Passes:
    """MACs of a latent link for B `texts` of `question_tokens` each that look at F distinct `frames`.

    tokens: P of a frame, read by none where the link has learned constants instead.  Fractions are means.
    """
    blind = config.soft_tokens > 0
    frames, tokens = (1, config.soft_tokens) if blind else (frames, tokens)
    parts, width, rows = [_directions(config, frames * tokens)], config.token_width, frames * tokens
    if config.pooling == 'counting':
        parts = _counting(config, texts, frames, tokens, question_tokens)
        width, rows = config.pooling_width, texts * config.entries
    elif config.pooling == 'question':
        seen = tokens if blind else texts * tokens
        parts += [*_reading(config, frames * tokens), *_pooling(config, texts, tokens, seen, question_tokens)]
        width, rows = config.pooling_width, texts * config.entries
    outputs = (len(config.blocks) if config.per_block else 1) * config.kv_heads * config.head_dim
    parts += 2 * [_product(rows * (width * config.hidden + config.hidden * outputs))]
    return Passes(sum(part.forward for part in parts), sum(part.backward for part in parts))


def prefix_columns(config: LinkConfig, tokens: float) -> float:
    """P, the columns that a link adds to each of its blocks."""
    return config.soft_tokens or tokens if config.pooling == 'none' else config.entries


def held_numbers(config: LinkConfig, tokens: float, question_tokens: float) -> float:
    """Numbers that a latent link holds for the backward pass of one question, estimated."""
    width, entries, heads = config.pooling_width, config.entries, config.pooling_heads
    prefix = 2 * len(config.blocks) * config.kv_heads * config.head_dim
    if config.pooling == 'none':
        return tokens * (4 * config.token_width + 4 * config.hidden + prefix)
    if config.pooling == 'counting':
        layer = 4 * question_tokens * width + 4 * config.probes * width
        each = config.probes * (8 * (tokens + SECTORS) + 4 * FREQUENCIES * (tokens + SECTORS))
        return (3 * question_tokens * config.text_width + each + config.pooling_layers * layer
                + entries * (4 * config.hidden + prefix))
    layer = tokens * (width + 4 * entries * heads) + 4 * question_tokens * width + 24 * entries * width
    return (tokens * 2 * width + 3 * question_tokens * config.text_width + config.pooling_layers * layer
            + entries * (4 * config.hidden + prefix))


def _product(macs: float, back: float = 2.) -> Passes:
    return Passes(macs, back * macs)


def _directions(config: LinkConfig, rows: float) -> Passes:
    """Adding where tokens come from; the Fourier features are data."""
    directed = not config.additive and not config.soft_tokens
    return _product(rows * 2 * HARMONICS * config.token_width if directed else 0., 1)


def _counting(config: LinkConfig, texts: int, frames: float, tokens: float,
              question_tokens: float) -> list[Passes]:
    """With one more token for each sector, for what the sensor misses."""
    width, channels, directions = config.pooling_width, config.token_width, 2 * config.harmonics + 1
    asked, probes, seen = texts * question_tokens, texts * config.probes, tokens + SECTORS
    groups = sort_groups(config.channels).shape[1]
    masks, composed = (groups + 2, channels * groups) if config.masks == 'sorts' else (channels, 0)
    features = NUMBERS + 3 + channels + groups
    layer = [_product(probes * 2 * width ** 2 + asked * 2 * width ** 2),
             _product(2 * probes * question_tokens * width, ATTENTION_BACK)]
    return config.pooling_layers * layer + [
        _product(frames * tokens * channels ** 2, 1),
        _product(texts * config.text_width * width, 1), _product(asked * config.text_width * width),
        _product(probes * 4 * width ** 2),
        _product(probes * width * (2 * directions + len(EDGES) + 1 + masks)),
        _product(probes * composed, 1),
        _product(probes * (SECTORS * directions + seen * (len(EDGES) + 1) + SECTORS * channels), 1),
        _product(probes * seen * (directions + 2 * channels)),
        _product(probes * channels * groups, 1), _product(probes * width * (features + width)),
        _product(texts * (SUPERVISED * features + groups) * (config.probes + config.entries) * width),
        _product(texts * ((2 * config.probes * width + groups) * 2 * width
                          + 2 * width * config.entries * width))]


def _reading(config: LinkConfig, rows: float) -> list[Passes]:
    """Each distinct frame once: what tokens hold and what is matched in them."""
    width = config.pooling_width
    if config.additive:
        return [_product(rows * config.token_width * width, 1)]
    return [_product(rows * (config.token_width * width + width * width)), _product(rows * width * CONTENTS)]


def _pooling(config: LinkConfig, texts: int, tokens: float, seen: float,
             question_tokens: float) -> list[Passes]:
    width, asked, entries = config.pooling_width, texts * question_tokens, texts * config.entries
    directions = 2 * config.harmonics + 1
    contents = (config.token_width if config.additive else CONTENTS) + 1
    chosen = config.pooling_heads * (directions + contents)
    looks = entries * config.pooling_heads * tokens
    layer = [
        _product(entries * 2 * width ** 2 + asked * 2 * width ** 2),
        _product(2 * entries * question_tokens * width, ATTENTION_BACK),
        _product(entries * width * chosen + seen * width ** 2),
        _product(looks * directions, 1),
        _product(looks * contents, 1 if config.additive else 2),
        _product(entries * tokens * width),
        _product(entries * 14 * width ** 2),
    ]
    start = [_product(texts * config.text_width * width, 1), _product(asked * config.text_width * width)]
    return start + config.pooling_layers * layer


LATENT_COST = LinkCost(link_macs, prefix_columns, held_numbers)
