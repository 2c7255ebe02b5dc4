#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Licence line, length and leftovers of every source; strays at the root.

usage: sources.py [ROOT]
"""

import pathlib
import re
import sys

import tree

BSD = "SPDX-License-Identifier: BSD-3-Clause"
DUAL = BSD + " OR GPL-2.0-only"
# What a kernel module compiles too must be offered under the kernel's licence as well.
DUAL_FOLDERS = ("kernel/model/", "kernel/module/", "tests/vm/guest/module/")
EITHER_FOLDERS = ("kernel/uapi/",)
LONGEST = 400
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX)\b|not implemented", re.IGNORECASE)
# At the root, besides what begins with a dot and what ./fl makes.
TOP = {*tree.FOLDERS, "doc", "build", "meson.build", "meson_options.txt", "fl"}
TOP |= {"README.md", "CONTRIBUTING.md", "LICENSE"}
LEFTOVER_FREE = ("kernel/", "engine/", "apps/", "config/", "bench/")


def check(path, text):
    """Problems and warnings of one file; path is from the root."""
    lines = text.splitlines() or [""]
    problems, warnings = [], []
    licence_line = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
    licence = licence_line.lstrip("/#* ").removesuffix("*/").strip()
    if path.startswith(DUAL_FOLDERS) and not path.endswith("meson.build"):
        if licence != DUAL:
            problems.append(f"{path}:1: the first line must be: {DUAL}")
    elif licence != BSD and not (path.startswith(EITHER_FOLDERS) and licence == DUAL):
        problems.append(f"{path}:1: the first line must be: {BSD}")
    if len(lines) > LONGEST:
        warnings.append(f"warning: {path} has {len(lines)} lines, more than {LONGEST}")
    if path.startswith(LEFTOVER_FREE):
        for number, line in enumerate(lines, 1):
            if LEFTOVER.search(line):
                problems.append(f"{path}:{number}: leftover: {line.strip()}")
    return problems, warnings


def strays(names):
    """Problems with what lies at the root; names are without their path."""
    return [f"{name}: does not belong at the root" for name in sorted(names)
            if name not in TOP and not name.startswith(".")]


def main(arguments):
    root = pathlib.Path(arguments[0]) if arguments else tree.ROOT
    kinds = frozenset(tree.CODE | tree.SCRIPTS | {"meson.build"})
    problems = strays(path.name for path in root.iterdir())
    for source in tree.sources(root, kinds):
        bad, warnings = check(source.relative_to(root).as_posix(), source.read_text(errors="replace"))
        problems += bad
        for warning in warnings:
            print(warning)
    return tree.report(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
