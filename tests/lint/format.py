#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""clang-format decides the layout of every source; exit 77 where it is not installed.

usage: format.py [--fix]
"""

import re
import shutil
import subprocess
import sys

import tree

SKIP = 77


def main(arguments):
    # By its version: another one lays some constructs out otherwise.
    program = shutil.which("clang-format-14")
    if program is None:
        print("clang-format-14 is not installed")
        return SKIP
    files = [str(path) for path in tree.sources()]
    if not files:
        return 0
    command = [program, "--style=file"]
    if "--fix" in arguments:
        return subprocess.run([*command, "-i", *files], check=False).returncode
    result = subprocess.run(
        [*command, "--dry-run", "-Werror", *files], capture_output=True, text=True, check=False
    )
    wrong = sorted(set(re.findall(r"^(.*?):\d+:\d+: error:", result.stderr, re.MULTILINE)))
    for name in wrong:
        print(f"{name}: not as clang-format lays it out (./fl lint --fix)")
    if result.returncode and not wrong:
        print(result.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
