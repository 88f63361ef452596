"""The exact cost of reading tokens through a latent link, in multiply-accumulates (MACs).

Counted as in :mod:`mpnp_ros.llm.cost`: matrix products only.  Going back, a product costs once the
gradient of each of its factors that leads to a parameter: twice, but once where one factor is data.
"""
from __future__ import annotations

from mpnp_ros.methods.link import HARMONICS
from mpnp_ros.methods.link_options import LinkConfig
from mpnp_ros.methods.mpnp.counting import EDGES, FREQUENCIES, NUMBERS, sort_groups
from mpnp_ros.methods.mpnp.pooling import CONTENTS
from mpnp_ros.methods.registry import LinkCost, Passes
from mpnp_ros.tokens import SECTORS

#: Fused attention computes its scores again on the way back: 5 products after 2.
ATTENTION_BACK = 5 / 2


def link_macs(config: LinkConfig, texts: int, frames: float, tokens: float,
              question_tokens: float) -> Passes:
    """Return the MACs of a latent link for B `texts` of `question_tokens` each about F distinct `frames`.

    tokens: P of a frame; ignored by a link on learned constants.  Fractions are means.
    """
    blind = config.soft_tokens > 0
    frames, tokens = (1, config.soft_tokens) if blind else (frames, tokens)
    width, rows = config.token_width, frames * tokens
    # Directions are added to tokens; their Fourier features are data.
    parts = [_product(0. if blind or config.additive else rows * 2 * HARMONICS * width, 1)]
    if config.pooling == 'counting':
        parts = _counting(config, texts, frames, tokens, question_tokens)
        width, rows = config.pooling_width, texts * config.entries
    elif config.pooling == 'question':
        # The tokens of each distinct frame are read once, as values to sum and as contents to match.
        pooled = config.pooling_width
        parts += [_product(rows * width * pooled, 1)] if config.additive else [
            _product(rows * (width * pooled + pooled * pooled)), _product(rows * pooled * CONTENTS)]
        seen = tokens if blind else texts * tokens
        parts += _pooling(config, texts, tokens, seen, question_tokens)
        width, rows = config.pooling_width, texts * config.entries
    outputs = (len(config.blocks) if config.per_block else 1) * config.kv_heads * config.head_dim
    parts += 2 * [_product(rows * (width * config.hidden + config.hidden * outputs))]
    return Passes(sum(part.forward for part in parts), sum(part.backward for part in parts))


def prefix_columns(config: LinkConfig, tokens: float) -> float:
    """Return P, the columns that a link adds to each of its blocks."""
    return config.soft_tokens or tokens if config.pooling == 'none' else config.entries


def held_numbers(config: LinkConfig, tokens: float, question_tokens: float) -> float:
    """Estimate the numbers that a latent link holds for the backward pass of one question."""
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


def _counting(config: LinkConfig, texts: int, frames: float, tokens: float,
              question_tokens: float) -> list[Passes]:
    """Return the products of counting, with one more token for each sector, for what the sensor misses."""
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
        # whether it can answer, which is asked where other readers are plugged
        _product(texts * (config.probes * width + 1) * width, 0),
        _product(probes * channels * groups, 1), _product(probes * width * (features + width)),
        _product(texts * (config.supervised * features + groups) * (config.probes + config.entries) * width),
        _product(texts * ((2 * config.probes * width + groups) * 2 * width
                          + 2 * width * config.entries * width))]


def _pooling(config: LinkConfig, texts: int, tokens: float, seen: float,
             question_tokens: float) -> list[Passes]:
    """Return the products of question-conditioned pooling."""
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
