# fluxd: `make run` serves the small model on 127.0.0.1:8000, `make test` runs every test. Both set up what they need on Debian 12.
BUILD ?= build
CC    ?= gcc
SAN   ?=
OPT   ?= -O2
MODEL  = models/SmolLM2-135M-Instruct.Q4_1.gguf
SMALL  = build/small/$(notdir $(MODEL))
ROUTER = $(wildcard configs/routers/smollm2-135m-instruct.safetensors)
PY     = build/venv/bin/python

export GOMP_SPINCOUNT ?= 2000 # as server/main.c does for itself

# CUDA is optional: where nvcc (12.8 or newer) is, the binary has the CUDA engine too, and looks for a GPU when it starts. CUDA= leaves it out.
NVCC ?= $(shell command -v nvcc 2>/dev/null)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA ?= $(if $(SAN),,$(if $(NVCC),$(shell $(NVCC) --version | awk -F'release ' '/release/ {split($$2, v, "."); if (v[1] * 100 + v[2] >= 1208) print 1}')))

PKGS = libuv libmicrohttpd libcjson libpcre2-8 libutf8proc inih
DEBS = gcc g++ make pkg-config binutils ca-certificates libuv1-dev libmicrohttpd-dev libcjson-dev libjemalloc-dev libdnnl-dev \
       libpcre2-dev libutf8proc-dev libinih-dev python3 python3-pip python3-venv
TEST_DEBS = clang-format libcmocka-dev prometheus curl chromium

CFLAGS  = -std=c11 -D_GNU_SOURCE -I. -Ibuild/gen $(OPT) -g -fopenmp -fno-math-errno \
          -Wall -Wextra -Wconversion -Wshadow -Werror $(if $(CUDA),-DFLUXD_CUDA -isystem $(CUDA_HOME)/include) $(SAN) $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS  = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -ldnnl -lm -lpthread -ldl
MALLOC  = $(if $(SAN),,-ljemalloc)
CUDA_LIBS = $(if $(CUDA),-L$(CUDA_HOME)/lib64 -lcudart_static -lrt -lstdc++)

# Every folder is searched with its subfolders. Host code of the CUDA engine needs the toolkit's headers.
find_c   = $(shell find $(wildcard $(1)) -name '*.c' | sort)
CUDA_SRC = $(wildcard engine/cuda/*.c kernels/cuda/*.c)
SRC  = $(filter-out server/main.c $(CUDA_SRC),$(call find_c,base kernels engine scheduler server)) $(if $(CUDA),$(CUDA_SRC))
OBJ  = $(SRC:%.c=$(BUILD)/%.o) $(BUILD)/server/page.o $(BUILD)/server/openapi_json.o
UNIT = $(patsubst tests/%.c,$(BUILD)/tests/%,$(shell find $(wildcard tests) -name 'test_*.c' | sort))
QUICK = $(filter-out %_golden,$(UNIT))
APPS = $(addprefix $(BUILD)/tests/server/,http_app fault_app starve_app)

.DEFAULT_GOAL = all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all run test test-training unit goldens asan tsan e2e house bench bench-tokenizers fuzz loadtest test-gpu bench-gpu sim docs fmt clean deps test-deps cuda

all: deps
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/fluxd

run: all $(MODEL)
	exec $(BUILD)/fluxd --model $(MODEL) --served-model-name SmolLM2-135M-Instruct $(if $(ROUTER),--router $(ROUTER)) $(ARGS)

test: test-deps $(MODEL)
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/fluxd $(UNIT) $(APPS) cuda
	@$(MAKE) --no-print-directory house unit
	@$(MAKE) --no-print-directory asan
	@$(MAKE) --no-print-directory races
	@$(MAKE) --no-print-directory e2e
	@if [ -x $(TORCH_PY) ]; then $(MAKE) --no-print-directory test-training; else echo "training tests left out: 'make test-training' fetches PyTorch"; fi

# Runs programs, one a core, and prints each one's output whole when it ends. Fails if one fails.
side_by_side = printf '%s\n' $(1) | xargs -P $$(nproc) -I{} sh -c 'out=$$({} 2>&1); rc=$$?; printf "== %s\n%s\n" {} "$$out"; exit $$rc'

# Those that run a model use every core themselves, one after the other.
ALONE = $(filter %_golden %/test_engine %/test_resume,$(UNIT))
unit: $(UNIT)
	@$(call side_by_side,$(filter-out $(ALONE),$(UNIT)))
	@set -e; for t in $(ALONE); do echo "== $$t"; $$t; done

# The real model on all its goldens: longer prompts, more combinations.
goldens: $(ALONE)
	@set -e; for t in $(ALONE); do echo "== $$t"; FLUXD_TEST_ALL=1 $$t; done

# The sanitizers watch the unit tests and a whole server; golden comparisons run without them (same code, slow there).
ASAN = BUILD=build/asan SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" OPT=-O1
asan:
	@$(MAKE) --no-print-directory -j$$(nproc) $(ASAN) build/asan/fluxd asan-units
	@$(MAKE) --no-print-directory $(ASAN) asan-run
.PHONY: asan-units asan-run
asan-units: $(QUICK)
asan-run:
	@export ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS=allocator_may_return_null=1 OMP_NUM_THREADS=1; $(call side_by_side,$(QUICK))

TSAN = BUILD=build/tsan SAN=-fsanitize=thread OPT=-O1
tsan:
	@$(MAKE) --no-print-directory -j$$(nproc) $(TSAN) build/tsan/fluxd asan-units
	@$(MAKE) --no-print-directory $(TSAN) asan-run

# Of those, the ones with several threads (the sanitizer's own breaks test_threads), and a server for tests/e2e/test_races.py.
THREADED = $(filter $(addprefix %/,test_clock test_log test_mailbox test_lanes test_scheduler test_watch),$(UNIT))
races:
	@$(MAKE) --no-print-directory -j$$(nproc) $(TSAN) build/tsan/fluxd threaded
	@$(MAKE) --no-print-directory $(TSAN) threaded-run
.PHONY: races threaded threaded-run
threaded: $(THREADED)
threaded-run:
	@export TSAN_OPTIONS=exitcode=66; $(call side_by_side,$(THREADED))

e2e: $(BUILD)/fluxd $(APPS) $(SMALL) build/venv/.ok
	$(PY) -m pytest -q --no-header -p no:cacheprovider -n $$(nproc) --dist loadfile --no-loadscope-reorder --ignore tests/e2e/clients tests/e2e

# Client libraries that most programs do not use, in an environment of their own (about 600 MB).
CLIENTS_PY = build/venv-clients/bin/python
test-clients: $(BUILD)/fluxd $(MODEL)
	@[ -x $(CLIENTS_PY) ] || { python3 -m venv build/venv-clients && build/venv-clients/bin/pip install -q --disable-pip-version-check -r tests/e2e/clients/requirements.txt; }
	$(CLIENTS_PY) -m pytest -q --no-header -p no:cacheprovider tests/e2e/clients
.PHONY: test-clients

# The pictures of the page in docs/, by the page's test.
screenshots: $(BUILD)/fluxd $(MODEL) build/venv/.ok
	FLUXD_SHOTS=docs $(PY) -m pytest -q --no-header -p no:cacheprovider tests/e2e/test_page.py -k screenshots
.PHONY: screenshots

# The trainer's tests, on the CPU; PyTorch goes into an environment of its own (about 1 GB).
TORCH_PY ?= build/venv-training/bin/python
test-training: $(BUILD)/fluxd
	@[ -x $(TORCH_PY) ] || { python3 -m venv build/venv-training && build/venv-training/bin/pip install -q -r training/requirements.txt pytest; }
	@$(TORCH_PY) -m pytest -q -p no:cacheprovider training/tests

# SCENARIOS="chat agents": some of loadtest/scenarios, or files; URL=http://...: a server that runs. Results and report.html: build/loadtest.
# libFuzzer on every reader of outside bytes, FUZZ_S seconds each (clang, ASan, UBSan). FUZZ="json gguf": those alone. What it finds lies in
# build/fuzz/found; what is worth keeping goes to tests/fuzz/corpus/TARGET.
FUZZ_CC ?= clang-14
FUZZ_S ?= 60
FUZZ ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_FLAGS = -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
FUZZ_LIB = build/fuzz/lib.a
FUZZ_OBJ = $(patsubst %.c,build/fuzz/%.o,$(call find_c,base server/json server/jinja server/text server/api scheduler) server/http/frame.c server/http/guard.c)
fuzz: $(FUZZ:%=build/fuzz/fuzz_%)
	@mkdir -p build/fuzz/found; set -e; for t in $(FUZZ); do echo "== $$t"; mkdir -p build/fuzz/corpus/$$t tests/fuzz/corpus/$$t; \
	build/fuzz/fuzz_$$t -max_total_time=$(FUZZ_S) -print_final_stats=1 -timeout=25 -rss_limit_mb=4096 -verbosity=0 \
	-artifact_prefix=build/fuzz/found/$$t- build/fuzz/corpus/$$t tests/fuzz/corpus/$$t; done
build/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@$(FUZZ_CC) -std=c11 -D_GNU_SOURCE -I. -Ibuild/gen -O1 -g $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -w $(shell pkg-config --cflags $(PKGS) 2>/dev/null) -MMD -MP -c -o $@ $<
$(FUZZ_LIB): $(FUZZ_OBJ)
	@rm -f $@
	@ar rcs $@ $^
build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o $(FUZZ_LIB)
	@$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lcmocka -lm -lpthread

# 1 MB of text and 20,000 strings each against the packages (pip install tokenizers sentencepiece gguf); VOCABS="GGUF ...": more of them.
TOKENIZERS_PY ?= python3
bench-tokenizers: $(BUILD)/tests/server/text/tokenizer_cli $(MODEL)
	cd tests/goldens && $(TOKENIZERS_PY) make_spm.py ../../$< $(VOCABS)
	cd tests/goldens && $(TOKENIZERS_PY) make_tokenizers.py ../../$< ../../$(MODEL)

# Every call that can fail is failed once (tests/e2e/torture.py): in the plain build the libraries' too, in the sanitizers' what is left behind is
# seen. ARGS="--phase start chat --every 10": less of it.
TORTURE = BUILD=build/torture OPT="-O1 -fno-omit-frame-pointer" CUDA=
TORTURE_ASAN = BUILD=build/asan SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" OPT=-O1
torture: $(SMALL) build/venv/.ok
	@$(MAKE) --no-print-directory -j$$(nproc) $(TORTURE) build/torture/tests/server/starve_app
	@$(MAKE) --no-print-directory -j$$(nproc) $(TORTURE_ASAN) build/asan/tests/server/starve_app
	$(PY) tests/e2e/torture.py $(ARGS)
	TORTURE_APP=build/asan/tests/server/starve_app $(PY) tests/e2e/torture.py $(ARGS)
.PHONY: torture

loadtest: $(if $(URL),,all $(MODEL))
	@python3 loadtest/run.py $(or $(URL),--serve "$(BUILD)/fluxd --model $(MODEL) $(if $(ROUTER),--router $(ROUTER)) $(ARGS)") $(SCENARIOS) --out build/loadtest

house: $(BUILD)/fluxd
	@sh tests/house/rules.sh $(BUILD)
	@python3 tests/house/test_rules.py

sim: $(BUILD)/tests/sim/sim
	@$<

# What is made from server/config.def.
docs: $(BUILD)/fluxd
	$< --print-defaults >configs/default.conf
	$< --print-settings >docs/settings.md
	$< --print-man >docs/fluxd.1

fmt:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cu' '*.cuh' | grep -v '^server/text/unicode_tab.h$$')

.PHONY: install uninstall
# PREFIX=/usr for packages; DESTDIR stages. A configuration that is there stays, and outlives uninstall.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
install: $(BUILD)/fluxd
	install -D -m 755 $< $(DESTDIR)$(PREFIX)/bin/fluxd
	install -D -m 644 docs/fluxd.1 $(DESTDIR)$(PREFIX)/share/man/man1/fluxd.1
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/fluxd/LICENSE
	install -D -m 644 configs/default.conf $(DESTDIR)$(PREFIX)/share/doc/fluxd/fluxd.conf
	install -d $(DESTDIR)$(UNITDIR)
	sed -e 's|/usr/local/bin/|$(PREFIX)/bin/|' -e 's|/etc/fluxd/|$(SYSCONFDIR)/fluxd/|' docker/systemd/fluxd.service >$(DESTDIR)$(UNITDIR)/fluxd.service
	chmod 644 $(DESTDIR)$(UNITDIR)/fluxd.service
	[ -e $(DESTDIR)$(SYSCONFDIR)/fluxd/fluxd.conf ] || install -D -m 644 configs/default.conf $(DESTDIR)$(SYSCONFDIR)/fluxd/fluxd.conf

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/fluxd $(DESTDIR)$(PREFIX)/share/man/man1/fluxd.1 $(DESTDIR)$(UNITDIR)/fluxd.service
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/fluxd

clean:
	rm -rf build

# These targets need nvcc and the tree alone.
ifneq ($(NVCC),)
include kernels/gpu.mk
cuda: $(GPU_OBJ) build/gpu/bench_engine # the bench too: else nothing links the engine of the device alone
test-gpu: $(GPU_TESTS)
	@set -e; for t in $(GPU_TESTS); do echo "== $$t"; $$t; done
PARTS ?= kernels engine
bench-gpu: $(GPU_BENCHES)
	python3 kernels/bench/run.py build/gpu build/gpu/bench.jsonl $(PARTS)
else
cuda:
	@echo "no nvcc: CUDA sources are not compiled"
test-gpu bench-gpu:
	@echo "needs nvcc (CUDA Toolkit 12.8 or newer)"; exit 1
endif

# --- files
$(BUILD)/fluxd: $(OBJ) $(BUILD)/server/main.o $(if $(CUDA),$(GPU_OBJ))
	@echo "  link  $@"
	@$(CC) $(SAN) -fopenmp -o $@ $^ $(LDLIBS) $(MALLOC) $(CUDA_LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/kernels/%.o: OPT := $(if $(SAN),$(OPT),-O3) # vectorised loops

# The page is one document, and its policy the hashes of what is in it.
$(BUILD)/server/page.o: $(wildcard server/page/*)
	@echo "  page  $@"
	@sh server/page/page.sh $(BUILD)/gen/page
	@cd $(BUILD)/gen/page && ld -r -b binary -z noexecstack -o $(abspath $@) page.html page.head

$(BUILD)/server/openapi_json.o: server/api/openapi.json
	@mkdir -p $(@D)
	@cd server/api && ld -r -b binary -z noexecstack -o $(abspath $@) openapi.json

$(BUILD)/libfluxd.a: $(OBJ) $(if $(CUDA),$(GPU_OBJ))
	@rm -f $@
	@ar rcs $@ $^

# Above the engine tests run over a fake one, which takes the real one's place in the link.
$(BUILD)/tests/%: tests/%.c $(BUILD)/libfluxd.a tests/fake_engine.c
	@mkdir -p $(@D)
	@echo "  test  $@"
	@$(CC) $(CFLAGS) -MMD -MP -o $@ $< $(if $(filter $(BUILD)/tests/scheduler/%,$@),tests/fake_engine.c) $(BUILD)/libfluxd.a $(LDLIBS) -lcmocka $(CUDA_LIBS)

# The whole server, with an engine whose steps fail where a test asks for it.
$(BUILD)/tests/server/fault_app: tests/server/fault_app.c $(BUILD)/server/main.o $(if $(CUDA),build/gpu/fault_gpu.o) $(BUILD)/libfluxd.a
	@mkdir -p $(@D)
	@echo "  test  $@"
	@$(CC) $(CFLAGS) -MMD -MP -Wl,--wrap=engine_step -o $@ $^ $(LDLIBS) $(MALLOC) $(CUDA_LIBS)

# The whole server, over calls of the C library that fail where a test asks for it. Its own code keeps frame pointers for the torture, and lies where it was linked.
STARVE_SRC = tests/server/starve_app.c tests/server/torture_calls.c
STARVE_WRAP = $(if $(SAN),$(foreach f,malloc calloc realloc aligned_alloc posix_memalign strdup strndup,-Wl,--wrap=$(f)))
$(BUILD)/tests/server/starve_app: $(STARVE_SRC) tests/server/starve.h $(BUILD)/server/main.o $(BUILD)/libfluxd.a
	@mkdir -p $(@D)
	@echo "  test  $@"
	@$(CC) $(CFLAGS) -fno-omit-frame-pointer $(if $(findstring no-omit-frame,$(SAN) $(OPT)),-DSTARVE_WALKS=true) -no-pie -rdynamic -MMD -MP $(STARVE_WRAP) -o $@ $(filter-out %.h,$^) $(LDLIBS) $(CUDA_LIBS)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

bench: all $(MODEL) $(BUILD)/tests/perf/bench $(BUILD)/tests/perf/host
	$(BUILD)/tests/perf/host $(MODEL)
	python3 tests/perf/start.py $(BUILD)/fluxd $(MODEL)
	sh tests/perf/llama.sh build/llama
	python3 tests/perf/bench.py $(BUILD)/tests/perf/bench $(MODEL) build/llama/out/bin

$(MODEL):
	sh tests/fetch_model.sh $(dir $(MODEL))

$(SMALL): tests/make_small_model.py $(MODEL)
	@mkdir -p $(@D)
	python3 $^ $@

build/venv/.ok: tests/e2e/requirements.txt
	python3 -m venv build/venv
	build/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

deps:
	@sh tests/install.sh $(DEBS)
test-deps:
	@sh tests/install.sh $(DEBS) $(TEST_DEBS)
