"""Anchors of attention on the same device: PyTorch's cuDNN attention, prefill (causal) and decode, bf16, 32 query and 8 kv
heads of 128. Prints lines like bench_attn's. usage: anchor_attn.py [long]"""
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

H, G, K = 32, 8, 128
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


def attend(batch, n_q, n_k, causal):
    q = torch.randn(batch, H, n_q, K, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(batch, G, n_k, K, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


with sdpa_kernel(SDPBackend.CUDNN_ATTENTION), torch.no_grad():
    lengths = [(4096, 21), (8192, 21), (32768, 11)] + ([(131072, 3)] if "long" in sys.argv else [])
    for n, repeats in lengths:
        ms = median_ms(attend(1, n, n, True), repeats)
        print(f"anchor cuDNN prefill full {n // 1024}k   {ms:9.4f} ms  {2 * H * K * n * (n + 1) / ms * 1e-9:7.1f} TFLOP/s", flush=True)
    for batch, n in [(1, 8192), (1, 32768), (1, 131072), (8, 32768), (32, 8192), (64, 4096)]:
        ms = median_ms(attend(batch, 1, n, False), 31)
        print(f"anchor cuDNN decode B{batch} {n // 1024}k   {ms:9.4f} ms  {batch * n * G * K * 4 / ms * 1e-9:6.3f} TB/s", flush=True)
