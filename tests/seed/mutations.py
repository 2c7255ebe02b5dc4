#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Proves that the conformance tests can fail.

usage: mutations.py SEED_TEST SENTENCES

Reads the table of sentences.md. For each test named there the kernel under test is told to make
each mistake of that row, one at a time (FAULTLINE_MUTATION=<name>), and the test has to fail; tests
of a quirk without a mutation have to fail on a kernel without quirks (FAULTLINE_NO_QUIRKS). Also
fails when a test of the program is not in the table, a test of the table is not in the program, or
a mutation of the kernel is in no row. Prints TAP.
"""

import os
import pathlib
import re
import subprocess
import sys

SECONDS = 60
NO_QUIRKS = "-"


def rows(text):
    """(tests, mutations) of every row of the table that names tests."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 5 or not cells[0].isdigit():
            continue
        tests = re.findall(r"`([A-Za-z0-9]+\.[A-Za-z0-9]+)`", cells[3])
        mutations = re.findall(r"`([A-Za-z0-9]+)`", cells[4]) or [NO_QUIRKS]
        yield tests, mutations


def run(program, test, **environment):
    return subprocess.run(
        [program, f"--gtest_filter={test}"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        text=True,
        check=False,
    )


def listed(program, *arguments):
    out = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return out.stdout.splitlines()


def tests_of(program):
    suite, found = "", set()
    for line in listed(program, "--gtest_list_tests"):
        if line and not line.startswith(" ") and line.rstrip().endswith("."):
            suite = line.strip()
        elif line.startswith("  "):
            found.add(suite + line.strip())
    return found


def main(program, table):
    results = []

    def result(ok, name, why=""):
        results.append(ok)
        print(("ok" if ok else "not ok"), len(results), "-", name, flush=True)
        if not ok:
            for line in why.splitlines()[-15:]:
                print("#", line)

    table = list(rows(pathlib.Path(table).read_text()))
    in_table = {test for tests, _ in table for test in tests}
    in_program = tests_of(program)
    result(in_table == in_program, "every test is in the table and the other way round",
           f"only one side has: {sorted(in_table ^ in_program)}")
    used = {m for _, mutations in table for m in mutations if m != NO_QUIRKS}
    known = set(listed(program, "--list-mutations"))
    result(used == known, "every mutation of the kernel is used",
           f"only one side has: {sorted(used ^ known)}")

    caught = {}
    for tests, mutations in table:
        for mutation in mutations:
            environment = (
                {"FAULTLINE_NO_QUIRKS": "1"} if mutation == NO_QUIRKS
                else {"FAULTLINE_MUTATION": mutation}
            )
            noticed = []
            for test in tests:
                done = run(program, test, **environment)
                if done.returncode == 1 and "[  FAILED  ]" in done.stdout:
                    noticed.append(test)
                    caught.setdefault(test, []).append(mutation)
            result(bool(noticed), f"{mutation}: noticed by {', '.join(noticed) or 'none'}",
                   f"tests: {tests}")
    for test in sorted(in_table):
        result(test in caught, f"{test} can fail")
    print(f"1..{len(results)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
