"""State of a node on ``/diagnostics``, once a second: counters, recent warnings, concerns and values.

It is published on a separate thread by the steady clock, so it continues while simulated time stands still
and while the node loads weights.
"""
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from mpnp_ros.nodes.worker import Ticker

if TYPE_CHECKING:
    from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
PERIOD, RECENT, LOG_PERIOD = 1., 5., 5.
"""Seconds between publications, that a warning is shown, and between two log lines of one key."""
LOG = logging.getLogger(__name__)

NOMINAL = 0.75
"""Quality of input with an assumption: above the limit of poor input."""


class Diagnostics:
    """Counters and warnings of one node.

    Every method may be called from any thread.  A warning raises the published level for five seconds and
    takes the place of the text; :meth:`state` sets the level and text that hold until changed, and the text
    is always among the values, as ``state``.
    """

    def __init__(self, node: Node, name: str, hardware_id: str = '') -> None:
        self._node, self._hardware_id = node, hardware_id
        self._name = f'{node.get_fully_qualified_name().lstrip("/")}: {name}'
        self._lock = threading.Lock()
        self._counters: dict[str, int] = {}
        self._sources: list[Callable[[], Mapping[str, Any]]] = []
        self._checks: list[Callable[[], str]] = []
        self._state = (OK, 'starting')
        self._warning = (-RECENT, '')
        self._logged: dict[str, tuple[float, str]] = {}
        self._held_back: dict[str, str] = {}
        self._pairs: dict[str, KeyValue] = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._ticker = Ticker('diagnostics', PERIOD, self.publish)

    def close(self) -> None:
        """Stop publishing."""
        self._ticker.close()

    def count(self, key: str, by: int = 1) -> None:
        """Add ``by`` to the counter ``key``."""
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + by

    def state(self, level: bytes, text: str) -> None:
        """Set level (OK, WARN or ERROR) and text until the next call."""
        with self._lock:
            self._state = (level, text)

    def add_source(self, source: Callable[[], Mapping[str, Any]]) -> None:
        """Add the key-value pairs of ``source`` to every publication."""
        with self._lock:
            self._sources.append(source)

    def add_check(self, check: Callable[[], str]) -> None:
        """Call ``check`` at every publication; a non-empty text is a warning."""
        with self._lock:
            self._checks.append(check)

    def warn(self, key: str, text: str) -> None:
        """Count ``key``, show ``text`` for five seconds, and log it at most once in five seconds per key.

        Where the text changes within the five seconds, the newest is logged at their end.
        """
        now = time.monotonic()
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + 1
            self._warning = (now, text)
            logged_at, logged = self._logged.get(key, (-LOG_PERIOD, ''))
            due = now - logged_at >= LOG_PERIOD
            self._held_back.pop(key, None)
            if due:
                self._logged[key] = now, text
            elif text != logged:
                self._held_back[key] = text
        if due:
            self._log(key, text)

    def withdraw(self, key: str) -> None:
        """Discard the text of ``key`` that is held back from the log: it no longer holds."""
        with self._lock:
            self._held_back.pop(key, None)

    def counters(self) -> dict[str, int]:
        """Return a copy of the counters."""
        with self._lock:
            return dict(self._counters)

    def status(self) -> DiagnosticStatus:
        """Return the status that would be published now."""
        with self._lock:
            level, text = self._state
            warned_at, warning = self._warning
            values: dict[str, Any] = dict(self._counters)
            sources, checks = list(self._sources), list(self._checks)
        values['state'] = text
        amiss = [text for text in (_asked(check, '') for check in checks) if text]
        if time.monotonic() - warned_at < RECENT and not any(warning in text for text in amiss):
            amiss.insert(0, warning)
        if level == OK and amiss:
            level, text = WARN, '; '.join(amiss)
        for source in sources:
            values.update(_asked(source, {}))
        pairs = []
        for key, value in values.items():
            shown = f'{value:.3f}' if isinstance(value, float) else str(value)
            pair = self._pairs.get(key)
            if pair is None or pair.value != shown:  # creating one takes up to 60 us
                pair = self._pairs[key] = KeyValue(key=key, value=shown)
            pairs.append(pair)
        return DiagnosticStatus(level=level, name=self._name, message=text, hardware_id=self._hardware_id,
                                values=pairs)

    def publish(self) -> None:
        """Publish now, and log what was held back; called once a second."""
        now = time.monotonic()
        with self._lock:
            due = [(key, text) for key, text in self._held_back.items()
                   if now - self._logged[key][0] >= LOG_PERIOD]
            for key, text in due:
                del self._held_back[key]
                self._logged[key] = now, text
        for key, text in due:
            self._log(key, text)
        message = DiagnosticArray(status=[self.status()])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _log(self, key: str, text: str) -> None:
        with self._lock:
            times = self._counters[key]
        self._node.get_logger().warning(text if times == 1 else f'{text} ({key}: {times} so far)')


def _asked(ask: Callable[[], Any], otherwise: Any) -> Any:
    """Return the result of a source or check, or ``otherwise`` if it fails, as during a transition."""
    try:
        return ask()
    except Exception as error:
        LOG.debug('diagnostics: %s', error)
        return otherwise


class Concerns:
    """Conditions that lower the quality of a node's output, by key.

    Every method may be called from any thread.  A concern is logged when it starts and when its text changes.
    It is a warning on ``/diagnostics`` while it lasts, and is part of the tokens of an encoder and of the
    answers that use them.
    """

    def __init__(self, diagnostics: Diagnostics) -> None:
        self._diagnostics = diagnostics
        self._lock = threading.Lock()
        self._lasting: dict[str, tuple[str, float]] = {}
        diagnostics.add_check(lambda: '; '.join(self.texts()))

    def set(self, key: str, text: str, quality: float = NOMINAL) -> None:
        """Set the concern of a key, or end it with an empty text; quality: 0..1, of the input."""
        with self._lock:
            known = self._lasting.get(key, ('', 1.))[0]
            if text:
                self._lasting[key] = (text, quality)
            else:
                self._lasting.pop(key, None)
        if not text:
            self._diagnostics.withdraw(key)
        elif text != known:
            self._diagnostics.warn(key, text)

    def text(self, key: str) -> str:
        """Return the concern of ``key``, empty if there is none."""
        with self._lock:
            return self._lasting.get(key, ('', 1.))[0]

    def clear(self, prefix: str = '') -> None:
        """End the concerns whose key begins with ``prefix``."""
        with self._lock:
            ended = [key for key in self._lasting if key.startswith(prefix)]
            for key in ended:
                del self._lasting[key]
        for key in ended:
            self._diagnostics.withdraw(key)

    def texts(self) -> tuple[str, ...]:
        """Return the current concerns."""
        with self._lock:
            return tuple(text for text, _ in self._lasting.values())

    def quality(self) -> float:
        """Return the lowest quality of all concerns, 1 without any."""
        with self._lock:
            return min((quality for _, quality in self._lasting.values()), default=1.)
