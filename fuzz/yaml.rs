//! What any bytes must survive as a YAML document: reading it ends, within its limits and the same way twice. What was
//! read and can be written in brackets as JSON is read again as the same. That libyaml reads it alike is
//! `scripts/compare-yaml`'s business.

use remco::yaml::{self, DEPTH, Node, Scalar};

const LIMIT: usize = 1 << 20;

pub fn run(bytes: &[u8]) {
    let read = yaml::read(bytes, LIMIT);
    assert_eq!(format!("{read:?}"), format!("{:?}", yaml::read(bytes, LIMIT)), "the second time differs");
    match read {
        Ok(node) => {
            assert!(depth(&node) <= DEPTH, "nested too deep");
            let mut text = String::new();
            if write(&node, &mut text).is_some() {
                let again = yaml::read(text.as_bytes(), usize::MAX).unwrap_or_else(|fault| panic!("{text}: {fault}"));
                assert_eq!(format!("{again:?}"), format!("{node:?}"), "{text}");
            }
        }
        Err(fault) => {
            let lines = String::from_utf8_lossy(bytes).split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            // UTF-16 has others.
            assert!((1..=lines.max(bytes.len())).contains(&fault.line) && fault.column > 0, "{fault}");
            assert!(!fault.why.is_empty());
        }
    }
}

fn depth(node: &Node) -> usize {
    match node {
        Node::Scalar(_) => 0,
        Node::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Node::Map(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
    }
}

/// Writes a node in brackets; `None` where that would not come back.
fn write(node: &Node, out: &mut String) -> Option<()> {
    match node {
        Node::Scalar(scalar) => write_scalar(scalar, out)?,
        Node::List(items) => {
            out.push('[');
            for item in items {
                write(item, out)?;
                out.push_str(",\n");
            }
            out.push(']');
        }
        Node::Map(entries) => {
            out.push('{');
            for (key, value) in entries {
                // A key without a `?` has 1024 characters at most.
                out.push_str("? ");
                write_scalar(key, out)?;
                out.push_str(" : ");
                write(value, out)?;
                out.push_str(",\n");
            }
            out.push('}');
        }
    }
    Some(())
}

fn write_scalar(scalar: &Scalar, out: &mut String) -> Option<()> {
    match scalar {
        Scalar::Text(text) => out.push_str(&yaml::double_quoted(std::str::from_utf8(text).ok()?)),
        Scalar::Null => out.push('~'),
        Scalar::Float(number) if !number.is_finite() => return None,
        // A whole one would be an integer.
        Scalar::Float(number) => out.push_str(&format!("!!float {number:e}")),
        other => out.push_str(std::str::from_utf8(&other.print()).ok()?),
    }
    Some(())
}
