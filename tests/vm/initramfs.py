# SPDX-License-Identifier: BSD-3-Clause
"""An initramfs made of a few files: programs with the libraries they need, busybox, a script.

Written here as a newc archive, since neither owner nor device nodes need root that way.
"""

import pathlib
import subprocess
import tempfile


class Initramfs:
    """Collects files; write() makes the archive."""

    def __init__(self, library_dirs, readelf="readelf", into=None):
        """library_dirs: where shared objects are looked for, in that order.

        into: where they go, if the loader is there already and knows that place.
        """
        self._into = into
        self._library_dirs = [pathlib.Path(d) for d in library_dirs]
        self._readelf = readelf
        self._entries = {}  # path in the archive: (mode, content, device)
        for directory in ("dev", "proc", "sys", "tmp", "root"):
            self.directory(directory)
        self._entries["dev/console"] = (0o020600, b"", (5, 1))

    def directory(self, path):
        parts = pathlib.PurePosixPath(path).parts
        for n in range(1, len(parts) + 1):
            self._entries.setdefault("/".join(parts[:n]), (0o040755, b"", (0, 0)))

    def add(self, path, content, executable=False):
        """A file with this content."""
        self.directory(str(pathlib.PurePosixPath(path).parent))
        self._entries[path] = (0o100755 if executable else 0o100644, content, (0, 0))

    def link(self, path, target):
        self.directory(str(pathlib.PurePosixPath(path).parent))
        self._entries[path] = (0o120777, target.encode(), (0, 0))

    def program(self, path, source, strip=None):
        """A program, its loader and every shared object it needs.

        strip: a program that takes out symbols, or None to leave them in.
        """
        source = pathlib.Path(source)
        content = source.read_bytes()
        if strip:
            with tempfile.NamedTemporaryFile() as small:
                subprocess.run([strip, "-o", small.name, str(source)], check=True)
                content = pathlib.Path(small.name).read_bytes()
        self.add(path, content, executable=True)
        self._need(source)

    def _need(self, source):
        out = subprocess.run(
            [self._readelf, "-W", "-l", "-d", str(source)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        for line in out.splitlines():
            if "interpreter:" in line:
                loader = line.split("interpreter:")[1].strip(" ]\n").lstrip("/")
                if not self._into:
                    self._library(loader.split("/")[-1], loader)
            elif "(NEEDED)" in line:
                name = line.split("[")[1].split("]")[0]
                self._library(name, f"{self._into or 'lib'}/{name}")

    def _library(self, name, path):
        if path in self._entries:
            return
        for directory in self._library_dirs:
            found = directory / name
            if found.exists():
                self.add(path, found.read_bytes(), executable=True)
                self._need(found)
                return
        raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, self._library_dirs))}")

    def write(self, path, first=b""):
        """first: an archive to put in front, such as ACPI tables."""
        with open(path, "wb") as out:
            out.write(first)
            out.write(archive(sorted(self._entries.items())))


def archive(entries):
    """A newc archive of (path, (mode, content, (major, minor))) pairs, padded to 512 bytes."""
    out = bytearray()
    for inode, (name, (mode, content, device)) in enumerate(
        [*entries, ("TRAILER!!!", (0, b"", (0, 0)))], start=1
    ):
        raw = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        out += b"\0" * (-len(out) % 4)
        out += content
        out += b"\0" * (-len(out) % 4)
    out += b"\0" * (-len(out) % 512)
    return bytes(out)
