#!/bin/sh
# House rules that a grep can hold: floors, file sizes, one speaker per library. Prints each breach; fails if there is one.
set -eu
bad=0
breach() { echo "house: $1"; bad=1; }

# A floor includes its own folder, base/ and the public headers one floor down. main.c sees more.
floor() { # folder, headers of other folders it may include (egrep)
    grep -nE '^#include "(base|server|scheduler|engine|kernels|tests)/' "$1"/*.c "$1"/*.h 2>/dev/null |
        grep -vE "#include \"($1|base)/" | grep -vE "#include \"($2)\"" | grep -v '^server/main.c:' || true
}
out=$(floor base 'nothing'; floor kernels 'nothing'; floor engine 'kernels/(ops|quant|cpu|gpu_ops|gemm_lt|[a-z_]*_gpu)\.h'
      floor scheduler 'engine/(engine|batch)\.h'; floor server 'scheduler/(scheduler|request)\.h')
[ -z "$out" ] || { echo "$out"; breach "an include crosses a floor"; }

# One file speaks to each library.
only() { # header, files allowed (egrep)
    out=$(grep -lE "#include <$1" base/*.c base/*.h server/*.c server/*.h scheduler/*.c engine/*.c kernels/*.c 2>/dev/null | grep -vE "^($2)$" || true)
    [ -z "$out" ] || breach "<$1> is included by: $(echo "$out" | tr '\n' ' ')"
}
only 'oneapi' 'kernels/gemm_dnnl.c'
only 'pthread' 'base/(mailbox|threads).c|server/main.c'
only 'cjson' 'server/(json_[a-z]*|api_[a-z]*|prep[a-z_]*|params|chat[a-z_]*)\.[ch]'

# What `make test` runs has no bound in seconds: other programs on the machine would decide whether it holds. Costs are compared at two sizes
# (tests/base/growth.h, conftest.assert_linear), waits end by what happens (conftest.wait_until), and times are told by tests/perf. Only
# these files look at a clock: the helpers, and the tests of what keeps time.
clocks='clock_ns *\(|clock_ms_since|clock_wall|clock_gettime|gettimeofday|timespec_get|uv_hrtime|uv_now|omp_get_wtime|[^_a-z]clock\(\)|monotonic|perf_counter|process_time|time\.time|thread_time|\.elapsed|total_seconds|datetime\.now|timeit'
out=$(git grep -nE "$clocks" -- 'tests/*.c' 'tests/*.h' 'tests/*.py' 'training/tests/*.py' |
    grep -vE '^tests/(perf/|sim/sim\.c|sim/world\.h|base/growth\.h|base/test_clock\.c|base/test_mailbox\.c|scheduler/virtual\.h|server/tokenizer_cli\.c|e2e/conftest\.py)' || true)
[ -z "$out" ] || { echo "$out"; breach "a test that looks at a clock"; }

# Sizes.
for f in $(git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.py' '*.sh' Makefile); do
    n=$(wc -l <"$f")
    [ "$n" -le 800 ] || breach "$f has $n lines"
done

# No promises instead of work.
out=$(git grep -nE 'TODO|FIXME|\bXXX\b' -- '*.c' '*.h' '*.cu' '*.cuh' '*.py' | grep -v '^tests/house/' || true)
[ -z "$out" ] || { echo "$out"; breach "promises instead of work"; }

[ "$bad" = 0 ] && echo "house: rules hold"
exit "$bad"
