"""Starts decoding processes at the cost of a fork: a clean process that has imported the decoders and has seen no foreign byte.

One process a study, forked fresh and never reused, so nothing of one patient can be in the memory of another's. The server itself
only forks, ends and counts; it reads orders of fixed length from a socket and ends, with all it has started, when that closes.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ORDER = struct.Struct("<cq")  # START with two pipe ends, or END with a process id
REPLY = struct.Struct("<qq")  # process id, 0; or exit status as by waitpid, largest resident memory in bytes
START, END = b"S", b"E"
IN, OUT = 0, 3  # the pipes of a child
_KIB = 1024
_NOT_NEEDED = ("requests",)
"""What pydicom loads to fetch its example data, at a quarter of the start: a decoder fetches nothing."""


def main() -> None:
    """Serve the socket that stands at standard input until it closes."""
    gc.disable()  # while modules are loaded, nothing becomes garbage
    for name in _NOT_NEEDED:
        sys.modules[name] = None  # type: ignore[assignment]  # importing it is an ImportError, which pydicom expects
    from dicom_io import decode
    from dicom_io.confinement import system_call_filter

    decode.load_character_sets()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard stops the program, whose end closes the socket
    rules = system_call_filter()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # what all children share is not written to when they collect
    gc.enable()
    control = socket.socket(fileno=0)
    running: set[int] = set()
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, ORDER.size, 2)
        if len(order) != ORDER.size:
            break
        kind, process = ORDER.unpack(order)
        if kind == START and len(descriptors) == 2:
            process = os.fork()
            if process == 0:
                _become_child(control, descriptors, lambda: decode.main(rules))
            running.add(process)
            for descriptor in descriptors:
                os.close(descriptor)
            control.sendall(REPLY.pack(process, 0))
        elif kind == END and process in running:
            running.discard(process)
            control.sendall(REPLY.pack(*_end(process)))
        else:
            break
    for process in running:
        _end(process)
    os._exit(0)  # there is nothing to tidy up, and somebody waits


def _end(process: int) -> tuple[int, int]:
    """Kill and reap a child: its id stays its own until here, whatever became of it. Exit status and peak memory."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    return status, usage.ru_maxrss * _KIB


def _become_child(control: socket.socket, descriptors: list[int], work: Callable[[], Any]) -> None:
    """Do the work between the given pipes and end; never returns."""
    status = 1
    try:
        source, target = descriptors
        control.detach()
        os.dup2(source, IN)
        os.dup2(target, OUT)  # 1 and 2 lead nowhere: a decoder that prints must not speak into the protocol
        os.closerange(OUT + 1, max(descriptors) + 1)
        work()
        status = 0
    except BrokenPipeError:
        status = 0  # the other side has what it wants
    finally:
        os._exit(status)
