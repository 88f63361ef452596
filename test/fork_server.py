"""Starts nodes as ``python -m`` does, but without their imports: a process imports once and is forked.

The imports of a node take seconds of processor time, and tests start hundreds of nodes.  A forked node ends
as any other does.  Run by its path, with the descriptor of a socket.
"""
from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

AT_START = ('PYTHON', 'LD_', 'OMP_', 'MALLOC_', 'GLIBC_', 'MKL_', 'OPENBLAS_')
"""Prefixes of variables that count at the start of a process only."""
LAZY = ['torch', 'safetensors.torch', 'PIL.Image']
LAZY_MODELS = ['transformers.models.auto.modeling_auto', 'transformers.models.llama.modeling_llama',
               'transformers.generation.utils']
"""What nodes import when they are configured, and those that run language models."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST = 1 << 20
_imported: set[tuple[str, str]] = set()


class ForkedProcess:
    """A process of the fork server, with what tests use of subprocess.Popen."""

    def __init__(self, pid: int, ended: socket.socket, stdout: IO[str]) -> None:
        self.pid, self.stdout, self.returncode = pid, stdout, None
        self._ended = ended

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._ended.settimeout(max(timeout, 1e-6) if timeout is not None else None)
            try:
                code = self._ended.recv(64)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(f'process {self.pid}', timeout) from None
            self.returncode = int(code or -signal.SIGKILL)  # nothing: the server has ended, and killed it
            self._ended.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process while it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The server process, for the one that uses it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())],
                                             env=self._environment, pass_fds=[theirs.fileno()])

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment can be forked: variables read at its start are the same."""
        return _at_start(environment) == _at_start(self._environment)

    def start(self, module: str, arguments: list[str], environment: Mapping[str, str]) -> ForkedProcess:
        """Run ``python -m module arguments``; standard output and error can be read together."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read, write = os.pipe()
        request = {'module': module, 'arguments': arguments, 'environment': dict(environment),
                   'folder': os.getcwd()}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], [write, theirs.fileno()])
        finally:
            os.close(write)
            theirs.close()
        pid = int(ours.recv(64))
        return ForkedProcess(pid, ours, open(read, encoding='utf-8', errors='replace'))

    def close(self) -> None:
        """End the server, and kill what it has started that still runs."""
        self._socket.close()
        self._process.wait()


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; return it in the forked process, and None in the server at the end."""
    running: dict[int, tuple[int, int]] = {}  # pidfd: pid, descriptor that its exit code is sent to
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in running:
                    selector.unregister(key.fd)
                    _tell_end(key.fd, *running.pop(key.fd))
                    continue
                data, descriptors, *_ = socket.recv_fds(connection, MOST, 2)
                if not data:
                    for pid, _ in running.values():
                        os.kill(pid, signal.SIGKILL)
                    return None
                request = json.loads(data)
                _import(request['module'], *request['arguments'][:1])
                pid = os.fork()
                if not pid:
                    os.dup2(descriptors[0], 1)
                    os.dup2(descriptors[0], 2)
                    for descriptor in (*descriptors, *running, *(end for _, end in running.values())):
                        os.close(descriptor)
                    connection.close()
                    return request
                os.close(descriptors[0])
                watched = os.pidfd_open(pid)
                running[watched] = pid, descriptors[1]
                selector.register(watched, selectors.EVENT_READ)
                os.write(descriptors[1], str(pid).encode())


def _tell_end(watched: int, pid: int, listener: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it
        os.write(listener, str(code).encode())
    os.close(watched)
    os.close(listener)


def _import(module: str, first: str) -> None:
    """Import what a node imports, at its start or when it is configured; failures are the node's to tell.

    first: argument, which of an encoder is the sensor.
    """
    if (module, first) in _imported:
        return
    _imported.add((module, first))
    own = [f'mpnp_ros.modalities.{first}.node'] if module == 'mpnp_ros.nodes.encoder' else []
    for name in (module, *own, *LAZY):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    for name in LAZY_MODELS if 'transformers' in sys.modules else ():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    sys.modules.pop(module, None)
    gc.collect()
    gc.freeze()


def run(request: Mapping[str, Any]) -> None:
    """Be what ``python -m`` would be."""
    os.environ.clear()
    os.environ.update(request['environment'])
    os.chdir(request['folder'])
    module, arguments = request['module'], request['arguments']
    sys.path[0] = request['folder']
    sys.orig_argv = [sys.executable, '-m', module, *arguments]
    sys.argv = ['-m', *arguments]
    if 'numpy' in sys.modules:
        sys.modules['numpy'].random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if 'mpnp_ros.nodes.signals' in sys.modules:  # as the import of mpnp_ros.nodes does
        sys.modules['mpnp_ros.nodes.signals'].heed()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they are for what is forked
    if given := serve(socket.socket(fileno=int(sys.argv[1]))):
        run(given)
