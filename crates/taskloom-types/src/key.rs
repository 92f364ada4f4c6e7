//! The unique name of a task, as bytes that keep the Python type of the key.

use std::fmt;
use std::sync::Arc;

/// A task's unique name.
///
/// The bytes are a type tag and its content, so that `"1"`, `1` and `("x", 1)` differ:
/// `s` + UTF-8 (str), `b` + raw (bytes), `i` + decimal digits (int), `f` + `repr` (float),
/// `t` + for each element `u32` length (little-endian) + its encoded key (tuple, nested freely).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The longest key that the scheduler accepts, in bytes (reference F67).
    pub const MAX_BYTES: usize = 4096;

    #[must_use]
    pub fn from_encoded(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// A text key (tag `s`).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.push(b's');
        bytes.extend_from_slice(text.as_bytes());
        Self(Arc::from(bytes))
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The part that names a group of similar tasks; see [`key_split`].
    #[must_use]
    pub fn prefix(&self) -> String {
        key_split(&self.0)
    }
}

/// Writes a key as Python would print it; bad bytes are replaced, never an error.
fn write_key(bytes: &[u8], quoted: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some((tag, body)) = bytes.split_first() else { return f.write_str("<empty key>") };
    match tag {
        b's' if quoted => write!(f, "'{}'", String::from_utf8_lossy(body)),
        b's' | b'i' | b'f' => f.write_str(&String::from_utf8_lossy(body)),
        b'b' => write!(f, "b'{}'", body.escape_ascii()),
        b't' => {
            f.write_str("(")?;
            for (i, part) in TupleParts(body).enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                write_key(part, true, f)?;
            }
            f.write_str(")")
        }
        _ => write!(f, "<key {}>", bytes.escape_ascii()),
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(&self.0, false, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(&self.0, true, f)
    }
}

/// The encoded elements of a tuple key; stops at the first that does not fit.
struct TupleParts<'a>(&'a [u8]);

impl<'a> Iterator for TupleParts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let part = rest.get(..length)?;
        self.0 = &rest[length..];
        Some(part)
    }
}

/// The group name of an encoded key, with Dask's `key_split` as the model: the words before
/// the token. `sum-1a2b3c4d…` gives `sum`, `("read-csv-9f…", 3)` gives `read-csv`.
#[must_use]
pub fn key_split(encoded: &[u8]) -> String {
    match encoded.split_first() {
        Some((b't', body)) => TupleParts(body).next().map_or_else(|| "Other".into(), key_split),
        Some((b's' | b'b', body)) => split_text(&String::from_utf8_lossy(body)),
        _ => "Other".into(),
    }
}

fn split_text(text: &str) -> String {
    let mut words = text.split('-');
    let first = words.next().unwrap_or_default();
    let mut result = String::from(first.trim_start_matches(['_', '\'', '(', '"']));
    if first.is_empty() || !first.starts_with(|c: char| c.is_alphabetic() || "_'(\"".contains(c)) {
        result = first.to_string();
    }
    for word in words {
        let is_word = !word.is_empty() && word.chars().all(char::is_alphabetic);
        let is_token =
            (word.len() == 8 || word.len() >= 32) && word.chars().all(|c| c.is_ascii_hexdigit());
        if !is_word || is_token {
            break;
        }
        result.push('-');
        result.push_str(word);
    }
    if result.len() == 32 && result.chars().all(|c| c.is_ascii_hexdigit()) {
        return "data".into();
    }
    if result.is_empty() { "Other".into() } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(parts: &[&Key]) -> Key {
        let mut bytes = vec![b't'];
        for part in parts {
            bytes.extend((part.as_bytes().len() as u32).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        Key::from_encoded(&bytes)
    }

    #[test]
    fn a_key_prints_as_python_would() {
        let name = Key::from_text("x-1");
        let number = Key::from_encoded(b"i7");
        assert_eq!(name.to_string(), "x-1");
        assert_eq!(tuple(&[&name, &number]).to_string(), "('x-1', 7)");
        assert_eq!(Key::from_encoded(&[]).to_string(), "<empty key>");
    }

    #[test]
    fn damaged_tuple_keys_print_without_panic() {
        assert_eq!(Key::from_encoded(b"t\xff\xff\xff\xffzz").to_string(), "()");
    }

    #[test]
    fn the_group_name_is_the_words_before_the_token() {
        let split = |text: &str| key_split(Key::from_text(text).as_bytes());
        assert_eq!(split("sum-1a2b3c4d5e6f70819203a4b5c6d7e8f9"), "sum");
        assert_eq!(split("read-csv-12"), "read-csv");
        assert_eq!(split("inc-abcdefab"), "inc");
        assert_eq!(split("1a2b3c4d5e6f70819203a4b5c6d7e8f9"), "data");
        assert_eq!(split(""), "Other");
        assert_eq!(tuple(&[&Key::from_text("x-9"), &Key::from_text("0")]).prefix(), "x");
    }
}
