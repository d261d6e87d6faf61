#!/bin/sh
# House rules that a grep can hold, over every folder with its subfolders. Prints each breach; fails if there is one.
# rules.sh [BUILD]: with a build folder, also that no files call each other (rings.py).
set -eu
bad=0
breach() { echo "house: $1"; bad=1; }
sources() { git ls-files -- "$@" | grep -E '\.(c|h|cu|cuh|def)$'; }

# Which headers a room may include besides its own and base/. The first row that fits a file's path counts.
rooms='
server/main.c   .*
base            nothing
kernels/cpu     kernels/[a-z0-9_]*\.h
kernels/cuda    kernels/[a-z0-9_]*\.h
kernels/bench   kernels/([a-z0-9_]*\.h|cuda/[a-z0-9_]*\.(h|cuh))
kernels         nothing
engine/cuda     engine/[a-z_]*\.h|kernels/(ops|quant|kv_fp8|cuda/(gpu_ops|gemm_lt|[a-z0-9_]*_gpu))\.h
engine          kernels/(ops|quant|kv_fp8|cpu/cpu)\.h|engine/cuda/forward\.h
scheduler       engine/(engine|batch)\.h
server/json     nothing
server/jinja    nothing
server/text/grammar nothing
server/text/tools server/(json/(in|scan)|jinja/jinja)\.h
server/text     server/(json/in|jinja/jinja)\.h
server/http     server/json/out\.h
server/api      scheduler/(scheduler|request)\.h|server/(config|process|version|[a-z]*/[a-z_]*|text/tools/[a-z]*|text/grammar/grammar)\.h
server          server/[a-z]*/[a-z_]*\.h
'
out=$(sources base kernels engine scheduler server | xargs grep -HE '^#include "' | ROOMS="$rooms" awk -F: '
    BEGIN { n = split(ENVIRON["ROOMS"], row, "\n") }
    { split($2 ":" $3, q, "\""); header = q[2]; file = $1
      for (i = 1; i <= n; i++) {
          if (split(row[i], f, " ") != 2 || (file != f[1] && index(file, f[1] "/") != 1)) continue
          dir = header; sub(/\/[^\/]*$/, "", dir); here = file; sub(/\/[^\/]*$/, "", here)
          if (dir != here && !(dir == "base" || (dir == "base/files" && here != "base")) && header !~ "^(" f[2] ")$") print file ": " header
          if (header ~ /internal\.h$/ && dir != here) print file ": " header " is private to its folder"
          next
      }
      print file ": in no room" }')
[ -z "$out" ] || { echo "$out"; breach "an include crosses a floor or a room"; }

# What a folder keeps to itself has one name.
out=$(git ls-files -- base kernels engine scheduler server | grep -E '(^|/|_)(own|int|private|priv|impl)\.h$' || true)
[ -z "$out" ] || { echo "$out"; breach "a private header that is not called internal.h or x_internal.h"; }

# One file speaks to each library.
only() { # header, files allowed (egrep)
    out=$(sources base kernels engine scheduler server | xargs grep -lE "#include <$1" | grep -vE "^($2)$" || true)
    [ -z "$out" ] || breach "<$1> is included by: $(echo "$out" | tr '\n' ' ')"
}
only 'oneapi' 'kernels/cpu/gemm_dnnl\.c'
only 'pthread' 'base/(mailbox|threads|log)\.c|server/[a-z]*\.c'
only 'cjson' 'server/json/in\.h'
only 'microhttpd' 'server/http/[a-z]*\.[ch]'
only 'pcre2' 'server/text/pretok\.c|engine/names\.c'
only 'utf8proc' 'server/(text/unicode|text/grammar/ecma_class|jinja/string)\.c'
only 'ini\.h' 'server/config\.c'
only 'uv' 'server/([a-z]*|http/[a-z]*|api/[a-z_]*)\.[ch]'
only 'cublasLt' 'kernels/(cuda/gemm_lt\.c|bench/[a-z0-9_]*\.cu)'
only 'cuda_runtime' '(kernels/(cuda|bench)|engine/cuda)/.*'

# What `make test` runs has no bound in seconds: other programs on the machine would decide whether it holds. Costs are compared at two sizes
# (tests/base/growth.h, conftest.assert_linear), waits end by what happens (conftest.wait_until), and times are told by tests/perf. Only
# these files look at a clock: the helpers, and the tests of what keeps time.
clocks='clock_ns *\(|clock_ms_since|clock_wall|clock_gettime|gettimeofday|timespec_get|uv_hrtime|uv_now|omp_get_wtime|[^_a-z]clock\(\)|monotonic|perf_counter|process_time|time\.time|thread_time|\.elapsed|total_seconds|datetime\.now|timeit'
out=$(git grep -nE "$clocks" -- 'tests/*.c' 'tests/*.h' 'tests/*.py' 'training/tests/*.py' |
    grep -vE '^tests/(perf/|sim/sim\.c|sim/world\.h|base/growth\.h|base/test_clock\.c|base/test_mailbox\.c|scheduler/virtual\.h|server/text/tokenizer_cli\.c|e2e/conftest\.py)' || true)
[ -z "$out" ] || { echo "$out"; breach "a test that looks at a clock"; }

# Several engines and devices may be open at once: no engine or kernel keeps anything in the process.
out=$(sources engine kernels ':!kernels/bench' | xargs grep -HnE '^ *static [^()=]*(=|;)' | grep -vE 'static const(expr)? [^*=]*(=|;)|\*const ' || true)
[ -z "$out" ] || { echo "$out"; breach "state of the process in engine or kernels"; }

# A reference is a definition: it stands with the tests, and shares no code with what it judges.
out=$(git ls-files -- kernels engine | grep -E '_ref\.[a-z]+$' || true
    git ls-files -- 'tests/*_ref.*' | xargs grep -HnE '#include "' | grep -vE '"(kernels/(ops|quant|quant_fp8|kv_fp8|kv_page|cpu/cpu)\.h|tests/[a-z_/]*\.(h|cuh))"' || true)
[ -z "$out" ] || { echo "$out"; breach "a reference that is part of the product, or leans on it"; }

# Sizes.
for f in $(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.py' '*.sh' Makefile); do
    n=$(wc -l <"$f")
    [ "$n" -le 800 ] || breach "$f has $n lines"
done

out=$(sources base kernels engine scheduler server | xargs awk -f tests/house/functions.awk)
[ -z "$out" ] || { echo "$out"; breach "a function that is too long"; }

# One format. Other versions of the tool wrap otherwise, so only this one judges.
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    out=$(sources | grep -vE '\.def$|^server/text/unicode_tab\.h$' |
        xargs clang-format --dry-run -Werror 2>&1 | grep -oE '^[^:]*:[0-9]+: ?' | sort -u | head -n 20 || true)
    [ -z "$out" ] || { echo "$out"; breach "not as clang-format writes it: make fmt"; }
fi

# Plain words: what words.txt refuses stands nowhere, in prose, comments and strings alike.
tab=$(printf '\t')
while IFS="$tab" read -r words instead but; do
    case $words in '#'* | '') continue ;; esac
    out=$(git grep -nIwiE "$words" -- ':!tests/house/words.txt' ':!tests/goldens' ':!tests/e2e/prose.txt' ':!training/logs' ':!LICENSE' |
        grep -vE "^(${but:-[^:]*:never:})" || true)
    [ -z "$out" ] || { echo "$out" | cut -c 1-160; breach "plain English: instead of \"$words\" write: $instead"; }
done <tests/house/words.txt

# Documents that comments cite are in the tree, and so are the files that documents name (in backquotes, without "new" before them).
out=$(git grep -ohE '\bdocs/[a-z0-9-]+\.(md|1)\b' | sort -u | while read -r f; do [ -e "$f" ] || echo "$f"; done)
[ -z "$out" ] || { echo "$out"; breach "a document that is cited but not there"; }
out=$(git grep -hoE '(new )?`(base|kernels|engine|scheduler|server|tests)/[A-Za-z0-9_./-]+`' -- README.md CONTRIBUTING.md docs |
    grep -v '^new' | tr -d '`' | sort -u | while read -r f; do [ -e "$f" ] || echo "$f"; done)
[ -z "$out" ] || { echo "$out"; breach "a document names a file that is not there"; }

# No promises instead of work.
out=$(git grep -nE 'TODO|FIXME|\bXXX\b' -- '*.c' '*.h' '*.cu' '*.cuh' '*.py' | grep -v '^tests/house/' || true)
[ -z "$out" ] || { echo "$out"; breach "promises instead of work"; }

# Files call downwards only.
[ $# = 0 ] || python3 tests/house/rings.py "$1" || bad=1

[ "$bad" = 0 ] && echo "house: rules hold"
exit "$bad"
