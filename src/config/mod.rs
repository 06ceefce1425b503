//! The configuration: reads the main file and those of include_dir, and checks them as a whole. Reads files and the
//! environment only through [`Source`].

mod accounts;
mod backend;
mod build;
mod cache;
mod command;
mod document;
mod duration;
mod excerpt;
mod exec;
mod expand;
mod finding;
mod guard;
mod mode;
pub mod model;
pub mod plain;
mod reader;
mod report;
mod resource;
mod schema;
mod secret;
mod signal;
mod source;
mod strings;
mod telemetry;
mod template;
#[cfg(test)]
mod tests;
mod top;
mod unset;
mod words;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use backend::{
    AuthType, Backend, Consul, Credential, Etcd, EtcdVersion, File, Kind, Login, Nats, NatsLogin, Network,
    OPTIONAL_STORES, Plugin, ReadLimits, Redis, Tls, Token, Vault, Zookeeper,
};
pub use build::NO_TLS;
pub use duration::{DURATION_FORM, duration};
pub use finding::{Finding, Findings};
pub use mode::{Mode, Strictness};
pub use model::*;
pub use secret::Secret;
pub use signal::name as signal_name;
pub use source::{Identity, Shell, Source};

use accounts::Accounts;
use build::NO_FILTERS;
use document::{Document, Span, Table};
use reader::{Found, Reader};
use report::{Report, quoted};
use resource::{Machine, Origin, RESOURCE};
use schema::Schema;
use top::MAIN;
pub use top::{log_format_of, log_level_of};

use crate::error::cause;

/// All kinds of tables, the usual ones first: an unknown key of one table may belong to another.
const SCHEMAS: &[&Schema] = &[
    &MAIN,
    &top::LIMITS,
    &RESOURCE,
    &template::TEMPLATE,
    &exec::EXEC,
    &resource::SETTLE,
    &guard::GUARD,
    &cache::CACHE,
    &backend::BACKENDS,
    &backend::etcd::ETCD,
    &backend::file::FILE,
    &backend::env::ENV,
    &backend::consul::CONSUL,
    &backend::vault::VAULT,
    &backend::redis::REDIS,
    &backend::zookeeper::ZOOKEEPER,
    &backend::mock::MOCK,
    &backend::nats::NATS,
    &backend::plugin::PLUGIN,
    &telemetry::TELEMETRY,
    &telemetry::SINKS,
    &telemetry::INMEM,
    &telemetry::STATSD,
    &telemetry::STATSITE,
    &telemetry::PROMETHEUS,
    &telemetry::TEXTFILE,
];

/// Reads and checks a whole configuration. Returns the configuration and all warnings. `mode` decides which warnings
/// are useful; the configuration does not depend on it.
///
/// # Errors
/// At least one error. The list holds all errors and warnings.
pub fn load(
    path: &Path,
    strictness: Strictness,
    mode: Mode,
    source: &dyn Source,
) -> Result<(Config, Vec<Finding>), Findings> {
    let report = Report::new(strictness, mode, SCHEMAS);
    let (config, findings) = read(path, report, source);
    match config {
        Some(config) if findings.list.iter().all(|finding| !finding.fatal) => Ok((config, findings.list)),
        _ => Err(findings),
    }
}

/// Reads and checks a configuration like [`load`], and also checks the machine: whether each `dst` can be written, and
/// whether the programs of commands exist. Returns also a configuration with errors, as far as it could be read.
pub fn inspect(path: &Path, strictness: Strictness, mode: Mode, source: &dyn Source) -> (Option<Config>, Findings) {
    let mut report = Report::new(strictness, mode, SCHEMAS);
    report.is_thorough = true;
    read(path, report, source)
}

/// The configuration of one template with the keys of a file. Writes no file.
///
/// # Errors
/// One of the paths is not UTF-8, or the file backend refuses it.
pub fn of_template(src: &Path, data: &Path, source: &dyn Source) -> Result<Config, String> {
    let quoted = |path: &Path| {
        let text = path.to_str().ok_or_else(|| format!("failed to use `{}`: its name is not UTF-8", path.display()))?;
        Ok::<_, String>(serde_json::Value::from(text).to_string().replace('$', "${$}"))
    };
    let (name, src, data) = (quoted(src)?, quoted(src)?, quoted(data)?);
    let text = format!(
        "[[resource]]\nname = {name}\n[[resource.template]]\nsrc = {src}\ndst = \"/dev/stdout\"\n\
         [resource.backend.file]\nfilepath = {data}\nkeys = [\"/\"]\nonetime = true\n"
    );
    let source = Written { text, source };
    let loaded = load(Path::new("--render"), Strictness::Lenient, Mode::OneShot, &source);
    loaded.map(|(config, _)| config).map_err(|findings| findings.to_string())
}

/// A source whose main file is a text.
struct Written<'s> {
    text: String,
    source: &'s dyn Source,
}

impl Source for Written<'_> {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.text.clone().into_bytes())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.source.list(dir)
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.source.var(name)
    }

    fn shell(&self) -> Shell {
        self.source.shell()
    }

    fn identity(&self, path: &Path) -> Identity {
        self.source.identity(path)
    }
}

fn read(path: &Path, report: Report, source: &dyn Source) -> (Option<Config>, Findings) {
    let mut load = Load { source, report: report.with_variables(backend::VARIABLES, source) };
    let config = load.run(path);
    unset::check(&load.report);
    (config, load.report.finish())
}

struct Load<'s> {
    source: &'s dyn Source,
    report: Report,
}

/// A parsed file.
struct Tree {
    table: Table,
    /// The place of the file itself, for keys that are missing at its top level.
    span: Span,
    path: PathBuf,
}

impl Load<'_> {
    /// The configuration, as far as it could be read; `None`: there is no file.
    fn run(&mut self, path: &Path) -> Option<Config> {
        let main = self.read(path)?;
        // The included files are read before the main file is checked: missing keys are reported only if every file is
        // free of syntax errors.
        let files = self.include(&main);
        let report = &self.report;
        let reader = Reader::new(report, &MAIN, &main.table, main.span);
        let (log_level, log_format) = (top::log_level(&reader), top::log_format(&reader));
        let defaults = reader.table("default_backends");
        if let Some(defaults) = &defaults {
            backend::check_defaults(report, defaults);
        }
        let mut parsed = Vec::new();
        let machine = Machine { shell: self.source.shell(), accounts: Accounts::new(self.source) };
        let mut take = |reader: &Reader, origin, path: &Path| {
            parsed.push(resource::parse(reader, origin, &file_name(path), defaults.as_ref(), &machine));
        };
        for table in reader.tables("resource", "resource") {
            take(&Reader::new(report, &RESOURCE, table.value, table.span), Origin::Main, &main.path);
        }
        for file in &files {
            if let Some(reader) = included(report, file) {
                take(&reader, Origin::Included, &file.path);
            }
        }
        let read: Vec<&Path> = [&main].into_iter().chain(&files).map(|file| &*file.path).collect();
        let own = [
            ("`pid_file`", "the `pid_file`", reader.filled("pid_file")),
            ("`status_file`", "the `status_file`", reader.filled("status_file")),
            ("`path`", "the `path` of the textfile sink", telemetry::textfile(reader.table("telemetry").as_ref())),
        ];
        one_writer_each(report, self.source, &parsed, &read, &own);
        one_name_each(report, &parsed, reader.has("state_dir"));
        if !reader.has("state_dir") {
            for place in parsed.iter().filter_map(|parsed| parsed.cache) {
                report.error(
                    place,
                    "`cache` needs keys that are kept: set `state_dir` at the top level of the main file",
                );
            }
        }
        if report.is_thorough {
            warn_missing(report, self.source, &parsed);
            warn_missing_for_own_files(report, self.source, &reader, &own);
        }
        if parsed.is_empty() && !reader.has("resource") {
            let message = "no resource is configured, so nothing is rendered: add `[[resource]]`, or an `include_dir`";
            report.warn_missing_in_file(main.span.file, message.to_owned());
        }
        let config = Config {
            log_level,
            log_format,
            filters: self.filters(&reader),
            pid_file: reader.path("pid_file"),
            state_dir: reader.path("state_dir"),
            status_file: reader.path("status_file"),
            splay: reader.duration("splay").map_or(Duration::ZERO, |splay| splay.value),
            limits: top::limits(report, reader.table("limits").as_ref()),
            telemetry: telemetry::parse(report, reader.table("telemetry").as_ref()),
            resources: parsed.into_iter().map(|parsed| parsed.resource).collect(),
            included: files.into_iter().map(|file| file.path).collect(),
        };
        Some(config)
    }

    /// Reads and parses one file, or reports an error.
    fn read(&mut self, path: &Path) -> Option<Tree> {
        let read = self.source.read(path);
        self.parse(path, read)
    }

    fn parse(&mut self, path: &Path, read: io::Result<Vec<u8>>) -> Option<Tree> {
        let failure = read.as_ref().err().map(cause);
        let document = Document::new(path, read.unwrap_or_default(), &|name| self.source.var(name));
        let is_cut = document.expanded.is_cut;
        let number = self.report.add(document);
        if let Some(cause) = failure {
            self.report.unreadable_file(number, format!("failed to read the file: {cause}"));
            return None;
        }
        if is_cut {
            let message = "failed to read the file: the values of its variables make it too large";
            self.report.unreadable_file(number, message.to_owned());
            return None;
        }
        let (table, broken) = self.report.file_mut(number).parse(number);
        for broken in broken {
            self.report.broken(broken.span, broken.message);
        }
        Some(Tree { table, span: Span { file: number, start: 0, end: 0 }, path: path.to_path_buf() })
    }

    /// The files of include_dir, by name. A directory and a dangling link are skipped.
    fn include(&mut self, main: &Tree) -> Vec<Tree> {
        let reader = Reader::new(&self.report, &MAIN, &main.table, main.span);
        let Some(dir) = reader.filled("include_dir") else { return Vec::new() };
        let (span, shown) = (dir.span, self.report.show(dir.span, dir.value));
        let paths = match self.files(&dir, b".toml") {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("failed to list the include_dir {shown}: {}", cause(&error));
                self.report.unreadable_directory(span, message);
                return Vec::new();
            }
        };
        let mut files = Vec::new();
        for path in &paths {
            let read = self.source.read_included(path);
            let why = match read.as_ref().err().map(io::Error::kind) {
                Some(io::ErrorKind::IsADirectory) => "it is a directory",
                Some(io::ErrorKind::NotFound) => "it is a link to no file, or was just removed",
                _ => {
                    files.extend(self.parse(path, read));
                    continue;
                }
            };
            let name = quoted(&file_name(path));
            self.report.warn(span, format!("{name} in the include_dir {shown} is skipped: {why}"));
        }
        if paths.is_empty() {
            let message = format!("the include_dir {shown} holds no file whose name ends with `.toml`");
            self.report.warn(span, message);
        }
        files
    }

    /// The files of filter_dir, by name. The directory may be missing, as in Go remco.
    fn filters(&self, main: &Reader) -> Vec<PathBuf> {
        let Some(dir) = main.filled("filter_dir") else { return Vec::new() };
        let shown = self.report.show(dir.span, dir.value);
        let filters = self.files(&dir, b".js").unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                self.report.warn(dir.span, format!("failed to list the filter_dir {shown}: {}", cause(&error)));
            }
            Vec::new()
        });
        if let (Some(first), false) = (filters.first(), cfg!(feature = "js")) {
            let first = quoted(&file_name(first));
            self.report.error(dir.span, format!("failed to load {first} of the filter_dir {shown}: {NO_FILTERS}"));
        }
        filters
    }

    /// The paths in a directory whose names end with `suffix`, sorted by the bytes of the names.
    fn files(&self, dir: &Found<&str>, suffix: &[u8]) -> io::Result<Vec<PathBuf>> {
        let mut names = self.source.list(Path::new(dir.value))?;
        names.retain(|name| name.as_bytes().ends_with(suffix));
        names.sort_unstable();
        Ok(names.iter().map(|name| Path::new(dir.value).join(name)).collect())
    }
}

/// The resource of an included file; `None`: the file is skipped, such as one without templates.
fn included<'a>(report: &'a Report, file: &'a Tree) -> Option<Reader<'a>> {
    let foreign = file.table.find("resource").filter(|_| file.table.find("template").is_none());
    if let Some(entry) = foreign {
        let message =
            "an included file is one resource: write its `name`, `[[template]]` and `[backend]` without `resource`";
        report.lint(entry.key_span, message);
        return None;
    }
    let reader = Reader::new(report, &RESOURCE, &file.table, file.span);
    if reader.has("template") {
        return Some(reader);
    }
    if let Some(entry) = file.table.entries.first() {
        report.warn(entry.key_span, "this file is skipped: it has no `[[template]]`");
    }
    None
}

/// A file of remco itself: its key, its name in messages, and its path.
type OwnFile<'a> = (&'static str, &'static str, Option<Found<&'a str>>);

/// Reports files that are written twice, or read and written: two templates with one `dst` would overwrite each other
/// without end, and a template that writes its own input would change it at every update. Each of remco's own files
/// (`own`) must differ from these files and from the other own files. Files are compared, not paths: `..`, a link and a
/// relative path are other names of one file.
fn one_writer_each(
    report: &Report,
    source: &dyn Source,
    parsed: &[resource::Parsed],
    files: &[&Path],
    own: &[OwnFile<'_>],
) {
    let mut inputs: HashMap<Identity, (&str, &Path)> = HashMap::new();
    inputs.extend(files.iter().map(|file| (source.identity(file), ("the configuration", *file))));
    for resource in parsed.iter().map(|parsed| &parsed.resource) {
        let sources = resource.templates.iter().map(|template| ("the `src` of a template", &*template.src));
        let data = resource.backends.iter().filter_map(|backend| match &backend.kind {
            Kind::File(file) => Some(("the `filepath` of a backend", Path::new(&file.filepath))),
            _ => None,
        });
        inputs.extend(sources.chain(data).map(|input| (source.identity(input.1), input)));
    }
    let mut backups: Vec<(PathBuf, Identity, Span)> = Vec::new();
    for parsed in parsed {
        for (template, span) in parsed.resource.templates.iter().zip(&parsed.destinations) {
            let Some(path) = template.backup_path() else { continue };
            let identity = source.identity(&path);
            // After a crash both may be links to one file. A write does not follow them.
            if identity != source.identity(&template.dst) {
                backups.push((path, identity, *span));
            }
        }
    }
    for (path, identity, span) in &backups {
        if let Some((input, _)) = inputs.get(identity) {
            let shown = quoted(&path.display().to_string());
            report.error(*span, format!("`backup` would overwrite {input}, {shown}: write to another file"));
        } else {
            inputs.insert(identity.clone(), ("the `backup` of a template", path));
        }
    }
    // Names the other path of the file, unless both are equal.
    let by_name = |shown: &str, path: &Path| match Identity::named(Path::new(shown)) == Identity::named(path) {
        true => String::new(),
        false => format!(" under the name {}", quoted(&path.display().to_string())),
    };
    let mut first: HashMap<Identity, Span> = HashMap::new();
    for (key, shown, path) in own {
        let Some(path) = path else { continue };
        let identity = source.identity(Path::new(path.value));
        if let Some((input, other)) = inputs.get(&identity) {
            let name = by_name(path.value, other);
            report.error(path.span, format!("{key} would overwrite {input}{name}: write to another file"));
        }
        inputs.insert(identity, (shown, Path::new(path.value)));
    }
    for parsed in parsed {
        for (template, span) in parsed.resource.templates.iter().zip(&parsed.destinations) {
            let identity = source.identity(&template.dst);
            if let Some((input, path)) = inputs.get(&identity) {
                let name = by_name(&template.dst.to_string_lossy(), path);
                report.error(*span, format!("`dst` would overwrite {input}{name}: write to another file"));
            }
            if let Some(other) = first.insert(identity, *span) {
                let other = report.location(other);
                report.error(*span, format!("two templates write this file: it is also the `dst` at {other}"));
            }
        }
    }
}

/// Warns of resources with one name, whose log lines cannot be distinguished. With a `state_dir` it is an error,
/// because their files would have one name.
fn one_name_each(report: &Report, parsed: &[resource::Parsed], has_state_dir: bool) {
    let mut first: HashMap<&str, Span> = HashMap::new();
    for parsed in parsed {
        if let Some(other) = first.insert(&parsed.resource.name, parsed.name) {
            let name = report.show(parsed.name, &parsed.resource.name);
            let other = report.location(other);
            let message = format!("two resources have the name {name}: set another `name` here or at {other}");
            match has_state_dir {
                true => report.error(parsed.name, format!("{message}; each has its files in `state_dir`")),
                false => report.warn(parsed.name, message),
            }
        }
    }
}

/// Warns of a `dst` that cannot be written, and of programs that do not exist.
fn warn_missing(report: &Report, source: &dyn Source, parsed: &[resource::Parsed]) {
    for parsed in parsed {
        for (template, span) in parsed.resource.templates.iter().zip(&parsed.destinations) {
            if let Some(obstacle) = source.obstacle(&template.dst, template.make_directories, template.in_place) {
                report.lint(*span, format!("`dst` cannot be written: {obstacle}"));
            }
        }
    }
    for (span, program) in report.programs() {
        if let Some(missing) = source.missing_program(&program) {
            report.lint(span, missing);
        }
    }
}

/// Warns of remco's own files that cannot be written, of a `state_dir` that cannot be used, and of a socket for
/// Prometheus that cannot be created.
fn warn_missing_for_own_files(report: &Report, source: &dyn Source, reader: &Reader, own: &[OwnFile<'_>]) {
    let files = own.iter().filter_map(|(key, _, found)| found.as_ref().map(|found| (*key, found.span, found.value)));
    let socket = telemetry::socket(reader.table("telemetry").as_ref());
    for (key, span, path) in files.chain(socket.map(|found| ("the socket of `addr`", found.span, found.value))) {
        if let Some(obstacle) = source.own_obstacle(Path::new(path)) {
            report.lint(span, format!("{key} cannot be written: {obstacle}"));
        }
    }
    if let Some(dir) = reader.filled("state_dir")
        && let Some(obstacle) = source.state_dir_obstacle(Path::new(dir.value))
    {
        report.lint(dir.span, format!("`state_dir` cannot be used: {obstacle}"));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
