#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""From the benchmarks' JSON to doc/benchmarks.md.

usage: report.py merge OUT.json PROGRAM=FILE.json...   one file out of Google Benchmark's
       report.py write IN.json DOC-FOLDER              benchmarks.md, and the plots' data and pictures

What bench/promises.json names and the run did not measure is said to be not measured.
"""

import fnmatch
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FACTS = [
    "cpu", "cpus_usable", "smt", "isolated_cpus", "nohz_full_cpus", "frequency", "timer_hz",
    "clock_source", "hypervisor", "microcode", "kernel", "architecture", "transparent_hugepages",
]
# Google Benchmark's own fields; everything else that is a number is a counter of ours.
OWN = {
    "name", "run_name", "run_type", "repetitions", "repetition_index", "threads", "iterations",
    "real_time", "cpu_time", "time_unit", "family_index", "per_family_instance_index",
    "items_per_second", "aggregate_name", "aggregate_unit", "error_occurred", "error_message",
}


def merge(out, parts):
    programs = {}
    for part in parts:
        name, _, path = part.partition("=")
        programs[name] = json.loads(pathlib.Path(path).read_text())
    pathlib.Path(out).write_text(json.dumps({"programs": programs}, indent=1) + "\n")


class Figures:
    """Every (program, benchmark, counter) with its values over the repetitions."""

    def __init__(self, programs):
        self.values = {}
        self.errors = {}
        self.order = {}
        for program, result in programs.items():
            rows = result.get("benchmarks", [])
            # Random interleaving leaves them in the order in which they ended.
            rows = sorted(rows, key=lambda r: (r["family_index"], r["per_family_instance_index"]))
            for row in rows:
                if row.get("run_type") == "aggregate":
                    continue
                name = row.get("run_name", row["name"])
                for decoration in ("/iterations:1", "/repeats:1", "/manual_time"):
                    name = name.replace(decoration, "")
                names = self.order.setdefault(program, [])
                if name not in names:
                    names.append(name)
                if row.get("error_occurred"):
                    self.errors[program, name] = row.get("error_message", "failed")
                    continue
                scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row.get("time_unit", "ns")]
                found = {k: v for k, v in row.items() if k not in OWN and isinstance(v, (int, float))}
                for key in found:
                    # Inverted rates are in seconds.
                    if key.startswith("per_"):
                        found[key] *= 1e9
                found["real_time"] = row["real_time"] * scale
                found["cpu_time"] = row["cpu_time"] * scale
                for key, value in found.items():
                    self.values.setdefault((program, name, key), []).append(value)

    def median(self, program, name, counter):
        values = self.values.get((program, name, counter))
        return statistics.median(values) if values else None

    def worst(self, program, pattern, counter, more):
        """The median of the benchmark, of those that match `pattern`, that keeps a promise least."""
        names = fnmatch.filter(self.order.get(program, []), pattern.replace("[", "[[]"))
        values = [self.median(program, n, counter) for n in names]
        values = [v for v in values if v is not None]
        return (min if more else max)(values) if values else None

    def spread(self, program, name, counter):
        values = self.values.get((program, name, counter), [])
        low = self.median(program, name, counter.replace("median", "min"))
        high = self.median(program, name, counter.replace("median", "max"))
        if counter.startswith("median") and low is not None and high is not None:
            return low, high
        return (min(values), max(values)) if values else None


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bound(promise, figures):
    """(text, limit, greater is better) of a promise; limit None when it was not measured."""
    if "least" in promise:
        return f"≥ {promise['least']}", promise["least"], True
    if "most" in promise:
        return f"≤ {promise['most']}", promise["most"], False
    total = 0.0
    for factor, program, name, counter in promise["most_of"]:
        value = figures.median(program, name, counter)
        if value is None:
            return "not measured", None, False
        total += factor * value
    return f"≤ {number(total)}", total, False


def promise_rows(figures):
    for promise in json.loads((HERE / "promises.json").read_text()):
        if "elsewhere" in promise:
            yield [promise["promise"], "–", "–", "not a figure: the command says", f"`{promise['elsewhere']}`"]
            continue
        program, name = promise["program"], promise["name"]
        text, limit, more = bound(promise, figures)
        value = figures.worst(program, name, promise["counter"], more)
        unit = promise["unit"]
        if value is None or limit is None:
            why = figures.errors.get((program, name), "not measured by this run")
            yield [promise["promise"], text, "–", why, "–"]
            continue
        noise = figures.median(program, name, promise["noise"]) if "noise" in promise else None
        if noise is not None and noise > limit:
            verdict = f"no claim: {number(noise)} {unit} also when nothing happens"
        elif value < promise.get("floor", 0) * 0.95:
            # A hand-over cannot be beaten: the floor was not one, or the clocks disagree.
            verdict = "no claim: sooner than the bare line of the same run, which cannot be"
        elif (value >= limit) if more else (value <= limit):
            verdict = "**pass**"
        elif limit == 0:
            verdict = f"off by {number(value)}"
        else:
            verdict = f"off: {number(limit / value if more else value / limit)} times the bound"
        yield [promise["promise"], f"{text} {unit}", f"{number(value)} {unit}", verdict,
               f"`./fl bench {program}`, {code(name)}"]


def code(name):
    return "`" + name.replace("|", "\\|") + "`"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell).strip() for cell in row) + " |" for row in rows]
    return lines + [""]


def per_what(figures, program, name):
    """The counter that tells the figure of a benchmark."""
    for counter in ("median_ns", "per_device", "per_command", "per_record"):
        if (program, name, counter) in figures.values:
            return counter
    return "real_time"


UNITS = {"median_ns": "once", "per_device": "device and round", "per_command": "command",
         "per_record": "record", "real_time": "call"}
SHOWN = {"median_ns", "min_ns", "max_ns", "real_time", "cpu_time"}


def figure_rows(figures, program):
    for name in figures.order[program]:
        if (program, name) in figures.errors:
            yield [code(name), "–", "–", "–", figures.errors[program, name]]
            continue
        counter = per_what(figures, program, name)
        low, high = figures.spread(program, name, counter)
        rest = []
        for (p, n, key) in figures.values:
            if (p, n) == (program, name) and key not in SHOWN and key != counter:
                rest.append(f"{key} {number(figures.median(p, n, key))}")
        yield [code(name), UNITS[counter], number(figures.median(program, name, counter)),
               f"{number(low)}–{number(high)}", ", ".join(rest)]


def sleep_rows(figures):
    for name in figures.order["sleep"]:
        if ("sleep", name) in figures.errors:
            yield [code(name), "–", "–", "–", figures.errors["sleep", name]]
            continue
        yield [code(name)] + [number(figures.median("sleep", name, counter))
                              for counter in ("cpu_percent", "wake_p50_ns", "wake_p99_ns", "sleeps")]


def attach_rows(figures):
    for name in figures.order["attach"]:
        if ("attach", name) in figures.errors:
            yield [code(name), "–", "–", "–", figures.errors["attach", name]]
            continue
        for what in ("burst", "quiet", "attach", "detach"):
            yield [code(name), what] + [number(figures.median("attach", name, f"{what}_{q}_ns"))
                                        for q in ("p50", "p90", "max")]


def isolation_rows(figures):
    for name in figures.order["isolation"]:
        if ("isolation", name) in figures.errors:
            yield [code(name), "–", "–", "–", "–", figures.errors["isolation", name]]
            continue
        yield [code(name)] + [number(figures.median("isolation", name, counter))
                              for counter in ("sync_p50_ns", "sync_p99_ns", "fault_p50_ns",
                                              "fault_p99_ns", "submissions")]


# Programs whose figures are not one time each.
TABLES = {
    "sleep": (["benchmark", "CPU %", "wake-up p50, ns", "p99, ns", "sleeps"], sleep_rows),
    "isolation": (["benchmark", "SYNC p50, ns", "p99, ns", "fault p50, ns", "p99, ns",
                   "foreign submissions"], isolation_rows),
    "attach": (["benchmark", "round", "p50, ns", "p90, ns", "max, ns"], attach_rows),
}

ABOUT = {
    "latency": "From a fault on one core to its decoded record on another, legs interleaved, medians of "
               "rounds. `line` is one cache line handed over, `line_and_record` a 64-byte record and "
               "then an index. `abi2_published` is timed from just before the producer's store of "
               "`prod`; `polled` and `epoll` from before the soft kernel takes its lock, so they hold "
               "its writing of the record. The soft kernel's `pread` is a function call; "
               "`real_pread` adds to each a real `pread` of 20 bytes from a memfd, and `OnePread` is "
               "one of those alone. A hypervisor may run the two CPUs on cores near or far from each other and "
               "change that between runs: compare with the `line` of the same run.",
    "sleep": "A shard with nothing to do under each idle policy, bound to a CPU: what the scheduler "
             "accounts to it in `/proc` over 10 s (ticks of 10 ms), then how long a fault after 5 ms of "
             "quiet takes from the DMA to the guest's queue. `monitor` needs umwait or a WFE that ends.",
    "attach": "64 guests of 16 devices are added to and removed from an engine whose one shard polls a "
              "victim: by how many ns the longest round of the victim, while one of them comes or goes, "
              "exceeds an idle one. `quiet`: the same in as long a time in which nobody does; `burst`: "
              "the same of the round that takes 32 records of each of the victim's 16 devices. The "
              "greatest ones are those of a machine that takes the core away: compare them with `quiet`.",
    "isolation": "A victim's CMD_SYNC and fault beside seven neighbours on one shard, from ringing to seen "
                 "done, in time spent in rounds; a submission keeps the core for 5 µs. `Foreign`: with the "
                 "rule that a round makes one submission; `BaselineNoRule`: the same shard without it; "
                 "`submissions`: most foreign ones between two chances of the victim to have its faults "
                 "delivered.",
    "idle": "A shard's EventDuties with nothing to do, 64 devices to a guest. `BaselineLoads` is a bare load "
            "of one line per device: 4096 apart as page-aligned headers are, 4160 apart as coloured "
            "headers would be, 64 apart packed. What a round costs above the page-aligned loads is the "
            "engine's; what those cost above coloured ones is the layout's, since all watched lines then "
            "share a set of the first-level cache: both fault ABIs put them at one place in a page.",
    "event_files": "Event files of iommufd by stand-ins (eventfds), one call being one round over all files. "
                   "`IdleRing` is the engine's watch: one io_uring with a multishot poll of each file, whose "
                   "mapped flag word says that something came; baselines in the same run: a non-blocking "
                   "read of each, and one `epoll_wait(0)` over all. `OneEvent…` also writes one event, finds it "
                   "and reads it until there is nothing: there the ring wins nothing over epoll, its gain "
                   "is the idle round.",
    "event": "From a decoded record to an event published in the guest's queue; baseline: copying its 32 "
             "bytes.",
    "event_duty": "A busy EventDuty's whole round, with journal and interrupt; baseline: copying the record.",
    "command": "Fetch and decode of guest commands; baseline: copying their 16 bytes.",
    "command_duty": "A CommandDuty from CMDQ_PROD to CMDQ_CONS with a sink that does nothing; a burst ends in "
                    "a SYNC, bursts of 1 are TLBI and SYNC in turn. Baseline: the guest's ringing.",
    "parts": "Parts that each burst or sample pays for, beside one store. `CommitPerBurst` and "
             "`CountersApart` are interleaved pairs: the baseline gives back per record, or shares a "
             "line.",
}


def floors(programs):
    rows = []
    for program, result in programs.items():
        context = result.get("context", {})
        for key in sorted(context):
            if key.startswith(("jitter_", "cache_line_", "claims", "ns_per_tick", "load_average")):
                rows.append([program, key, context[key]])
    return rows


def write(source, folder):
    programs = json.loads(pathlib.Path(source).read_text())["programs"]
    figures = Figures(programs)
    folder = pathlib.Path(folder)
    first = next(iter(programs.values()))["context"]
    lines = [
        "# Benchmarks", "",
        "Written by `./fl bench` from `build/bench.json`; do not edit. One figure again: "
        "`./fl bench NAME --benchmark_filter=REGEX`. Times are of this machine; what can be carried "
        "over are ratios of figures of the same run.", "",
        f"Run at {first.get('date', 'unknown')}.", "",
        "![Latency ladder](benchmarks-latency.svg)", "",
        "![Idle cost](benchmarks-idle.svg)", "",
        "## Promises", "",
    ]
    lines += table(["promise", "bound", "measured (median)", "", "command"], promise_rows(figures))
    lines += ["## Machine", ""]
    lines += table(["fact", "value"], [[k, first.get(k, "unknown")] for k in FACTS])
    lines += ["## Floors", "",
              "How often and how long each core was taken away from a loop that only reads the clock, "
              "and a line's hand-over, before each program's figures. Nothing on these cores can "
              "be told more exactly than this; `claims` says what follows from it.", ""]
    lines += table(["program", "floor", "value"], floors(programs))
    lines += ["## Figures", "",
              "Medians and least–greatest of the repetitions, in ns.", ""]
    for program in programs:
        if program not in figures.order:
            continue
        lines += [f"### {program}", "", f"    ./fl bench {program}", ""]
        if program == "merge":
            lines += ["Counts and times by the virtual clock, of every trace: [merging.md](merging.md).", ""]
            continue
        if program in ABOUT:
            lines += [ABOUT[program], ""]
        if program in TABLES:
            head, rows = TABLES[program]
            lines += table(head, rows(figures))
            continue
        lines += table(["benchmark", "per", "ns", "spread", "also"], figure_rows(figures, program))
    (folder / "benchmarks.md").write_text("\n".join(lines).rstrip() + "\n")
    plot(figures, folder)


LADDER = [("cache line", "Latency/line"), ("record and index", "Latency/line_and_record"),
          ("ABI 2 polled", "Latency/abi2_polled"), ("ABI 1 polled", "Latency/abi1_polled_real_pread"),
          ("ABI 2 epoll", "Latency/abi2_epoll"), ("ABI 1 epoll", "Latency/abi1_epoll")]
STYLE = """
set terminal svg size 760,420 font 'Helvetica,13' background rgb 'white'
set border 3 lc rgb '#555555'
set tics nomirror out
set grid y lc rgb '#dddddd' lw 1 lt 1
"""


def plot(figures, folder):
    with tempfile.TemporaryDirectory() as scratch:
        data = pathlib.Path(scratch) / "ladder"
        rows = []
        for label, name in LADDER:
            value = figures.median("latency", name, "median_ns")
            if value:
                rows.append(f'"{label}" {value} "{number(value)} ns"')
        if rows:
            data.write_text("\n".join(rows) + "\n")
            gnuplot(STYLE + f"""
set output '{folder}/benchmarks-latency.svg'
set title 'Fault on one core to its record on another (median, ns, log scale)'
set logscale y
set yrange [20:*]
set style fill solid 0.85 noborder
set boxwidth 0.6
unset key
set format y '%.0f'
plot '{data}' using 0:2:xtic(1) with boxes lc rgb '#2f6f9f', \\
     '' using 0:2:3 with labels offset 0,0.7
""")
        counts = (1, 16, 64, 256, 1024)
        series = [("ABI 1", "IdleRound/devices:{}/abi:1"), ("ABI 2", "IdleRound/devices:{}/abi:2"),
                  ("one load each, page-aligned", "BaselineLoads/devices:{}/stride:4096"),
                  ("one load each, coloured", "BaselineLoads/devices:{}/stride:4160")]
        plots = []
        for i, (label, name) in enumerate(series):
            points = [(n, figures.median("idle", name.format(n), "per_device")) for n in counts]
            points = [f"{n} {v}" for n, v in points if v is not None]
            if not points:
                continue
            path = pathlib.Path(scratch) / f"idle{i}"
            path.write_text("\n".join(points) + "\n")
            colour = ("#c0392b", "#2f6f9f", "#777777", "#aaaaaa")[i]
            plots.append(f"'{path}' with linespoints lw 2 pt {5 + 2 * (i % 2)} lc rgb '{colour}' "
                         f"title '{label}'")
        if plots:
            gnuplot(STYLE + f"""
set output '{folder}/benchmarks-idle.svg'
set title 'Idle cost (ns per device and round)'
set logscale x 2
set xtics (1, 16, 64, 256, 1024)
set xlabel 'devices on the shard'
set yrange [0:*]
set key outside bottom center horizontal
set arrow from graph 0, first 2 to graph 1, first 2 nohead dt 2 lc rgb '#333333'
set label 'promise: 2 ns' at graph 0.99, first 2 right offset 0, 0.5 textcolor rgb '#333333'
plot {", ".join(plots)}
""")


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def main(arguments):
    if len(arguments) >= 2 and arguments[0] == "merge":
        merge(arguments[1], arguments[2:])
    elif len(arguments) == 3 and arguments[0] == "write":
        write(arguments[1], arguments[2])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
