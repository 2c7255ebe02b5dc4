#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Plants the bug of one fuzz target in a copy of the code under test.

usage: plant.py NAME ROOT COPY OUT.cc OUT.h

A mutated source becomes OUT.cc, a mutated header COPY/<its path>; the other outputs are empty. The
text to replace must be there exactly once: whoever changes that line moves the plant along.
"""

import pathlib
import sys
import tomllib


def main(name, root, copy, out_source, out_header):
    root = pathlib.Path(root)
    plant = tomllib.loads((root / "tests/fuzz/plants.toml").read_text())[name]
    original = root / plant["file"]
    text = original.read_text()
    if text.count(plant["from"]) != 1:
        sys.exit(
            f"plants.toml: [{name}] {plant['file']} has {text.count(plant['from'])} times, not once:"
            f" {plant['from']}"
        )
    line = text[: text.index(plant["from"])].count("\n") + 1
    mutated = f'#line 1 "{original}"\n' + text.replace(plant["from"], plant["to"])
    note = f"// {plant['file']}:{line} is mutated: {plant['why']}\n"
    source, header = "", ""
    if original.suffix in (".c", ".cc"):
        source = mutated
    else:
        place = pathlib.Path(copy) / plant["file"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(mutated)
        header = f"// {hash(mutated)}\n"
    pathlib.Path(out_source).write_text(note + source)
    pathlib.Path(out_header).write_text(note + header)
    depfile = pathlib.Path(out_source).with_suffix(".d")
    depfile.write_text(f"{pathlib.Path(out_source).name}: {original}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
