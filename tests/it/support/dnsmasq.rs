//! A real DNS server, dnsmasq, with its own names: it asks no other server and reads no file of the machine.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::{LIMIT, wait_until};

pub struct Dnsmasq {
    process: Child,
}

impl Dnsmasq {
    /// Starts one on a port of 127.0.0.1 that knows everything in `example.com` and refuses all else; returns when it
    /// answers. `records` are its options: `host-record=db.example.com,10.0.0.1`.
    pub fn start(port: u16, records: &[&str]) -> Dnsmasq {
        let mut process = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-"])
            .args([
                "--no-resolv",
                "--no-hosts",
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--local=/example.com/",
            ])
            .arg(format!("--port={port}"))
            .args(records.iter().map(|record| format!("--{record}")))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start dnsmasq (scripts/test installs it): {e}"));
        wait_until("dnsmasq answers", LIMIT, || {
            if let Some(status) = process.try_wait().expect("dnsmasq is our child") {
                panic!("dnsmasq ended with {status}");
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Dnsmasq { process }
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // Errors mean that it has ended meanwhile.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
