"""Becomes a command that is to end with the process that started it: tie.py [--hold-sigint] PARENT COMMAND

On Linux only. Run by its path, so that nothing of the package is imported. The tie outlasts exec, and is to
the thread that started this process. With --hold-sigint a SIGINT waits until the command lets it in, as nodes
do with their first import: one that meets Python while it starts ends it with a traceback.
"""
import _signal  # at once: signal, os and ctypes take a while to import
import sys

HOLD = '--hold-sigint'

if __name__ == '__main__':
    arguments = sys.argv[1:]
    if arguments[0] == HOLD:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGINT])
        arguments.pop(0)

import ctypes  # noqa: E402
import os  # noqa: E402

PR_SET_PDEATHSIG = 1

if __name__ == '__main__':
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(_signal.SIGTERM))
    if os.getppid() == int(arguments[0]):  # otherwise it has ended already
        os.execvp(arguments[1], arguments[1:])
