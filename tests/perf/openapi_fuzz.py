"""Requests made from /openapi.json by schemathesis, with all its checks, against a server of a tiny model.

    python3 -m venv build/venv-openapi && build/venv-openapi/bin/pip install schemathesis openapi-spec-validator
    build/venv/bin/python tests/perf/openapi_fuzz.py build/venv-openapi/bin [examples per operation, default 300] [schemathesis arguments]

By hand: it takes minutes. What a schema cannot say (n and best_of equal, ids below the vocabulary, a prompt that fits) is a 400 too, so a
request that the schema allows may get one.
"""
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from conftest import Server  # noqa: E402
from test_model_dirs import make_dir  # noqa: E402

CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = [200, 400, 404, 413]
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 413, 415]
"""


def main(tools, examples="300", *more):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "model").mkdir()
        (folder / "schemathesis.toml").write_text(CONFIG)
        server = Server("--model", make_dir(folder / "model"), "--kv-pool-bytes", "64M", "--dtype", "f32", "--max-model-len", "64", "--cors-origins", "http://a.lan")
        try:
            (folder / "openapi.json").write_bytes(server.get("/openapi.json").content)
            subprocess.run([f"{tools}/openapi-spec-validator", folder / "openapi.json"], check=True)
            run = [f"{tools}/st", "--config-file", folder / "schemathesis.toml", "run", server.url + "/openapi.json", "--checks", "all",
                   "--max-examples", examples, "--continue-on-failure", "--no-color", *more]
            code = subprocess.run(run, cwd=folder).returncode
            assert server.alive(), server.logged()[-4000:]
            answered = collections.Counter(re.findall(r"path=(\S+) status=2", server.logged()))
            print("answered with 2xx:", dict(answered))
            paths = server.get("/openapi.json").json()["paths"]
            never = [path for path in paths if "post" in paths[path] and "{" not in path and not answered[path]]
            assert not never, f"no request that the description allows is answered: {never}"
            return code or server.stop()
        finally:
            server.kill()


sys.exit(main(*sys.argv[1:]))
