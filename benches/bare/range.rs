//! The lower bound of a one-shot run: one range request to an etcd on this machine, whose answer is read and discarded.
//! Prints the number of bytes. Plain std, compiled by `scripts/bench` with rustc alone: `range PORT BODY`.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let [port, body] = [1, 2].map(|n| env::args().nth(n).expect("usage: range PORT BODY"));
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse().expect("a port")))?;
    let length = body.len();
    let head = format!("POST /v3/kv/range HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes())?;
    let (mut buffer, mut bytes) = (vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n if bytes == 0 && !buffer[..n].starts_with(b"HTTP/1.1 200") => panic!("{}", String::from_utf8_lossy(&buffer[..n])),
            n => bytes += n,
        }
    }
    println!("{bytes}");
    Ok(())
}
