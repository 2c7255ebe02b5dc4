# SPDX-License-Identifier: BSD-3-Clause
"""The root of a machine that runs Debian 12's systemd with the service in it, as an initramfs.

The archive's own root only copies `system/` into a tmpfs and goes there: systemd's mount namespaces
need a root that is a mount of its own.
"""

import os
import pathlib
import stat

import initramfs

ROOT = pathlib.Path(__file__).resolve().parents[3]
HERE = pathlib.Path(__file__).resolve().parent
LIBRARIES = "usr/lib/x86_64-linux-gnu"

INIT = """#!/bin/busybox sh
/bin/busybox mkdir /new
/bin/busybox mount -t tmpfs -o mode=755,size=90% root /new
/bin/busybox cp -a /system/. /new/
exec /bin/busybox switch_root /new /usr/lib/systemd/systemd
"""

# What nothing here needs and what would only wait for hardware, networks or people.
MASKED = """
ldconfig.service systemd-binfmt.service systemd-firstboot.service systemd-hwdb-update.service
systemd-journal-catalog-update.service systemd-journal-flush.service systemd-logind.service
systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service
systemd-random-seed.service systemd-resolved.service systemd-timesyncd.service
systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-update-done.service
getty.target systemd-ask-password-wall.path systemd-ask-password-console.path
systemd-initctl.socket systemd-pcrphase.service systemd-pcrphase-sysinit.service
""".split()

FILES = {
    "etc/machine-id": "5ea1ed00000000000000000000000001\n",
    "etc/hostname": "vm\n",
    "etc/os-release": "ID=debian\nVERSION_ID=12\n",
    "etc/systemd/system/faultline-check.target": """[Unit]
Requires=multi-user.target
Wants=faultline-check.service
""",
    "etc/systemd/system/faultline-check.service": """[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh /usr/lib/faultline/check.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
TTYReset=no
TimeoutStartSec=infinity
""",
    # Not root, and until it is stopped.
    "etc/systemd/system/vmm.service": """[Service]
Type=exec
User=faultline
UMask=0077
RuntimeDirectory=vmm
RuntimeDirectoryPreserve=yes
LimitMEMLOCK=infinity
ExecStart=/usr/bin/faultline-vmm --socket /run/faultline/node-0.sock --guests 2 --devices 2 \\
  --seconds 100000 --json /run/vmm/result.json
KillMode=mixed
TimeoutStopSec=300
RemainAfterExit=yes
""",
    # An emulated CPU on a busy host is not hung because it is slow.
    "etc/systemd/system/faultlined@.service.d/slow.conf": """[Service]
WatchdogSec=20
TimeoutStartSec=600
TimeoutStopSec=300
""",
    # What an operator adds for each node.
    "etc/systemd/system/faultlined@0.service.d/node.conf": """[Service]
NUMAPolicy=bind
NUMAMask=0
""",
}


def _tree(image, directory):
    """Everything of an unpacked Debian."""
    for folder, directories, names in os.walk(directory):
        for name in [*directories, *names]:
            source = pathlib.Path(folder) / name
            path = f"system/{source.relative_to(directory)}"
            if source.is_symlink():
                image.link(path, os.readlink(source))
            elif source.is_dir():
                image.directory(path)
            elif source.is_file():
                runs = bool(source.stat().st_mode & stat.S_IXUSR)
                image.add(path, source.read_bytes(), executable=runs)


def unit(text):
    """A unit as it is installed under /usr."""
    for name, value in {"bindir": "/usr/bin", "sysconfdir": "/etc", "docdir": "/usr/share/doc"}.items():
        text = text.replace(f"@{name}@", value)
    return text


def write(path, debian, busybox, programs, library_dirs):
    """programs: name in /usr/bin: built program."""
    image = initramfs.Initramfs([debian / LIBRARIES, *library_dirs], into=f"system/{LIBRARIES}")
    image.add("bin/busybox", busybox.read_bytes(), executable=True)
    image.add("init", INIT.encode(), executable=True)
    _tree(image, debian)
    image.add("system/usr/bin/busybox", busybox.read_bytes(), executable=True)
    for applet in (HERE / "applets").read_text().split():
        image.link(f"system/usr/bin/{applet}", "busybox")
    for directory in ("dev", "proc", "sys", "run", "tmp", "root", "var/log"):
        image.directory(f"system/{directory}")
    image.link("system/var/run", "/run")
    for name, program in programs.items():
        image.program(f"system/usr/bin/{name}", program, "strip")
    for name in MASKED:
        image.link(f"system/etc/systemd/system/{name}", "/dev/null")
    for name, text in FILES.items():
        image.add(f"system/{name}", text.encode())
    for source in sorted((ROOT / "config/systemd").iterdir()):
        if source.name.startswith("faultlined@"):
            name = source.name.removesuffix(".in")
            image.add(f"system/usr/lib/systemd/system/{name}", unit(source.read_text()).encode())
    image.add(
        "system/usr/lib/sysusers.d/faultline.conf",
        (ROOT / "config/systemd/faultline.sysusers").read_bytes(),
    )
    image.add("system/etc/faultline/faultline.toml", (ROOT / "config/faultline.toml").read_bytes())
    # What the VMM's guests play; looked for in the folders above the program.
    for source in sorted((ROOT / "tests/data/traces").glob("vnet-strict-4.*")):
        image.add(f"system/tests/data/traces/{source.name}", source.read_bytes())
    image.add("system/usr/lib/faultline/check.sh", (HERE / "check.sh").read_bytes())
    image.write(path)
