#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""clang-tidy over the sources of a build directory, only where something changed.

usage: tidy.py BUILDDIR [FILE...]

A file that was clean is remembered by the contents of itself, of the project's headers that its
object depends on, and of .clang-tidy.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import tree


def dependencies(build):
    """Object → the project's files that it was compiled from, as ninja recorded them."""
    found, current = {}, None
    output = subprocess.run(
        ["ninja", "-C", str(build), "-t", "deps"], capture_output=True, text=True, check=False
    ).stdout
    for line in output.splitlines():
        if line.startswith("    ") and current is not None:
            path = pathlib.Path(os.path.normpath(build.resolve() / line.strip()))
            if path.is_relative_to(tree.ROOT) and path.is_file():
                current.append(path)
        elif ": #deps" in line:
            current = found.setdefault(line.split(":")[0], [])
    return found


def digest(paths):
    total = hashlib.sha256((tree.ROOT / ".clang-tidy").read_bytes())
    for path in sorted(set(paths)):
        total.update(path.read_bytes())
    return total.hexdigest()


def tidy(build, source):
    return subprocess.run(
        [
            "clang-tidy-14",
            "-p",
            str(build),
            "--quiet",
            "--extra-arg=-Wno-unknown-warning-option",
            str(source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def main(arguments):
    build = pathlib.Path(arguments[0])
    chosen = {pathlib.Path(name).resolve() for name in arguments[1:]}
    commands = json.loads((build / "compile_commands.json").read_text())
    built_from = dependencies(build)
    stamps = build / "clang-tidy"
    stamps.mkdir(exist_ok=True)
    work = {}
    for command in commands:
        source = pathlib.Path(os.path.normpath(pathlib.Path(command["directory"]) / command["file"]))
        if not source.is_relative_to(tree.ROOT) or source.is_relative_to(build.resolve()):
            continue
        if chosen and source not in chosen:
            continue
        stamp = stamps / digest([source, *built_from.get(command["output"], [])])
        if not stamp.exists():
            work[source] = stamp
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {pool.submit(tidy, build, source): source for source in work}
        for number, run in enumerate(concurrent.futures.as_completed(runs), 1):
            source, result = runs[run], run.result()
            print(f"[{number}/{len(work)}] {source.relative_to(tree.ROOT)}", flush=True)
            if result.returncode == 0:
                work[source].touch()
            else:
                failed += 1
                print(result.stdout, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
