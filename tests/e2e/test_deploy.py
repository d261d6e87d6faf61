"""What docker/ says beside the monitoring: compose.yaml, Dockerfiles and manifests agree with each other and with the server's settings."""
import glob
import os
import re
import shutil
import subprocess

import pytest
import yaml

from conftest import BIN, ROOT, free_port, launch, need_binary, read_log

DOCKER = os.path.join(ROOT, "docker")


def read(path):
    with open(os.path.join(DOCKER, path)) as f:
        return f.read()


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(read("compose.yaml"))["services"]


def default_of(text):
    """A value of compose.yaml with nothing configured."""
    return re.sub(r"\$\{\w+(?::?-([^}]*)|:\+[^}]*)?\}", lambda m: m[1] or "", str(text))


def seconds(text):
    n, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(n) * {"s": 1, "m": 60}[unit]


def test_every_service_is_hardened_limited_and_not_root(services):
    for name, s in services.items():
        assert s["read_only"] is True and s["cap_drop"] == ["ALL"] and "no-new-privileges:true" in s["security_opt"], name
        assert int(s["user"].split(":")[0]) > 0 and "privileged" not in s, name
        assert s["restart"] == ("no" if name == "model" else "unless-stopped"), name
        if name != "model":
            assert {"cpus", "memory", "pids"} <= set(s["deploy"]["resources"]["limits"]), name


def test_ports_are_published_to_this_host_alone_unless_asked(services):
    for name, s in services.items():
        for port in s.get("ports", []):
            assert default_of(port).startswith("127.0.0.1:"), f"{name}: {port}"


def test_the_grace_is_longer_than_the_drain(services):
    for name, s in services.items():
        if name.startswith("fluxd"):
            assert 1000 * seconds(default_of(s["stop_grace_period"])) > int(default_of(s["environment"]["FLUXD_DRAIN_TIMEOUT_MS"])), name
            assert s["stop_signal"] == "SIGTERM" and s["healthcheck"]["test"][-1] == "--check-health"
        elif "stop_grace_period" in s:
            assert seconds(default_of(s["stop_grace_period"])) >= 75, f"{name}: its streams are fluxd's"
    for text in (read("Dockerfile"), read("Dockerfile.cuda")):
        assert "STOPSIGNAL SIGTERM" in text and "USER 10001:10001" in text and "--check-health" in text and 'ENTRYPOINT ["/usr/local/bin/fluxd"]' in text
        run = text[text.index("AS run"):]
        assert "\nRUN " not in run, "the run stage needs no shell"


def test_no_folder_is_mounted_over_a_secret(services):
    """Engines differ in the order of mounts that lie in each other."""
    for name, s in services.items():
        targets = [x["target"] if isinstance(x, dict) else f"/run/secrets/{x}" for x in s.get("secrets", [])]
        for volume in s.get("volumes", []):
            folder = default_of(volume).split(":")[1]
            assert not [t for t in targets if t.startswith(folder.rstrip("/") + "/")], f"{name}: {volume}"


def test_profiles_and_what_they_need(services):
    assert {p for s in services.values() for p in s.get("profiles", [])} == {"gpu", "tls", "fleet"}
    assert [n for n, s in services.items() if "profiles" not in s] == ["model", "fluxd", "prometheus", "grafana"]
    device = services["fluxd-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
    for s in services.values():
        for volume in s.get("volumes", []):
            source = default_of(volume).split(":")[0]
            assert not source.startswith(".") or os.path.exists(os.path.join(DOCKER, source)), volume


def test_settings_that_images_compose_and_manifests_name_exist(services):
    need_binary()
    known = subprocess.run([BIN, "--help"], capture_output=True, text=True, timeout=30).stdout
    named = set(re.findall(r"^#?(FLUXD_\w+)=", read("fluxd.env"), re.M)) | set(re.findall(r"\b(FLUXD_HOST|FLUXD_PORT)=", read("Dockerfile")))
    for s in services.values():
        named |= {k for k in s.get("environment", {}) if k.startswith("FLUXD_")}
    for path in glob.glob(f"{DOCKER}/kubernetes/*.yaml"):
        named |= set(re.findall(r"^ +(FLUXD_\w+):", read(path), re.M))
    assert len(named) > 10
    for name in named:
        assert "--" + name[6:].lower().replace("_", "-") in known, name


def test_empty_settings_of_compose_are_none():
    """compose.yaml passes FLUXD_API_KEY_FILE empty where there is no key."""
    need_binary()
    proc, _ = launch("--check-health", "--port", free_port(), env={"FLUXD_API_KEY_FILE": "", "FLUXD_ROUTER": "", "FLUXD_MODEL": ""})
    assert proc.wait(30) == 1, "nobody answers there; a setting that is refused would be 2"


VALIDATE = os.environ.get("KUBERNETES_VALIDATE") or shutil.which("kubernetes-validate")


@pytest.mark.skipif(not VALIDATE, reason="kubernetes-validate (PyPI, 100 MB) is neither in PATH nor in KUBERNETES_VALIDATE")
def test_the_core_manifests_are_valid():
    done = subprocess.run([VALIDATE, "--strict", f"{DOCKER}/kubernetes/fluxd.yaml"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_manifests_agree_with_each_other():
    objects = {o["kind"]: o for path in glob.glob(f"{DOCKER}/kubernetes/*.yaml") for o in yaml.safe_load_all(read(path)) if "kind" in o}
    pod = objects["Deployment"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for kind, selector in (("Service", objects["Service"]["spec"]["selector"]), ("PodMonitor", objects["PodMonitor"]["spec"]["selector"]["matchLabels"]),
                           ("InferencePool", objects["InferencePool"]["spec"]["selector"]["matchLabels"]),
                           ("PodDisruptionBudget", objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])):
        assert selector.items() <= labels.items(), kind
    container, settings = pod["spec"]["containers"][0], objects["ConfigMap"]["data"]
    assert container["ports"][0]["containerPort"] == int(settings["FLUXD_PORT"]) == objects["InferencePool"]["spec"]["targetPorts"][0]["number"]
    assert objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == container["ports"][0]["name"]
    assert 1000 * pod["spec"]["terminationGracePeriodSeconds"] > int(settings["FLUXD_DRAIN_TIMEOUT_MS"])
    assert settings["FLUXD_VLLM_METRICS"] == "on" and objects["HTTPRoute"]["spec"]["rules"][0]["backendRefs"][0]["kind"] == "InferencePool"


def test_production_stacks_router_finds_the_pods_and_their_key():
    """The values hold to each other and to fluxd.yaml; the chart itself is not here."""
    objects = {o["kind"]: o for o in yaml.safe_load_all(read("kubernetes/fluxd.yaml"))}
    values = yaml.safe_load(read("kubernetes/production-stack.yaml"))
    assert values["servingEngineSpec"] == {"enableEngine": False}, "its engines are started as vllm's"
    router = values["routerSpec"]
    args = dict(zip(router["extraArgs"][::2], router["extraArgs"][1::2]))
    assert all(isinstance(a, str) for a in router["extraArgs"])
    name, value = args.pop("--k8s-label-selector").split("=")
    assert objects["Deployment"]["spec"]["template"]["metadata"]["labels"][name] == value
    assert args == {"--k8s-port": objects["ConfigMap"]["data"]["FLUXD_PORT"]}
    secret = next(v["secret"]["secretName"] for v in objects["Deployment"]["spec"]["template"]["spec"]["volumes"] if "secret" in v)
    assert router["vllmApiKey"] == {"secretName": secret, "secretKey": os.path.basename(objects["ConfigMap"]["data"]["FLUXD_API_KEY_FILE"])}
    assert router["routingLogic"] == "session" and router["sessionKey"]


# --- make install


def make(target, folder, **variables):
    words = [f"{k}={v}" for k, v in {"DESTDIR": folder, **variables}.items()]
    return subprocess.run(["make", "-s", "-C", ROOT, "-o", "build/fluxd", target, *words], check=True, capture_output=True, text=True)


def files_under(folder):
    return {os.path.relpath(os.path.join(at, f), folder) for at, _, names in os.walk(folder) for f in names}


@pytest.mark.parametrize("prefix", ["/usr", "/usr/local"])
def test_install_puts_binary_man_page_unit_and_configuration(tmp_path, prefix):
    make("install", tmp_path, PREFIX=prefix)
    own = {f"{prefix[1:]}/{f}" for f in ("bin/fluxd", "share/man/man1/fluxd.1", "lib/systemd/system/fluxd.service", "share/doc/fluxd/LICENSE",
                                         "share/doc/fluxd/fluxd.conf")}
    assert files_under(tmp_path) == own | {"etc/fluxd/fluxd.conf"}
    binary, unit = f"{tmp_path}{prefix}/bin/fluxd", f"{tmp_path}{prefix}/lib/systemd/system/fluxd.service"
    assert os.stat(binary).st_mode & 0o777 == 0o755 and os.stat(unit).st_mode & 0o777 == 0o644
    assert subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.startswith("fluxd ")
    assert f"ExecStart={prefix}/bin/fluxd --config /etc/fluxd/fluxd.conf\n" in open(unit).read()
    conf = tmp_path / "etc/fluxd/fluxd.conf"
    conf.write_text("model = mine\n")
    make("install", tmp_path, PREFIX=prefix)
    assert conf.read_text() == "model = mine\n"
    make("uninstall", tmp_path, PREFIX=prefix)
    assert files_under(tmp_path) == {"etc/fluxd/fluxd.conf"}


def test_the_installed_configuration_is_one_that_starts(tmp_path):
    make("install", tmp_path)
    conf = tmp_path / "etc/fluxd/fluxd.conf"
    subprocess.run(["sed", "-i", "s|^#model =.*|model = /nonexistent.gguf|", conf], check=True)
    proc, log = launch("--config", conf, "--port", free_port())
    assert proc.wait(60) == 3 and "/nonexistent.gguf" in read_log(log)  # the model is all that is missing
