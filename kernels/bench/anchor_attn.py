"""Anchors of attention on the same device, from PyTorch: cuDNN's attention for prefill (causal) and decode, FlexAttention for a streaming
prompt (sink 128 and window 2048 in blocks of 128); bf16, 32 query and 8 kv heads of 128. One JSON line a figure, named like bench_attn's.
usage: anchor_attn.py [long]"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

H, G, K, BLOCK, SINK, LOCAL = 32, 8, 128, 128, 1, 16
flush = torch.ones(64 << 20, dtype=torch.float32, device="cuda")


def median_ms(fn, repeats):
    times = []
    for i in range(-3, repeats):
        flush.sum()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        fn()
        end.record()
        if i >= 0:
            times.append((start, end))
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in times)


def inputs(batch, n_q, n_k):
    q = torch.randn(batch, H, n_q, K, device="cuda", dtype=torch.bfloat16)
    return q, *(torch.randn(batch, G, n_k, K, device="cuda", dtype=torch.bfloat16) for _ in range(2))


def cudnn(batch, n_q, n_k):
    q, k, v = inputs(batch, n_q, n_k)
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=n_q > 1, enable_gqa=True)


def visible(b, h, q, k):
    i, j = q // BLOCK, k // BLOCK
    return (k <= q) & ((j < SINK) | (j > i - LOCAL))


def tell(by, name, ms, **rate):
    print(json.dumps({"anchor": by, "name": name, "ms": round(ms, 5), **rate}), flush=True)


def main():
    longest = "long" in sys.argv
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), torch.no_grad():
        for n, repeats in [(4096, 21), (8192, 21), (32768, 11)] + ([(131072, 3)] if longest else []):
            ms = median_ms(cudnn(1, n, n), repeats)
            tell("cuDNN", f"prefill full {n // 1024}k", ms, tflops=2 * H * K * n * (n + 1) / ms * 1e-9)
        for batch, n in [(1, 8192), (1, 32768), (1, 131072), (8, 32768), (32, 8192), (64, 4096)]:
            ms = median_ms(cudnn(batch, 1, n), 31)
            tell("cuDNN", f"decode B{batch} {n // 1024}k", ms, tbps=batch * n * G * K * 4 / ms * 1e-9)
    flex = torch.compile(flex_attention, dynamic=False)
    with torch.no_grad():
        for n in [8192, 32768, 131072]:
            q, k, v = inputs(1, n, n)
            mask = create_block_mask(visible, None, None, n, n, BLOCK_SIZE=BLOCK, _compile=True)
            ms = median_ms(lambda: flex(q, k, v, block_mask=mask, enable_gqa=True), 11)
            tell("FlexAttention", f"prefill streaming {n // 1024}k", ms)


main()
