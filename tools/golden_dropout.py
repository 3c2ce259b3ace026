#!/usr/bin/env python3
"""Prints the golden mask of crates/compute/tests/it/dropout.rs: bit i is whether element i is kept."""

import struct

MASK = (1 << 64) - 1
SEED, P = 99, struct.unpack("f", struct.pack("f", 0.3))[0]


def mix(z):
    """SplitMix64's finalizer (Steele, Lea & Flood 2014)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def keeps(index):
    return mix(SEED ^ (index * 0x9E3779B97F4A7C15 & MASK)) >> 40 >= P * 2**24


print(f"{sum(keeps(i) << i for i in range(64)):#x}")
