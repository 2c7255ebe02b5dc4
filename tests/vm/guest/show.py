#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An unmodified Linux guest on Faultline, live: its console, Faultline's table, the audit.

usage: show.py --program FILE --kernel DIR --tools DIR [--smp N] [--seconds N] [--policy P]
               [--guests N] [--kills N] [--lazy] [--record FILE]

Exit status 1 when the audit or the guest found something wrong.
"""

import argparse
import pathlib
import re
import sys
import tempfile
import time

import host
import vmm

DEVICE, BENCH = (f"/sys/bus/pci/devices/0000:00:{slot:02x}.0" for slot in (3, 4))
# To another driver through two other domains, so that its stream table entry changes each time.
BIND = (
    f"echo 0000:00:04.0 >{BENCH}/driver/unbind; "
    "for type in identity DMA; do "
    f"echo $type >{BENCH}/iommu_group/type; done; "
    f"echo dma_map_benchmark >{BENCH}/driver_override; "
    "echo 0000:00:04.0 >/sys/bus/pci/drivers/dma_map_benchmark/bind"
)
UNBIND = (
    f"echo 0000:00:04.0 >{BENCH}/driver/unbind; echo fl_dma >{BENCH}/driver_override; "
    "echo 0000:00:04.0 >/sys/bus/pci/drivers/fl_dma/bind"
)
# What the guest does in a round: checked DMA with faults, latencies, Linux's own benchmark in
# several threads, and a device that is taken from its driver and given back.
ROUND = (
    f"echo dma 100 10 >{DEVICE}/run; cat {DEVICE}/result; "
    f"echo latency 5000 1 >{DEVICE}/run; cat {DEVICE}/result; "
    f"{BIND}; map_benchmark 4 1; {UNBIND}"
)
HEADER = "           commands    SYNCs   TLBI   CFGI  ioctls/SYNC  faults  delivered  lost"


def fields(line):
    return {k: float(v) for k, v in re.findall(r"(\w+)=([0-9.]+)", line)}


def accesses(guest, events, pattern, n=5000):
    """(unmaps, accesses): how often QEMU's handlers saw a register of the SMMU while the guest
    unmapped up to n times. Each would be an exit under KVM."""
    mark = guest.said.stat().st_size
    for name in events:
        guest.qmp("trace-event-set-state", name=name, enable=True)
    counted = guest.shell(f"echo latency {n} 1 >{DEVICE}/run; cat {DEVICE}/result")
    for name in events:
        guest.qmp("trace-event-set-state", name=name, enable=False)
    text = guest.said.read_bytes()[mark:].decode(errors="replace")
    return int(fields(counted)["n"]), sum(bool(pattern(line)) for line in text.splitlines())


def polled(guest):
    """accesses() of a guest whose registers are memory."""
    first = guest.about["registers"]

    def inside(line):
        at = re.search(r"memory_region_ops_(?:read|write) .*addr (0x[0-9a-f]+)", line)
        return at and first <= int(at[1], 16) < first + 0x20000

    return accesses(guest, ("memory_region_ops_read", "memory_region_ops_write"), inside)


def emulated(arguments, initrd, work, n=5000):
    """The same latency on QEMU's own SMMUv3, and accesses()."""
    guest = vmm.Guest(arguments.tools, arguments.kernel / "image", initrd, work, "emulated",
                      arguments.smp)
    try:
        guest.wait_for_shell()
        guest.shell(f"echo latency {n} 1 >{DEVICE}/run")
        line = guest.shell(f"echo latency {n} 1 >{DEVICE}/run; cat {DEVICE}/result").strip()
        return fields(line), accesses(guest, ("smmuv3_write_mmio", "smmuv3_read_mmio"),
                                      re.compile(r"smmuv3_(?:write|read)_mmio ").search)
    finally:
        guest.stop()


def row(state):
    c, f = state["commands"], state["faults"]
    per = state["ioctls"] / c["syncs_completed"] if c["syncs_completed"] else 0
    lost = f["lost_reported"]
    return (f"{state['name']:<9} {c['commands']:>9} {c['syncs_completed']:>8} "
            f"{c['invalidations']:>6} {c['configurations']:>6} {per:>12.2f} {f['produced']:>7} "
            f"{f['delivered']:>10} {lost:>5}")


def verdict(result, lines):
    """Prints the audit; returns whether it is clean."""
    findings = list(result["findings"])
    stale = wrong = done = 0
    for line in lines:
        if line.startswith("dma "):
            f = fields(line)
            stale += int(f["stale"])
            wrong += int(f["wrong"] + f["refused"])
            done += int(f["read"] + f["written"])
    print("\naudit of the kernel's ledgers against what the guest's driver read")
    for g in result["guests"]:
        f, c = g["faults"], g["commands"]
        print(f"  {g['name']}  {f['produced']} faults produced = {f['delivered']} delivered + "
              f"{f['lost_reported']} lost and reported + {f['lost_silent']} lost in silence")
        print(f"          {c['syncs']} CMD_SYNCs, {c['syncs_completed']} completed; "
              f"{g['ioctls']} ioctls; {g['overflows']} overflows")
    print(f"  DMA     {done} accesses checked by the guest, {wrong} wrong; "
          f"{stale} uses of a mapping after its CMD_SYNC completed")
    if result["kills"]:
        print(f"  engine  killed {result['kills']} times; restart p50 "
              f"{result['restart_p50_ns'] / 1e6:.0f} ms, max {result['restart_max_ns'] / 1e6:.0f} ms")
    if stale or wrong:
        findings.append(f"the guest saw {stale} stale and {wrong} wrong accesses")
    for finding in findings:
        print(f"audit: {finding}")
    print("audit: FAILED" if findings else "audit: clean", flush=True)
    return not findings


def main():
    parser = argparse.ArgumentParser(prog="./fl guest", usage=__doc__)
    for option in ("program", "kernel", "tools"):
        parser.add_argument(f"--{option}", type=pathlib.Path, required=True)
    for option, value in (("smp", 1), ("seconds", 20), ("guests", 1), ("kills", 0)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--policy", default="merge",
                        choices=("forward-each", "batch-until-sync", "merge"))
    parser.add_argument("--lazy", action="store_true")
    parser.add_argument("--record", type=pathlib.Path)
    a = parser.parse_args()
    initrd = host.prepare(a.kernel, a.tools, a.kernel.parent)
    append = "iommu.strict=0" if a.lazy else ""
    lines, latencies = [], []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        side = host.Host(a.program.resolve(), a.guests, a.policy, a.record)
        guests = []
        try:
            for n, (about, fds) in enumerate(side.guests):
                guests.append(vmm.Guest(a.tools, a.kernel / "image", initrd, work, f"guest{n}",
                                        a.smp, about, fds, append))
            for g in guests:
                g.wait_for_shell()
            log = [0] * len(guests)

            def console():
                """The SMMU's messages; of a burst of events the first, since all look alike."""
                for n, g in enumerate(guests):
                    text = g.kernel_log()
                    new = text[log[n]:].splitlines()
                    log[n] = len(text)
                    events = [line for line in new if "event: F_" in line]
                    for line in new:
                        plain = re.search(r"Linux version|reserved mem|arm-smmu-v3", line)
                        if not plain or re.search(r"\.iommu: (?:event 0x|\t|unpriv|priv)", line):
                            continue
                        if line not in events[1:]:
                            print(f"{g.name}: {line.partition('] ')[2][:100]}")
                    if len(events) > 1:
                        print(f"{g.name}: ... and {len(events) - 1} events more")

            console()
            until = time.monotonic() + a.seconds
            killed = False
            while time.monotonic() < until:
                for g in guests:
                    g.begin(ROUND)
                if a.kills and not killed:
                    side.ask("kill", n=a.kills)
                    killed = True
                for g in guests:
                    for line in g.end().splitlines():
                        lines.append(line)
                        print(f"{g.name}: {line}")
                        if line.startswith("latency "):
                            latencies.append(fields(line))
                console()
                print(HEADER)
                for state in side.ask("status")["guests"]:
                    print(row(state), flush=True)
            while not side.ask("status")["serving"]:
                time.sleep(0.1)
            here = polled(guests[0])
            result = side.ask("finish")
            late = sum(g.kernel_log().count("CMD_SYNC timeout") for g in guests)
            if late:
                result["findings"].append(
                    f"{late} times a driver did not wait any longer (1 s) for its CMD_SYNC; this host "
                    f"stalled for up to {result['host_stall_ns'] / 1e6:.0f} ms")
            clean = verdict(result, lines)
        finally:
            for g in guests:
                g.stop()
            side.stop()
        theirs, there = emulated(a, initrd, work)
    ours = sorted(l["unmap_p50"] for l in latencies)
    if ours and not a.lazy:
        mine = ours[len(ours) // 2]
        print(f"\nstrict unmap, median: {mine / 1e3:.1f} us here, {theirs['unmap_p50'] / 1e3:.1f} us "
              f"with QEMU's own SMMUv3 beside it: x{mine / theirs['unmap_p50']:.2f}")
        print("(QEMU's CPUs are emulated: a trap is a function call there and costs no exit, so the "
              "ratio does not show what an exit costs)")
    print(f"register accesses that QEMU had to serve: {there[1]} for {there[0]} unmaps with its own "
          f"SMMUv3, {here[1]} for {here[0]} here")
    return 0 if clean else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (vmm.Gone, RuntimeError) as error:
        sys.exit(f"fl: {error}")
