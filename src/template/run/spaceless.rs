//! The tag spaceless: removes the whitespace between HTML tags.
//! Works on rendered bytes, and knows only `<` and `>` of HTML.

/// The text without the whitespace between `>` and `<`, if both belong to a tag that ends on its line. Equals repeated
/// application of pongo2's regular expression `(<.*>)[\t\n\v\f\r ]+(<.*>)` (both parts as short as possible).
pub(crate) fn spaceless(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    // Whether a `<` came before in this line.
    let mut opened = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        out.push(*byte);
        at += 1;
        match byte {
            b'<' => opened = true,
            b'\n' => opened = false,
            b'>' if opened => {
                let blank = text[at..].iter().take_while(|byte| is_blank(**byte)).count();
                if blank > 0 && closes(&text[at + blank..]) {
                    at += blank;
                }
            }
            _ => {}
        }
    }
    out
}

/// Whether a text begins with `<`, and a `>` follows in the same line.
fn closes(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| matches!(byte, b'>' | b'\n'));
    text.first() == Some(&b'<') && end.is_some_and(|end| text[end] == b'>')
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_blanks_between_tags() {
        let check = |text: &str, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&spaceless(text.as_bytes())), expected, "{text:?}");
        };
        check("", "");
        check("<a> <b>", "<a><b>");
        check("  <a>  x  </a> \n\t <b> \r\n </b>  ", "  <a>  x  </a><b></b>  ");
        check("text <a> </a> text", "text <a></a> text");
        check("<a> x <b>", "<a> x <b>");
        check("a > < b", "a > < b");
        check("a> <b>", "a> <b>");
        check("<a\nb> <c>", "<a\nb> <c>");
        check("<a> <b\n>", "<a> <b\n>");
        check("<a>\n\n<b>\n<c>", "<a><b><c>");
        check("<a>x> <b>", "<a>x><b>");
        check("<> <>", "<><>");
    }
}
