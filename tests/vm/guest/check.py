#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The live guest as a test: its own driver, its kernel log and both ledgers judge the engine.

usage: check.py --program FILE --kernel DIR --tools DIR [--kills N] [--tap FILE] [--log DIR]

A run that fails while the host itself stalled for more than 300 ms is INCONCLUSIVE and repeated,
three times at most; it never counts as a pass. Exit status 1 when anything failed.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import host
import show
import vmm

_STALL_NS = 300_000_000
_TROUBLE = ("CMD_SYNC timeout", "unexpected global error", "Kernel panic", "Oops", "BUG:",
            "hung task", "failed to", "error -")
_RESET = "SMMU currently enabled"


class Checks:
    """What was looked at, in order: (good, text)."""

    def __init__(self):
        self.results = []
        self.stall_ns = 0

    def that(self, good, text):
        self.results.append((bool(good), text))
        print(f"{'ok' if good else 'NOT OK'} - {text}", flush=True)

    def good(self):
        return all(good for good, _ in self.results)

    def quiet(self, guest, what, since=0):
        log = guest.kernel_log()[since:]
        bad = [line for line in log.splitlines() if any(t in line for t in _TROUBLE)]
        self.that(not bad, f"{what}: the guest's kernel complains of nothing" +
                  (f" ({bad[0]})" if bad else ""))

    def ledgers(self, result):
        self.stall_ns = max(self.stall_ns, result["host_stall_ns"])
        for g in result["guests"]:
            f, c = g["faults"], g["commands"]
            self.that(f["produced"] == f["delivered"] + g["voided"] + f["lost_reported"],
                      f"{g['name']}: {f['produced']} faults = {f['delivered']} delivered + "
                      f"{f['lost_reported']} lost and reported + {g['voided']} void by a reset")
            self.that(c["syncs"] == c["syncs_completed"] > 0,
                      f"{g['name']}: {c['syncs']} CMD_SYNCs, {c['syncs_completed']} completed")
        self.that(not result["findings"], f"the audit is clean {result['findings'] or ''}")
        self.that(result["beat_gap_ns"] < _STALL_NS,
                  f"the engine was never silent for {result['beat_gap_ns'] / 1e6:.0f} ms or longer")


def _dma(checks, guest, n, faults, what):
    got = show.fields(guest.shell(f"echo dma {n} {faults} >{show.DEVICE}/run; "
                                  f"cat {show.DEVICE}/result"))
    tried = (n + faults - 1) // faults if faults else 0
    checks.that(got.get("read") == n and got.get("written") == n and got.get("stale") == 0 and
                got.get("faulted") == tried,
                f"{what}: {n} buffers read and written by the device, {tried} uses after the unmap "
                f"fault, none is stale")


def _wait(side, key, value, limit=60):
    until = time.monotonic() + limit
    while side.ask("status")[key] != value:
        if time.monotonic() > until:
            raise vmm.Gone(f"{key} does not become {value}")
        time.sleep(0.05)


def one_guest(checks, a, initrd):
    """Everything that a single guest can be put through, in two boots of it."""
    side = host.Host(a.program.resolve(), 1, "merge", a.log / "recorded")
    about, fds = side.guests[0]
    guest = vmm.Guest(a.tools, a.kernel / "image", initrd, a.log, "guest0", 2, about, fds)
    try:
        guest.wait_for_shell()
        log = guest.kernel_log()
        checks.that("entries for cmdq" in log and "entries for evtq" in log, "the driver probes")
        checks.that(len(re.findall(r"0000:00:0[345]\.0: Adding to iommu group", log)) == 3,
                    "the three devices are behind the SMMU")
        checks.quiet(guest, "boot")

        guest.shell(f"echo fault 3 0x12345678 >{show.DEVICE}/run")
        time.sleep(0.5)
        log = guest.kernel_log()
        checks.that(log.count("client: 0000:00:03.0 sid: 0x18 ssid: 0x0 iova: 0x12345678") == 3 and
                    "F_TRANSLATION" in log and "data write s1" in log,
                    "three faults are printed with their StreamID, address, type and access")
        interrupts = guest.shell("grep evtq /proc/interrupts")
        checks.that("MSI" in interrupts and guest.messages > 0,
                    "they were announced by the MSI that the driver programmed")
        _dma(checks, guest, 200, 20, "strict")

        before = side.ask("status")["guests"][0]["commands"]["configurations"]
        guest.shell(show.BIND)
        checks.that("benchmark threads=4" in guest.shell("map_benchmark 4 1"),
                    "four threads of dma_map_benchmark")
        checks.that(side.ask("status")["guests"][0]["commands"]["configurations"] > before,
                    "a device that is bound anew invalidates its configuration")

        guest.begin("map_benchmark 2 2")
        time.sleep(0.7)
        side.ask("pause", ms=500)
        checks.that("threads=2" in guest.end(), "the engine is paused for 0.5 s under load")
        checks.quiet(guest, "pause")

        side.ask("kill", n=a.kills)
        rounds = 0
        while rounds < 2 or not side.ask("status")["serving"]:
            _dma(checks, guest, 100, 5, f"kill -9, round {rounds + 1}")
            guest.shell("map_benchmark 2 1")
            rounds += 1
        killed = side.ask("status")
        checks.that(killed["kills"] == a.kills,
                    f"the engine was killed {a.kills} times under load and restarted, "
                    f"in {killed['restart_max_ns'] / 1e6:.0f} ms at most")
        checks.quiet(guest, "kill -9")
        f = killed["guests"][0]["faults"]
        checks.that(f["lost_reported"] + f["lost_silent"] == 0, "no event was lost by it")

        # One thread, so that the other CPU can take the interrupt of the error.
        mark = len(guest.kernel_log())
        guest.begin("map_benchmark 1 3")
        time.sleep(0.7)
        spoiled = any(side.ask("spoil")["ok"] for _ in range(10))
        guest.end()
        log = guest.kernel_log()[mark:]
        checks.that(spoiled and "Illegal command" in log and "skipping command in error" in log,
                    "CERROR_ILL: the driver sees an illegal command and skips it")
        _dma(checks, guest, 50, 0, "after the error")

        guest.qmp("stop")
        side.ask("storm", n=140_000, iova=0xDEAD0000)
        _wait(side, "storming", False)
        guest.qmp("cont")
        time.sleep(1)
        checks.that("EVTQ overflow detected -- events lost" in guest.kernel_log(),
                    "a full event queue: the driver itself reports the overflow")
        _dma(checks, guest, 50, 5, "after the overflow")

        mark = len(guest.kernel_log())
        guest.qmp("stop")
        side.ask("reset", guest=0)
        guest.qmp("system_reset")
        guest.qmp("cont")
        guest.wait_for_shell()
        log = guest.kernel_log()[mark:]
        checks.that("entries for cmdq" in log and _RESET not in log,
                    "a reset guest finds an SMMU after reset")
        _dma(checks, guest, 100, 10, "after the reset")
        checks.quiet(guest, "reset", mark)
        checks.ledgers(side.ask("finish"))
    finally:
        guest.stop()
        side.stop()
    _replay(checks, a, a.log / "recorded")


def _replay(checks, a, trace):
    """What the live guest commanded, as a trace, goes through the engine again."""
    report = a.log / "replay.json"
    done = subprocess.run([str(a.program.resolve()), "replay", str(trace), "--json", str(report)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    got = json.loads(report.read_text()) if done.returncode == 0 else {}
    said = f" ({done.stdout.strip().splitlines()[-1]})" if done.returncode else ""
    checks.that(got.get("syncs", 0) > 0 and got.get("commands", 0) > got.get("syncs", 0),
                f"its recorded trace replays: {got.get('commands')} commands, {got.get('syncs')} "
                f"CMD_SYNCs{said}")


def two_guests(checks, a, initrd):
    """Two guests on one engine, one of them lazy."""
    side = host.Host(a.program.resolve(), 2)
    guests = []
    try:
        for n, (about, fds) in enumerate(side.guests):
            guests.append(vmm.Guest(a.tools, a.kernel / "image", initrd, a.log, f"pair{n}", 1, about,
                                    fds, "iommu.strict=0" if n else ""))
        for g in guests:
            g.wait_for_shell()
        for g in guests:
            g.begin(f"{show.BIND}; map_benchmark 2 2")
        for g in guests:
            checks.that("benchmark threads=2" in g.end(), f"{g.name} works beside the other")
        _dma(checks, guests[0], 100, 10, "strict, beside another guest")
        _dma(checks, guests[1], 100, 0, "lazy, beside another guest")
        for g in guests:
            checks.quiet(g, g.name)
        checks.ledgers(side.ask("finish"))
    finally:
        for g in guests:
            g.stop()
        side.stop()


def run(a, initrd):
    checks = Checks()
    for part in (one_guest, two_guests):
        try:
            part(checks, a, initrd)
        except (vmm.Gone, RuntimeError, OSError) as error:
            checks.that(False, f"{part.__name__}: {error}")
    return checks


def judge(attempt, tries=3):
    """Repeats a failed attempt while the host itself stalled. Returns the last one's Checks, never a
    pass that did not happen."""
    for n in range(1, tries + 1):
        checks = attempt()
        print(f"longest stall of this host: {checks.stall_ns / 1e6:.0f} ms")
        if checks.good() or checks.stall_ns <= _STALL_NS:
            break
        print(f"INCONCLUSIVE, attempt {n} of {tries}: the host itself stalled", flush=True)
    return checks


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    for option in ("program", "kernel", "tools", "tap"):
        parser.add_argument(f"--{option}", type=pathlib.Path, required=option != "tap")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--log", type=pathlib.Path, default=pathlib.Path("build/vm-guest"))
    a = parser.parse_args()
    a.log = a.log.resolve()
    shutil.rmtree(a.log, ignore_errors=True)
    a.log.mkdir(parents=True)
    initrd = host.prepare(a.kernel, a.tools, a.kernel.parent)
    checks = judge(lambda: run(a, initrd))
    if a.tap:
        lines = [f"{'ok' if good else 'not ok'} {n} - guest: {text}"
                 for n, (good, text) in enumerate(checks.results, start=1)]
        a.tap.write_text("\n".join([*lines, f"1..{len(lines)}"]) + "\n")
    return 0 if checks.good() else 1


if __name__ == "__main__":
    sys.exit(main())
