//! What encoding loses, and where it refuses.

use quant::BlockFormat;

#[test]
fn values_survive_to_half_a_step() {
    let values: Vec<f32> = (0..96).map(|i| ((i * 37 % 64) as f32 - 31.5) * 0.01).collect();
    for (format, steps) in [(BlockFormat::Q8_0, 127.0), (BlockFormat::Q4_0, 8.0)] {
        let encoded = format.encode(&values);
        assert_eq!(encoded.len(), 3 * format.bytes());
        let decoded = format.decode(&encoded);
        for (value, found) in values.iter().zip(&decoded) {
            // Half a step, or a whole one at the end that Q4_0 lacks, and the rounding of the scale.
            let limit = if format == BlockFormat::Q4_0 { 1.05 } else { 0.55 } * 0.315 / steps;
            assert!((value - found).abs() <= limit, "{format:?}: {found} instead of {value}");
        }
        assert_eq!(format.encode(&decoded), encoded, "{format:?}: decoded values encode to the same bytes");
    }
}

#[test]
#[should_panic(expected = "33 values are not whole blocks of Q8_0")]
fn a_part_of_a_block_is_not_encoded() {
    BlockFormat::Q8_0.encode(&[0.0; 33]);
}

#[test]
#[should_panic(expected = "35 bytes are not whole blocks of Q8_0")]
fn a_part_of_a_block_is_not_decoded() {
    BlockFormat::Q8_0.decode(&[0; 35]);
}
