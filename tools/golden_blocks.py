#!/usr/bin/env python3
"""Prints the golden rows of crates/quant/tests/it/golden.rs: what ggml's own Python package makes of blocks
of pseudo-random bytes (decoding) and of pseudo-random values (encoding).

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0
    /tmp/venv/bin/python tools/golden_blocks.py
"""

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

# 0.0123 and -0.25 times 1, 2 and 3, as f16: the scales written over three blocks of random bytes.
SCALES = [(0x224C, 0xB400), (0x264C, 0xB800), (0x28B9, 0xBA00)]
# Format, bytes of a block, offsets of its scales.
DECODED = [
    ("Q4_0", 18, [0]), ("Q4_1", 20, [0, 2]), ("Q5_0", 22, [0]), ("Q5_1", 24, [0, 2]), ("Q8_0", 34, [0]),
    ("Q4_K", 144, [0, 2]), ("Q5_K", 176, [0, 2]), ("Q6_K", 210, [208]),
]


def random_numbers(count):
    """The linear congruential generator of golden.rs: numbers below 2**15."""
    state = 12345
    for _ in range(count):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        yield state >> 16


def random_blocks(size, offsets):
    numbers = bytearray(number & 255 for number in random_numbers(3 * size))
    for block, scales in enumerate(SCALES):
        for offset, scale in zip(offsets, scales):
            numbers[block * size + offset:block * size + offset + 2] = scale.to_bytes(2, "little")
    return numbers


def fnv1a(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{digest:#018X}".replace("0X", "0x")


for name, size, offsets in DECODED:
    blocks = np.frombuffer(random_blocks(size, offsets), np.uint8).reshape(1, -1)
    values = dequantize(blocks, Type[name]).astype(np.float32).ravel()
    picked = [str(values[i]) for i in (0, 1, 17, len(values) // 2 + 5, -1)]
    print(name, fnv1a(values.tobytes()), ", ".join(picked))

# 256 blocks of values in steps of 2**-12; then zeros, a value at either end, and ties of Q8_0's rounding.
values = [(number - 16384) / 4096 for number in random_numbers(256 * 32)]
values += [0.0] * 32
values += [-2.0, 1.0] + [0.0] * 15 + [0.25] + [0.0] * 14
values += [127.0] + [i + 0.5 for i in range(15)] + [-i - 0.5 for i in range(16)]
for name in ("Q8_0", "Q4_0"):
    blocks = quantize(np.array(values, np.float32).reshape(1, -1), Type[name]).ravel()
    print(name, fnv1a(blocks.tobytes()), ", ".join(f"{byte:#04x}" for byte in blocks[:5]))
