"""How long the server takes to be ready, the model in the page cache. usage: start.py FLUXD MODEL"""
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

TIMES = 5


def once(binary, model):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    begin = time.monotonic()
    proc = subprocess.Popen([binary, "--model", model, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while proc.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
                return time.monotonic() - begin
            except (OSError, urllib.error.URLError):
                time.sleep(0.005)
        sys.exit(f"{binary} ended with {proc.returncode}")
    finally:
        proc.terminate()
        proc.wait()


def main():
    seconds = sorted(once(*sys.argv[1:3]) for _ in range(TIMES))
    print(json.dumps({"bench": "ready", "seconds": round(seconds[0], 3), "worst": round(seconds[-1], 3)}))


if __name__ == "__main__":
    main()
