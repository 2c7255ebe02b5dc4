#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks a model exhaustively, finds its planted errors, and replays what it found.

usage: check_model.py MODEL [REPLAY]

1. spin visits every state of the model and finds nothing wrong
2. with each planted error it finds a shortest counterexample
3. REPLAY plays that one against the C++ duty: with the policy merge it holds, with a policy (or a
   sink) that makes the same error it does not

Without REPLAY the third step is left out. The planted errors are those that the model names.

Exit status 77 when there is no spin or no C compiler.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SECONDS = 280
EVENTS = re.compile(
    r"^\s*(fetch|submit|works|fails|resync|acknowledge|arrive|signal|drain|look|wake)\b.*",
    re.MULTILINE,
)


def run(command, work):
    done = subprocess.run(
        command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
    )
    return done.returncode, done.stdout + done.stderr


def search(source, work, compiler, macros, breadth_first):
    """pan's output for the model with these macros."""
    for old in work.iterdir():
        old.unlink()
    model = pathlib.Path(shutil.copy(source, work)).name
    macros = [f"-D{m}" for m in macros]
    status, output = run(["spin", "-a", *macros, model], work)
    if status:
        sys.exit(f"spin refuses the model:\n{output}")
    how = ["-DBFS"] if breadth_first else []
    flags = ["-O2", "-w", "-DSAFETY", "-DMEMLIM=900", *how]
    status, output = run([compiler, *flags, "-o", "pan", "pan.c"], work)
    if status:
        sys.exit(f"{compiler}:\n{output}")
    return run([str(work / "pan"), "-m100000", "-w22"], work)[1]


def number(pattern, text):
    found = re.search(pattern, text)
    if not found:
        sys.exit(f"pan said nothing of {pattern!r}:\n{text}")
    return found.group(1)


def planted_in(model):
    """The macros that the model's comment lists after "Planted errors:"."""
    text = pathlib.Path(model).read_text()
    comment = re.search(r"// Planted errors:((?:.*\n//)*.*)", text)
    names = re.findall(r"\b[A-Z]+_[A-Z_]+\b", comment.group(1)) if comment else []
    if not names:
        sys.exit(f"{model} names no planted errors: a model that cannot fail proves nothing")
    return names


def main(model, replay=None):
    compiler = next((c for c in ("gcc", "cc", "clang") if shutil.which(c)), None)
    if not shutil.which("spin") or compiler is None:
        print("skipped: no spin" if compiler else "skipped: no C compiler")
        return 77
    with tempfile.TemporaryDirectory() as directory:
        # spin and pan leave files beside the model.
        work = pathlib.Path(directory)
        source, model = model, pathlib.Path(model).name
        output = search(source, work, compiler, [], False)
        states = int(number(r"(\d+) states, stored", output))
        if number(r"errors: (\d+)", output) != "0" or "Search not completed" in output:
            trail = run(["spin", "-t", model], work)[1]
            sys.exit(f"the model is wrong, or too large:\n{output}\n{trail}")
        seconds = number(r"elapsed time ([\d.]+)", output)
        memory = number(r"([\d.]+)\s+total actual memory", output)
        print(f"model: {states} states, {seconds} s, {memory} MB, nothing wrong")
        failed = 0
        for macro in planted_in(source):
            output = search(source, work, compiler, [macro], True)
            if number(r"errors: (\d+)", output) == "0":
                print(f"{macro}: NOT FOUND by spin")
                failed = 1
                continue
            trail = run(["spin", "-t", f"-D{macro}", model], work)[1]
            lines = [m.group(0).strip() for m in EVENTS.finditer(trail)]
            print(f"{macro}: found by spin in {len(lines)} steps ({', '.join(lines)})")
            if replay is None:
                continue
            (work / "trail").write_text("\n".join(lines) + "\n")
            status, said = run([replay, macro, str(work / "trail")], os.getcwd())
            print("  " + said.strip().replace("\n", "\n  "))
            failed |= status
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
