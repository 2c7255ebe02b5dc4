#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""From the results of bench_merge to doc/merging.md and its two pictures.

usage: merge_report.py RESULTS.json DOC-FOLDER

Every figure is of the virtual clock, so the same program writes the same page again.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

POLICIES = ["forward-each", "batch-until-sync", "merge,linger=off", "merge,linger=on", "merge"]
EXACT = "merge,cap=1"
COLOURS = ["#c0392b", "#e08e0b", "#7fb3d5", "#2f6f9f", "#1b4f72"]
STYLE = """
set border 3 lc rgb '#555555'
set tics nomirror out
set grid y lc rgb '#dddddd' lw 1 lt 1
"""


def read(path):
    """{(kind, trace or vCPUs, policy): counters}, in the order of the run."""
    out = {}
    for row in json.loads(pathlib.Path(path).read_text())["benchmarks"]:
        if row.get("run_type") == "aggregate":
            continue
        if row.get("error_occurred"):
            sys.exit(f"bench_merge: {row['name']}: {row.get('error_message')}")
        kind, what, policy = row["name"].split("/")[:3]
        out[kind, what, policy] = row
    if not out:
        sys.exit(f"{path} has no results of bench_merge")
    return out


def subjects(results, kind):
    seen = dict.fromkeys(what for k, what, _ in results if k == kind)
    return list(seen)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def ioctl_rows(results, kind):
    for what in subjects(results, kind):
        limit = results[kind, what, "merge"]["limit"]
        rows = [results[kind, what, p] for p in POLICIES]
        yield [what, f"{limit:.3f}", *(f"{r['ioctls_per_sync']:.3f}" for r in rows),
               *(f"{rows[i]['ioctls_per_1000_commands']:.0f}" for i in (0, 1, 4)),
               *(f"{rows[i]['host_syncs']:.0f}" for i in (0, 1, 4)),
               f"{rows[4]['over_invalidation']:.3f}"]


def operation_rows(results):
    for what in subjects(results, "OneOperation"):
        rows = [results["OneOperation", what, p] for p in POLICIES]
        exact = results["OneOperation", what, EXACT]["operations"]
        fewer = rows[0]["operations"] / max(rows[4]["operations"], 1)
        yield [what, *(f"{rows[i]['ioctls_per_sync']:.3f}" for i in (0, 1, 4)),
               *(f"{rows[i]['operations']:.0f}" for i in (0, 1, 4)), f"{exact:.0f}",
               f"{fewer:.2f}", f"{rows[4]['over_invalidation']:.3f}"]


def wait_rows(results, kind):
    for what in subjects(results, kind):
        rows = [results[kind, what, p] for p in POLICIES]
        yield [what, *(f"{r['sync_p50_ns'] / 1e3:.2f}" for r in rows),
               f"{rows[1]['sync_p50_ns'] / max(rows[4]['sync_p50_ns'], 1):.2f}",
               *(f"{rows[i]['sync_p99_ns'] / 1e3:.2f}" for i in (0, 1, 4))]


def targets(results):
    """(target, reached, met) rows; the worst trace decides."""
    traces = subjects(results, "Array")

    def worst(policy, counter):
        return max((results["Array", t, policy][counter], t) for t in traces)

    more = [f"{t} ({k})" for k in ("Array", "OneOperation", "ArrayThink1us") for t in traces
            for p in POLICIES[2:] for peer in POLICIES[:2]
            if results[k, t, p]["ioctls"] > results[k, t, peer]["ioctls"]]
    yield ("never more ioctls than either peer's rule, on any trace, either sink",
           "none has more" if not more else "more on " + ", ".join(dict.fromkeys(more)), not more)
    for policy, bound in (("merge", 1.3), ("merge,linger=off", 2.2)):
        value, trace = worst(policy, "times_limit")
        yield (f"array sink, `{policy}`: at most {bound} times the trace's limit",
               f"{value:.2f} (worst: {trace})", value <= bound)
    sixteen = results["Sweep", "16", "merge"]["ioctls_per_sync"]
    yield ("16 vCPUs that unmap 8 pages each, with linger: at most 0.08 ioctls per SYNC",
           f"{sixteen:.4f}", sixteen <= 0.08)
    ratio, trace = max((results["OneOperation", t, "merge"]["ioctls"] /
                        max(results["OneOperation", t, EXACT]["operations"], 1), t) for t in traces)
    yield ("one-operation sink: at most 1.3 ioctls per distinct range that exact merging leaves",
           f"{ratio:.2f} (worst: {trace})", ratio <= 1.3)
    noril = results["OneOperation", "nvme-strict-4-noril", "forward-each"]["operations"]
    exact = results["OneOperation", "nvme-strict-4-noril", EXACT]
    times = noril / max(exact["operations"], 1)
    yield ("without range invalidation at least 4 times fewer operations, exact",
           f"{times:.2f} times, over-invalidation {exact['over_invalidation']:.3f}",
           times >= 4 and exact["over_invalidation"] == 1)
    for kind, what in (("Array", "no think time"), ("ArrayThink1us", "1 µs think time")):
        ratio, trace = min((results[kind, t, "batch-until-sync"]["sync_p50_ns"] /
                            max(results[kind, t, "merge"]["sync_p50_ns"], 1), t)
                           for t in traces if t.rsplit("-", 1)[-1] in ("4", "8"))
        yield (f"SYNC p50 on the traces named -4 and -8 at least 3 times lower than "
               f"batch-until-sync, {what}", f"{ratio:.2f} times (least: {trace})", ratio >= 3)


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def plot(results, folder):
    with tempfile.TemporaryDirectory() as scratch:
        data = pathlib.Path(scratch) / "traces"
        lines = []
        for what in subjects(results, "Array"):
            rows = [results["Array", what, p] for p in POLICIES]
            values = " ".join(str(r["ioctls_per_sync"]) for r in rows)
            lines.append(f'"{what}" {values} {rows[4]["limit"]}')
        data.write_text("\n".join(lines) + "\n")
        bars = ", ".join(
            f"'{data}' using {i + 2}:xtic(1) title '{p}' lc rgb '{c}'"
            for i, (p, c) in enumerate(zip(POLICIES, COLOURS)))
        gnuplot("set terminal svg size 1000,520 font 'Helvetica,13' background rgb 'white'" + STYLE +
                f"""
set output '{folder}/merging-traces.svg'
set title 'ioctls per CMD\\_SYNC on recorded traces, array sink, virtual clock (dots: the limit of any engine)'
set style data histograms
set style histogram clustered gap 1.5
set style fill solid 0.9 noborder
set xtics rotate by 25 right noenhanced
set bmargin 9
set key outside bottom center horizontal noenhanced
set yrange [0:*]
plot {bars}, '{data}' using 0:7 with points pt 7 ps 0.7 lc rgb 'black' title 'limit'
""")
        curves = []
        for i, p in enumerate(POLICIES):
            path = pathlib.Path(scratch) / f"sweep{i}"
            path.write_text("".join(f"{n} {results['Sweep', n, p]['ioctls_per_sync']}\n"
                                    for n in subjects(results, "Sweep")))
            curves.append(f"'{path}' with linespoints lw 2 pt 7 ps 0.5 lc rgb '{COLOURS[i]}' title '{p}'")
        gnuplot("set terminal svg size 760,420 font 'Helvetica,13' background rgb 'white'" + STYLE +
                f"""
set output '{folder}/merging-sweep.svg'
set title 'Strict unmaps of 8 pages: ioctls per CMD\\_SYNC by vCPUs, virtual clock'
set logscale xy 2
set xtics (1, 2, 4, 8, 16, 32, 64)
set xlabel 'vCPUs'
set format y '%.3f'
set key outside bottom center horizontal noenhanced
plot {", ".join(curves)}, 1/x with lines dt 2 lc rgb 'black' title 'limit 1/N'
""")


def write(results, folder):
    lines = [
        "# Merging, measured", "",
        "Written by `./fl bench merge`; do not edit. Every recorded trace (`tests/data/traces`) and a "
        "sweep over vCPUs, under each policy, through the engine's own code from `CMDQ_PROD` to "
        "`CMDQ_CONS`, by the virtual clock of `faultline replay` at its default costs (an ioctl 1 µs, "
        "a host CMD_SYNC 2 µs, an entry 50 ns: round figures, not those of a host). Counts and times "
        "are computed, not measured: the same program writes the same page. What a command costs the "
        "engine in real time is in [benchmarks.md](benchmarks.md) (`merge_cost`, `command_duty`). "
        "One line of it again: `./fl replay tests/data/traces/NAME --policy P`.", "",
        "![ioctls per CMD_SYNC on recorded traces](merging-traces.svg)", "",
        "![ioctls per CMD_SYNC by vCPUs](merging-sweep.svg)", "",
        "## Targets", "",
    ]
    lines += table(["target", "reached", ""],
                   [[t, r, "**met**" if ok else "not met"] for t, r, ok in targets(results)])
    lines += [
        "The limit of a trace is the number of CMD_SYNCs of its busiest waiter by all CMD_SYNCs: no "
        "engine can do with fewer, since a vCPU waits for each of its own. `churnfast-strict-2` lies "
        "below it, because nearly all of its CMD_SYNCs stand behind commands that need no ioctl "
        "where there is no device.", "",
        "A CMD_SYNC under `batch-until-sync` waits for as many submissions as CMD_SYNCs are outstanding, "
        "merged it waits for one. So where few are outstanding (3.1 on average on `vnet-lazy-4`), or "
        "fewer because vCPUs think in between, it cannot become three times shorter.", "",
        "## ioctls, array sink", "",
        "Up to 63 entries in one ioctl, as iommufd takes them.", "",
    ]
    head = ["limit", *POLICIES]
    lines += table(["trace", *head, "per 1,000 commands: forward", "batch", "merge",
                    "host syncs: forward", "batch", "merge", "over-invalidation"],
                   ioctl_rows(results, "Array"))
    lines += ["## ioctls, one operation each", "",
              "The seed's interface: one operation in an ioctl, so what counts is the number of "
              "distinct ranges.", ""]
    lines += table(["trace", "per SYNC: forward", "batch", "merge", "operations: forward", "batch",
                    "merge", "merge, exact (`--merge-cap 1`)", "times fewer", "over-invalidation"],
                   operation_rows(results))
    for kind, title in (("Array", "no think time"), ("ArrayThink1us", "1 µs think time")):
        lines += [f"## CMD_SYNC, µs, {title}", "", "From the doorbell to seen complete.", ""]
        lines += table(["trace", *(f"p50 {p}" for p in POLICIES), "batch / merge", "p99 forward",
                        "p99 batch", "p99 merge"], wait_rows(results, kind))
    lines += ["## Sweep", "",
              "Each vCPU unmaps 8 pages at a time (one TLBI with a range, one CMD_SYNC), 64 times.", ""]
    lines += table(["vCPUs", *head],
                   [[n, f"{1 / int(n):.4f}",
                     *(f"{results['Sweep', n, p]['ioctls_per_sync']:.4f}" for p in POLICIES)]
                    for n in subjects(results, "Sweep")])
    (folder / "merging.md").write_text("\n".join(lines).rstrip() + "\n")
    plot(results, folder)
    print("\n".join("| ".join(row) for row in ([t, r, "met" if ok else "NOT MET"]
                                               for t, r, ok in targets(results))))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write(read(sys.argv[1]), pathlib.Path(sys.argv[2]))
