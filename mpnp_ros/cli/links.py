"""List, show, put into use, roll back and prune the links of a robot.

A robot keeps the links that it trains in its store: $MPNP_STATE/links or ~/.local/state/mpnp_ros/links, with
--namespace in a folder of that name. The shipped links are shown beside them.
"""
from __future__ import annotations

import argparse
import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpnp_ros.bags.held_out import held_out_from, note_held_out
from mpnp_ros.cli.arguments import add_namespace
from mpnp_ros.cli.output import from_to, macs, megabytes, percent, print_table, seconds
from mpnp_ros.cli.session import connected
from mpnp_ros.errors import ConfigurationError, LinksError, NotRunningError, RequestError
from mpnp_ros.files import sha256_of
from mpnp_ros.methods.link_files import MANIFEST, LinkManifest, load_link, read_manifest
from mpnp_ros.methods.link_store import (
    LinkStore,
    StoredLink,
    all_shipped_links,
    default_store,
    shipped_links,
    whole,
)

IN_USE, KEPT, WITHDRAWN, SHIPPED, OTHER = 'in use', 'to go back to', 'taken back', 'shipped', ''
HEADS = ('modality', 'version', 'state', 'model', 'encoder', 'blocks', 'supervision', 'accuracy', 'trained',
         'size')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the subcommands and their options."""
    actions = parser.add_subparsers(dest='action', required=True, metavar='ACTION')
    listing = actions.add_parser('list', help='list all versions, and mark those in use after a restart')
    listing.add_argument('--modality', metavar='NAME', help='list one modality only')
    show = actions.add_parser('show', help='show origin, accuracy, gates and size of one version')
    show.add_argument('link', metavar='LINK',
                      help='camera/000002, 000002, camera (the one in use), or a folder')
    use = actions.add_parser('use', help='copy links into the store and put them into use: in the running '
                             'fusion node, or without one in the store, for its next start')
    use.add_argument('link', metavar='LINKS',
                     help='link store, such as the --output of `mpnp train`, of which the newest version of '
                     'each modality is used, or one version as for show')
    rollback = actions.add_parser('rollback', help='return to the previous version: in the running fusion '
                                  'node, or without one in the store, for its next start')
    rollback.add_argument('modality', help='modality of the links, such as camera')
    for action in (use, rollback):
        action.add_argument('--timeout', type=float, default=3., metavar='S',
                            help='seconds to look for a running fusion node (default: %(default)g)')
    prune = actions.add_parser(
        'prune', help='remove old versions, except those in use or needed for rollback')
    prune.add_argument('--keep', type=int, required=True, metavar='N',
                       help='number of newest versions to keep of each modality')
    prune.add_argument('--modality', metavar='NAME', help='prune one modality only')
    for action in actions.choices.values():
        action.add_argument('--store', type=Path, metavar='FOLDER',
                            help='link store (default: that of the robot)')
        action.add_argument('--json', action='store_true', help='print JSON')
        add_namespace(action)
        action.add_argument('--debug', action='store_true', default=argparse.SUPPRESS,
                            help='show the traceback of an error')


def run(arguments: Namespace) -> int:
    """Run the chosen action; exit code 1 if the fusion node refuses."""
    store = LinkStore(arguments.store) if arguments.store else default_store(arguments.namespace)
    actions = {'list': list_links, 'show': show_link, 'use': use_links, 'rollback': roll_back,
               'prune': prune_links}
    return actions[arguments.action](store, arguments)


@dataclass(frozen=True)
class Row:
    """One version in the list.  manifest: None if it cannot be read; problem: the reason."""

    link: StoredLink
    state: str
    manifest: LinkManifest | None
    problem: str = ''

    @classmethod
    def of(cls, link: StoredLink, state: str) -> Row:
        """Read the manifest of a version."""
        try:
            return cls(link, state, read_manifest(link.path))
        except LinksError as error:
            return cls(link, state, None, str(error))

    @property
    def bytes(self) -> int:
        """The size of all files of the version."""
        return sum(file.stat().st_size for file in self.link.path.iterdir())

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data; numbers that were not measured are None."""
        known = {'modality': self.link.modality, 'version': self.link.version, 'state': self.state,
                 'path': str(self.link.path), 'sha256': self.link.sha256, 'bytes': self.bytes,
                 'problem': self.problem}
        if self.manifest is None:
            return known
        config = self.manifest.config
        return known | {'base_model': config.base_model_name, 'encoder': config.encoder,
                        'linked_blocks': list(config.blocks), 'token_width': config.token_width,
                        'provenance': _measured(asdict(self.manifest.provenance))}

    def cells(self) -> tuple[str, ...]:
        """The cells of the table."""
        head, size = (self.link.modality, self.link.version), megabytes(self.bytes)
        if self.manifest is None:
            return (*head, 'damaged', *[''] * (len(HEADS) - 4), size)
        config, made = self.manifest.config, self.manifest.provenance.adaptation
        learned = (made.supervision, from_to(made.accuracy_before, made.accuracy_after),
                   seconds(made.seconds)) if made else ('', '', '')
        linked = f'{config.blocks[0]}..{config.blocks[-1]}'
        return (*head, self.state, config.base_model_name, config.encoder[:20], linked, *learned, size)


def list_links(store: LinkStore, arguments: Namespace) -> int:
    """Print all versions and the shipped links."""
    found = [row for row in rows(store) if arguments.modality in (None, row.link.modality)]
    if arguments.json:
        print(json.dumps([row.as_dict() for row in found], indent=1))
        return 0
    print_table([row.cells() for row in found], HEADS)
    print(f'store: {store.folder}')
    return 0


def rows(store: LinkStore) -> Iterator[Row]:
    """Versions by modality, oldest first, the shipped one before them."""
    shipped, stored = shipped_links(), store.list()
    for modality in sorted({*shipped, *(link.modality for link in stored)}):
        usage = store.usage(modality)
        states = {**dict.fromkeys(usage.withdrawn, WITHDRAWN), **dict.fromkeys(usage.used, KEPT),
                  **dict.fromkeys(usage.used[-1:], IN_USE)}
        if modality in shipped:
            yield Row.of(shipped[modality], SHIPPED if usage.used else f'{SHIPPED}, {IN_USE}')
        yield from (Row.of(link, states.get(link.version, OTHER)) for link in stored
                    if link.modality == modality)


def show_link(store: LinkStore, arguments: Namespace) -> int:
    """Print one version.  Raises LinksError if it is damaged."""
    stored = find(store, arguments.link)
    state = next((row.state for row in rows(store) if row.link == stored), OTHER)
    row, link = Row.of(stored, state), load_link(stored.path)
    gates = link.gates.detach().tolist()
    parameters = sum(parameter.numel() for parameter in link.parameters())
    entries = {**row.as_dict(), 'gates': gates, 'parameters': parameters}
    if arguments.json:
        print(json.dumps(entries, indent=1))
    else:
        print_table(list(describe(entries)))
    return 0


def find(store: LinkStore, name: str) -> StoredLink:
    """Return the version with a name: a folder, <modality>/<version>, <version> or <modality>.

    Shipped links have it where none of the store does.  Raises LinksError if no version or several versions
    have it.
    """
    path = Path(name).expanduser()
    if (path / MANIFEST).is_file():
        return StoredLink(read_manifest(path).config.modality, path.name, path, sha256_of(path / MANIFEST))
    stored, shipped = store.list(), shipped_links()
    named = [link for link in stored if name in (link.name, link.version)] or [
        link for link in shipped.values() if name in (link.name, link.version)]
    in_use = store.current(name) if any(link.modality == name for link in stored) else None
    if named or in_use:
        if len(named) > 1:
            raise LinksError(f'{name} is a version of {" and ".join(link.modality for link in named)} links; '
                             f'say which, e.g. {named[0].name}')
        return in_use or named[0]
    if name in shipped:
        return shipped[name]
    raise LinksError(f'there are no links {name!r} in {store.folder}; `mpnp links list` shows those that are')


def use_links(store: LinkStore, arguments: Namespace) -> int:
    """Put links into use and print which; exit code 1 if the fusion node refuses any."""
    reports = [put_into_use(store, adopted(store, link), arguments) for link in to_use(store, arguments.link)]
    note_held_out(store.folder, held_out_from(Path(arguments.link).expanduser()))
    if arguments.json:
        print(json.dumps(reports, indent=1))
    else:
        for report in reports:
            print(report['message'], file=sys.stdout if report['success'] else sys.stderr)
    return 0 if all(report['success'] for report in reports) else 1


def to_use(store: LinkStore, name: str) -> list[StoredLink]:
    """Return the links with a name as :func:`find` does, or the newest of each modality of a store."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / MANIFEST).is_file():
        newest = {link.modality: link for link in LinkStore(path).list()}
        if not newest:
            raise LinksError(f'there are no links in {path}; use the --output of mpnp train')
        return list(newest.values())
    return [find(store, name)]


def adopted(store: LinkStore, link: StoredLink) -> StoredLink:
    """Return the link as a version of the store, into which it is copied unless it is there already."""
    if (own := store.find(link.path)) is not None:
        return own
    manifest = read_manifest(link.path)
    for known in whole(store.list(link.modality)):
        if read_manifest(known.path).sha256 == manifest.sha256:
            return known
    return store.save(load_link(link.path), manifest.provenance)


def put_into_use(store: LinkStore, link: StoredLink, arguments: Namespace) -> dict[str, Any]:
    """Ask a running fusion node to use a version, or without one change the store; return what came of it."""
    by, refused = 'fusion', False
    try:
        with connected('links', arguments.namespace, arguments.timeout) as robot:
            robot.load_links(str(link.path.resolve()), link.sha256)
        message = f'the fusion node says: {link.modality} links {link.version} are in use'
    except (ConfigurationError, NotRunningError):  # no ROS 2, or no fusion node
        by = 'store'
        store.set_current(link.modality, link.version)
        message = (f'no fusion node was found, so none was asked; it will start with {link.modality} links '
                   f'{link.version} (noted in {store.folder})')
    except RequestError as error:
        refused, message = True, f'the fusion node says: {error}'
    return {'modality': link.modality, 'version': link.version, 'by': by, 'success': not refused,
            'message': message}


def roll_back(store: LinkStore, arguments: Namespace) -> int:
    """Ask a running fusion node to roll back, or without one change the store; print which."""
    modality, by, refused, shipped = arguments.modality, 'fusion', False, False
    try:
        with connected('links', arguments.namespace, arguments.timeout) as robot:
            link = robot.rollback(modality)
            version, shipped = link.version, link.sha256 in {known.sha256 for known in all_shipped_links()}
            message = f'the fusion node says: {modality} links {version}{" (shipped)" * shipped} are in use'
    except (ConfigurationError, NotRunningError):  # no ROS 2, or no fusion node
        by, version = 'store', go_back(store, modality)
        shipped = version is None
        message = (f'no fusion node was found, so none was asked; it will start with {modality} links '
                   f'{version or SHIPPED} (noted in {store.folder})')
    except RequestError as error:
        refused, version, message = True, '', f'the fusion node says: {error}'
    if arguments.json:
        print(json.dumps({'modality': modality, 'version': version or None, 'shipped': shipped, 'by': by,
                          'success': not refused, 'message': message}))
    else:
        print(message, file=sys.stderr if refused else sys.stdout)
    return 1 if refused else 0


def go_back(store: LinkStore, modality: str) -> str | None:
    """Make the newest undamaged version before the current one current; return it, or None if none is left.

    Raises LinksError if no version is in use.
    """
    used = store.used(modality)
    if not used:
        raise LinksError(f'no {modality} links of {store.folder} are in use: there is nothing to take back')
    before = next(whole(reversed(used[:-1])), None)
    version = before.version if before else None
    store.set_current(modality, version)
    return version


def prune_links(store: LinkStore, arguments: Namespace) -> int:
    """Remove old versions and print them."""
    sizes = {row.link.name: row.bytes for row in rows(store)}
    removed = store.prune(arguments.keep, arguments.modality)
    if arguments.json:
        print(json.dumps([{'modality': link.modality, 'version': link.version} for link in removed]))
    else:
        names = ', '.join(link.name for link in removed) or 'nothing'
        print(f'removed {names} ({megabytes(sum(sizes[link.name] for link in removed))})')
    return 0


def describe(entries: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each property of a link."""
    provenance = entries['provenance']
    gates = zip(entries['linked_blocks'], entries['gates'], strict=True)
    yield 'link', ', '.join(filter(None, (f'{entries["modality"]}/{entries["version"]}', entries['state'])))
    yield 'path', entries['path']
    yield 'sha256', entries['sha256']
    yield 'model', entries['base_model']
    yield 'encoder', f'{entries["encoder"]}, tokens of width {entries["token_width"]}'
    yield 'size', f'{entries["parameters"] / 1e6:.2f} M parameters, {megabytes(entries["bytes"])}'
    yield 'gates', '  '.join(f'{block}: {gate:.2f}' for block, gate in gates)
    yield 'licence', provenance['licence'] or '-'
    yield 'made by', provenance['text'] or '-'
    for name, value in provenance['accuracy'].items():
        yield f'accuracy, {name}', percent(value)
    if provenance['adaptation']:
        yield from describe_adaptation(provenance['adaptation'])


def describe_adaptation(made: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each measurement of a training on the robot."""
    yield 'trained', f'{made["supervision"]}, from {made["started_from"] or "nothing"}'
    yield 'took', (f'{made["questions"]} questions, {made["steps"]} steps, {seconds(made["seconds"])}, '
                   f'{macs(made["macs"])}, peak {megabytes(made["peak_bytes"])}')
    yield 'accuracy', (f'{from_to(made["accuracy_before"], made["accuracy_after"])} on held-out questions; '
                       f'most frequent answers {percent(made["accuracy_blind"])}')


def _measured(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries with None for numbers that JSON does not have."""
    return {name: _measured(value) if isinstance(value, dict) else
            None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in entries.items()}
