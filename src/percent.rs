//! Percent-encoding of keys and names in the path of a URL, and its decoding, as in the user of a URL (RFC 3986).
//! Letters, digits and `-._~` stay as they are.

use std::fmt::Write;

/// Appends a path. Slashes stay.
pub fn push_path(path: &[u8], into: &mut String) {
    push(path, b"/", into);
}

/// Appends one segment of a path. Slashes are encoded too.
pub fn push_segment(segment: &[u8], into: &mut String) {
    push(segment, b"", into);
}

fn push(bytes: &[u8], kept: &[u8], into: &mut String) {
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => into.push(char::from(*byte)),
            byte if kept.contains(byte) => into.push(char::from(*byte)),
            // Writing to a `String` cannot fail.
            byte => _ = write!(into, "%{byte:02X}"),
        }
    }
}

/// The user and the password of a URL with a `:` between them, as they are written there.
pub fn user_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    Some(rest.split(['/', '?', '#']).next()?.rsplit_once('@')?.0)
}

/// The decoded bytes of a part of a URL. Invalid escapes are kept.
pub fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = (*first == b'%').then(|| behind.get(..2).and_then(|two| std::str::from_utf8(two).ok())).flatten();
        // from_str_radix also accepts a sign.
        let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

/// The same as text, with U+FFFD for what is not UTF-8.
pub fn decoded_text(text: &str) -> String {
    String::from_utf8_lossy(&decoded(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_stay_in_paths_alone() {
        let (mut path, mut segment) = (String::new(), String::new());
        push_path(b"/a b/\xff~", &mut path);
        push_segment(b"a/b%", &mut segment);
        assert_eq!((&*path, &*segment), ("/a%20b/%FF~", "a%2Fb%25"));
    }
}
