#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`faultline top` in a real terminal: tmux, a service and a VMM; prints TAP.

usage: top_terminal.py BUILDDIR

Everything is waited for by looking at the screen again, at most so long. Exit status 77: no tmux.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 120
COLUMNS, LINES = 100, 30
GUESTS, DEVICES = 4, 3
# Page: what its table's header begins with.
PAGES = {"guests": r"guest +state", "devices": r"guest +device", "shards": r"shard +CPU",
         "stages": r"guest +cycles/burst: poll"}
HEAD = 4  # lines above the table's header


class Failed(Exception):
    pass


class Terminal:
    """A terminal of its own tmux, in which one command runs."""

    def __init__(self, folder, command):
        self.server = ["tmux", "-f", "/dev/null", "-S", str(folder / "tmux")]
        self.tmux("-u", "new-session", "-d", "-s", "t", "-x", str(COLUMNS), "-y", str(LINES), command)

    def tmux(self, *arguments):
        return subprocess.run([*self.server, *arguments], check=True, text=True, timeout=PATIENCE,
                              stdout=subprocess.PIPE, env={**os.environ, "TERM": "screen"}).stdout

    def screen(self):
        lines = self.tmux("capture-pane", "-p", "-t", "t").split("\n")
        return lines + [""] * (HEAD + 1 - len(lines))

    def press(self, *keys):
        self.tmux("send-keys", "-t", "t", *keys)

    def resize(self, columns, lines):
        self.tmux("resize-window", "-t", "t", "-x", str(columns), "-y", str(lines))

    def said(self, format_):
        return self.tmux("display-message", "-p", "-t", "t", format_).strip()

    def close(self):
        subprocess.run([*self.server, "kill-server"], check=False, stderr=subprocess.DEVNULL)

    def until(self, what, holds):
        """The first screen of which it holds."""
        end = time.monotonic() + PATIENCE
        while True:
            lines = self.screen()
            if holds(lines):
                return lines
            if time.monotonic() > end:
                raise Failed(f"never seen: {what}; the screen is\n" + "\n".join(lines))
            time.sleep(0.05)


class World:
    def __init__(self, build, folder):
        self.apps = build / "apps"
        self.folder = folder
        self.socket = folder / "s.sock"
        config = folder / "f.toml"
        config.write_text(f'[service]\nsocket = "{self.socket}"\ninstance = "{folder.name}"\n'
                          '[metrics]\nlisten = ""\ntelemetry = false\n')
        self.config = config
        self.running = []
        self.service = None

    def run(self, name, *arguments):
        log = open(self.folder / f"{name}.log", "a", encoding="utf-8")
        process = subprocess.Popen([self.apps / name, *arguments], stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL)
        log.close()
        self.running.append(process)
        return process

    def serve(self):
        self.service = self.run("faultlined", "--node", "0", "--config", str(self.config))
        end = time.monotonic() + PATIENCE
        while subprocess.run([self.apps / "faultline", "status", "--json", "--socket", self.socket],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             check=False).returncode != 0:
            if time.monotonic() > end or self.service.poll() is not None:
                raise Failed("the service does not start: "
                             + (self.folder / "faultlined.log").read_text())
            time.sleep(0.05)

    def play(self):
        self.run("faultline-vmm", "--guests", str(GUESTS), "--devices", str(DEVICES), "--seconds",
                 "1000", "--socket", str(self.socket))

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()


def keys_of(line):
    """[(key, word, chosen)] of a line of keys."""
    return [(key, word, bool(bracket))
            for bracket, key, word in re.findall(r"(?:(\[)| )(\w) (\w+)(?:\]| |$)", line)]


def chosen(line):
    return [word for _, word, is_chosen in keys_of(line) if is_chosen]


def rows(lines):
    """The table's rows as lists of words."""
    return [line.split() for line in lines[HEAD + 1:] if line.strip()]


def words(lines):
    return " ".join(lines).split()


def column(lines, name):
    """What stands under a column of whole numbers."""
    end = lines[HEAD].index(name) + len(name)
    return [int(re.search(r"\d+$", line[:end]).group()) for line in lines[HEAD + 1:] if line.strip()]


def on(page):
    return lambda lines: re.match(PAGES[page], lines[HEAD]) and chosen(lines[2]) == [page]


def shows_the_service(t, world):
    lines = t.until("all guests", lambda l: len(rows(l)) == GUESTS and on("guests")(l))
    if not re.match(r"service   node 0, backend soft, up .*; 4 guests, 12 devices, \d+ shards?",
                    lines[0]):
        raise Failed(f"the first line is {lines[0]!r}")
    if max(map(len, lines)) > COLUMNS:
        raise Failed("a line is longer than the terminal is wide")


def its_rates_move(t, world):
    first = t.until("commands of every guest", lambda l: min(column(l, "cmds/s")) > 0)
    t.until("other rates", lambda l: column(l, "cmds/s") != column(first, "cmds/s")
            and column(l, "faults/s") != column(first, "faults/s"))
    up = first[0].split("up ")[1].split(";")[0]
    t.until("a later time", lambda l: f"up {up};" not in l[0])


def each_page_has_its_key(t, world):
    pages = {word: key for key, word, _ in keys_of(t.screen()[2]) if word in PAGES}
    if set(pages) != set(PAGES):
        raise Failed(f"the keys name the pages {sorted(pages)}")
    for page in ("devices", "shards", "stages", "guests"):
        t.press(pages[page])
        lines = t.until(f"the page of {page}", on(page))
        expected = {"guests": GUESTS, "stages": GUESTS, "devices": GUESTS * DEVICES}.get(page)
        if expected is not None and len(rows(lines)) != expected:
            raise Failed(f"{len(rows(lines))} rows of {page}")


def each_sort_key_sorts(t, world):
    totals = {"lost": "lost"}  # what does not change between two looks
    for page in PAGES:
        t.press(page[0] if page != "stages" else "t")
        lines = t.until(f"the page of {page}", on(page))
        keys = keys_of(lines[3])
        if len(keys) < 3 or keys[0][0] != "n":
            raise Failed(f"{page} are sorted by {keys}")
        for key, word, _ in keys[1:] + keys[:1]:
            t.press(key)
            lines = t.until(f"{page} sorted by {word}", lambda l: chosen(l[3]) == [word])
            if word in totals:
                values = column(lines, totals[word])
                if values != sorted(values, reverse=True):
                    raise Failed(f"{page} by {word}: {values}")
        names = [row[0] for row in rows(lines)]
        if names != sorted(names):
            raise Failed(f"{page} by name: {names}")
    t.press("g")
    t.until("the guests", on("guests"))


def scrolling_stops_at_the_last_row(t, world):
    t.press("d")
    whole = rows(t.until("the devices", on("devices")))
    names = [row[:2] for row in whole]
    t.resize(COLUMNS, 11)  # six rows
    top = lambda first: lambda l: [row[:2] for row in rows(l)] == names[first:first + 6]
    t.until("the first rows", lambda l: top(0)(l) and "rows 1-6 of 12" in l[2])
    t.press("j")
    t.until("the second row first", top(1))
    t.press(*["j"] * 40)
    t.until("the last rows", top(6))
    t.press("k")
    t.until("one row back at once", top(5))
    t.press("Down", "Down", "Up")
    t.until("the arrows scroll, too", top(5))
    t.press(*["k"] * 40)
    t.until("the first rows again", top(0))
    t.resize(COLUMNS, LINES)
    t.until("all rows again", lambda l: [row[:2] for row in rows(l)] == names)
    t.press("g")
    t.until("the guests", on("guests"))


def follows_the_window(t, world):
    for columns, lines in ((60, 15), (200, 50), (40, 12), (80, 24)):
        t.resize(columns, lines)
        t.until(f"{columns} x {lines} filled", lambda l: len(rows(l)) == GUESTS
                and max(map(len, l)) <= columns and re.match("guest +(state|faults/s) ", l[HEAD])
                and (columns == 200) == ("pub p50" in l[HEAD]) and "faults/s" in l[HEAD])
    t.resize(20, 3)
    t.until("its first line and the table", lambda l: l[0].startswith("service   node 0")
            and l[1].split() == ["guest"] and len(l[2].split()) == 1)
    t.resize(1, 1)
    t.resize(COLUMNS, LINES)
    t.until("all of it again", lambda l: on("guests")(l) and len(rows(l)) == GUESTS)


def says_that_the_service_is_away(t, world):
    before = t.screen()
    world.service.send_signal(signal.SIGKILL)
    world.service.wait()
    lines = t.until("that it is away", lambda l: l[0].startswith("service   away for "))
    if "reconnecting" not in lines[0] or [r[0] for r in rows(lines)] != [r[0] for r in rows(before)]:
        raise Failed("the screen is\n" + "\n".join(lines))
    t.until("the seconds", lambda l: int(re.match(r"service   away for (\d+) s", l[0]).group(1)) >= 2)
    t.press("s")
    t.until("that keys work meanwhile", on("shards"))
    t.press("g")
    world.serve()
    t.until("that it is back", lambda l: re.match(r"service   node 0.*, up \d+ s;", l[0]))
    # Those whose VMM lives come back, too.
    t.until("the guests that came back", lambda l: on("guests")(l) and len(rows(l)) == GUESTS
            and min(column(l, "cmds/s")) > 0)


def says_that_the_service_hangs(t, world):
    world.service.send_signal(signal.SIGSTOP)
    t.until("that it does not answer", lambda l: l[0].startswith("service   away for "))
    t.press("d")
    t.until("that keys work meanwhile", on("devices"))
    world.service.send_signal(signal.SIGCONT)
    t.until("that it answers again", lambda l: l[0].startswith("service   node 0"))
    t.press("g")
    t.until("the guests", on("guests"))


def leaves_a_clean_terminal(t, world):
    if t.said("#{alternate_on}") != "1" or t.said("#{cursor_flag}") != "0":
        raise Failed("it does not draw on a screen of its own without a cursor")
    t.press("q")
    lines = t.until("that it ended", lambda l: "left" in words(l) and "opost" in words(l))
    if lines[0] != "before" or "left 0" not in lines:
        raise Failed("the screen is\n" + "\n".join(lines))
    if t.said("#{alternate_on}") != "0" or t.said("#{cursor_flag}") != "1":
        raise Failed("its screen or its cursor stays")
    for word in ("icanon", "echo", "isig", "icrnl", "onlcr"):
        if word not in words(lines):
            raise Failed(f"the terminal has no {word}: {lines}")
    t.press("typed", "Enter")
    t.until("what is typed", lambda l: "typed" in l)


def an_interrupt_leaves_a_clean_terminal_too(t, world):
    t.press("C-d")
    t.until("it anew", lambda l: l[0].startswith("service   node 0"))
    t.press("C-c")
    lines = t.until("that it ended", lambda l: any(line.startswith("again ") for line in l))
    if "again 0" not in lines or t.said("#{alternate_on}") != "0" or t.said("#{cursor_flag}") != "1":
        raise Failed("the screen is\n" + "\n".join(lines))


def wants_a_terminal_that_is_known(t, world):
    lines = t.until("that it ended", lambda l: any(line.startswith("unknown ") for line in l))
    if "unknown 1" not in lines or "faultline: TERM names no terminal that is known here" not in lines:
        raise Failed("the screen is\n" + "\n".join(lines))


CASES = (shows_the_service, its_rates_move, each_page_has_its_key, each_sort_key_sorts,
         scrolling_stops_at_the_last_row, follows_the_window, says_that_the_service_is_away,
         says_that_the_service_hangs, leaves_a_clean_terminal,
         an_interrupt_leaves_a_clean_terminal_too, wants_a_terminal_that_is_known)


def main(arguments):
    build = pathlib.Path(arguments[0]).resolve()
    if shutil.which("tmux") is None:
        print("no tmux here: faultline top is not tested in a terminal")
        return 77
    failed = False
    print(f"1..{len(CASES)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faultline-top-") as name:
        world = World(build, pathlib.Path(name))
        terminal = None
        try:
            world.serve()
            world.play()
            top = f"{build}/apps/faultline top --socket {world.socket}"
            terminal = Terminal(pathlib.Path(name),
                                f"trap : INT; echo before; {top}; echo left $?; stty -a; cat; {top}; "
                                f"echo again $?; TERM=no-such {top}; echo unknown $?; cat")
            for number, case in enumerate(CASES, 1):
                title = case.__name__.replace("_", " ")
                try:
                    case(terminal, world)
                    print(f"ok {number} - {title}", flush=True)
                except Failed as why:
                    failed = True
                    print(f"not ok {number} - {title}", flush=True)
                    print("# " + str(why).replace("\n", "\n# "), flush=True)
        except Failed as why:
            failed = True
            print(f"Bail out! {why}")
        finally:
            if terminal is not None:
                terminal.close()
            world.close()
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
