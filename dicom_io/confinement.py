"""What the decoding process gives up before it sees a foreign byte: memory, time, files, sockets, processes, root.

Two fences stand behind each other. Resource limits hold on every POSIX system: with no free file descriptor nothing can be opened,
a socket neither. Where the kernel and libseccomp allow it, a list of system calls follows, and all others fail.
Limits: configs/limits.toml, [child].
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # another system than Linux, or no libseccomp
    pyseccomp = None

_NOBODY = 65534  # uid and gid by convention (LSB)

# What a running decoder needs: its two pipes, memory, clocks, the end. Nothing that opens, connects, executes or signals others.
SYSTEM_CALLS = (
    *(
        "read",
        "readv",
        "write",
        "writev",
        "close",
        "lseek",
        "fstat",
        "newfstatat",
        "poll",
        "ppoll",
        "select",
        "pselect6",
    ),
    *("mmap", "munmap", "mremap", "madvise", "mprotect", "brk", "futex", "sched_yield", "sched_getaffinity"),
    *("clock_gettime", "clock_getres", "gettimeofday", "time", "nanosleep", "clock_nanosleep", "getrusage", "times"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "getuid", "geteuid"),
    *("getrandom", "sysinfo", "uname", "restart_syscall", "rseq", "membarrier", "exit", "exit_group"),
)


def system_call_filter() -> Any:
    """The filter, ready to be loaded, or None where there is none. Built before the fork, loaded after it."""
    if pyseccomp is None:
        return None
    try:
        rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))  # EPERM: a refused call is an error and not a riddle
        for name in SYSTEM_CALLS:
            with suppress(OSError, ValueError, RuntimeError):  # a call that this architecture does not know
                rules.add_rule(pyseccomp.ALLOW, name)
    except (OSError, RuntimeError):
        return None
    return rules


def confine(child: Mapping[str, Any], rules: Any) -> None:
    """Give up for good what decoding does not need. `child`: the limits; `rules`: what `system_call_filter` gave.

    Raises OSError when a limit cannot be set; a kernel without seccomp is no error.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    for kind, value in (
        (resource.RLIMIT_AS, child["memory_bytes"]),
        (resource.RLIMIT_CPU, child["cpu_seconds"]),
        (resource.RLIMIT_NOFILE, child["open_files"]),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
    if rules is not None:
        with suppress(OSError, RuntimeError):  # a kernel without seccomp: the limits above hold
            rules.load()
