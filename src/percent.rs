//! Percent-encoding of keys and names in the path of a URL (RFC 3986). Decodes nothing.
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
