#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Who may include whom: the layer table, checked over every source.

usage: layers.py [ROOT]

One line per violation: file:line, what it includes, and which rule forbids it.
"""

import pathlib
import re
import sys

import tree

# Longest matching prefix of a file's path wins; each may include its own folder and those listed.
# A prefix ending in "/*.h" allows the headers directly in that folder, not those of subfolders.
LAYERS = {
    "kernel/base": [],
    "kernel/uapi": ["kernel/base"],
    "kernel": ["kernel/*.h", "kernel/base", "kernel/uapi"],
    "kernel/model": [],
    "kernel/vfio": ["kernel/*.h", "kernel/uapi", "kernel/base"],
    "kernel/iommufd": ["kernel/*.h", "kernel/uapi", "kernel/base"],
    "kernel/soft": ["kernel/model", "kernel/*.h", "kernel/uapi", "kernel/base"],
    "kernel/module": ["kernel/model", "kernel/*.h", "kernel/uapi", "kernel/base"],
    "config": ["kernel/base"],
    "engine": ["kernel/*.h", "kernel/base", "config"],
    # The guest's encoder and ledger audit the engine, so they share nothing with it.
    "apps/guest": ["kernel", "config", "tests/support"],
    # What a VMM author takes along: plain C, nothing of ours.
    "apps/client": [],
    "apps": ["apps/guest", "apps/client", "kernel", "engine", "config"],
    "bench": ["kernel", "engine", "config", "apps", "tests"],
    "tests": ["kernel", "engine", "config", "apps", "bench"],
}

# Freestanding C: what a compiler offers without a library.
FREESTANDING = {"stddef.h", "stdint.h", "stdbool.h", "limits.h", "stdarg.h", "stdalign.h"}

# Each foreign library's one home; tests and bench may use any.
HOMES = {
    "hwloc": (
        r"hwloc(\.h|/)",
        {"engine/topology_handle.h", "engine/topology.cc", "engine/topology_drawing.cc"},
    ),
    "rte_ring": (r"rte_(ring\w*|errno)\.h", {"engine/ring.h", "engine/lcore.cc"}),
    "DPDK": (r"rte_(?!ring|errno)\w+\.h", {"engine/lcore.cc", "apps/metrics/telemetry.cc"}),
    "oneTBB": (r"(tbb|oneapi)/", {"engine/cold_lane.cc"}),
    "JSON": (r"nlohmann/", {"apps/", "engine/session.cc"}),
    "cJSON": (r"(cjson/)?cJSON\.h", {"apps/client/"}),
    "TOML": (r"toml\+\+/|toml\.hpp", {"config/parse.cc"}),
    "CLI11": (r"CLI/", {"apps/"}),
    "zstd": (r"zstd\w*\.h", {"apps/"}),
    "libsystemd": (r"systemd/", {"apps/faultlined/"}),
    "libseccomp": (r"seccomp\.h", {"apps/faultlined/"}),
    "prometheus-cpp": (r"prometheus/", {"apps/metrics/"}),
    "cpp-httplib": (r"httplib\.h", {"apps/metrics/"}),
    "ncurses": (r"(n?curses|ncursesw/\w+)\.h", {"apps/faultline/"}),
    "the kernel's own headers": (r"linux/", set()),
}
# Only the drift test may see the system's copy of a header mirrored in kernel/uapi.
DRIFT = re.compile(r"tests/kernel/(uapi/)?\w*drift\w*_test\.(cc|c)$")
# Built by the kernel's own build, not by ours.
MODULES = ("tests/vm/guest/module/",)
# Constants that mirror nothing of ours and that libc offers nowhere else.
SPARE = {"linux/futex.h", "linux/memfd.h", "linux/membarrier.h", "linux/io_uring.h"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """The longest prefix in LAYERS of a path from the root, or None."""
    parts = path.split("/")[:-1]
    while parts:
        if "/".join(parts) in LAYERS:
            return "/".join(parts)
        parts.pop()
    return None


def allowed(target, layer):
    """Whether files of a layer may include the project's file target."""
    if layer_of(target) == layer:
        return True
    for rule in LAYERS[layer]:
        if rule.endswith("/*.h"):
            if str(pathlib.PurePosixPath(target).parent) == rule[: -len("/*.h")]:
                return True
        elif target == rule or target.startswith(rule + "/"):
            return True
    return False


def foreign(path, name):
    """Why this file may not include this foreign header, or None."""
    if path.startswith(MODULES):
        return None
    if path.startswith(("tests/", "bench/")) and not name.startswith("linux/"):
        return None
    for library, (pattern, homes) in HOMES.items():
        if re.match(pattern, name):
            if name in SPARE or DRIFT.search(path):
                return None
            if any(path == home or home.endswith("/") and path.startswith(home) for home in homes):
                return None
            where = ", ".join(sorted(homes)) or "tests/kernel/…drift_test"
            return f"{library} has its home in {where}"
    return None


def check(path, text):
    """Violations in one file; path is from the root."""
    layer = layer_of(path)
    if layer is None:
        return [f"{path}:1: is in no folder of the layer table"]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        bracket, name = match.groups()
        ours = name.split("/")[0] in tree.FOLDERS
        why = None
        if layer == "kernel/model":
            if not (ours and layer_of(name) == "kernel/model") and name not in FREESTANDING:
                why = "kernel/model is freestanding C and includes only itself"
        elif ours:
            if not allowed(name, layer):
                why = f"{layer} may include only {', '.join(LAYERS[layer]) or 'the standard library'}"
        elif bracket == '"' and "/" not in name and not re.match(r"\w+\.h$", name):
            why = "includes are spelled from the root"
        elif bracket == '"' and (tree.ROOT / pathlib.Path(path).parent / name).exists():
            why = "includes are spelled from the root"
        else:
            why = foreign(path, name)
        if why:
            found.append(f"{path}:{number}: includes {name}: {why}")
    return found


def main(arguments):
    root = pathlib.Path(arguments[0]) if arguments else tree.ROOT
    problems = []
    for source in tree.sources(root):
        problems += check(source.relative_to(root).as_posix(), source.read_text(errors="replace"))
    return tree.report(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
