#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The units of config/systemd, as systemd itself judges them. TAP.

Nothing is started and no systemd has to run; skipped where systemd-analyze is not there.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ROOT / "config/systemd"
SERVICE, SOCKET = "faultlined@.service", "faultlined@.socket"
# In tenths of systemd-analyze's exposure level. What is left: a network for the metrics, a user of
# its own that is not dynamic, and no root directory or user namespace of its own, since a session
# says who its peer is.
EXPOSURE = 15


def service():
    """The service's unit as it is installed, with a program that is there."""
    text = (UNITS / (SERVICE + ".in")).read_text()
    text = text.replace("@bindir@/faultlined", "/bin/true")
    return text.replace("@docdir@", "/usr/share/doc").replace("@sysconfdir@", "/etc")


def analyze(verb, *options, text=None, socket=True):
    """Exit status and output of systemd-analyze on the units, or on another text of the service."""
    with tempfile.TemporaryDirectory() as work:
        directory = pathlib.Path(work)
        (directory / SERVICE).write_text(text or service())
        names = [SERVICE]
        if socket:
            (directory / SOCKET).write_text((UNITS / SOCKET).read_text())
            names.append(SOCKET)
        done = subprocess.run(
            ["systemd-analyze", verb, *options, *(str(directory / n) for n in names)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


def verified(text=None):
    status, output = analyze("verify", "--man=no", text=text)
    return status == 0 and not output.strip(), output


def exposed(text=None):
    status, output = analyze(
        "security", "--offline=yes", f"--threshold={EXPOSURE}", "--no-pager", text=text, socket=False
    )
    return status == 0, "\n".join(output.splitlines()[-1:])


def without(setting):
    """The unit without one of its lines; fails where there is none."""
    lines = service().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(setting + "=")]
    assert len(kept) < len(lines), setting
    return "".join(kept)


def store_fits():
    """Whether the program counts on the number of descriptors that the unit lets it store."""
    unit = re.search(r"^FileDescriptorStoreMax=(\d+)$", service(), re.MULTILINE)
    header = (ROOT / "apps/faultlined/fd_store.h").read_text()
    program = re.search(r"kStoreMax = (\d+)", header)
    return unit and program and unit[1] == program[1], f"{unit}, {program}"


def cases():
    yield "systemd has nothing to say about the units", verified()
    yield f"exposure is at most {EXPOSURE / 10}", exposed()
    yield "the program and the unit agree on the size of the fd store", store_fits()
    # What would pass whatever the units say proves nothing.
    broken = service().replace("ProtectSystem=", "ProtectSytem=")
    good, output = verified(broken)
    yield "a misspelt line is noticed", (not good and "ProtectSytem" in output, output)
    for setting in ("CapabilityBoundingSet", "SystemCallFilter", "NoNewPrivileges"):
        good, output = exposed(without(setting))
        yield f"a unit without {setting} is noticed", (not good, output)


def main():
    if not shutil.which("systemd-analyze"):
        print("1..0 # SKIP no systemd-analyze here")
        return 0
    results = list(cases())
    for number, (name, (good, output)) in enumerate(results, start=1):
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print("".join(f"# {line}\n" for line in output.splitlines()), end="")
    print(f"1..{len(results)}")
    return 0 if all(good for _, (good, _) in results) else 1


if __name__ == "__main__":
    sys.exit(main())
