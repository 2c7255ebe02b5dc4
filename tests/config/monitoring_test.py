#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard and the alert rules in config/, judged by Debian's Prometheus.

usage: monitoring_test.py BUILD-FOLDER

1. every query names metrics that /metrics of a service has
2. every alert fires in rules_test.yml where it should and nowhere else: it must fail on rules of which
   one never fires, and on rules of which one always does
3. a Prometheus that asks a service with guests answers every query of the dashboard with values, and
   judges every rule without an error

Exit status 77 where Prometheus cannot be had.
"""

import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import monitoring

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DASHBOARD = ROOT / "config/dashboards/faultline.json"
RULES = ROOT / "config/alerts/faultline.rules.yml"
PAGE = ROOT / "doc/metrics.md"
CASES = HERE / "rules_test.yml"
VARIABLES = {"$instance": ".+", "$guest": ".+", "$__rate_interval": "4s"}
ACTIVE_SECONDS = 10  # of the guests
NAME = re.compile(r"(?<![\w:$])faultline_\w+(?![\w:])")


def substituted(query):
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def queries(dashboard):
    """Of the panels: (where, query with the variables replaced)."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", substituted(target["expr"])


def variables(dashboard):
    """(name, metric, selector, label) of what the dashboard lets one choose from."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        text = substituted(variable["query"]["query"])
        found = re.fullmatch(r"label_values\(((\w+)(?:\{.*\})?), (\w+)\)", text)
        if not found:
            raise monitoring.Failed(f"variable {variable['name']}: {text} is not understood")
        yield variable["name"], found[2], found[1], found[3]


def metrics_of(text):
    """Names that a query may use, of Prometheus' text."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    return names


def unknown(query, names):
    """Metrics of ours in a query that are none."""
    return sorted(set(NAME.findall(query)) - names)


def wrong_layout(dashboard):
    """What Grafana would not say: panels with one id, or on top of each other."""
    problems, ids, taken = [], set(), {}
    for panel in panels(dashboard):
        if panel["id"] in ids:
            problems.append(f"two panels have the id {panel['id']}")
        ids.add(panel["id"])
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                if x >= 24 or taken.setdefault((x, y), panel["title"]) != panel["title"]:
                    problems.append(f"{panel['title']} lies outside or on {taken.get((x, y))}")
    return sorted(set(problems))


def wrong_answer(asked, query, start, end):
    """What is wrong with a query over the time in which guests were active, or None."""
    data, error = asked.ask("query_range", query=query, start=start, end=end, step=1)
    if error:
        return error
    values = [float(v) for series in data["result"] for _, v in series["values"]]
    if not any(math.isfinite(v) for v in values):
        return f"has {len(values)} values, none of them a number"
    return None


def promtool(root, *arguments):
    """Whether it is content, and what it said."""
    done = subprocess.run(
        [root / "usr/bin/promtool", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0, done.stdout


def rule_file(groups, spoil=None):
    """Rules as Prometheus tells them, as a file; spoil(name, query) may return another query."""
    out = []
    for group in groups:
        rules = []
        for rule in group["rules"]:
            query = rule["query"]
            if rule["type"] == "alerting":
                if spoil:
                    query = spoil(rule["name"], query)
                rules.append(
                    {
                        "alert": rule["name"],
                        "expr": query,
                        "for": f"{int(rule['duration'])}s",
                        "labels": rule["labels"],
                        "annotations": rule["annotations"],
                    }
                )
            else:
                rules.append({"record": rule["name"], "expr": query})
        out.append({"name": group["name"], "rules": rules})
    return json.dumps({"groups": out})


def cases_notice(root, groups, folder):
    """The alerts that could be spoilt without rules_test.yml failing."""
    cases = folder / "cases.yml"
    rules = folder / "rules.yml"
    cases.write_text(CASES.read_text().replace("../../config/alerts/faultline.rules.yml", str(rules)))

    def passes(spoil):
        rules.write_text(rule_file(groups, spoil))
        return promtool(root, "test", "rules", cases)

    good, output = passes(None)
    if not good:
        return [f"as they are: {output}"]
    unnoticed = []
    alerts = [r["name"] for g in groups for r in g["rules"] if r["type"] == "alerting"]
    for alert in alerts:
        ways = {
            "never fires": lambda q: f"({q}) and on () vector(0) > 0",
            "always fires": lambda q: f'({q}) or up{{instance=~"ok|a"}}',
        }
        for way, change in ways.items():
            if passes(lambda name, q, a=alert, c=change: c(q) if name == a else q)[0]:
                unnoticed.append(f"{alert} {way}")
    return unnoticed


def on_paper(root):
    """Problems that need no service."""
    for arguments in (["check", "rules", RULES], ["test", "rules", CASES]):
        good, output = promtool(root, *arguments)
        if not good:
            yield f"promtool {' '.join(map(str, arguments))}: {output}"


def wrong_rules(groups, names):
    page = PAGE.read_text()
    for group in groups:
        for rule in group["rules"]:
            where = f"rule {rule['name']}"
            if rule["health"] != "ok":
                yield f"{where}: {rule['health']}: {rule.get('lastError')}"
            for name in unknown(rule["query"], names):
                yield f"{where}: /metrics has no {name}"
            if f"`{rule['name']}`" not in page:
                yield f"{where}: is not in {PAGE.name}"
            if rule["type"] == "alerting":
                if rule["labels"].get("severity") not in ("warning", "critical"):
                    yield f"{where}: has no severity"
                if not {"summary", "description"} <= rule["annotations"].keys():
                    yield f"{where}: does not say what to do"


def alive(root, build, folder):
    """Problems that a Prometheus finds which asks a service with guests."""
    dashboard = json.loads(DASHBOARD.read_text())
    with (
        monitoring.service(build, folder) as (port, socket),
        monitoring.prometheus(root, folder, port, RULES) as asked,
    ):
        monitoring.until("the first scrape", 20, lambda: asked.value("faultline_uptime_seconds"))
        vmm = [build / "apps/faultline-vmm", "--socket", socket, "--guests", "2", "--devices", "2"]
        vmm += ["--seconds", str(ACTIVE_SECONDS)]
        with monitoring.program(folder / "vmm.log", *vmm) as guests:
            start = time.time()
            monitoring.until("scrapes of guests", 30, lambda: asked.value("count(faultline_evtq_size)") == 2)
            time.sleep(ACTIVE_SECONDS - 3)
            names = metrics_of(monitoring.get(f"http://127.0.0.1:{port}/metrics"))
            try:
                guests.wait(120)
            except subprocess.TimeoutExpired as error:
                raise monitoring.Failed("faultline-vmm does not end") from error
            if guests.returncode != 0:
                raise monitoring.Failed(f"faultline-vmm: {guests.log.read_text()}")
        end = time.time()

        yield from wrong_layout(dashboard)
        count = 0
        for where, query in queries(dashboard):
            count += 1
            for name in unknown(query, names):
                yield f"{where}: /metrics has no {name}"
            if wrong := wrong_answer(asked, query, start, end):
                yield f"{where}: {query}: {wrong}"
        for name, metric, selector, label in variables(dashboard):
            arguments = {"match[]": selector, "start": start, "end": end}
            data, error = asked.ask(f"label/{label}/values", **arguments)
            if unknown(metric, names) or not data:
                yield f"variable {name}: {error or 'has no values'}"
        groups = asked.ask("rules")[0]["groups"]
        yield from wrong_rules(groups, names)
        for alert in cases_notice(root, groups, folder):
            yield f"{CASES.name} does not notice: {alert}"

        # What finds nothing wrong in anything proves nothing.
        if not unknown("rate(faultline_shard_round_total[4s])", names):
            yield "a metric that there is not was not noticed"
        for query in ("sum(", 'faultline_uptime_seconds{instance="nobody"}', "0 / (up - up)"):
            if not wrong_answer(asked, query, start, end):
                yield f"nothing was found wrong with {query}"
        rules = sum(len(g["rules"]) for g in groups)
        print(f"{count} queries of the dashboard and {rules} rules were evaluated")


def main(arguments):
    build = pathlib.Path(arguments[0])
    got = subprocess.run([HERE / "prometheus.sh", "--fetch"], capture_output=True, text=True, check=False)
    if got.returncode:
        print(got.stdout + got.stderr if got.returncode != 77 else got.stdout, end="")
        return got.returncode
    root = pathlib.Path(got.stdout.strip())
    with tempfile.TemporaryDirectory(prefix="faultline-") as name:
        folder = pathlib.Path(name)
        problems = list(on_paper(root))
        try:
            problems += alive(root, build, folder)
        except monitoring.Failed as failed:
            problems.append(str(failed))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
