//! Numbers of ggml's own Python package, made by `tools/golden_blocks.py`.

use quant::BlockFormat::{self, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};

/// A linear congruential generator: numbers below 2¹⁵.
fn random_numbers() -> impl Iterator<Item = u32> {
    let mut state = 12345u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7FFF_FFFF;
        state >> 16
    })
}

/// Three blocks of random bytes, with f16 scales written over them.
fn random_blocks(format: BlockFormat, scale_offsets: &[usize]) -> Vec<u8> {
    // 0.0123 and −0.25 times 1, 2 and 3.
    let scales = [[0x224Cu16, 0xB400], [0x264C, 0xB800], [0x28B9, 0xBA00]];
    let mut blocks: Vec<u8> = random_numbers().take(3 * format.bytes()).map(|n| n as u8).collect();
    for (block, scales) in blocks.chunks_exact_mut(format.bytes()).zip(scales) {
        for (scale, &offset) in scales.iter().zip(scale_offsets) {
            block[offset..offset + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    blocks
}

fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The values at 0, 1, 17, half + 5 and the last, and FNV-1a of all values' bytes.
#[test]
fn decoded_values_are_those_of_ggml() {
    type Case = (BlockFormat, &'static [usize], u64, [f32; 5]);
    #[rustfmt::skip]
    let cases: [Case; 8] = [
        (Q4_0, &[0], 0x916A_A11D_7823_C206,
         [-0.036895752, 0.024597168, 0.024597168, -0.19677734, -0.25827026]),
        (Q4_1, &[0, 2], 0x8BEB_E06F_51CD_EB99,
         [-0.06552124, -0.09011841, -0.12701416, -0.5, -0.27035522]),
        (Q5_0, &[0], 0x4335_57C2_10A5_8D3A,
         [0.15988159, -0.073791504, 0.06149292, 0.17218018, 0.33206177]),
        (Q5_1, &[0, 2], 0x9BF3_6076_D844_0092,
         [0.06976318, 0.008270264, -0.077819824, 0.016540527, -0.34414673]),
        (Q8_0, &[0], 0x4168_5703_72B7_6751,
         [1.242157, -1.0576782, 0.19677734, 2.4105225, 4.464386]),
        (Q4K, &[0, 2], 0xA172_B56D_367D_7301,
         [9.931305, 11.075073, 7.6437683, 15.889343, 13.613892]),
        (Q5K, &[0, 2], 0xB620_89BD_97AF_E0F5,
         [14.506378, 8.4062805, 14.125122, 22.270996, 33.53119]),
        (Q6K, &[208], 0x229C_FB94_7CDB_2F2B,
         [-37.190918, -5.3129883, 38.91272, 30.500488, -36.157837]),
    ];
    for (format, scale_offsets, hash, expected) in cases {
        let values = format.decode(&random_blocks(format, scale_offsets));
        let n = values.len();
        assert_eq!(n, 3 * format.values());
        assert_eq!([0, 1, 17, n / 2 + 5, n - 1].map(|i| values[i]), expected, "{format:?}");
        assert_eq!(fnv1a(values.iter().flat_map(|value| value.to_le_bytes())), hash, "{format:?}");
    }
}

/// The first five bytes, and FNV-1a of all.
#[test]
fn encoded_blocks_are_those_of_ggml() {
    // Steps of 2⁻¹²; then zeros, a value at either end, and ties of Q8_0's rounding.
    let mut values: Vec<f32> =
        random_numbers().take(256 * 32).map(|n| (n as f32 - 16384.0) / 4096.0).collect();
    values.extend([0.0; 32]);
    values.extend([-2.0, 1.0]);
    values.extend([0.0; 15]);
    values.push(0.25);
    values.extend([0.0; 14]);
    values.push(127.0);
    values.extend((0..15).map(|i| i as f32 + 0.5));
    values.extend((0..16).map(|i| -(i as f32) - 0.5));
    for (format, hash, expected) in [
        (Q8_0, 0x7A1A_FA3C_EEA7_F420, [0xDE, 0x27, 0x28, 0xCD, 0x2E]),
        (Q4_0, 0x401E_B725_E61B_BCC4, [0xCE, 0xB7, 0x35, 0x9B, 0x75]),
    ] {
        let blocks = format.encode(&values);
        assert_eq!(blocks.len(), format.bytes_of(values.len()));
        assert_eq!(blocks[..5], expected, "{format:?}");
        assert_eq!(fnv1a(blocks), hash, "{format:?}");
    }
}
