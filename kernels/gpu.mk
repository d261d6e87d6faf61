# GPU kernels: needs nvcc 12.8 or newer; included by the Makefile only when nvcc is there.
NVCC      ?= nvcc
NVCCFLAGS ?= -std=c++17 -O3 -lineinfo -I.
# Hopper's own code, and for all others code of 8.0, which 8.x runs as it is and newer devices translate from the PTX beside it.
SM90      := -gencode=arch=compute_90a,code=sm_90a
PORTABLE  := -gencode='arch=compute_80,code=[sm_80,compute_80]'
GPU_SRC   := $(sort $(wildcard kernels/cuda/*.cu))
GPU_HDR   := $(wildcard kernels/*.h kernels/cuda/*.h kernels/cuda/*.cuh) base/err.h
GPU_OBJ   := $(GPU_SRC:kernels/cuda/%.cu=build/gpu/%.o)

GPU_TESTS   := build/gpu/test_attn build/gpu/test_choose build/gpu/test_gemm build/gpu/test_lt build/gpu/test_plan build/gpu/test_ops build/gpu/test_fp8 build/gpu/test_int4 build/gpu/test_kv_fp8
GPU_BENCHES := build/gpu/bench_device build/gpu/bench_attn build/gpu/bench_gemm build/gpu/bench_ops build/gpu/bench_fp8 build/gpu/bench_int4 build/gpu/bench_kv_fp8
BENCH_O     := build/gpu/bench_fill.o build/gpu/bench_roof.o
TEST_HDR    := tests/kernels/cuda/gpu_test.cuh tests/kernels/cuda/gpu_attn_ref.h

build/gpu/%.o: kernels/cuda/%.cu $(GPU_HDR)
	@mkdir -p build/gpu
	$(NVCC) $(NVCCFLAGS) $(SM90) $(if $(findstring _sm90,$<),-Xptxas -warn-spills,$(PORTABLE)) -c $< -o $@
build/gpu/test_%: tests/kernels/cuda/gpu_%.cu $(TEST_HDR) $(GPU_OBJ)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $< $(GPU_OBJ) -o $@
build/gpu/fault_gpu.o: tests/server/fault_gpu.cu tests/server/fault_gpu.h
	@mkdir -p build/gpu
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) -c $< -o $@
# The small ops meet the CPU's.
CODES_O := $(patsubst %,build/gpu/engine/kernels/cpu/%.o,quant_fp8 kv_fp8 kv_fp8_cpu)
CPU_O := $(patsubst %,build/gpu/engine/kernels/cpu/%_cpu.o,rmsnorm qkrope swiglu router sample) $(CODES_O)
build/gpu/test_ops: tests/kernels/cuda/gpu_ops.cu $(TEST_HDR) $(GPU_OBJ) $(CPU_O)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) -Xcompiler -fopenmp $< $(GPU_OBJ) $(CPU_O) -o $@
# What host code takes of base: the linker picks.
BASE_A := build/gpu/engine/base.a
$(BASE_A): $(patsubst %.c,build/gpu/engine/%.o,$(wildcard base/*.c))
	@rm -f $@
	ar rcs $@ $^
FP8_O := $(patsubst %,build/gpu/engine/%.o,kernels/cpu/quant_fp8 kernels/cpu/kv_fp8 kernels/cuda/gemm_lt) $(BASE_A)
build/gpu/test_fp8 build/gpu/test_kv_fp8: build/gpu/test_%: tests/kernels/cuda/gpu_%.cu $(TEST_HDR) $(GPU_OBJ) $(FP8_O)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $< $(GPU_OBJ) $(FP8_O) -ldl -o $@
INT4_O := $(patsubst %,build/gpu/engine/kernels/%.o,quant quant_scaled cpu/quant_fp8 cpu/quant_int4) $(BASE_A)
build/gpu/test_int4: tests/kernels/cuda/gpu_int4.cu $(TEST_HDR) $(GPU_OBJ) $(INT4_O)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $< $(GPU_OBJ) $(INT4_O) -o $@
build/gpu/test_choose: tests/kernels/cuda/gpu_choose.cu build/gpu/choose_gpu.o $(CODES_O)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $^ -o $@
# Host code that loads cuBLASLt.
build/gpu/test_lt: tests/kernels/cuda/gpu_lt.cu $(patsubst %,build/gpu/engine/%.o,kernels/cuda/gemm_lt tests/kernels/count_malloc) $(BASE_A)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $^ -ldl -o $@
build/gpu/test_plan: tests/kernels/cuda/gpu_plan.cu build/gpu/plan_gpu.o
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $^ -o $@
build/gpu/bench_%: kernels/bench/%.cu kernels/bench/bench.cuh kernels/bench/fill.h $(BENCH_O) $(GPU_OBJ)
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) $< $(BENCH_O) $(GPU_OBJ) -lcublasLt -o $@

# The engine on the device, without the CPU's: C sources by gcc, random weights.
ENGINE_C := kernels/quant.c kernels/cuda/gemm_lt.c \
            engine/memory.c engine/kinds.c engine/step.c engine/forward.c engine/cuda/backend.c engine/cuda/ops.c engine/cuda/draw.c engine/cuda/call.c engine/cuda/route.c engine/cuda/refuse.c engine/cuda/codes.c engine/cuda/codes4.c kernels/cpu/quant_int4.c engine/cuda/forward.c tests/perf/gpu_engine.c
ENGINE_O := $(ENGINE_C:%.c=build/gpu/engine/%.o)
GPU_BENCHES += build/gpu/bench_engine
build/gpu/engine/%.o: %.c
	@mkdir -p $(@D)
	gcc -std=c11 -D_GNU_SOURCE -DFLUXD_CUDA -I. -isystem $(CUDA_HOME)/include -O2 -g -fopenmp -MMD -MP -c $< -o $@
-include $(ENGINE_O:.o=.d)
build/gpu/bench_engine: $(ENGINE_O) $(BASE_A) $(GPU_OBJ) build/gpu/bench_fill.o build/gpu/bench_roof.o
	$(NVCC) -Xcompiler -fopenmp $^ -ldl -o $@
build/gpu/bench_fill.o: kernels/bench/fill.cu
	@mkdir -p build/gpu
	$(NVCC) $(NVCCFLAGS) $(SM90) $(PORTABLE) -c $< -o $@
build/gpu/bench_roof.o: kernels/bench/roof.cu kernels/bench/roof.h kernels/cuda/sm90.cuh
	@mkdir -p build/gpu
	$(NVCC) $(NVCCFLAGS) $(SM90) -c $< -o $@
