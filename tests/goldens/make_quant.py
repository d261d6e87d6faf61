"""Writes tests/goldens/quant.bin: random blocks of every GGUF tensor type that fluxd reads, and their values as the `gguf`
package dequantises them. All bits are random, scales too, so that zeros, subnormals, infinities and NaN are among them.

    python tests/goldens/make_quant.py > tests/goldens/quant.bin

One record per type, little-endian: name (8 bytes, zero-padded), int32 elements, int32 bytes, the blocks, the values in fp32.
"""
import struct
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, quants

TYPES = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K".split()
BLOCKS = {1: 1024, 32: 24, 256: 6}  # by block size

rng = np.random.default_rng(4)
np.seterr(all="ignore")
for name in TYPES:
    block, size = GGML_QUANT_SIZES[Type[name]]
    n = BLOCKS[block]
    data = rng.integers(0, 256, n * size, dtype=np.uint8)
    values = np.ascontiguousarray(quants.dequantize(data.reshape(1, -1), Type[name]), dtype=np.float32).reshape(-1)
    assert values.size == n * block
    sys.stdout.buffer.write(struct.pack("<8sii", name.encode(), values.size, data.size) + data.tobytes() + values.tobytes())
