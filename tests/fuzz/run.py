#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The test of one fuzz target; or, with --grow, a new corpus for it.

usage: run.py NAME TARGET PLANTED
       run.py --grow SECONDS NAME TARGET
       run.py --floors NAME TARGET

1. every input of tests/data/fuzz/NAME passes
2. new inputs are tried for FAULTLINE_FUZZ_SECONDS (default 4) seconds, from a fixed seed
3. PLANTED, the same with a bug planted in the code under test (plants.toml), breaks on the corpus or
   within 10 s of fuzzing
4. the corpus covers at least the lines of the parsers that coverage.json says

--grow fuzzes and then keeps a smallest set of inputs that reaches the same code; --floors writes
what the corpus covers into coverage.json. An input that fails is kept in the working directory
(the build's) and named; `TARGET <file>` repeats it.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLOORS = HERE / "coverage.json"
PLANT_SECONDS = 10
OPTIONS = "-max_len=512 -len_control=0 -timeout=10 -rss_limit_mb=1024 -seed=1".split()


def corpus(name):
    return ROOT / "tests/data/fuzz" / name


def fuzz(binary, work, arguments, profile=os.devnull):
    """Runs a libFuzzer binary; its exit status and output."""
    environment = dict(os.environ, LLVM_PROFILE_FILE=str(profile))
    # abort_on_error would write core files and hide nothing that libFuzzer does not show.
    environment["ASAN_OPTIONS"] = "abort_on_error=0:detect_stack_use_after_return=1"
    done = subprocess.run(
        [binary, *OPTIONS, f"-artifact_prefix={work}/", *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.returncode, done.stdout + done.stderr


def what_broke(output):
    """The line that says what a run died of."""
    for pattern in (
        r"^broken invariant: .*",
        r"^.*runtime error: .*",
        r"^SUMMARY: AddressSanitizer.*",
        r"^==\d+== ?ERROR: .*",
    ):
        if found := re.search(pattern, output, re.MULTILINE):
            return found.group(0)
    return output.strip().splitlines()[-1] if output.strip() else "no output"


def runs(output):
    found = re.findall(r"^#(\d+)", output, re.MULTILINE)
    return int(found[-1]) if found else 0


def fail(name, what, output, work):
    kept = [shutil.copy(f, pathlib.Path.cwd() / f"fuzz_{name}-{f.name}") for f in artifacts(work)]
    print("\n".join(output.splitlines()[-40:]))
    sys.exit(f"fuzz_{name}: {what}: {what_broke(output)}" + "".join(f"\n  {k}" for k in kept))


def artifacts(work):
    return [f for f in pathlib.Path(work).glob("*-*") if f.is_file() and f.suffix == ""]


def regression(name, target, work):
    begin = time.monotonic()
    inputs = sorted(corpus(name).iterdir())
    profile = pathlib.Path(work) / "corpus.profraw"
    status, output = fuzz(target, work, ["-runs=0", corpus(name)], profile)
    if status:
        fail(name, "an input of the corpus fails", output, work)
    print(f"corpus    {len(inputs)} inputs pass, {time.monotonic() - begin:.1f} s")
    return profile


def explore(name, target, work, seconds):
    fresh = pathlib.Path(work) / "fresh"
    fresh.mkdir()
    status, output = fuzz(target, work, [f"-max_total_time={seconds}", fresh, corpus(name)])
    if status:
        fail(name, "fuzzing broke it", output, work)
    print(f"fuzzing   {runs(output)} inputs in {seconds} s, nothing broke")


def plant(name, planted, work):
    bug = tomllib.loads((HERE / "plants.toml").read_text())[name]
    fresh = pathlib.Path(work) / "planted"
    fresh.mkdir()
    begin = time.monotonic()
    how = "by the corpus itself"
    status, output = fuzz(planted, work, ["-runs=0", corpus(name)])
    if not status:
        how = "by fuzzing"
        limit = f"-max_total_time={PLANT_SECONDS}"
        status, output = fuzz(planted, work, [limit, fresh, corpus(name)])
    took = time.monotonic() - begin
    if not status:
        what = f"the planted bug is not found in {runs(output)} inputs ({bug['why']})"
        fail(name, what, output, work)
    print(f"planted   {bug['file']}: {bug['why']}")
    print(f"          found {how} after {runs(output)} inputs, {took:.1f} s: {what_broke(output)}")


def tool(name):
    return shutil.which(f"{name}-14") or shutil.which(name)


def covered(name, target, profile, work):
    """Percent of lines of each parser file that the corpus runs, or None without llvm-cov."""
    if not tool("llvm-cov") or not tool("llvm-profdata"):
        return None
    data = pathlib.Path(work) / "corpus.profdata"
    subprocess.run([tool("llvm-profdata"), "merge", "-o", data, profile], check=True)
    files = json.loads(FLOORS.read_text())[name]
    command = [tool("llvm-cov"), "export", "-summary-only", f"-instr-profile={data}", target]
    out = subprocess.run(command + [ROOT / f for f in files], check=True, capture_output=True)
    percent = {}
    for entry in json.loads(out.stdout)["data"][0]["files"]:
        path = os.path.relpath(os.path.realpath(entry["filename"]), ROOT)
        percent[path] = entry["summary"]["lines"]["percent"]
    return {f: percent.get(f, 0.0) for f in files}


def coverage(name, target, profile, work):
    percent = covered(name, target, profile, work)
    if percent is None:
        print("coverage  not measured: llvm-cov-14 is not installed")
        return
    floors = json.loads(FLOORS.read_text())[name]
    for file, lines in percent.items():
        print(f"coverage  {lines:5.1f} % of the lines of {file} (floor {floors[file]} %)")
    fallen = [f for f, lines in percent.items() if lines < floors[f] - 0.05]
    if fallen:
        sys.exit(
            f"fuzz_{name}: the corpus covers less than it did of {', '.join(fallen)};"
            f" grow it: tests/fuzz/run.py --grow 30 {name} {target}"
        )


def write_floors(name, target):
    with tempfile.TemporaryDirectory() as work:
        percent = covered(name, target, regression(name, target, work), work)
    floors = json.loads(FLOORS.read_text())
    # A little below what was measured: compilers count lines differently.
    floors[name] = {f: max(0, round(lines - 0.5, 1)) for f, lines in percent.items()}
    FLOORS.write_text(json.dumps(floors, indent=2, sort_keys=True) + "\n")


def grow(seconds, name, target):
    kept = corpus(name)
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        found, small = pathlib.Path(work) / "found", pathlib.Path(work) / "small"
        found.mkdir()
        small.mkdir()
        status, output = fuzz(target, work, [f"-max_total_time={seconds}", found, kept])
        if status:
            fail(name, "fuzzing broke it", output, work)
        # Which code is reached, not how often: a set of a few dozen instead of hundreds.
        merge = ["-set_cover_merge=1", "-use_counters=0", "-use_value_profile=0"]
        status, output = fuzz(target, work, [*merge, small, kept, found])
        if status:
            fail(name, "the merge failed", output, work)
        for old in kept.iterdir():
            old.unlink()
        for new in small.iterdir():
            shutil.copy(new, kept / new.name[:16])
    sizes = [f.stat().st_size for f in kept.iterdir()]
    print(f"{name}: {len(sizes)} inputs, {sum(sizes)} bytes")


def main(arguments):
    if arguments[0] == "--grow":
        grow(int(arguments[1]), arguments[2], arguments[3])
        return
    if arguments[0] == "--floors":
        write_floors(arguments[1], arguments[2])
        return
    name, target, planted = arguments[:3]  # more were meant for GoogleTest
    seconds = int(os.environ.get("FAULTLINE_FUZZ_SECONDS", "4"))
    with tempfile.TemporaryDirectory() as work:
        profile = regression(name, target, work)
        explore(name, target, work, seconds)
        plant(name, planted, work)
        coverage(name, target, profile, work)


if __name__ == "__main__":
    main(sys.argv[1:])
