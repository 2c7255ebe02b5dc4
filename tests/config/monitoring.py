# SPDX-License-Identifier: BSD-3-Clause
"""What monitoring_test.py starts: a service with guests, and a Prometheus that asks it. All of it
listens on the loopback or on sockets in a folder of its own, waits no longer than it is told, and is
ended with the `with` that it was started in.
"""

import contextlib
import json
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request


class Failed(Exception):
    """Something that was started does not do what it is there for."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, seconds, condition):
    """The first true answer of condition()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise Failed(f"{what}: not within {seconds} s")


@contextlib.contextmanager
def program(log, *command):
    """A process whose output goes to a file."""
    with open(log, "wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    process.log = pathlib.Path(log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def running(process):
    """True; Failed where it ended."""
    if process.poll() is not None:
        raise Failed(f"{process.args[0]} ended with {process.returncode}:\n{process.log.read_text()}")
    return True


@contextlib.contextmanager
def service(build, folder):
    """faultlined with an endpoint on the loopback: its port and its socket."""
    port, path = free_port(), folder / "s.sock"
    config = folder / "f.toml"
    config.write_text(
        f'[service]\nsocket = "{path}"\ninstance = "{folder.name}"\n'
        f'[placement]\nshards = 1\n'
        f'[metrics]\nlisten = "127.0.0.1:{port}"\ntelemetry = false\n'
    )
    command = [build / "apps/faultlined", "--node", "0", "--config", config]
    with program(folder / "faultlined.log", *command) as process:
        until("faultlined", 30, lambda: running(process) and b"VMMs attach at" in process.log.read_bytes())
        yield port, path


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


class Prometheus:
    """The HTTP API of one."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"

    def ask(self, path, **arguments):
        """(data, None) or (None, what is wrong)."""
        url = f"{self.base}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read() or b"{}")
        except OSError as error:
            return None, str(error)
        if answer.get("status") != "success":
            return None, answer.get("error", "no answer")
        return answer["data"], None

    def value(self, query):
        """Of a query with one sample; None where there is none."""
        data, _ = self.ask("query", query=query)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    def ready(self):
        try:
            get(self.base + "/-/ready")
        except OSError:
            return False
        return True


@contextlib.contextmanager
def prometheus(root, folder, target, rules):
    """Prometheus that asks the service every second and judges by the rules as often."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "scrape_configs": [
                    {
                        "job_name": "faultline",
                        "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
                    }
                ],
            }
        )
    )
    command = [
        root / "usr/bin/prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with program(folder / "prometheus.log", *command) as process:
        asked = Prometheus(port)
        until("prometheus", 30, lambda: running(process) and asked.ready())
        yield asked
