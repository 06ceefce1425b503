//! The backend `file` for a URL: one YAML or JSON document that is read over HTTP, at the start and every interval.
//! It cannot be watched. What it means as keys is `flatten`'s business.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::keys::Keys;
use super::polled::{Polled, Schedule, Source};
use super::redact::Redactor;
use super::{Backend, flatten, interval};
use crate::config::{self, Mode, ReadLimits};
use crate::host::http::{Client, Limits, without_credentials};
use crate::host::wait::Wake;
use crate::log::{Level, Line};
use crate::scheme;
use crate::store::Layer;

const NAME: &str = "file";

/// A larger document is an error, as a file of that size is.
const LARGEST: usize = 64 << 20;

/// What remco gives a server, from the connection to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one read waits for a connection where others are to be served meanwhile. The next read goes on with it.
const BRIEFLY: Duration = Duration::from_secs(1);

/// The backend at work. The seed spreads its reads over time.
pub fn new(
    config: &config::Backend,
    file: &config::File,
    mode: Mode,
    wake: Arc<dyn Wake>,
    seed: u64,
) -> Box<dyn Backend> {
    // A one-shot run has no second read, and a lost packet costs a connection a second.
    let connect = if mode == Mode::OneShot { PATIENCE } else { BRIEFLY };
    let limits = Limits { connect, dial: PATIENCE, answer: PATIENCE, whole: PATIENCE, size: LARGEST };
    let document = Document {
        http: Client::new(wake, limits, config::Tls::default()),
        url: file.filepath.clone(),
        headers: file.httpheaders.clone().into_iter().collect(),
        keys: Keys::new(&config.prefix, &config.keys),
        limits: file.read,
    };
    let schedule = Schedule::new(interval(config, mode), seed);
    let line = Line::new(Level::Info, "set file path").with("backend", NAME);
    let line = line.with("filepath", without_credentials(&file.filepath));
    Box::new(Polled::new(document, &config.prefix, schedule).introduced(line))
}

struct Document {
    http: Client,
    url: String,
    headers: Vec<(String, config::Secret)>,
    keys: Keys,
    limits: ReadLimits,
}

impl Source for Document {
    fn name(&self) -> &'static str {
        NAME
    }

    fn read(&mut self) -> Result<Layer, String> {
        let shown = without_credentials(&self.url);
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        let mut answer = self.http.get(&self.url, &headers).map_err(|error| error.to_string())?;
        if !(200..300).contains(&answer.status) {
            let status = answer.status;
            let hint =
                if scheme::speaks_tls(&answer.beginning()) { format!(": {}", scheme::HINT) } else { String::new() };
            return Err(format!("failed to GET {shown}: the server answered with status {status}{hint}"));
        }
        let mut text = Vec::new();
        answer.read_to_end(&mut text).map_err(|error| format!("failed to GET {shown}: {error}"))?;
        let mut secrets = Redactor::default();
        secrets.hide_credentials_of(&self.url);
        self.headers.iter().for_each(|(_, value)| secrets.hide("header", value.reveal()));
        flatten::document(&text, &self.keys, self.limits).map_err(|bad| {
            let why = secrets.redact(&bad.why);
            format!("failed to parse {shown}:{}:{}: {why}", bad.line, bad.column)
        })
    }

    fn stopped(&self) -> bool {
        self.http.aborted()
    }
}
