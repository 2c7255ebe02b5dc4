# SPDX-License-Identifier: BSD-3-Clause
"""One run of a virtual machine: start, console, verdict.

What runs inside prints lines that begin with `vm: `:
    vm: begin NAME          a program starts
    vm: end NAME STATUS     it ended with this exit status
    vm: done                everything that was to run has run
Anything else is the programs' own output. The kernel has a console of its own, so that its
messages do not fall into the middle of a line.
"""

import re
import subprocess
import sys
import threading
import time

_TROUBLE = re.compile(
    r"Kernel panic|Internal error|\bOops\b|BUG:|WARNING:|Unable to handle kernel|"
    r"general protection fault|hung task|Out of memory:|rcu: INFO: .*stall"
)


class Outcome:
    """What a run showed."""

    def __init__(self):
        self.lines = []  # the console
        self.programs = {}  # name: exit status, or None when it never ended
        self.output = {}  # name: lines between its begin and end
        self.done = False
        self.trouble = []  # kernel messages that no sound run has
        self.seconds = 0.0
        self.timed_out = False


def run(command, timeout_s, kernel_log, echo=None):
    """Run QEMU with the programs' console on its stdout; returns an Outcome.

    timeout_s   bounds a hang and nothing else
    kernel_log  the file that the kernel's console goes to
    echo        called with every line of the programs
    """
    outcome = Outcome()
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )

    def give_up():
        outcome.timed_out = True
        process.kill()

    watchdog = threading.Timer(timeout_s, give_up)
    watchdog.start()
    current = None
    try:
        for line in process.stdout:
            line = re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]", "", line).rstrip("\r\n")
            outcome.lines.append(line)
            words = line.split()
            if words[:2] == ["vm:", "begin"]:
                current = words[2]
                outcome.programs[current] = None
                outcome.output[current] = []
            elif words[:2] == ["vm:", "end"]:
                outcome.programs[words[2]] = int(words[3])
                current = None
            elif words[:2] == ["vm:", "done"]:
                outcome.done = True
            elif current is not None:
                outcome.output[current].append(line)
            if echo:
                echo(line)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    kernel = kernel_log.read_text(errors="replace").splitlines()
    outcome.trouble = [line for line in kernel if _TROUBLE.search(line)]
    outcome.seconds = time.monotonic() - started
    return outcome


_CASE = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] ([A-Za-z0-9_/]+\.[A-Za-z0-9_/]+)(?: \(|,|$)")


def cases(lines):
    """(name, verdict) of each GoogleTest case in a program's output."""
    seen = {}
    for line in lines:
        match = _CASE.match(line)
        if match:
            seen.setdefault(match[2], match[1])
    return list(seen.items())


def results(outcome, expected):
    """(good, text, skipped) of each case, and of whatever else went wrong.

    expected  names of the programs that had to run
    """
    out = []
    for name in expected:
        status = outcome.programs.get(name)
        found = cases(outcome.output.get(name, []))
        for case, verdict in found:
            out.append((verdict != "FAILED", f"{name}: {case}", verdict == "SKIPPED"))
        failed = any(verdict == "FAILED" for _, verdict in found)
        if status is None:
            out.append((False, f"{name}: did not end", False))
        elif status != 0 and not failed:
            out.append((False, f"{name}: exit status {status}", False))
        elif status == 0 and not found:
            out.append((False, f"{name}: ran no test", False))
    for line in outcome.trouble:
        out.append((False, f"kernel: {line}", False))
    if outcome.timed_out:
        out.append((False, "the machine was stopped: it hung", False))
    elif not outcome.done:
        out.append((False, "the machine ended before everything had run", False))
    return out


def tap(found):
    """The TAP lines of results."""
    lines = [
        f"{'ok' if good else 'not ok'} {n} - {text}{' # SKIP' if skipped else ''}"
        for n, (good, text, skipped) in enumerate(found, start=1)
    ]
    return [*lines, f"1..{len(found)}"]


def say(text):
    print(f"fl: {text}", file=sys.stderr, flush=True)
