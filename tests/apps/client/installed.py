#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The client library as it is installed: a C program finds it by pkg-config, links and runs.

usage: installed.py PROGRAM.c BUILD-FOLDER
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile


def flags_of(root):
    """What pkg-config says of the library below a root."""
    found = list(root.rglob("faultline-client.pc"))
    if len(found) != 1:
        sys.exit(f"{len(found)} faultline-client.pc are installed, not one")
    at = found[0].parent
    # The library itself is below the root; what it needs is the system's.
    ask = ["pkg-config", "--variable", "pc_path", "pkg-config"]
    system = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    env = {**os.environ, "PKG_CONFIG_LIBDIR": f"{found[0].parent}:{system}"}
    prefix = re.search(r"^prefix=(.*)$", found[0].read_text(), re.MULTILINE).group(1)
    ask = ["pkg-config", f"--define-variable=prefix={root}{prefix}", "--static", "--cflags", "--libs"]
    text = subprocess.run(
        [*ask, "faultline-client"], env=env, capture_output=True, text=True, check=True
    ).stdout
    return shlex.split(text)


def main(arguments):
    source, build = arguments
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        subprocess.run(
            ["meson", "install", "-C", build, "--no-rebuild", "--tags", "devel", "--destdir", folder],
            check=True, stdout=subprocess.DEVNULL,
        )
        program = root / "program"
        compile_it = ["cc", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", source]
        subprocess.run([*compile_it, "-o", program, *flags_of(root)], check=True)
        run = subprocess.run([program, root / "nobody"], capture_output=True, text=True, check=False)
        if run.returncode != 0 or "nobody" not in run.stdout:
            sys.exit(f"the program ended with {run.returncode} and said: {run.stdout}{run.stderr}")


if __name__ == "__main__":
    main(sys.argv[1:])
