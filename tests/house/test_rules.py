#!/usr/bin/env python3
"""Each kind of house rule refuses a breach of it. A breach is planted in a small tree that the rules hold in, and named."""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOUSE = Path(__file__).resolve().parent
WORD = "hangs " + "on"  # in two parts: the rules read this file too
PROMISE = "TO" + "DO"
CLOCK = "perf_" + "counter()"
NOWHERE = "docs/" + "nowhere.md"

GOOD = {
    "base/low.h": "int low(void);\n",
    "base/low.c": '#include "base/low.h"\n\nint low(void) { return 1; }\n',
    "scheduler/internal.h": "int inner(void);\n",
    "scheduler/mid.c": '#include "base/low.h"\n#include "scheduler/internal.h"\n\nint inner(void) { return low(); }\n',
    "tests/test_low.py": "assert True\n",
}
# what, file, its text, what is told
BREACHES = (
    ("include across floors", "base/up.c", '#include "scheduler/internal.h"\n', "base/up.c: scheduler/internal.h"),
    ("include across rooms", "server/json/up.c", '#include "server/http/http.h"\n', "server/json/up.c: server/http/http.h"),
    ("include across floors, CUDA", "kernels/cuda/up.cu", '#include "engine/engine.h"\n', "kernels/cuda/up.cu: engine/engine.h"),
    ("private header", "server/main.c", '#include "scheduler/internal.h"\n', "scheduler/internal.h is private"),
    ("name of a private header", "base/low_own.h", "int hidden(void);\n", "base/low_own.h"),
    ("no room", "server/attic/x.c", '#include "server/attic/y.h"\n#include "engine/engine.h"\n', "server/attic/x.c: engine/engine.h"),
    ("library", "engine/net.c", "#include <microhttpd.h>\n", "<microhttpd> is included by: engine/net.c"),
    ("library of the toolkit", "scheduler/gpu.c", "#include <cuda_runtime.h>\n", "<cuda_runtime> is included by: scheduler/gpu.c"),
    ("state of the process", "engine/cuda/one.c", "int f(void)\n{\n    static int n;\n    return n++;\n}\n", "engine/cuda/one.c:3:"),
    ("reference in the product", "kernels/cpu/x_ref.c", "int x;\n", "kernels/cpu/x_ref.c"),
    ("reference that leans on the product", "tests/x_ref.h", '#include "kernels/cpu/cpu_math.h"\n', "tests/x_ref.h:1:"),
    ("size", "base/long.c", "int x;\n" * 801, "base/long.c has 801 lines"),
    ("size of a function", "base/long.c", "int f(int x)\n{\n" + "    x++;\n" * 58 + "    return x;\n}\n", "base/long.c:2: a function of 61 lines"),
    ("size of a kernel", "kernels/cuda/long.cu", "__global__ void f(int *x)\n{\n" + "    ++*x;\n" * 149 + "}\n", "kernels/cuda/long.cu:2: a function of 151 lines"),
    ("clock", "tests/test_fast.py", f"assert {CLOCK} < 1\n", "tests/test_fast.py:1:"),
    ("word", "README.md", f"All {WORD} it.\n", "README.md:1:"),
    ("document", "base/cite.h", f"/* see {NOWHERE} */\n", NOWHERE),
    ("promise", "base/later.c", f"/* {PROMISE} */\n", "base/later.c:1:"),
    ("format", "base/wide.c", "int  x( void ){return 1;}\n", "base/wide.c:1:"),
    ("ring", "base/low.c", '#include "base/low.h"\n\nint inner(void);\n\nint low(void) { return inner(); }\n',
     "files that call each other: base/low scheduler/mid"),
)


def plant(tree, path, text):
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def run(tree):
    """What the rules say about the tree, its C files built."""
    def do(*cmd):
        return subprocess.run(cmd, cwd=tree, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    do("git", "add", "-A")
    for file in ("base/low.c", "scheduler/mid.c"):
        obj = tree / "build" / Path(file).with_suffix(".o")
        obj.parent.mkdir(parents=True, exist_ok=True)
        built = do("cc", "-I.", "-c", "-o", str(obj), file)
        assert built.returncode == 0, built.stdout
    return do("sh", "tests/house/rules.sh", "build")


def fresh(root, name):
    tree = Path(root) / name
    shutil.copytree(HOUSE, tree / "tests/house", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE.parent.parent / ".clang-format", tree)
    plant(tree, ".gitignore", "build\n")
    for path, text in GOOD.items():
        plant(tree, path, text)
    subprocess.run(("git", "init", "-q", "."), cwd=tree, check=True)
    return tree


def judges_format():
    tool = shutil.which("clang-format")
    return tool and "version 14." in subprocess.check_output((tool, "--version"), text=True)


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        good = run(fresh(root, "good"))
        if good.returncode != 0:
            sys.exit(f"test_rules: a tree without a breach is refused:\n{good.stdout}")
        for i, (what, path, text, told) in enumerate(BREACHES):
            if what == "format" and not judges_format():
                print("test_rules: no clang-format 14: format left out")
                continue
            tree = fresh(root, f"breach{i}")
            plant(tree, path, text)
            said = run(tree)
            if said.returncode == 0 or told not in said.stdout:
                failed += 1
                print(f"test_rules: {what}: not told as \"{told}\":\n{said.stdout}")
    print(f"test_rules: {failed} kinds of breach pass" if failed else "test_rules: every kind of breach is refused")
    return failed


if __name__ == "__main__":
    sys.exit(main() != 0)
