//! Reads HTTP/1.1 messages for the servers and clients of the tests. It shares no code with the program's parser, so
//! that a mistake there shows here. Connections belong to the callers.

use std::io::{self, BufRead, ErrorKind};

/// The head of a request or an answer.
pub struct Head {
    /// The lines without their ends: the request or status line, then the headers.
    lines: Vec<String>,
}

impl Head {
    /// Reads up to the empty line. An error where the connection ends before.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Head> {
        let mut lines = Vec::new();
        loop {
            match line(reader)? {
                line if line.is_empty() => return Ok(Head { lines }),
                line => lines.push(line),
            }
        }
    }

    /// The status of an answer.
    pub fn status(&self) -> io::Result<u16> {
        let status = self.lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        status.ok_or_else(|| io::Error::other("no status line"))
    }

    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Reads the body that belongs to this head: in chunks, or as long as the head says, or nothing.
    pub fn body(&self, reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.header("transfer-encoding").is_none() {
            let length = self.header("content-length").unwrap_or("0").parse().map_err(io::Error::other)?;
            take(reader, length, &mut body)?;
            return Ok(body);
        }
        loop {
            let length = usize::from_str_radix(&line(reader)?, 16).map_err(io::Error::other)?;
            if length == 0 {
                // Trailers, and the line that ends them.
                while !line(reader)?.is_empty() {}
                return Ok(body);
            }
            take(reader, length, &mut body)?;
            line(reader)?;
        }
    }

    /// The text of the head as it came.
    pub fn text(&self) -> String {
        self.lines.join("\r\n") + "\r\n\r\n"
    }
}

fn take(reader: &mut impl BufRead, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
    let start = into.len();
    into.resize(start + length, 0);
    reader.read_exact(&mut into[start..])
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    match reader.read_line(&mut line)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
