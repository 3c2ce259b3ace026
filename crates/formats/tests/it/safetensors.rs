//! The writer against the reader and against the `safetensors` crate; the reader against damaged files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use formats::safetensors::{Dtype, Reader, TensorSpec, pytorch_metadata, write};
use formats::{Error, ErrorKind};
use proptest::prelude::*;
use store::fs::faulty::{Fault, MemoryFs};
use store::fs::{Fs, RealFs};

fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec { name: "narrow".into(), dtype: Dtype::BF16, shape: vec![3] },
        TensorSpec::f32("b", &[2, 3]),
        TensorSpec::f32("a", &[]),
        TensorSpec { name: "half".into(), dtype: Dtype::F16, shape: vec![1, 5] },
        TensorSpec::f32("empty", &[0, 7]),
    ]
}

fn values(spec: &TensorSpec) -> Vec<f32> {
    let count: usize = spec.shape.iter().product();
    (0..count).map(|i| i as f32 * 0.5 - spec.name.len() as f32).collect()
}

fn file() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let bytes =
        write(&RealFs, &path, specs(), &pytorch_metadata(), |spec| Ok(Cow::Owned(values(spec)))).unwrap();
    let content = std::fs::read(&path).unwrap();
    assert_eq!(content.len() as u64, bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
    content
}

fn open(bytes: &[u8]) -> formats::Result<Reader<Cursor<&[u8]>>> {
    Reader::new(Cursor::new(bytes), Path::new("model/x.safetensors"))
}

/// A file with this header over `data_bytes` of data.
fn with_header(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data_bytes, 0);
    bytes
}

fn refused(bytes: &[u8]) -> (ErrorKind, String) {
    let error = open(bytes).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = file();
    let mut reader = open(&bytes).unwrap();
    assert_eq!(reader.metadata(), &pytorch_metadata());
    let names: Vec<&str> = reader.tensors().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "empty", "narrow", "half"], "by type, widest first, then by name");
    for spec in specs() {
        assert_eq!(reader.find(&spec.name).unwrap().shape, spec.shape);
        assert_eq!(reader.read_f32(&spec.name).unwrap(), values(&spec), "{}", spec.name);
    }
}

#[test]
fn the_safetensors_crate_reads_our_file_and_we_read_its() {
    let bytes = file();
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let b = theirs.tensor("b").unwrap();
    let expected: Vec<u8> = values(&specs()[1]).iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!((b.shape(), b.data()), (&[2, 3][..], &expected[..]));

    let metadata = Some(pytorch_metadata().into_iter().collect());
    let written = ::safetensors::serialize(theirs.iter(), metadata).unwrap();
    assert_eq!(written, bytes, "both lay the same tensors out in the same bytes");
}

#[test]
fn every_bit_of_an_f32_survives() {
    let odd = [f32::NAN, -0.0, f32::MIN_POSITIVE / 8.0, f32::INFINITY, f32::from_bits(0xFFC1_2345)];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    write(&RealFs, &path, vec![TensorSpec::f32("t", &[5])], &BTreeMap::new(), |_| Ok(Cow::Borrowed(&odd)))
        .unwrap();
    let back = Reader::open(&path).unwrap().read_f32("t").unwrap();
    assert_eq!(back.map_bits(), odd.to_vec().map_bits());
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}
impl MapBits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

#[test]
fn a_refused_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, "old").unwrap();
    let wrong =
        write(&RealFs, &path, specs(), &BTreeMap::new(), |_| Ok(Cow::Owned(vec![0.0; 4]))).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    assert!(wrong.to_string().contains("`a`") && wrong.to_string().contains("4 values"), "{wrong}");
    let stopped = write(&RealFs, &path, specs(), &BTreeMap::new(), |_| {
        Err(Error::Invalid { message: "the model is gone".into() })
    });
    assert_eq!(stopped.unwrap_err().to_string(), "the model is gone");
    for bad in [
        vec![TensorSpec::f32("t", &[1]), TensorSpec::f32("t", &[2])],
        vec![TensorSpec::f32("__metadata__", &[1])],
        vec![TensorSpec { name: "t".into(), dtype: Dtype::I64, shape: vec![1] }],
        vec![TensorSpec::f32("t", &[usize::MAX, usize::MAX])],
    ] {
        let error = write(&RealFs, &path, bad, &BTreeMap::new(), |_| panic!("asked for values")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(RealFs.list(folder.path()).unwrap().len(), 1);
}

#[test]
fn a_disk_that_fails_at_any_call_leaves_the_old_file_or_the_new_one() {
    let path = Path::new("/m/x.safetensors");
    let disk = || {
        let fs = MemoryFs::new();
        store::atomic::write(&fs, path, b"old").unwrap();
        fs
    };
    let save =
        |fs: &MemoryFs| write(fs, path, specs(), &pytorch_metadata(), |spec| Ok(Cow::Owned(values(spec))));
    let whole = disk();
    let before = whole.calls();
    save(&whole).unwrap();
    assert!(whole.calls() > before + 4);
    let new = whole.read(path).unwrap();
    for call in before..whole.calls() {
        for fault in [Fault::ShortWrite, Fault::Error(std::io::ErrorKind::StorageFull)] {
            let fs = disk();
            fs.fail_at(call, fault);
            assert_eq!(save(&fs).unwrap_err().kind(), ErrorKind::Io, "call {call}");
            let content = fs.read(path).unwrap();
            assert!(content == b"old" || content == new, "call {call}: {} bytes", content.len());
        }
    }
    let mut reader = Reader::open_with(&whole, path).unwrap();
    assert_eq!(reader.read_f32("b").unwrap(), values(&specs()[1]));
}

#[test]
fn errors_name_the_file_the_tensor_and_the_problem() {
    let bytes = file();
    let mut reader = open(&bytes).unwrap();
    let missing = reader.read_f32("model.norm.weight").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(
        missing.to_string(),
        "`model/x.safetensors`, tensor `model.norm.weight`: is missing from the file"
    );
    let shape = reader.read_f32_shaped("b", &[3, 2]).unwrap_err();
    assert_eq!(shape.to_string(), "`model/x.safetensors`, tensor `b`: has shape [2, 3], expected [3, 2]");

    let integers = with_header(r#"{"n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}"#, 8);
    let error = open(&integers).unwrap().read_f32("n").unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("I64")), (ErrorKind::Unsupported, true), "{error}");
}

#[test]
fn headers_that_break_the_format_are_refused() {
    let t = |from: usize, to: usize| format!(r#"{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#);
    let cases = [
        (Vec::new(), "too few"),
        (vec![1, 2, 3], "too few"),
        (u64::MAX.to_le_bytes().to_vec(), "the limit is 100000000"),
        (100_000_001u64.to_le_bytes().to_vec(), "the limit is 100000000"),
        (9u64.to_le_bytes().to_vec(), "truncated"),
        (with_header("not json", 0), "header"),
        (with_header("[]", 0), "an object of tensors"),
        (with_header("{\"a\":\u{0}}", 0), "header"),
        (with_header(&format!("{{\"a\":{},\"a\":{}}}", t(0, 4), t(0, 4)), 4), "occurs twice"),
        (with_header(&format!("{{\"a\":{},\"b\":{}}}", t(0, 4), t(8, 12)), 12), "gap"),
        (with_header(&format!("{{\"a\":{},\"b\":{}}}", t(0, 4), t(2, 6)), 6), "overlaps"),
        (with_header(&format!("{{\"a\":{}}}", t(4, 0)), 4), "ends (0) before it starts (4)"),
        (with_header(&format!("{{\"a\":{}}}", t(0, 4)), 3), "truncated"),
        (with_header(&format!("{{\"a\":{}}}", t(0, 4)), 5), "cover 4 bytes"),
        (with_header(&format!("{{\"a\":{}}}", t(0, 8)), 8), "needs 4 bytes"),
        (with_header(r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,4]}}"#, 4), "F9"),
        (with_header(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4), "header"),
        (with_header(r#"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}"#, 1), "too large"),
        (
            // A product that wraps to 4 in 64 bits.
            with_header(r#"{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}"#, 16),
            "too large",
        ),
        (with_header(&"[".repeat(100_000), 0), "header"),
    ];
    for (bytes, expected) in cases {
        let (kind, message) = refused(&bytes);
        assert_eq!(kind, ErrorKind::Corrupt, "{message}");
        assert!(
            message.contains("model/x.safetensors") && message.contains(expected),
            "{expected}: {message}"
        );
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = file();
    for length in 0..bytes.len() {
        assert_eq!(refused(&bytes[..length]).0, ErrorKind::Corrupt, "cut to {length} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(refused(&longer).0, ErrorKind::Corrupt);
}

/// Opens and reads all there is; the point is that it returns.
fn read_everything(bytes: &[u8]) {
    let Ok(mut reader) = open(bytes) else { return };
    let names: Vec<String> = reader.tensors().iter().map(|entry| entry.name.clone()).collect();
    for name in names {
        let held = reader.find(&name).unwrap().elements();
        match reader.read_f32(&name) {
            Ok(values) => assert_eq!(values.len(), held),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
}

#[test]
fn any_single_byte_changed_never_panics() {
    let bytes = file();
    for position in 0..bytes.len() {
        for value in [0, 1, b'"', b'9', b'{', 0x7F, 0xFF, bytes[position] ^ 1] {
            let mut changed = bytes.clone();
            changed[position] = value;
            read_everything(&changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn random_headers_never_panic(
        shape in proptest::collection::vec(any::<u64>(), 0..4),
        small in proptest::collection::vec(0u64..4, 0..4),
        from in 0u64..40, to in prop_oneof![0u64..80, any::<u64>()], data in 0usize..80,
        dtype in prop_oneof![Just("F32"), Just("BF16"), Just("F16"), Just("F64"), Just("F4"), Just("I8"), Just("F6_E2M3")],
    ) {
        for shape in [&shape, &small] {
            let header = format!(
                r#"{{"a":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{from}]}},
                    "b":{{"dtype":"F32","shape":[],"data_offsets":[{from},{to}]}}}}"#
            );
            read_everything(&with_header(&header, data));
        }
    }

    #[test]
    fn any_shapes_and_values_round_trip(
        tensors in proptest::collection::btree_map(
            "[a-z\"\\\\\u{e9}\u{1f600}.0-9]{1,12}", proptest::collection::vec(0usize..5, 0..4), 0..6),
        bits in any::<u32>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let specs: Vec<TensorSpec> = tensors.iter().map(|(name, shape)| TensorSpec::f32(name.clone(), shape)).collect();
        let value = |i: usize| f32::from_bits(bits.wrapping_mul(i as u32 + 1));
        write(&RealFs, &path, specs, &BTreeMap::new(), |spec| {
            Ok(Cow::Owned((0..spec.shape.iter().product()).map(value).collect()))
        }).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        prop_assert_eq!(reader.tensors().len(), tensors.len());
        for (name, shape) in &tensors {
            let count: usize = shape.iter().product();
            let expected: Vec<u32> = (0..count).map(|i| value(i).to_bits()).collect();
            prop_assert_eq!(reader.read_f32_shaped(name, shape).unwrap().map_bits(), expected);
        }
    }
}
