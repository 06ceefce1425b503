//! What any bytes must survive as a pattern, and that it matches what Go's path.Match matches: the bytes hold a pattern
//! and a path with a zero byte between them. The other matcher follows Go's text line by line and is slow.

use remco::store::pattern::Pattern;

pub fn run(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (pattern, path) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    // Go's takes the product of the two.
    if pattern.len() > 200 || path.len() > 200 {
        return;
    }
    let ours = Pattern::new(pattern);
    match (go_match(pattern, path), &ours) {
        (Ok(matched), Ok(ours)) => assert_eq!(ours.matches(path), matched, "{:?}", shown(pattern, path)),
        (Err(()), Err(_)) => {}
        (go, _) => panic!("{:?}: Go says {go:?}, ours {ours:?}", shown(pattern, path)),
    }
    let Ok(ours) = ours else { return };
    if ours.matches(path) {
        assert!(path.starts_with(ours.prefix()), "{:?}", shown(pattern, path));
        let slashes = path.iter().filter(|byte| **byte == b'/').count();
        assert!(ours.depth().is_none_or(|depth| depth == slashes), "{:?}", shown(pattern, path));
        assert!(!ours.is_literal() || path == ours.prefix(), "{:?}", shown(pattern, path));
    }
}

fn shown(pattern: &[u8], path: &[u8]) -> (String, String) {
    (pattern.escape_ascii().to_string(), path.escape_ascii().to_string())
}

/// path.Match of Go 1.21.
fn go_match(mut pattern: &[u8], mut name: &[u8]) -> Result<bool, ()> {
    'pattern: while !pattern.is_empty() {
        let (star, chunk, after) = scan_chunk(pattern);
        pattern = after;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(rest) = match_chunk(chunk, name)?
            && (rest.is_empty() || !pattern.is_empty())
        {
            name = rest;
            continue;
        }
        if star {
            let mut i = 0;
            while i < name.len() && name[i] != b'/' {
                if let Some(rest) = match_chunk(chunk, &name[i + 1..])?
                    && (!pattern.is_empty() || rest.is_empty())
                {
                    name = rest;
                    continue 'pattern;
                }
                i += 1;
            }
        }
        while !pattern.is_empty() {
            let (_, chunk, after) = scan_chunk(pattern);
            pattern = after;
            match_chunk(chunk, b"")?;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

fn scan_chunk(mut pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let mut star = false;
    while let Some(rest) = pattern.strip_prefix(b"*") {
        (pattern, star) = (rest, true);
    }
    let (mut in_range, mut i) = (false, 0);
    while i < pattern.len() {
        match pattern[i] {
            b'\\' if i + 1 < pattern.len() => i += 1,
            b'[' => in_range = true,
            b']' => in_range = false,
            b'*' if !in_range => break,
            _ => {}
        }
        i += 1;
    }
    (star, &pattern[..i], &pattern[i..])
}

fn match_chunk<'n>(mut chunk: &[u8], mut name: &'n [u8]) -> Result<Option<&'n [u8]>, ()> {
    let mut failed = false;
    while let Some(&first) = chunk.first() {
        failed |= name.is_empty();
        match first {
            b'[' => {
                let mut rune = 0;
                if !failed {
                    let (decoded, length) = decode(name);
                    (rune, name) = (decoded, &name[length..]);
                }
                chunk = &chunk[1..];
                let negated = chunk.first() == Some(&b'^');
                chunk = &chunk[usize::from(negated)..];
                let (mut matched, mut ranges) = (false, 0);
                loop {
                    if ranges > 0
                        && let Some(rest) = chunk.strip_prefix(b"]")
                    {
                        chunk = rest;
                        break;
                    }
                    let (low, rest) = escaped(chunk)?;
                    let (mut high, mut rest) = (low, rest);
                    if rest[0] == b'-' {
                        (high, rest) = escaped(&rest[1..])?;
                    }
                    chunk = rest;
                    matched |= low <= rune && rune <= high;
                    ranges += 1;
                }
                failed |= matched == negated;
            }
            b'?' => {
                if !failed {
                    failed = name[0] == b'/';
                    name = &name[decode(name).1..];
                }
                chunk = &chunk[1..];
            }
            _ => {
                if first == b'\\' {
                    chunk = &chunk[1..];
                }
                let literal = chunk.first().ok_or(())?;
                if !failed {
                    failed = *literal != name[0];
                    name = &name[1..];
                }
                chunk = &chunk[1..];
            }
        }
    }
    Ok((!failed).then_some(name))
}

fn escaped(chunk: &[u8]) -> Result<(u32, &[u8]), ()> {
    let chunk = match chunk.first() {
        None | Some(b'-' | b']') => return Err(()),
        Some(b'\\') => &chunk[1..],
        Some(_) => chunk,
    };
    if chunk.is_empty() {
        return Err(());
    }
    let (rune, length) = decode(chunk);
    if rune == ERROR && length == 1 || chunk.len() == length {
        return Err(());
    }
    Ok((rune, &chunk[length..]))
}

/// utf8.RuneError
const ERROR: u32 = 0xfffd;

/// utf8.DecodeRune, of bytes that are not empty.
fn decode(bytes: &[u8]) -> (u32, usize) {
    (1..=bytes.len().min(4))
        .find_map(|length| std::str::from_utf8(&bytes[..length]).ok()?.chars().next())
        .map_or((ERROR, 1), |char| (char.into(), char.len_utf8()))
}
