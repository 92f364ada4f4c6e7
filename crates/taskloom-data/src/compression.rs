//! Compression of parts of values on their way between hosts: only what a sample says will shrink
//! enough, and never more memory for a reader than it was told.

use std::borrow::Cow;

/// How bytes are compressed. The number is the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Plain = 0,
    Lz4 = 1,
    Zstd = 2,
}

/// Bytes that do not become this much shorter, in percent of their length, travel as they are.
const WORTH_PERCENT: usize = 80;
/// Length of the sample.
const SAMPLE_BYTES: usize = 32 * 1024;
/// zstd's fastest regular level: ranges are compressed while they are sent.
const ZSTD_LEVEL: i32 = 1;

impl Codec {
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Plain, Self::Lz4, Self::Zstd].into_iter().find(|codec| *codec as u8 == number)
    }

    fn compress(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Plain => None,
            Self::Lz4 => Some(lz4_flex::block::compress(bytes)),
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL).ok(),
        }
    }
}

fn is_worth_it(compressed: usize, plain: usize) -> bool {
    compressed.saturating_mul(100) <= plain.saturating_mul(WORTH_PERCENT)
}

/// The bytes as they shall travel, compressed by `codec` if that pays: a sample from the middle is
/// tried first, since the beginning is often unlike the rest.
#[must_use]
pub fn compress(codec: Codec, bytes: &[u8]) -> (Codec, Cow<'_, [u8]>) {
    let start = bytes.len().saturating_sub(SAMPLE_BYTES) / 2;
    let sample = &bytes[start..bytes.len().min(start + SAMPLE_BYTES)];
    let pays = |bytes: &[u8]| {
        codec.compress(bytes).filter(|compressed| is_worth_it(compressed.len(), bytes.len()))
    };
    match pays(sample).and_then(|_| pays(bytes)) {
        Some(compressed) => (codec, Cow::Owned(compressed)),
        None => (Codec::Plain, Cow::Borrowed(bytes)),
    }
}

/// The plain form, of exactly `length` bytes; `None` when the bytes are damaged or another length.
#[must_use]
pub fn decompress(codec: Codec, bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let plain = match codec {
        Codec::Plain => bytes.to_vec(),
        Codec::Lz4 => lz4_flex::block::decompress(bytes, length).ok()?,
        Codec::Zstd => zstd::bulk::decompress(bytes, length).ok()?,
    };
    (plain.len() == length).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that no codec shortens.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_shrinks_comes_back_equal() {
        let text = b"one two three ".repeat(10_000);
        for codec in [Codec::Lz4, Codec::Zstd] {
            let (used, packed) = compress(codec, &text);
            assert_eq!(used, codec);
            assert!(packed.len() < text.len() / 4);
            assert_eq!(decompress(used, &packed, text.len()), Some(text.clone()));
        }
    }

    #[test]
    fn noise_stays_as_it_is() {
        for length in [0, 1, 100_000] {
            let bytes = noise(length);
            for codec in [Codec::Plain, Codec::Lz4, Codec::Zstd] {
                let (used, same) = compress(codec, &bytes);
                assert_eq!((used, &same[..]), (Codec::Plain, &bytes[..]));
            }
        }
    }

    #[test]
    fn a_compressible_sample_in_noise_is_found_out() {
        let mut bytes = noise(2_000_000);
        bytes[1_000_000 - SAMPLE_BYTES / 2..][..SAMPLE_BYTES].fill(7);
        assert_eq!(compress(Codec::Lz4, &bytes).0, Codec::Plain);
    }

    #[test]
    fn damaged_or_wrongly_measured_bytes_are_refused() {
        let text = b"one two three ".repeat(1000);
        for codec in [Codec::Lz4, Codec::Zstd] {
            let (_, packed) = compress(codec, &text);
            assert_eq!(decompress(codec, &packed, text.len() - 1), None);
            assert_eq!(decompress(codec, &packed, text.len() + 1), None);
            assert_eq!(decompress(codec, &packed[..packed.len() / 2], text.len()), None);
            assert_eq!(decompress(codec, &noise(500), 1000), None);
        }
        assert_eq!(Codec::from_number(9), None);
    }
}
