"""The monitoring that docker/ ships, run here: a real Prometheus with the shipped configuration and rules, which scrapes servers of a
test each second, and what the shipped dashboards ask."""
import contextlib
import glob
import json
import os
import re
import shutil
import time

import requests

from conftest import ROOT, free_port, launch, read_log, wait_until

SHIPPED = os.path.join(ROOT, "docker/prometheus")
DASHBOARDS = sorted(glob.glob(os.path.join(ROOT, "docker/grafana/dashboards/*.json")))
UNIT_S = {"s": 1, "m": 60, "h": 3600}


def shortened(rules, factor):
    """Rules whose ranges last a factor-th of their time, at least 10 s, and that fire at once: a scrape is each second."""
    rules = re.sub(r"\[(\d+)([smh])\]", lambda m: f"[{max(10, int(m[1]) * UNIT_S[m[2]] // factor)}s]", rules)
    return re.sub(r"for: \d+[smh]", "for: 1s", rules) if factor > 1 else rules


def replaced(text, changes):
    for old, new in changes.items():
        assert old in text, f"the rules have no {old!r}"
        text = text.replace(old, new)
    return text


def read(path):
    with open(path) as f:
        return f.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


class Prometheus:
    """Scrapes the ports. factor, changes: what the rules are shortened by, and texts in them that a test replaces."""

    def __init__(self, folder, ports, factor=1, changes=None):
        assert shutil.which("prometheus"), "Debian's prometheus package is missing"
        self.folder = str(folder)
        config = re.sub(r"(scrape_interval|scrape_timeout|evaluation_interval): \d+s", r"\1: 1s", read(f"{SHIPPED}/prometheus.yml"))
        config = re.sub(r"    dns_sd_configs:\n.*\n", "", config)  # compose's names are unknown here
        write(f"{self.folder}/prometheus.yml", config)
        write(f"{self.folder}/api_key", read(f"{SHIPPED}/api_key"))
        self.set_targets(ports)
        left = dict(changes or {})
        for path in glob.glob(f"{SHIPPED}/rules/*.yml"):
            text = read(path)
            here = {old: left.pop(old) for old in list(left) if old in text}
            write(f"{self.folder}/rules/{os.path.basename(path)}", shortened(replaced(text, here), factor))
        assert not left, f"no rule has {list(left)}"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.proc, self.log = launch(f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb",
                                     f"--web.listen-address=127.0.0.1:{port}", binary="prometheus")

    def set_targets(self, ports):
        write(f"{self.folder}/targets/fluxd.yml", json.dumps([{"targets": [f"127.0.0.1:{p}" for p in ports]}]))

    def ask(self, query):
        """The samples of an instant query: [(labels, value)]."""
        r = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=20).json()
        assert r["status"] == "success", f"{query}: {r}"
        return [(x["metric"], float(x["value"][1])) for x in r["data"]["result"]]

    def scrapes(self):
        """How often each fluxd was scraped."""
        return [v for _, v in self.ask('count_over_time(up{job="fluxd"}[1h])')]

    def firing(self):
        return {labels["alertname"] for labels, _ in self.ask('ALERTS{alertstate="firing"}')}

    def wait(self, test, what, timeout=300):
        """Until test() is true, which may find no answer yet."""
        def tried():
            assert self.proc.poll() is None, read_log(self.log)[-4000:]
            time.sleep(0.2)
            with contextlib.suppress(requests.RequestException):
                return test()

        wait_until(tried, what, timeout)

    def wait_up(self, n=1):
        self.wait(lambda: sum(v for _, v in self.ask('up{job="fluxd"}')) == n, "servers scraped")

    def wait_scrapes(self, more):
        before = min(self.scrapes())
        self.wait(lambda: min(self.scrapes()) >= before + more, f"{more} more scrapes")

    def wait_firing(self, name):
        self.wait(lambda: name in self.firing(), f"alert {name}")

    def close(self):
        self.proc.kill()
        self.proc.wait()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


def panel_queries(path):
    """[(panel's title, expression)] of a dashboard, with its variables filled in as Grafana does for all instances."""
    with open(path) as f:
        board = json.load(f)
    for p in board["panels"]:
        for t in p.get("targets", []):
            yield p["title"], t["expr"].replace("$instance", ".*").replace("$__rate_interval", "10m")
