"""Writes a GGUF model again with its matrices in another type, for trying types by hand; the files are too large for the tree.

    python tests/goldens/make_quant_models.py MODEL.gguf OUT_FOLDER [Q8_0 Q4_0 Q5_1 ...]

MIX is how people's files look: types by the tensor's role, several in one fused matrix. K-quants, which the `gguf` package
cannot make, are made here from each group's least and greatest value.
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFReader, GGUFValueType, GGUFWriter, quants


def groups_4k(x):
    """[n, 256] to Q4_K blocks: each group of 32 by its least and greatest value, scales and minima in 6 bits."""
    g = x.reshape(len(x), 8, 32)
    low = np.minimum(g.min(2), 0)
    step = (g.max(2) - low) / 15
    d = (step.max(1) / 63).astype(np.float16).astype(np.float32)
    m = ((-low).max(1) / 63).astype(np.float16).astype(np.float32)
    inv = lambda v: np.divide(1, v, out=np.zeros_like(v), where=v > 0)
    scale = np.clip(np.rint(step * inv(d)[:, None]), 0, 63).astype(np.uint8)
    least = np.clip(np.rint(-low * inv(m)[:, None]), 0, 63).astype(np.uint8)
    ds, dm = d[:, None] * scale, m[:, None] * least
    q = np.clip(np.rint((g + dm[..., None]) * inv(ds)[..., None]), 0, 15).astype(np.uint8)
    packed = np.zeros((len(x), 12), np.uint8)
    packed[:, 0:4] = scale[:, :4] | (scale[:, 4:] >> 4) << 6
    packed[:, 4:8] = least[:, :4] | (least[:, 4:] >> 4) << 6
    packed[:, 8:12] = (scale[:, 4:] & 15) | (least[:, 4:] & 15) << 4
    low_high = (q[:, 0::2] | q[:, 1::2] << 4).reshape(len(x), 128)
    head = np.stack([d, m], 1).astype(np.float16).view(np.uint8)
    return np.concatenate([head, packed, low_high], 1)


def groups_6k(x):
    """[n, 256] to Q6_K blocks: each group of 16 by its greatest magnitude, scales in 8 bits."""
    g = x.reshape(len(x), 16, 16)
    step = np.abs(g).max(2) / 31
    d = (step.max(1) / 127).astype(np.float16).astype(np.float32)
    inv = lambda v: np.divide(1, v, out=np.zeros_like(v), where=v > 0)
    scale = np.clip(np.rint(step * inv(d)[:, None]), 0, 127).astype(np.int8)
    q = np.clip(np.rint(g * inv(d[:, None] * scale)[..., None]), -32, 31).astype(np.int8) + 32
    q = q.astype(np.uint8).reshape(len(x), 2, 4, 32)
    low = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], 2).reshape(len(x), 128)
    high = (q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6).reshape(len(x), 64)
    return np.concatenate([low, high, scale.view(np.uint8), d.astype(np.float16)[:, None].view(np.uint8)], 1)


K_QUANTS = {"Q4_K": groups_4k, "Q6_K": groups_6k}


def type_for(kind, name, shape):
    if len(shape) == 1:
        return "F32"
    if kind != "MIX":
        return kind
    wide = "attn_v" in name or "token_embd" in name or ("ffn_down" in name and int(name.split(".")[1]) % 2 == 0)
    if shape[-1] % 256:  # rows that are no whole K-blocks
        return "Q8_0" if wide else "Q5_0"
    return "Q6_K" if wide else "Q4_K"


def encode(values, kind):
    if kind in K_QUANTS:
        blocks = K_QUANTS[kind](np.ascontiguousarray(values, np.float32).reshape(-1, 256))
        return blocks.reshape(values.shape[0], -1)
    return quants.quantize(values, Type[kind])


def copy_fields(reader, writer):
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=sub)


def convert(reader, path, kind):
    writer = GGUFWriter(path, reader.fields["general.architecture"].contents())
    copy_fields(reader, writer)
    for t in reader.tensors:
        values = quants.dequantize(t.data, t.tensor_type).reshape([int(v) for v in t.shape[::-1]])
        to = type_for(kind, t.name, values.shape)
        writer.add_tensor(t.name, encode(values.astype(np.float32), to), raw_dtype=Type[to])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


reader = GGUFReader(sys.argv[1])
for kind in sys.argv[3:] or ["Q8_0", "Q4_0", "Q5_1"]:
    out = Path(sys.argv[2]) / f"model.{kind}.gguf"
    convert(reader, out, kind)
    print(out, out.stat().st_size)
