"""A fluxd of the load test's own: started on a free port, stopped afterwards."""
import contextlib
import re
import shlex
import signal
import subprocess
import threading


def wait_ready(proc):
    """The port that it is ready on; its log up to there in the error when it ends before."""
    lines = []
    for line in proc.stderr:
        lines.append(line)
        if m := re.search(r"\bready .*\bport=(\d+)", line):
            return int(m[1])
    raise OSError(f"the server ended with {proc.wait()} before it was ready: {''.join(lines[-5:])}")


@contextlib.contextmanager
def served(command):
    """Gives the URL. SIGTERM at the end: it drains."""
    proc = subprocess.Popen([*shlex.split(command), "--port", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
    try:
        port = wait_ready(proc)
        threading.Thread(target=lambda: [None for _ in proc.stderr], daemon=True).start()  # so that its log never blocks
        yield f"http://127.0.0.1:{port}"
    finally:
        if proc.poll() is None:
            proc.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(60)
        if proc.poll() is None:
            proc.kill()
            proc.wait()
