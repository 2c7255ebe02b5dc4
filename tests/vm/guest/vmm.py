# SPDX-License-Identifier: BSD-3-Clause
"""A small VMM: QEMU's CPUs and devices, without an IOMMU, around memory that somebody else made."""

import json
import mmap
import os
import re
import select
import socket
import struct
import subprocess
import threading
import time

import device_tree

_EVTQ_IRQ_CFG0, _GERROR_IRQ_CFG0 = 0xB0, 0x68
_GERROR, _CMDQ_PROD, _INDEX = 0x60, 0x98, 0xFFFFF
_REGISTER_BYTES = 0x20000


class Gone(Exception):
    """The machine ended, or did not answer in time."""


def _connect(path, limit=20):
    until = time.monotonic() + limit
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > until:
                raise Gone(f"QEMU does not listen on {path.name}") from None
            time.sleep(0.05)


class Guest:
    """One guest. With `about` and `fds` from Faultline it has Faultline's SMMU; without, QEMU's own.

    work     directory for sockets and logs
    name     of its files there
    """

    def __init__(self, tools, image, initrd, work, name, smp, about=None, fds=(), append="", mem=256):
        self.name = name
        self.about = about
        self.log = work / f"{name}.kernel.log"
        self.messages = 0  # interrupts delivered, by MSI
        self._fds = list(fds)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._carrier = None
        self._held = False  # paused by who uses this object
        self.pauses = 0  # by the dead-man switch
        self._work = work
        for kind in ("shell", "qtest", "qmp"):
            (work / f"{name}.{kind}").unlink(missing_ok=True)
        cpus = ["-cpu", "cortex-a57", "-smp", str(smp)]
        machine = "virt,gic-version=2,memory-backend=ram"
        if about is None:
            machine += ",iommu=smmuv3"
            ram = f"memory-backend-ram,id=ram,size={mem}M"
            slots = range(3, 6)
            bars = {n: "memory-backend-ram,size=64K" for n in slots}
        else:
            mem = about["bytes"] >> 20
            ram = f"memory-backend-file,id=ram,size={mem}M,share=on,mem-path=/proc/self/fd/{fds[0]}"
            slots = range(about["slot"], about["slot"] + about["devices"])
            bars = {
                n: f"memory-backend-file,size=64K,share=on,mem-path=/proc/self/fd/{fd}"
                for n, fd in zip(slots, fds[3:])
            }
        # Where engine and vCPUs share cores, the vCPUs give way: a late SYNC is waited for by them.
        # Where they need not share, they do not.
        cpus_left = os.sched_getaffinity(0) - set((about or {}).get("polling_cpus", ()))
        apart = ["taskset", "-c", ",".join(map(str, sorted(cpus_left)))] if cpus_left else []
        command = [
            *apart,
            *("nice", "-n", "2"),
            str(tools / "bin/qemu-system-aarch64"),
            *("-M", machine, "-object", ram, "-m", str(mem), *cpus, "-accel", "tcg,thread=multi"),
            *("-display", "none", "-monitor", "none", "-nic", "none"),
            *("-serial", f"file:{self.log}"),
            *("-serial", f"unix:{work / name}.shell,server=on,wait=off"),
        ]
        for slot, backend in bars.items():
            command += ["-object", f"{backend},id=bar{slot}"]
            command += ["-device", f"ivshmem-plain,memdev=bar{slot},addr={slot}"]
        extra = []
        if about is not None:
            tree = work / f"{name}.dtb"
            device_tree.make(tools, cpus, mem, about["registers"], tree)
            extra = ["-dtb", str(tree)]
        command += extra + [
            *("-qtest", f"unix:{work / name}.qtest,server=on,wait=off", "-qtest-log", "none"),
            *("-qmp", f"unix:{work / name}.qmp,server=on,wait=off"),
            *("-kernel", str(image), "-initrd", str(initrd)),
            *("-append", f"console=ttyAMA0 loglevel=7 {append}"),
        ]
        self.said = work / f"{name}.qemu.log"
        self._errors = open(self.said, "w+b")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=subprocess.STDOUT,
            pass_fds=self._fds,
        )
        try:
            self._shell = _connect(work / f"{name}.shell")
            self._qtest = _connect(work / f"{name}.qtest")
            self._qmp = _connect(work / f"{name}.qmp")
        except Gone:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            self.stop()
            raise Gone(f"{name}: QEMU did not start: {said}") from None
        self._text = b""
        self._qmp_file = self._qmp.makefile("rwb")
        self._qmp_file.readline()
        self.qmp("qmp_capabilities")
        if about is not None:
            self._page = mmap.mmap(
                fds[0], _REGISTER_BYTES, offset=about["bytes"] - _REGISTER_BYTES
            )
            self._carrier = threading.Thread(target=self._carry_interrupts, daemon=True)
            self._carrier.start()
            threading.Thread(target=self._dead_man, daemon=True).start()

    def _carry_interrupts(self):
        """Eventfds to interrupts: the address is the guest's GICv2m frame, which is no memory. A
        VMM on KVM has an irqfd with the same route instead."""
        sources = {self._fds[1]: _EVTQ_IRQ_CFG0, self._fds[2]: _GERROR_IRQ_CFG0}
        poll = select.poll()
        for fd in sources:
            poll.register(fd, select.POLLIN)
        while not self._stop.is_set():
            for fd, _ in poll.poll(200):
                try:
                    os.read(fd, 8)
                except BlockingIOError:
                    continue
                address, data = struct.unpack_from("<QI", self._page, sources[fd])
                try:
                    self._qtest.sendall(f"writel {address:#x} {data:#x}\n".encode())
                    self._qtest.recv(64)
                except OSError:
                    return
                self.messages += 1

    def _dead_man(self):
        """Linux goes on after 1 s as if its CMD_SYNC had been done: when CONS does not move for
        300 ms though something is in the queue, the vCPUs and their clock pause until it does."""
        last, since, paused = None, time.monotonic(), False
        while not self._stop.wait(0.02):
            gerror, gerrorn = struct.unpack_from("<II", self._page, _GERROR)
            prod, cons = struct.unpack_from("<II", self._page, _CMDQ_PROD)
            # In the error state it is the engine that waits for the driver.
            waits = (prod ^ cons) & _INDEX and not (gerror ^ gerrorn) & 1
            try:
                if cons != last or not waits:
                    last, since = cons, time.monotonic()
                    if paused:
                        paused = False
                        if not self._held:
                            self._qmp_call("cont")
                elif not paused and not self._held and time.monotonic() - since > 0.3:
                    self._qmp_call("stop")
                    paused = True
                    self.pauses += 1
            except (Gone, OSError, ValueError):
                return

    def qmp(self, execute, **arguments):
        if execute in ("stop", "cont"):
            self._held = execute == "stop"
        return self._qmp_call(execute, **arguments)

    def _qmp_call(self, execute, **arguments):
        with self._lock:
            self._qmp_file.write(json.dumps({"execute": execute, "arguments": arguments}).encode())
            self._qmp_file.flush()
            while True:
                line = self._qmp_file.readline()
                if not line:
                    raise Gone(f"{self.name}: QEMU ended")
                answer = json.loads(line)
                if "return" in answer or "error" in answer:
                    return answer

    def wait_for_shell(self, limit=120):
        return self._until(b"fl: ready\n", limit)

    def _until(self, marker, limit):
        until = time.monotonic() + limit
        while marker not in self._text:
            left = until - time.monotonic()
            if left <= 0 or self._process.poll() is not None:
                raise Gone(f"{self.name}: no answer; kernel log: {self.log}")
            if select.select([self._shell], [], [], min(left, 0.5))[0]:
                got = self._shell.recv(4096)
                if not got:
                    raise Gone(f"{self.name}: QEMU ended")
                self._text += got.replace(b"\r", b"")
        before, _, self._text = self._text.partition(marker)
        return before.decode(errors="replace")

    def begin(self, command):
        """Start a shell command without waiting for its end."""
        self._shell.sendall(command.encode() + b"\n")

    def end(self, limit=120):
        """Its output; raises Gone when it does not end."""
        return self._until(b"fl: end\n", limit)

    def shell(self, command, limit=120):
        self.begin(command)
        return self.end(limit)

    def kernel_log(self):
        return re.sub(r"\r", "", self.log.read_text(errors="replace"))

    def alive(self):
        return self._process.poll() is None

    def stop(self):
        self._stop.set()
        if self._carrier:
            self._carrier.join()
        self._process.kill()
        self._process.wait()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
