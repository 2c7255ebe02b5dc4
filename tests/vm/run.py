#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Boots a suite of tests in a virtual machine and says what came out, as TAP.

usage: run.py SUITE --kernel DIR --tools DIR --build DIR [--sysroot DIR] [--debian DIR] [--tap FILE]
              [--log FILE]

SUITE is iommufd, mock or service. DIR are what tests/vm/kernel.sh, tests/vm/tools.sh, meson, and the
scripts of the suite made.
Exit status 1 when anything failed.
"""

import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys
import tempfile

import initramfs
import iort
import machine
import service.image

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A machine under emulation on a busy host may take many times what it takes on an idle one.
TIMEOUT_S = 1800

# What tests read of the checkout.
SOURCES = ("config", "doc", "tests/data")

# Who is who, as in Debian.
IDENTITIES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /dev /proc /sys /tmp
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
[ -d /sys/kernel/debug ] && mount -t debugfs debug /sys/kernel/debug
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
ip link set lo up 2>/dev/null
exec >/dev/{console} 2>&1 </dev/null
stty raw 2>/dev/null
export HOME=/root PATH=/bin FAULTLINE_SOURCE_ROOT=/source
cd /tmp
{setup}
for name in {programs}; do
  echo "vm: begin $name"
  # The arguments of a program stand beside it.
  "/tests/$name" $(cat "/tests/$name.arguments" 2>/dev/null)
  echo "vm: end $name $?"
done
echo "vm: done"
sleep 0.2
poweroff -f
"""


def meson_tests(build, suites):
    """name: program of the registered tests of these suites."""
    out = subprocess.run(
        ["meson", "introspect", "--tests", str(build)], check=True, stdout=subprocess.PIPE
    ).stdout
    found = {}
    for test in json.loads(out):
        # With an exe_wrapper the program is not the first word.
        program = next((c for c in test["cmd"] if c.endswith("_test")), None)
        if program and any(s.split(":")[-1] in suites for s in test["suite"]):
            found[test["name"]] = program
    return found


class Iommufd:
    """The real arm-smmu-v3 driver over QEMU's two-stage SMMUv3, with DMA engines behind it."""

    console = "ttyAMA1"
    devices = 8
    # They are bound before anybody looks: vfio-pci takes all of their kind.
    setup = "ls /dev/iommu /dev/vfio/devices >/dev/null || echo 'no VFIO devices'"

    def __init__(self, arguments):
        self._a = arguments
        self.programs = {
            "vm_iommufd": (arguments.build / "tests/vm/vm_iommufd", []),
            **{
                name: (program, [])
                for name, program in meson_tests(arguments.build, {"unit", "seed"}).items()
            },
        }

    def machines(self):
        """The programs of each: those of this kernel, and those that any arm64 would do for."""
        own = [n for n in self.programs if n == "vm_iommufd"]
        others = [n for n in self.programs if n != "vm_iommufd"]
        return [names for names in (own, others) if names]

    def libraries(self):
        s = self._a.sysroot
        return [s / "lib/aarch64-linux-gnu", s / "usr/lib/aarch64-linux-gnu"]

    busybox = "busybox-arm64"
    strip = "aarch64-linux-gnu-strip"

    def before(self):
        return initramfs.archive(
            [
                *((d, (0o040755, b"", (0, 0))) for d in _parents(iort.PATH)),
                (iort.PATH, (0o100644, iort.iort(), (0, 0))),
            ]
        )

    def command(self, image, initrd, kernel_log):
        edus = [
            argument
            for i in range(self.devices)
            for argument in ("-device", f"edu,addr={3 + i:x},dma_mask=0xffffffffffffffff")
        ]
        return [
            str(self._a.tools / "bin/qemu-system-aarch64"),
            *("-M", "virt,iommu=smmuv3,gic-version=3", "-cpu", "neoverse-n1"),
            *("-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"),
            *("-bios", str(self._a.tools / "QEMU_EFI.fd")),
            *("-kernel", str(image), "-initrd", str(initrd)),
            *("-append", "console=ttyAMA0 loglevel=7 vfio-pci.ids=1234:11e8"),
            *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
            *("-serial", f"file:{kernel_log}", "-serial", "stdio"),
            *edus,
        ]


class Mock:
    """iommufd's own mock devices, for what no emulated SMMU has."""

    console = "ttyS1"
    setup = "true"
    busybox = "busybox-amd64"
    strip = "strip"

    def __init__(self, arguments):
        self._a = arguments
        self.programs = {"vm_mock": (arguments.build / "tests/vm/vm_mock", [])}

    def machines(self):
        return [list(self.programs)]

    def libraries(self):
        return [
            pathlib.Path(d)
            for d in ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib")
        ]

    def before(self):
        return b""

    def command(self, image, initrd, kernel_log):
        return [
            str(self._a.tools / "bin/qemu-system-x86_64"),
            *("-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024"),
            *("-kernel", str(image), "-initrd", str(initrd)),
            *("-append", "console=ttyS0 loglevel=5"),
            *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
            *("-serial", f"file:{kernel_log}", "-serial", "stdio"),
        ]


class Service:
    """Debian 12's systemd with the service, its units and a VMM; systemd itself runs the checks."""

    def __init__(self, arguments):
        self._a = arguments
        self.programs = {"service": (None, [])}

    def machines(self):
        return [list(self.programs)]

    def initrd(self, path):
        service.image.write(
            path,
            self._a.debian,
            self._a.tools / "busybox-amd64",
            {
                "faultlined": self._a.build / "apps/faultlined",
                "faultline-vmm": self._a.build / "apps/faultline-vmm",
            },
            [pathlib.Path("/lib/x86_64-linux-gnu"), pathlib.Path("/usr/lib/x86_64-linux-gnu")],
        )

    def command(self, image, initrd, kernel_log):
        return [
            str(self._a.tools / "bin/qemu-system-x86_64"),
            *("-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"),
            *("-object", "memory-backend-ram,id=ram,size=2048M"),
            *("-numa", "node,memdev=ram,cpus=0-1"),
            *("-kernel", str(image), "-initrd", str(initrd)),
            "-append",
            # Nothing that a busy host makes the kernel measure wrong: HPET's frequency is known.
            "console=ttyS0 loglevel=5 no_timer_check nolapic_timer tsc=unstable clocksource=hpet "
            "rcupdate.rcu_cpu_stall_suppress=1 systemd.unit=faultline-check.target "
            "systemd.show_status=no systemd.journald.forward_to_console=1",
            *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
            *("-serial", f"file:{kernel_log}", "-serial", "stdio"),
        ]


def _parents(path):
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def make_initrd(suite, arguments, names, path):
    if hasattr(suite, "initrd"):
        suite.initrd(path)
        return
    image = initramfs.Initramfs(suite.libraries())
    image.add("bin/busybox", (arguments.tools / suite.busybox).read_bytes(), executable=True)
    for name in names:
        program, options = suite.programs[name]
        image.program(f"tests/{name}", program, suite.strip)
        if options:
            image.add(f"tests/{name}.arguments", " ".join(options).encode())
    for part in SOURCES:
        for source in sorted(ROOT.glob(f"{part}/**/*")):
            if source.is_file():
                image.add(f"source/{source.relative_to(ROOT)}", source.read_bytes())
    for identities, content in IDENTITIES.items():
        image.add(identities, content.encode())
    script = INIT.format(
        console=suite.console, setup=suite.setup, programs=" ".join(names)
    )
    image.add("init", script.encode(), executable=True)
    image.write(path, suite.before())


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("suite", choices=("iommufd", "mock", "service"))
    for option in ("kernel", "tools", "build", "sysroot", "debian", "tap", "log"):
        parser.add_argument(f"--{option}", type=pathlib.Path)
    parser.add_argument("--only", nargs="*", help="of the programs")
    parser.add_argument("--filter", help="--gtest_filter of every program")
    parser.add_argument("--verbose", action="store_true", help="every line of the console")
    arguments = parser.parse_args()
    suites = {"iommufd": Iommufd, "mock": Mock, "service": Service}
    suite = suites[arguments.suite](arguments)
    if arguments.only:
        suite.programs = {n: p for n, p in suite.programs.items() if n in arguments.only}
    if arguments.filter:
        suite.programs = {
            n: (p, [*o, f"--gtest_filter={arguments.filter}"])
            for n, (p, o) in suite.programs.items()
        }
    log = arguments.log or pathlib.Path(f"build/vm-{arguments.suite}.log")
    log.parent.mkdir(exist_ok=True)

    def echo(line):
        if arguments.verbose or line.startswith(("vm: begin", "[  FAILED", "| ")):
            print(line, flush=True)

    def run(number):
        """One machine of the suite, with its share of the programs."""
        names = suite.machines()[number]
        console = log.with_suffix(f".{number}.log") if number else log
        kernel_log = console.with_suffix(".kernel.log")
        kernel_log.write_text("")
        with tempfile.TemporaryDirectory() as work:
            initrd = pathlib.Path(work) / "initrd"
            make_initrd(suite, arguments, names, initrd)
            command = suite.command(arguments.kernel / "image", initrd, kernel_log)
            outcome = machine.run(command, TIMEOUT_S, kernel_log, echo)
        console.write_text("\n".join(outcome.lines) + "\n")
        machine.say(f"{' '.join(names)}: {outcome.seconds:.0f} s in the machine ({console})")
        return machine.results(outcome, names)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = [r for part in pool.map(run, range(len(suite.machines()))) for r in part]
    lines = machine.tap(results)
    if arguments.tap:
        arguments.tap.write_text("\n".join(lines) + "\n")
    for line in lines:
        if line.startswith("not ok"):
            print(line, flush=True)
    return 1 if any(line.startswith("not ok") for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
