#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Adds up what `meson test` left in build directories and prints `N passed, N failed, N skipped`.

usage: tally.py [--skipped=N] BUILDDIR|TAPFILE...

A GoogleTest program counts by its cases (its XML result), one that prints TAP by its lines, any
other test as one. A program that
died, hung or left no result counts as one failure. Exit status 1 if anything failed or nothing ran.
"""

import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def gtest_cases(path):
    """passed, failed, skipped of one GoogleTest XML result."""
    counts = [0, 0, 0]
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if case.get("status") == "notrun":
            continue  # disabled or filtered out
        if case.find("failure") is not None:
            counts[1] += 1
        elif case.get("result") == "skipped":
            counts[2] += 1
        else:
            counts[0] += 1
    return counts


def tap_cases(output):
    """passed, failed, skipped of what a TAP test printed."""
    counts = [0, 0, 0]
    for verdict, skip in re.findall(r"^(ok|not ok)\b(.*# SKIP)?", output, re.MULTILINE):
        counts[2 if skip else 1 if verdict == "not ok" else 0] += 1
    return counts


def tally(build):
    if build.is_file():
        return tap_cases(build.read_text())
    passed = failed = skipped = 0
    log = build / "meson-logs" / "testlog.json"
    for line in log.read_text().splitlines() if log.exists() else ():
        test = json.loads(line)
        name = test["name"].split(" / ")[-1]
        result = build / f"{name}.xml"
        good = test["result"] in PASSED
        output = test.get("stdout", "")
        counts = None
        if result.exists() and test["result"] not in SKIPPED:
            counts = gtest_cases(result)
        elif re.search(r"^1\.\.\d+$", output, re.MULTILINE):
            counts = tap_cases(output)
        if counts:
            p, f, s = counts
            passed += p
            failed += f if good or f else 1
            skipped += s
        elif test["result"] in SKIPPED:
            skipped += 1
        elif good:
            passed += 1
        else:
            failed += 1
    return passed, failed, skipped


def main(arguments):
    passed = failed = skipped = 0
    for argument in arguments:
        if argument.startswith("--skipped="):
            skipped += int(argument.partition("=")[2])
            continue
        p, f, s = tally(pathlib.Path(argument))
        passed, failed, skipped = passed + p, failed + f, skipped + s
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
