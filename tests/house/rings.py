#!/usr/bin/env python3
"""Rings of files: who calls whom, read from the symbols of the built objects. rings.py BUILD: prints each ring, exit 1 if there is one.

Files that call each other, directly or round a corner, are one file cut in pieces. An interpreter of a recursive language
cannot avoid it, nor can a compiler of one, so templates and grammars are left out. Objects of files that are gone do not
count."""
import subprocess
import sys
from pathlib import Path

FOLDERS = ("base", "kernels", "engine", "scheduler", "server")
RECURSIVE = ("server/jinja/", "server/text/grammar/")


def symbols(obj):
    """(defined, needed) global names of one object file."""
    defined, needed = set(), set()
    for line in subprocess.check_output(["nm", "-g", str(obj)], text=True).splitlines():
        kind, name = line.split()[-2:]
        (needed if kind in "Uw" else defined).add(name)
    return defined, needed


def sources():
    """Files of the tree that become objects, without their endings."""
    names = subprocess.check_output(["git", "ls-files", "--", *FOLDERS], text=True).split()
    return sorted(n.rsplit(".", 1)[0] for n in names if n.endswith((".c", ".cu")))


def calls(build):
    """{file: files that define what it needs}, without the recursive ones."""
    objs = {s: symbols(build / f"{s}.o") for s in sources() if (build / f"{s}.o").exists()}
    if not objs:
        sys.exit(f"house: no objects under {build}: build first")
    home = {name: file for file, (defined, _) in objs.items() for name in defined}
    return {file: {home[n] for n in needed if n in home} - {file}
            for file, (_, needed) in objs.items() if not file.startswith(RECURSIVE)}


def rings(graph):
    """Strongly connected components of more than one file (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in graph.get(v, ()):
            if w not in index:
                visit(w)
            if w in stack:
                low[v] = min(low[v], low[w])
        if low[v] == index[v]:
            part = stack[stack.index(v):]
            del stack[stack.index(v):]
            if len(part) > 1:
                found.append(sorted(part))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


def main():
    found = rings(calls(Path(sys.argv[1])))
    for part in found:
        print("house: files that call each other: " + " ".join(part))
    return bool(found)


if __name__ == "__main__":
    sys.setrecursionlimit(10000)
    sys.exit(main())
