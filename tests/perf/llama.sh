#!/bin/sh
# usage: llama.sh DIR [MAKE_JOBS]. Builds llama-bench and llama-batched-bench under DIR from the llama.cpp sources that
# llama-cpp-python's source package carries, for this machine's CPU. What is there already is left as it is.
set -eu
dir=$1 jobs=${2:-$(nproc)}
[ -x "$dir/out/bin/llama-bench" ] && [ -x "$dir/out/bin/llama-batched-bench" ] && exit 0
mkdir -p "$dir"
[ -x "$dir/venv/bin/cmake" ] || { python3 -m venv "$dir/venv"; "$dir/venv/bin/pip" install --quiet --disable-pip-version-check cmake; }
[ -d "$dir/src" ] || {
    "$dir/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$dir" llama-cpp-python
    mkdir -p "$dir/src.part"
    tar xzf "$dir"/llama_cpp_python-*.tar.gz -C "$dir/src.part" --strip-components=1
    mv "$dir/src.part" "$dir/src"
}
"$dir/venv/bin/cmake" -S "$dir/src/vendor/llama.cpp" -B "$dir/out" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON >"$dir/cmake.log"
"$dir/venv/bin/cmake" --build "$dir/out" -j "$jobs" --target llama-bench llama-batched-bench >"$dir/build.log" 2>&1 || { tail -20 "$dir/build.log"; exit 1; }
