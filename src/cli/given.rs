//! The given flags: checks their values and combinations, and resolves them to an [`Invocation`].
//! Uses the names of flags only in messages.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::{Action, DEFAULT_CONFIG, Error, Invocation, Look, Options};
use crate::config::{self, DURATION_FORM, LogFormat, LogLevel, Mode, Strictness, duration};

/// The given flags. One row of `FLAGS` sets each field.
#[derive(Default)]
pub(super) struct Given {
    pub config: Option<PathBuf>,
    pub onetime: bool,
    pub strict: bool,
    pub render_all: bool,
    pub no_commands: bool,
    pub diff: bool,
    pub check: bool,
    pub dry_run: bool,
    pub with_checks: bool,
    pub render: Option<PathBuf>,
    pub data: Option<PathBuf>,
    pub keys: bool,
    pub explain: bool,
    pub only: Vec<String>,
    pub log_level: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    pub timeout: Option<Duration>,
    pub splay: Option<Duration>,
    pub lock: Option<PathBuf>,
    pub no_wait: bool,
    pub changed_exit: bool,
    pub override_guard: bool,
    pub status: bool,
    pub json: bool,
    pub version: bool,
    pub help: bool,
}

impl Given {
    /// The invocation that the flags ask for.
    pub fn resolve(self) -> Result<Invocation, Error> {
        if self.version {
            return Ok(Invocation::Version);
        }
        self.check_combination()?;
        if self.status {
            let config = self.config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG));
            return Ok(Invocation::Status { config, json: self.json, only: self.only });
        }
        let action = if self.dry_run {
            Action::Look(Look::Changes { checks: self.with_checks })
        } else if self.check {
            Action::Look(Look::Problems)
        } else if let Some(template) = self.render {
            Action::Look(Look::Result { template, data: self.data })
        } else if self.keys {
            Action::Look(Look::Keys { json: self.json })
        } else if self.explain {
            Action::Look(Look::Reads { json: self.json })
        } else {
            Action::Apply { commands: !self.no_commands, diff: self.diff }
        };
        // Some errors of a configuration depend on the mode.
        let is_look = matches!(&action, Action::Look(look) if *look != Look::Problems);
        Ok(Invocation::Run(Options {
            has_config: self.config.is_some(),
            config: self.config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)),
            mode: if self.onetime || is_look { Mode::OneShot } else { Mode::Watch },
            strictness: if self.strict { Strictness::Strict } else { Strictness::Lenient },
            render_all: self.render_all,
            only: self.only,
            action,
            log_level: self.log_level,
            log_format: self.log_format,
            timeout: self.timeout,
            splay: self.splay,
            lock: self.lock,
            no_wait: self.no_wait,
            changed_exit: self.changed_exit,
            override_guard: self.override_guard,
        }))
    }

    /// Refuses combinations of flags without a meaning.
    fn check_combination(&self) -> Result<(), Error> {
        let looks = [
            (self.check, "--check"),
            (self.dry_run, "--dry-run"),
            (self.render.is_some(), "--render"),
            (self.keys, "--keys"),
            (self.explain, "--explain"),
            (self.status, "--status"),
        ];
        let looks: Vec<&str> = looks.iter().filter(|(is_given, _)| *is_given).map(|(_, name)| *name).collect();
        if let [one, other, ..] = looks[..] {
            return Err(Error::new(format!("`{one}` and `{other}` exclude each other: give one of them")));
        }
        if let ([one], true) = (&looks[..], self.diff) {
            return Err(Error::new(format!("`--diff` goes with a run that writes files, not with `{one}`")));
        }
        let needed = [
            (self.with_checks, "--with-checks", self.dry_run, "--dry-run"),
            (self.data.is_some(), "--data", self.render.is_some(), "--render"),
            (self.no_commands, "--no-commands", self.onetime && looks.is_empty(), "-onetime"),
        ];
        if let Some((_, name, _, other)) = needed.iter().find(|(is_given, _, has_other, _)| *is_given && !has_other) {
            return Err(Error::new(format!("`{name}` needs `{other}`")));
        }
        let only_once = [
            (self.timeout.is_some(), "--timeout"),
            (self.lock.is_some(), "--lock"),
            (self.no_wait, "--no-wait"),
            (self.changed_exit, "--changed-exit"),
        ];
        let given = only_once.iter().find(|(is_given, _)| *is_given && !self.onetime);
        if let Some((_, name)) = given {
            return Err(Error::new(format!("`{name}` needs `-onetime`: without it remco does not end by itself")));
        }
        if self.json && !self.status && !self.keys && !self.explain {
            let needs = "`--json` needs `--status`, `--keys` or `--explain`: without it nothing is printed";
            return Err(Error::new(needs.to_owned()));
        }
        if self.no_wait && self.lock.is_none() {
            return Err(Error::new(
                "`--no-wait` needs `--lock FILE`: without it there is nothing to wait for".to_owned(),
            ));
        }
        match (self.splay, self.timeout) {
            (Some(splay), Some(timeout)) => check_splay(splay, timeout).map_err(Error::new),
            (Some(_), None) | (None, _) => Ok(()),
        }
    }

    /// `--timeout`: a time above 0. As for all flags here, an error is the text behind the flag's name.
    pub fn set_timeout(&mut self, time: OsString) -> Result<(), String> {
        let timeout = time_of(&time)?;
        if timeout.is_zero() {
            return Err("has to be more than 0".to_owned());
        }
        self.timeout = Some(timeout);
        Ok(())
    }

    /// `--splay`: a time, which may be 0. Fails if the text is not a time.
    pub fn set_splay(&mut self, time: OsString) -> Result<(), String> {
        self.splay = Some(time_of(&time)?);
        Ok(())
    }

    /// `--lock`: a path. Fails if it is empty.
    pub fn set_lock(&mut self, path: OsString) -> Result<(), String> {
        if path.is_empty() {
            return Err("needs a path, such as `--lock /run/remco.lock`".to_owned());
        }
        self.lock = Some(path.into());
        Ok(())
    }

    /// `-config`: a path. Fails if it is empty.
    pub fn set_config(&mut self, path: OsString) -> Result<(), String> {
        if path.is_empty() {
            return Err("needs a path, such as `-config /etc/remco/config`".to_owned());
        }
        self.config = Some(path.into());
        Ok(())
    }

    /// `--render`: the path of a template. Fails if it is empty.
    pub fn set_render(&mut self, file: OsString) -> Result<(), String> {
        self.render = Some(file_of(file, "a template, such as `--render haproxy.tmpl`")?);
        Ok(())
    }

    /// `--data`: the path of a file with keys. Fails if it is empty.
    pub fn set_data(&mut self, file: OsString) -> Result<(), String> {
        self.data = Some(file_of(file, "a file, such as `--data keys.json`")?);
        Ok(())
    }

    /// `--only`, which may be repeated: the name of a resource. Fails if it is empty or not UTF-8.
    pub fn add_only(&mut self, name: OsString) -> Result<(), String> {
        match name.into_string() {
            Ok(name) if !name.is_empty() => self.only.push(name),
            Ok(_) => return Err("needs the `name` of a resource, such as `--only haproxy`".to_owned()),
            Err(name) => return Err(format!("needs the `name` of a resource, and `{}` is no UTF-8", name.display())),
        }
        Ok(())
    }

    /// `--log-level`. Fails if the configuration has no such level.
    pub fn set_log_level(&mut self, level: OsString) -> Result<(), String> {
        let level = level.to_string_lossy();
        self.log_level = Some(config::log_level_of(&level).map_err(|advice| format!("cannot be `{level}`{advice}"))?);
        Ok(())
    }

    /// `--log-format`. Fails if the text is neither `text` nor `json`.
    pub fn set_log_format(&mut self, format: OsString) -> Result<(), String> {
        let format = format.to_string_lossy();
        let known = config::log_format_of(&format);
        self.log_format = Some(known.ok_or_else(|| format!("is either text or json, not `{format}`"))?);
        Ok(())
    }
}

/// Checks that a random delay before the start leaves time for the run.
///
/// # Errors
/// The delay can be as long as the run, or longer.
pub fn check_splay(splay: Duration, timeout: Duration) -> Result<(), String> {
    match splay < timeout {
        true => Ok(()),
        false => Err("`splay` is not less than `--timeout`: the random delay is a part of that time".to_owned()),
    }
}

/// The duration behind a flag. An error is the text behind the flag's name.
fn time_of(value: &OsStr) -> Result<Duration, String> {
    let text = value.to_string_lossy();
    if text.is_empty() {
        return Err(format!("needs a time: {DURATION_FORM}"));
    }
    duration(&text).map_err(|why| format!("`{text}` {why}"))
}

fn file_of(value: OsString, what: &str) -> Result<PathBuf, String> {
    if value.is_empty() { Err(format!("needs {what}")) } else { Ok(value.into()) }
}
