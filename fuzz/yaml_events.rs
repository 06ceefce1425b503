//! Reads documents from its standard input, each with its length in bytes on a line before it, and writes on one line
//! each what the parser says of the first document in it. `scripts/compare-yaml` compares that with libyaml.

use std::io::{self, BufRead, Read, Write};

use remco::yaml::parser::{Event, Parser, Properties};
use remco::yaml::scanner::Form;

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let mut document = vec![0; line.trim().parse().map_err(io::Error::other)?];
        input.read_exact(&mut document)?;
        writeln!(output, "{}", serde_json::json!(told(&document)))?;
        line.clear();
    }
    output.flush()
}

/// The events as short texts; the last one says how it ended.
fn told(document: &[u8]) -> Vec<String> {
    let text = match remco::yaml::text(document) {
        Ok(text) => text,
        Err(fault) => return vec![format!("error {fault}")],
    };
    let mut parser = Parser::new(&text);
    let mut told = Vec::new();
    loop {
        let (event, mark) = match parser.next_event() {
            Ok(next) => next,
            Err(fault) => {
                told.push(format!("error {fault}"));
                return told;
            }
        };
        let at = format!("{}:{}", mark.line, mark.column);
        told.push(match event {
            Event::Scalar { text, form, properties } => {
                let form = match form {
                    Form::Plain => "plain",
                    Form::Quoted => "quoted",
                    Form::Block => "block",
                };
                let at = if text.is_empty() { "-" } else { &at };
                format!("{at} {form} {} {text}", shown(&properties))
            }
            Event::Alias(name) => format!("{at} alias {name}"),
            Event::ListStart(properties) => format!("{at} list {}", shown(&properties)),
            Event::MapStart(properties) => format!("{at} map {}", shown(&properties)),
            Event::ListEnd | Event::MapEnd => "end".to_owned(),
            Event::DocumentEnd => break,
        });
    }
    told.push(match parser.expect_end() {
        Ok(()) => "done".to_owned(),
        Err(fault) => format!("more {fault}"),
    });
    told
}

fn shown(properties: &Properties) -> String {
    // PyYAML takes a zero for the end of a tag.
    let tag = properties.tag.as_deref().and_then(|tag| tag.split('\0').next());
    format!("&{} !{}", properties.anchor.unwrap_or_default(), tag.unwrap_or_default())
}
