# SPDX-License-Identifier: BSD-3-Clause
"""`faultline live` in a process of its own, and what the guests need: built once, kept in the cache."""

import array
import hashlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import initramfs  # noqa: E402

_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /bin /dev /proc /sys /tmp
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t debugfs debug /sys/kernel/debug
export PATH=/bin:/sbin HOME=/root
cd /tmp
insmod /fl_dma.ko
exec 0<>/dev/ttyAMA1 1>&0
stty raw -echo
echo "fl: ready"
while read -r line; do
  eval "$line" 2>&1
  echo "fl: end"
done
"""


class Host:
    """The host's side. thread: one"""

    def __init__(self, program, guests=1, policy="merge", record=None):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [str(program), "live", "--control", str(theirs.fileno())]
        command += ["--guests", str(guests), "--policy", policy]
        if record:
            command += ["--record", str(record)]
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True
        )
        theirs.close()
        self._socket.settimeout(120)
        self.guests = [self._introduction() for _ in range(guests)]

    def _introduction(self):
        text, control, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(32))
        if not text:
            self._fail()
        fds = array.array("i")
        for _, _, data in control:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        return json.loads(text), list(fds)

    def _fail(self):
        self.process.wait(timeout=20)
        raise RuntimeError(f"faultline live ended: {self.process.stderr.read().strip()}")

    def ask(self, do, **arguments):
        try:
            self._socket.send(json.dumps({"do": do, **arguments}).encode())
            text = self._socket.recv(1 << 16)
        except OSError:
            text = b""
        if not text:
            self._fail()
        return json.loads(text)

    def stop(self):
        self._socket.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def prepare(kernel, tools, cache):
    """The guests' initramfs, made when a source of it has changed. Returns its path."""
    sources = [HERE / "module/fl_dma.c", HERE / "map_benchmark.c", pathlib.Path(__file__)]
    key = hashlib.sha256(str(kernel).encode() + b"".join(s.read_bytes() for s in sources))
    out = pathlib.Path(cache) / f"guest-initrd-{key.hexdigest()[:12]}"
    if out.exists():
        return out
    with tempfile.TemporaryDirectory(dir=cache) as work:
        work = pathlib.Path(work)
        shutil.copy(HERE / "module/fl_dma.c", work)
        (work / "Makefile").write_text("obj-m := fl_dma.o\n")
        source = (kernel / "source").read_text().strip()
        make = ["make", "-C", source, f"O={kernel / 'build'}", f"M={work}", "ARCH=arm64"]
        _run([*make, "CROSS_COMPILE=aarch64-linux-gnu-", "KBUILD_MODPOST_WARN=1", "modules"])
        gcc = ["aarch64-linux-gnu-gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror"]
        _run([*gcc, str(HERE / "map_benchmark.c"), "-o", str(work / "map_benchmark")])
        image = initramfs.Initramfs([])
        image.add("bin/busybox", (tools / "busybox-arm64").read_bytes(), executable=True)
        image.add("bin/map_benchmark", (work / "map_benchmark").read_bytes(), executable=True)
        image.add("fl_dma.ko", (work / "fl_dma.ko").read_bytes())
        image.add("init", _INIT.encode(), executable=True)
        image.write(work / "initrd")
        os.replace(work / "initrd", out)
    return out


def _run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: " + "\n".join(done.stdout.splitlines()[-12:]))
