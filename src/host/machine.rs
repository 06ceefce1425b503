//! The machine as configuration and templates see it: files, environment, clock, time zone, names. Only reads;
//! `files` writes.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tz::TimeZone;
use tz::timezone::TimeZoneSettings;

use super::dns::{Found, Query, Resolver};
use super::lookups::Lookups;
use super::read::{whole_file, whole_stream};
use super::signals::Signals;
use super::wait::Wake;
use super::{executable, files, process, random, state_dir};
use crate::config;
use crate::dns::wire::Service;
use crate::template::scripts::Scripts;
use crate::template::{Srv, Stamp, World};

/// Larger than any useful configuration.
const LARGEST_CONFIG: usize = 16 << 20;

/// Larger than any useful template, and small enough for a small machine.
const LARGEST_TEMPLATE: usize = 64 << 20;

/// Larger than the rules of any zone: the largest file of tzdata has 4 KB.
const LARGEST_ZONE: usize = 128 << 10;

/// The real machine. The units share it, and templates read it by shared references, so that its state is in cells. The
/// program has one thread, and no borrow outlives a call.
#[derive(Debug)]
pub struct Machine {
    zone: OnceCell<TimeZone>,
    resolver: Resolver,
    lookups: RefCell<Lookups>,
    signals: Rc<Signals>,
    config_was_read: Cell<bool>,
    scripts: RefCell<Rc<Scripts>>,
    /// The templates that were not empty when they were read.
    with_text: RefCell<HashSet<PathBuf>>,
}

impl Machine {
    /// `signals` end a render or a read in progress.
    pub fn new(signals: Rc<Signals>) -> Machine {
        Machine {
            zone: OnceCell::new(),
            resolver: Resolver::default(),
            lookups: RefCell::default(),
            signals,
            config_was_read: Cell::new(false),
            scripts: RefCell::default(),
            with_text: RefCell::default(),
        }
    }

    /// Swaps the names that the present render may use.
    pub fn swap_lookups(&self, lookups: &mut Lookups) {
        std::mem::swap(&mut *self.lookups.borrow_mut(), lookups);
    }

    /// Whether the present render needs a name that is not known yet.
    pub fn wants_names(&self) -> bool {
        self.lookups.borrow().is_incomplete()
    }

    /// The resolver of names.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The filters of filter_dir.
    pub fn scripts(&self) -> Rc<Scripts> {
        self.scripts.borrow().clone()
    }

    /// Replaces the filters of filter_dir. Templates that are compiled later use the new ones.
    pub fn set_scripts(&self, scripts: Scripts) {
        self.scripts.replace(Rc::new(scripts));
    }

    /// The time zone as the C library finds it: TZ, then /etc/localtime, then UTC.
    fn local(&self) -> &TimeZone {
        self.zone.get_or_init(|| {
            // The package's own reader has no limit, and TZ may name a device.
            let read = |path: &str| Ok(whole_file(Path::new(path), LARGEST_ZONE)?);
            let settings = TimeZoneSettings::new(TimeZoneSettings::DEFAULT_DIRECTORIES, read);
            let zone = match std::env::var("TZ") {
                Ok(name) if !name.is_empty() => settings.parse_posix_tz(&name),
                Ok(_) => Ok(TimeZone::utc()),
                Err(_) => settings.parse_local(),
            };
            zone.unwrap_or_else(|_| TimeZone::utc())
        })
    }
}

impl config::Source for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if !self.config_was_read.replace(true) {
            return whole_stream(path, LARGEST_CONFIG, &*self.signals);
        }
        // The loop waits for no writer. Pipes were read at the start.
        let meta = fs::metadata(path)?;
        match meta.is_file() || meta.is_dir() {
            true => whole_file(path, LARGEST_CONFIG),
            false => Err(io::Error::other("not a regular file, and a pipe is read at the start only")),
        }
    }

    fn read_included(&self, path: &Path) -> io::Result<Vec<u8>> {
        whole_file(path, LARGEST_CONFIG)
    }

    fn identity(&self, path: &Path) -> config::Identity {
        files::identity(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        variable(name)
    }

    fn shell(&self) -> config::Shell {
        process::shell()
    }

    fn obstacle(&self, dst: &Path, make_directories: bool, in_place: bool) -> Option<String> {
        files::obstacle(dst, make_directories, in_place)
    }

    fn own_obstacle(&self, path: &Path) -> Option<String> {
        files::own_obstacle(path)
    }

    fn state_dir_obstacle(&self, path: &Path) -> Option<String> {
        state_dir::obstacle(path)
    }

    fn missing_program(&self, name: &OsStr) -> Option<String> {
        executable::obstacle(name)
    }
}

impl World for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let bytes = whole_file(path, LARGEST_TEMPLATE)?;
        let mut with_text = self.with_text.borrow_mut();
        match (bytes.is_empty(), with_text.contains(path)) {
            // The file is probably being written, or the disk was full. Its destination would be emptied.
            (true, true) => Err(io::Error::other("it is empty now, write `{# #}` into it if that is meant")),
            (false, false) => {
                with_text.insert(path.to_owned());
                Ok(bytes)
            }
            (true, false) | (false, true) => Ok(bytes),
        }
    }

    fn stamp(&self, path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }

    fn var(&self, name: &[u8]) -> Option<Vec<u8>> {
        variable(name)
    }

    fn now(&self) -> (i64, u32) {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => (since.as_secs().try_into().unwrap_or(i64::MAX), since.subsec_nanos()),
            // A clock before 1970: a host without a battery. The whole second is precise enough.
            Err(before) => (-i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX), 0),
        }
    }

    fn zone(&self, unix: i64) -> (i32, String) {
        match self.local().find_local_time_type(unix) {
            Ok(kind) => (kind.ut_offset(), kind.time_zone_designation().to_owned()),
            Err(_) => (0, "UTC".to_owned()),
        }
    }

    fn lookup_ip(&self, name: &str) -> Result<Vec<String>, String> {
        let found = match self.lookups.borrow_mut().find(&Query::Addresses(name.to_owned())) {
            Some(Ok(Found::Addresses(found))) => found,
            Some(Err(why)) => return Err(why),
            // The result of this render is dropped.
            Some(Ok(Found::Services(_))) | None => return Ok(Vec::new()),
        };
        // An IPv4 address that is mapped to IPv6 is shown as IPv4, as in Go.
        let mut texts: Vec<String> = found.iter().map(|address| address.to_canonical().to_string()).collect();
        texts.sort();
        texts.dedup();
        Ok(texts)
    }

    fn lookup_srv(&self, service: &str, proto: &str, name: &str) -> Result<Vec<Srv>, String> {
        // As in Go's net.LookupSRV: without service and protocol, the name is the whole name.
        let name = match (service, proto) {
            ("", "") => name.to_owned(),
            _ => format!("_{service}._{proto}.{name}"),
        };
        let found = match self.lookups.borrow_mut().find(&Query::Services(name)) {
            Some(Ok(Found::Services(found))) => found,
            Some(Err(why)) => return Err(why),
            // The result of this render is dropped.
            Some(Ok(Found::Addresses(_))) | None => return Ok(Vec::new()),
        };
        let records =
            found.into_iter().map(|Service { target, port, priority, weight }| Srv { target, port, priority, weight });
        Ok(records.collect())
    }

    fn random(&self, bound: u64) -> u64 {
        random::below(bound)
    }

    fn processor_time(&self) -> Duration {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        // This clock is never negative.
        Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
    }

    fn stopped(&self) -> bool {
        self.signals.woken()
    }
}

/// A name that no variable can have is treated as unset; std would panic.
fn variable(name: &[u8]) -> Option<Vec<u8>> {
    if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'=')) {
        return None;
    }
    std::env::var_os(OsStr::from_bytes(name)).map(OsString::into_vec)
}
