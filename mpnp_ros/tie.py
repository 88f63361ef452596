"""Becomes a command that is to end with the process that started it: python tie.py PARENT COMMAND...

On Linux only. Run by its path, so that nothing of the package is imported. The tie outlasts exec, and is to
the thread that started this process.
"""
import ctypes
import os
import sys

PR_SET_PDEATHSIG, SIGTERM = 1, 15

if __name__ == '__main__':
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
    if os.getppid() == int(sys.argv[1]):  # otherwise it has ended already
        os.execvp(sys.argv[2], sys.argv[2:])
