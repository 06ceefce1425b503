//! The functions a template can call, in one table: its rows are what calls, the checks at compile time and the
//! documentation go by. The language's own types are in `value`, printf's verbs in `printf`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Env;
use super::collections::Collections;
use super::signature::{Args, Signature, any, exactly, integer, string, then_any};
use super::value::{Data, ListKind, Object, Value};
use super::{Srv, layout, printf, search};
use crate::store::Bytes;

/// One function: `getv("/key", "default")`.
pub struct Function {
    pub name: &'static str,
    pub signature: Signature,
    body: Body,
}

type Body = fn(&Env, Args<'_>) -> Result<Value, String>;

impl Function {
    /// Calls it. The error does not repeat the name: the caller puts it in front.
    pub fn call(&self, env: &Env, args: &[Value]) -> Result<Value, String> {
        (self.body)(env, self.signature.check(args)?)
    }
}

/// The function of a name.
pub fn lookup(name: &str) -> Option<&'static Function> {
    let index = TABLE.binary_search_by(|function| function.name.cmp(name)).ok()?;
    Some(&TABLE[index])
}

/// All names, for suggestions.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|function| function.name)
}

/// Sorted by name.
#[rustfmt::skip]
static TABLE: &[Function] = &[
    row("contains", exactly(&[string("text"), string("part")]), contains),
    row("createMap", exactly(&[]), |env, _| Ok(env.collections.create_map())),
    row("createSet", exactly(&[]), |_, _| Ok(Collections::create_set())),
    row("dateRFC3339", exactly(&[]), date_rfc3339),
    row("exists", exactly(&[string("key")]), exists),
    row("fileExists", exactly(&[string("path")]), file_exists),
    row("get", exactly(&[string("key")]), get),
    row("getallkvs", exactly(&[]), |env, _| Ok(pairs(env.store.all()))),
    row("getenv", then_any(&[string("name")], string("default")), getenv),
    row("gets", exactly(&[string("pattern")]), gets),
    row("getv", then_any(&[string("key")], string("default")), getv),
    row("getvs", exactly(&[string("pattern")]), getvs),
    row("lookupIP", exactly(&[string("host")]), lookup_ip),
    row("lookupSRV", exactly(&[string("service"), string("protocol"), string("domain")]), lookup_srv),
    row("ls", exactly(&[string("path")]), |env, args| Ok(names_of(env.store.ls(args.text(0))))),
    row("lsdir", exactly(&[string("path")]), |env, args| Ok(names_of(env.store.lsdir(args.text(0))))),
    row("printf", then_any(&[string("format")], any("value")), printf_),
    row("replace", exactly(&[string("text"), string("old"), string("new"), integer("count")]), replace),
    row("unixTS", exactly(&[]), |env, _| Ok(Value::str(env.world.now().0.to_string()))),
];

const fn row(name: &'static str, signature: Signature, body: Body) -> Function {
    Function { name, signature, body }
}

fn exists(env: &Env, args: Args<'_>) -> Result<Value, String> {
    Ok(Value::Bool(env.store.exists(args.text(0))))
}

fn get(env: &Env, args: Args<'_>) -> Result<Value, String> {
    match env.store.get_pair(args.text(0)) {
        Some((key, value)) => Ok(Value::pair(key.clone(), value.clone())),
        None => Err(missing(args.text(0))),
    }
}

fn getv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    match env.store.get(args.text(0)).or(args.optional_text(1)) {
        Some(value) => Ok(Value::Str(value.clone())),
        None => Err(missing(args.text(0))),
    }
}

fn missing(key: &[u8]) -> String {
    format!("key does not exist: {}", String::from_utf8_lossy(key))
}

fn gets(env: &Env, args: Args<'_>) -> Result<Value, String> {
    Ok(pairs(
        env.store.gets(args.text(0)).map_err(|_| bad_pattern(args.text(0)))?,
    ))
}

fn getvs(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let values = env.store.getvs(args.text(0)).map_err(|_| bad_pattern(args.text(0)))?;
    Ok(names_of(values.into_iter().cloned().collect()))
}

fn bad_pattern(pattern: &[u8]) -> String {
    format!("syntax error in pattern: {}", String::from_utf8_lossy(pattern))
}

fn pairs(found: Vec<(&Bytes, &Bytes)>) -> Value {
    let pair = |(key, value): (&Bytes, &Bytes)| Value::pair(key.clone(), value.clone());
    Value::list(ListKind::Pairs, found.into_iter().map(pair).collect())
}

/// Where there is nothing, the original's list was never made, which shows in JSON.
fn names_of(names: Vec<Bytes>) -> Value {
    let kind = if names.is_empty() {
        ListKind::NilStrings
    } else {
        ListKind::Strings
    };
    Value::list(kind, names.into_iter().map(Value::Str).collect())
}

/// An empty variable counts as unset.
fn getenv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let set = env.world.var(args.text(0)).filter(|value| !value.is_empty());
    Ok(match (set, args.optional_text(1)) {
        (Some(value), _) => Value::str(value),
        (None, Some(default)) => Value::Str(default.clone()),
        (None, None) => Value::str(""),
    })
}

fn contains(_: &Env, args: Args<'_>) -> Result<Value, String> {
    Ok(Value::Bool(search::find(args.text(0), args.text(1)).is_some()))
}

/// Go's strings.Replace: a negative count means all.
fn replace(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let count = usize::try_from(args.int(3)).unwrap_or(usize::MAX);
    search::replace(&env.limits, args.text(0), args.text(1), args.text(2), count)
}

fn printf_(env: &Env, args: Args<'_>) -> Result<Value, String> {
    printf::sprintf(&env.limits, args.text(0), args.from(1))
}

fn file_exists(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let path = Path::new(OsStr::from_bytes(args.text(0)));
    Ok(Value::Bool(env.world.stamp(path).is_some()))
}

fn date_rfc3339(env: &Env, _: Args<'_>) -> Result<Value, String> {
    let (unix, nanos) = env.world.now();
    let (offset, zone) = env.world.zone(unix);
    let time = layout::Time {
        unix,
        nanos,
        offset,
        zone: &zone,
    };
    Ok(Value::str(time.format(b"2006-01-02T15:04:05Z07:00")))
}

fn lookup_ip(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let mut addresses = env.world.lookup_ip(host(args.text(0))?)?;
    addresses.sort_unstable();
    Ok(Value::list(
        ListKind::Strings,
        addresses.into_iter().map(Value::str).collect(),
    ))
}

fn lookup_srv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let (service, protocol, domain) = (host(args.text(0))?, host(args.text(1))?, host(args.text(2))?);
    let mut records = env.world.lookup_srv(service, protocol, domain)?;
    // As one text each: that is the order templates were written against, and it is always the same.
    records.sort_by_cached_key(|r| format!("{}{}{}{}", r.target, r.port, r.priority, r.weight));
    Ok(Value::list(
        ListKind::Srv,
        records.into_iter().map(Value::object).collect(),
    ))
}

fn host(name: &[u8]) -> Result<&str, String> {
    let name_or_not = std::str::from_utf8(name);
    name_or_not.map_err(|_| format!("cannot look up `{}`: not a host name", name.escape_ascii()))
}

impl Object for Srv {
    fn type_name(&self) -> &'static str {
        "net.SRV"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.fields()
            .into_iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }

    fn data(&self) -> Data {
        Data::Record(self.fields().into())
    }
}

impl Srv {
    fn fields(&self) -> [(&'static str, Value); 4] {
        [
            ("Target", Value::str(&self.target)),
            ("Port", Value::Int(self.port.into())),
            ("Priority", Value::Int(self.priority.into())),
            ("Weight", Value::Int(self.weight.into())),
        ]
    }
}
