//! A real nginx that serves the files of a folder, over HTTP and HTTPS.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::{LIMIT, Pair, TempDir, free_port, wait_until};

pub struct Nginx {
    /// What it serves is in `files` below it.
    pub dir: TempDir,
    port: u16,
    secure_port: u16,
    process: Child,
}

impl Nginx {
    /// Starts one with further rules for its server; returns when it listens.
    pub fn start(pair: &Pair, rules: &str) -> Nginx {
        let (dir, port, secure_port) = (TempDir::new(), free_port(), free_port());
        dir.write("files/empty", "");
        let (cert, key) = (pair.cert.display(), pair.key.display());
        let paths =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path temp;\n"));
        dir.write(
            "nginx.conf",
            format!(
                "daemon off;\nmaster_process off;\npid pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{}\
                 server {{\nlisten 127.0.0.1:{port};\nlisten 127.0.0.1:{secure_port} ssl;\n\
                 ssl_certificate {cert};\nssl_certificate_key {key};\nroot files;\n{rules}\n}}\n}}\n",
                paths.concat()
            ),
        );
        let process = Command::new("nginx")
            .arg("-p")
            .arg(dir.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("failed to start nginx (scripts/test installs it): {e}"));
        wait_until("nginx listens", LIMIT, || TcpStream::connect(("127.0.0.1", secure_port)).is_ok());
        Nginx { dir, port, secure_port, process }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.secure_port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Errors mean that it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
