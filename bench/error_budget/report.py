"""The page of the error budget: figures of all views, gathered in one file."""
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.common.page import markdown_table
from bench.error_budget.measure import ALL, BY_LINKS, CASES, NOTHING, all_but, only
from bench.error_budget.repairs import KINDS, PART_OF_STATUS, REPAIRS
from bench.real_frames import TYPES
from mpnp_ros.questions.vocabulary import CATEGORIES

Figures = Mapping[str, Any]
WORTH = 1.
"""Points of accuracy below which a difference is not named."""
HEAD = """# Error budget: which errors cost answers

Output of `python -m bench.error_budget`: with `--study STUDY` on the held-out scenes of
bench/study/study.yaml, with the shipped heads; with `--root ROOT --detector DETECTOR` on real key frames,
with `encoder.tokens: detections`. All figures, also by type of question, are in
[error_budget.json](error_budget.json).

What an encoder says is compared with the annotated objects, and one kind of error is repaired by truth, or
all kinds but one. The rule adds up counts; links are the shipped ones. Figures are percent of questions
answered rightly, if nothing else is said.

{repairs}

What belongs to an object: a detection is an object by overlap in the image, or by place
(bench/real_matching.py). Of expected counts by sector each object takes up to 1, of its own category before
others, from its own sector before the next ones, up to 15 degrees away. Objects of questions come before
those up to 10 m beyond the border and those with too few points. So a shift by more than 15 degrees is a
missed and a false object here.

Errors are expected numbers over all key frames, by the category of the object or, of false ones, by what is
said. Doubt is the part of what is missed that lacks of objects of which more than half is found. Errors of
direction are those across a border of the six directions. Blind: links that see nothing. Turned away: the
same tokens turned by 120 degrees, which does no harm where no direction is asked about. Links answer a
random part of the questions, evenly over types; "rule, same" is the rule on that part, on which differences
below 3 points mean little. Real frames have no motion here: statuses are as usual; and of a drive in one
street each key frame is nearly the same. Read differences, not levels.

## Worth most

The dearest errors first. In brackets: what repairing only this gains, and what leaving only this costs where
all else is right, in points. What is not named is worth less than a point in both.

{worth}
"""


def add_to_page(page: Path, name: str, figures: Figures) -> None:
    """Add the figures of a view to those beside a page, and write the page anew."""
    path = page.with_suffix('.json')
    gathered = json.loads(path.read_text()) if path.is_file() else {}
    gathered[name] = figures
    path.write_text(json.dumps(gathered, indent=1) + '\n', encoding='utf-8')
    page.write_text(page_of(gathered), encoding='utf-8')


def page_of(gathered: Mapping[str, Figures]) -> str:
    """Return the Markdown page of all views."""
    repairs = markdown_table(('kind', 'what the repair does'),
                             [(kind, REPAIRS[kind].means) for kind in (*KINDS, PART_OF_STATUS)])
    views = sorted(gathered.items(), reverse=True)  # the world first
    worth = '\n'.join(f'- {name}: {in_words(figures)}' for name, figures in views)
    return '\n'.join([HEAD.format(repairs=repairs, worth=worth),
                      *(text_of(name, figures) for name, figures in views)])


def in_words(figures: Figures) -> str:
    """Return which errors are worth most, by the rule and by links."""
    text = ranked(figures['rule'])
    return f'{text}. By links: {ranked(figures["links"])}.' if figures['links'] else f'{text}.'


def ranked(right: Mapping[str, Mapping[str, float]]) -> str:
    """Return the kinds that are worth a point or more, the dearest first, with both of their figures."""
    worth = {kind: (right[only(kind)]['all'] - right[NOTHING]['all'],
                    right[ALL]['all'] - right[all_but(kind)]['all']) for kind in KINDS}
    order = sorted((kind for kind in KINDS if max(worth[kind]) >= WORTH), key=lambda kind: -sum(worth[kind]))
    if not order:
        return 'nothing is worth a point'
    first, *rest = (f'{kind} ({worth[kind][0]:+.1f}, {0 - round(worth[kind][1], 1):+.1f})' for kind in order)
    return ', '.join([f'**{first}**', *rest])


def text_of(name: str, figures: Figures) -> str:
    """Return the tables of one view."""
    rule, links, same = figures['rule'], figures['links'], figures['rule_same']
    wrong = {kind: sum(of.values()) for kind, of in figures['errors'].items()}
    lines = [f'## {name}', '', f'{plural(figures["frames"], "key frame")} of '
             f'{plural(figures["scenes"], "scene")} with {plural(wrong["true"], "object")} of '
             f'questions, {figures["questions"]} questions'
             + (f', {figures["links_asked"]} of them for links.' if links else '.'), '']
    types = [kind for kind in TYPES if kind in rule[NOTHING]]
    base = [('majority of each text', 'majority', ''), ('links, blind', '', 'blind'),
            ('turned away', 'turned away', 'turned away'), ('nothing repaired', NOTHING, NOTHING),
            ('everything repaired', ALL, ALL)]
    lines += [markdown_table(
        ('answers', 'rule', *types, 'links', 'rule, same'),
        [(label, cell(rule, case), *(cell(rule, case, kind) for kind in types), cell(links, case_of_links),
          cell_of(same, case) if case_of_links in links else '')
         for label, case, case_of_links in base if case in rule or case_of_links in links]), '']
    rows: list[Sequence[str]] = []
    for kind in (*KINDS, PART_OF_STATUS):
        but = all_but(kind) if kind in KINDS else ''
        rows.append((kind, number(wrong[kind]) if kind in wrong else '', cell(rule, only(kind)),
                     cell(rule, but), cell(links, only(kind)), cell(links, but)))
    lines += [markdown_table(('kind', 'in error', 'rule: only it repaired', 'all but it', 'links: only it',
                              'all but it'), rows), '']
    kinds = ('true', 'missed', 'doubt', *KINDS[1:])
    lines += [markdown_table(('in error', *kinds), [
        (category, *(number(figures['errors'][kind][category]) for kind in kinds)) for category in CATEGORIES
        if any(figures['errors'][kind][category] >= .05 for kind in kinds)]), '']
    together = [case for case in CASES if case not in BY_LINKS and case != only(PART_OF_STATUS)]
    lines += [markdown_table(('repaired together', 'rule', *types), [
        (case, cell(rule, case), *(cell(rule, case, kind) for kind in types)) for case in together]), '']
    return '\n'.join(lines)


def cell(rows: Mapping[str, Mapping[str, float]], case: str, key: str = 'all') -> str:
    """Return a figure of a table, empty where there is none."""
    return cell_of(rows.get(case, {}), key)


def cell_of(row: Mapping[str, float], key: str) -> str:
    """Return a figure of a row, empty where there is none."""
    return f'{row[key]:.1f}' if key in row else ''


def number(value: float) -> str:
    """Return an expected number of objects."""
    return f'{value:.0f}' if value >= 10 else f'{value:.1f}'


def plural(count: float, noun: str) -> str:
    """Return a number with its noun."""
    return f'{count:.0f} {noun}{"s" * (count != 1)}'
