# SPDX-License-Identifier: BSD-3-Clause
"""What the lint tests have in common: the project's own files, without asking git."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("kernel", "engine", "config", "apps", "bench", "tests")
CODE = {".h", ".c", ".cc"}
SCRIPTS = {".py", ".sh"}


def sources(root=ROOT, suffixes=frozenset(CODE)):
    """Paths below root of the project's sources, sorted."""
    return sorted(
        path
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file()
        and (path.suffix in suffixes or path.name in suffixes)
        and "data" not in path.relative_to(root).parts
    )


def report(problems):
    """Prints the problems; the exit status of a lint."""
    for problem in problems:
        print(problem)
    return 1 if problems else 0
