//! The functions of templates, in one table for calls, for checks at compile time and for the test of the
//! documentation. The types of the language are in `value`, the verbs of printf in `printf`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::store::{BadPattern, Bytes};
use crate::template::builtin::env::Env;
use crate::template::builtin::layout;
use crate::template::reads::Question;
use crate::template::value::meter::STEP;
use crate::template::value::printf;
use crate::template::value::search;
use crate::template::value::signature::{Args, Signature, any, exactly, integer, string, then_any};
use crate::template::value::{Data, IntType, ListKind, Object, Value};
use crate::template::world::Srv;

/// One function: `getv("/key", "default")`.
pub struct Function {
    /// The name in a call.
    pub name: &'static str,
    /// The signature.
    pub signature: Signature,
    body: Body,
    /// Whether the function searches a part of the store.
    searches: bool,
}

/// The fixed cost of a call, in bytes.
const CALL: usize = 32 * STEP;

/// A search reads an unknown part of the store: it costs one byte for this many keys.
const SEARCHED: usize = 16;

type Body = fn(&Env, Args<'_>) -> Result<Value, String>;

impl Function {
    /// Calls the function. The error does not contain the name: the caller puts it in front.
    pub fn call(&self, env: &Env, args: &[Value]) -> Result<Value, String> {
        // Every function reads its text arguments. A search in the store reads more.
        let read: usize = args.iter().map(Value::text_len).sum();
        let looked_through = if self.searches { env.store.without_recording().size() / SEARCHED } else { 0 };
        env.meter.charge(CALL + read + looked_through)?;
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
    row("createMap", exactly(&[]), |env, _| Ok(env.collections.create_map(&env.meter))),
    row("createSet", exactly(&[]), |env, _| Ok(env.collections.create_set(&env.meter))),
    row("dateRFC3339", exactly(&[]), date_rfc3339),
    row("exists", exactly(&[string("key")]), exists),
    row("fileExists", exactly(&[string("path")]), file_exists),
    row("get", exactly(&[string("key")]), get),
    search("getallkvs", exactly(&[]), |env, _| pairs(env, env.store.all())),
    row("getenv", then_any(&[string("name")], string("default")), getenv),
    search("gets", exactly(&[string("pattern")]), gets),
    row("getv", then_any(&[string("key")], string("default")), getv),
    search("getvs", exactly(&[string("pattern")]), getvs),
    row("lookupIP", exactly(&[string("host")]), lookup_ip),
    row("lookupSRV", exactly(&[string("service"), string("protocol"), string("domain")]), lookup_srv),
    search("ls", exactly(&[string("path")]), |env, args| Ok(names_of(env.store.ls(args.text(0))))),
    search("lsdir", exactly(&[string("path")]), |env, args| Ok(names_of(env.store.lsdir(args.text(0))))),
    row("printf", then_any(&[string("format")], any("value")), printf),
    row("replace", exactly(&[string("text"), string("old"), string("new"), integer("count")]), replace),
    row("unixTS", exactly(&[]), |env, _| Ok(Value::str(env.machine(Question::Time).now().0.to_string()))),
];

const fn row(name: &'static str, signature: Signature, body: Body) -> Function {
    Function { name, signature, body, searches: false }
}

const fn search(name: &'static str, signature: Signature, body: Body) -> Function {
    Function { name, signature, body, searches: true }
}

fn exists(env: &Env, args: Args<'_>) -> Result<Value, String> {
    Ok(Value::Bool(env.store.exists(args.text(0))))
}

fn get(env: &Env, args: Args<'_>) -> Result<Value, String> {
    match env.store.get_pair(args.text(0)) {
        Some((key, value)) => Ok(Value::pair(key.clone(), value.clone())),
        None => Err(missing(env, args.text(0))),
    }
}

fn getv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    match env.store.get(args.text(0)).or(args.optional_text(1)) {
        Some(value) => Ok(Value::Str(value.clone())),
        None => Err(missing(env, args.text(0))),
    }
}

fn missing(env: &Env, key: &[u8]) -> String {
    let is_pattern = key.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
    let store = env.store.without_recording();
    let other_case = || store.all().map(|(other, _)| other).find(|other| other.eq_ignore_ascii_case(key));
    let hint = match key.first() {
        Some(b'/') if is_pattern => ", a pattern is for gets and getvs".to_owned(),
        Some(b'/') if store.ls(key).is_empty() => match other_case() {
            Some(other) => format!(", but there is {}", String::from_utf8_lossy(other)),
            None => String::new(),
        },
        Some(b'/') => ", there are only keys below it".to_owned(),
        _ => ", keys begin with `/`".to_owned(),
    };
    format!("key does not exist: {}{hint}", String::from_utf8_lossy(key))
}

fn gets(env: &Env, args: Args<'_>) -> Result<Value, String> {
    pairs(env, env.store.gets(args.text(0)).map_err(|bad| bad_pattern(args.text(0), bad))?)
}

fn getvs(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let values = env.store.getvs(args.text(0)).map_err(|bad| bad_pattern(args.text(0), bad))?;
    Ok(names_of(values.into_iter().cloned().collect()))
}

fn bad_pattern(pattern: &[u8], bad: BadPattern) -> String {
    format!("malformed pattern `{}`: {bad}", String::from_utf8_lossy(pattern))
}

fn pairs<'s>(env: &Env, found: impl Iterator<Item = (&'s Bytes, &'s Bytes)>) -> Result<Value, String> {
    let mut held = env.meter.hold();
    let mut items = Vec::new();
    for (key, value) in found {
        if items.len() == items.capacity() {
            // The old memory is still allocated while the items move to the new one.
            held.grow(3 * items.len() * size_of::<Value>())?;
        }
        env.meter.charge(size_of::<Value>())?;
        items.push(Value::pair(key.clone(), value.clone()));
    }
    items.shrink_to_fit();
    Ok(Value::list(ListKind::Pairs, items))
}

/// A list of names. Without a match Go remco returns a nil list, which is visible in JSON.
fn names_of(names: Vec<Bytes>) -> Value {
    let kind = if names.is_empty() { ListKind::NilStrings } else { ListKind::Strings };
    Value::list(kind, names.into_iter().map(Value::Str).collect())
}

/// An empty variable counts as unset.
fn getenv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let set = env.variable(args.text(0)).filter(|value| !value.is_empty());
    Ok(match (set, args.optional_text(1)) {
        (Some(value), _) => Value::str(value),
        (None, Some(default)) => Value::Str(default.clone()),
        (None, None) => Value::str(""),
    })
}

fn contains(env: &Env, args: Args<'_>) -> Result<Value, String> {
    Ok(Value::Bool(search::find(&env.meter, args.text(0), args.text(1))?.is_some()))
}

/// Go's strings.Replace: a negative count means all.
fn replace(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let count = usize::try_from(args.int(3)).unwrap_or(usize::MAX);
    search::replace(&env.meter, args.text(0), args.text(1), args.text(2), count)
}

fn printf(env: &Env, args: Args<'_>) -> Result<Value, String> {
    printf::sprintf(&env.meter, args.text(0), args.from(1))
}

fn file_exists(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let path = Path::new(OsStr::from_bytes(args.text(0)));
    Ok(Value::Bool(env.machine(Question::Files).stamp(path).is_some()))
}

fn date_rfc3339(env: &Env, _: Args<'_>) -> Result<Value, String> {
    let (unix, nanos) = env.machine(Question::Time).now();
    let (offset, zone) = env.machine(Question::Time).zone(unix);
    let time = layout::Time { unix, nanos, offset, zone: &zone };
    Ok(Value::str(time.format(b"2006-01-02T15:04:05Z07:00")))
}

fn lookup_ip(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let mut addresses = env.machine(Question::Names).lookup_ip(host(args.text(0))?)?;
    addresses.sort_unstable();
    Ok(Value::list(ListKind::Strings, addresses.into_iter().map(Value::str).collect()))
}

fn lookup_srv(env: &Env, args: Args<'_>) -> Result<Value, String> {
    let (service, protocol, domain) = (host(args.text(0))?, host(args.text(1))?, host(args.text(2))?);
    let mut records = env.machine(Question::Names).lookup_srv(service, protocol, domain)?;
    // Each record is compared as one text, which gives a fixed order, the one of Go remco.
    records.sort_by_cached_key(|r| format!("{}{}{}{}", r.target, r.port, r.priority, r.weight));
    Ok(Value::list(ListKind::Srv, records.into_iter().map(Value::object).collect()))
}

fn host(name: &[u8]) -> Result<&str, String> {
    let name_or_not = std::str::from_utf8(name);
    name_or_not.map_err(|_| format!("cannot look up `{}`: not a host name", name.escape_ascii()))
}

impl Object for Srv {
    fn type_name(&self) -> &'static str {
        "net.SRV"
    }

    fn dynamic_type(&self) -> &'static str {
        "*net.SRV"
    }

    fn field(&self, name: &str) -> Option<Value> {
        self.fields().into_iter().find(|(field, _)| *field == name).map(|(_, value)| value)
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
            ("Port", Value::Int(self.port.into(), IntType::Uint16)),
            ("Priority", Value::Int(self.priority.into(), IntType::Uint16)),
            ("Weight", Value::Int(self.weight.into(), IntType::Uint16)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::fixture::{Variables, check, env, eval, fails, table};

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(names().count(), 19);
        assert!(names().all(|name| lookup(name).is_some_and(|function| function.name == name)));
        assert!(lookup("getw").is_none());
    }

    fn documented(heading: &str) -> Vec<Vec<String>> {
        table(include_str!("../../../docs/functions.md"), heading)
    }

    fn signature_text(function: &Function) -> String {
        let rest = function.signature.rest.iter().map(|parameter| format!("{}...", parameter.name));
        let required = function.signature.required.iter().map(|parameter| parameter.name.to_owned());
        format!("{}({})", function.name, required.chain(rest).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_documentation_has_every_function_and_filter() {
        let first = |heading| documented(heading).into_iter().map(|mut cells| cells.swap_remove(0));
        assert_eq!(first("Functions").collect::<Vec<_>>(), TABLE.iter().map(signature_text).collect::<Vec<_>>());
        let name = |filter: String| filter.split(':').next().map(str::to_owned).unwrap_or_default();
        let names = crate::template::builtin::filters::names().collect::<Vec<_>>();
        assert_eq!(first("Filters").map(name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn the_documentation_is_right() {
        let env = env();
        let names = Variables::from([
            ("m", env.collections.create_map(&env.meter)),
            ("s", env.collections.create_set(&env.meter)),
        ]);
        for cells in ["Functions", "Maps and sets", "Filters"].into_iter().flat_map(documented) {
            let [name, _, example, result] = &cells[..] else { panic!("{cells:?}") };
            if example.is_empty() {
                assert!(matches!(&name[..], "date:layout" | "time:layout"), "{name}: only times cannot be written");
                continue;
            }
            let value = eval(&env, &names, example).unwrap_or_else(|e| panic!("{example}: {e}"));
            assert_eq!(String::from_utf8_lossy(&value.text()), *result, "{example}");
        }
    }

    #[test]
    fn keys() {
        check(r#"exists("/app/name")"#, "True");
        check(r#"exists("/app")"#, "False");
        check(r#"exists("/empty")"#, "True");
        check(r#"get("/app/name")"#, "<memkv.KVPair Value>");
        check(r#"get("/app/name").Key"#, "/app/name");
        check(r#"get("/app/name").Value"#, "shop");
        check(r#"get("/app/name").key"#, "");
        check(r#"getv("/app/port")"#, "8080");
        check(r#"getv("/empty", "default")"#, "");
        check(r#"getv("/none", "first", "second")"#, "first");
        fails(r#"getv("/none")"#, "key does not exist: /none");
        fails(r#"get("/none")"#, "key does not exist: /none");
        fails(r#"getv("app/name")"#, "key does not exist: app/name, keys begin with `/`");
        fails(r#"getv("/app")"#, "key does not exist: /app, there are only keys below it");
    }

    #[test]
    fn patterns() {
        check(r#"gets("/hosts/*")"#, "<memkv.KVPairs Value>");
        check(r#"gets("/hosts/*").0.Key"#, "/hosts/one");
        check(r#"gets("/hosts/*").Len"#, "2");
        check(r#"gets("/hosts/*").Less(0, 1)"#, "True");
        check(r#"gets("/hosts/*").Less(1, 0)"#, "False");
        fails(r#"gets("/hosts/*").Less(0, 2)"#, "there is no element 2");
        check(r#"gets("/none/*")|toJSON"#, "[]");
        check(r#"getvs("/hosts/*")|join:" ""#, "10.0.0.1 10.0.0.2");
        check(r#"getvs("/none/*")"#, "<[]string Value>");
        check(r#"getvs("/none/*")|toJSON"#, "null");
        check(r#"getallkvs()|length"#, "8");
        check(r#"getallkvs|length"#, "8");
        fails(r#"gets("/hosts/[a-")"#, "malformed pattern `/hosts/[a-`: a class `[` is not closed");
        fails(r#"getvs("/hosts/[a-")"#, "malformed pattern `/hosts/[a-`: a class `[` is not closed");
    }

    #[test]
    fn directories() {
        check(r#"ls("/app")|join:",""#, "db,name,port");
        check(r#"ls("/app/")|toJSON"#, r#"["db","name","port"]"#);
        check(r#"lsdir("/app")|join:",""#, "db");
        check(r#"ls("/none")|toJSON"#, "null");
        check(r#"lsdir("/app/db")|toJSON"#, "null");
    }

    #[test]
    fn arguments_are_strict() {
        fails(r#"getv()"#, "takes at least 1 argument (key), 0 given");
        fails(r#"getv("/none", 1)"#, "argument 2 (default) must be a string, not an integer");
        fails(r#"getv(unknown)"#, "argument 1 (key) has no value");
        fails(r#"exists("/a", "/b")"#, "takes 1 argument (key), 2 given");
        fails(r#"getenv("HOME", 6379)"#, "argument 2 (default) must be a string, not an integer");
        fails(r#"replace("a-b", "-", "_")"#, "takes 4 arguments (text, old, new, count), 3 given");
        fails(r#"replace("a-b", "-", "_", "1")"#, "argument 4 (count) must be an integer, not a string");
        fails(r#"printf()"#, "takes at least 1 argument (format), 0 given");
        fails(r#"printf("%s", unknown)"#, "argument 2 (value) has no value");
        fails(r#"unixTS(1)"#, "takes 0 arguments, 1 given");
    }

    #[test]
    fn the_environment() {
        check(r#"getenv("HOME")"#, "/root");
        check(r#"getenv("HOME", "x")"#, "/root");
        check(r#"getenv("EMPTY", "x", "y")"#, "x");
        check(r#"getenv("UNSET")"#, "");
        let raw = eval(&env(), &Variables::new(), r#"getenv("RAW")"#).unwrap();
        assert_eq!(*raw.text(), *b"\xff");
    }

    #[test]
    fn texts() {
        check(r#"contains("haystack", "st")"#, "True");
        check(r#"contains("haystack", "needle")"#, "False");
        check(r#"contains("", "")"#, "True");
        check(r#"replace("svc-eu-west", "-", "_", 1)"#, "svc_eu-west");
        check(r#"replace("naïve café", "é", "e", 9)"#, "naïve cafe");
        check(r#"printf("%s:%05d", "a", 42)"#, "a:00042");
        check(r#"printf("%d items", "12"|parseInt)"#, "12 items");
    }

    #[test]
    fn files_and_the_clock() {
        check(r#"fileExists("/etc/hosts")"#, "True");
        check(r#"fileExists("")"#, "False");
        check(r#"unixTS"#, "1643861106");
        check(r#"unixTS()|length"#, "10");
        check(r#"dateRFC3339()"#, "2022-02-03T05:05:06+01:00");
    }

    #[test]
    fn names_of_the_network() {
        check(r#"lookupIP("localhost")|join:" ""#, "127.0.0.1 ::1");
        fails(r#"lookupIP("nowhere")"#, "lookup nowhere: no such host");
        let records = r#"lookupSRV("db", "tcp", "example.com")"#;
        check(records, "<[]*net.SRV Value>");
        check(&format!("{records}.0.Target"), "a.example.com.");
        check(&format!("{records}.0"), "<net.SRV Value>");
        check(&format!("{records}.1.Port"), "90");
        check(&format!("{records}.1.Weight"), "5");
        check(&format!("{records}.1.none"), "");
        check(&format!("{records}|last|toJSON"), r#"{"Target":"b.example.com.","Port":90,"Priority":1,"Weight":5}"#);
        check(&format!(r#"printf("%v", {records}.1)"#), "&{b.example.com. 90 1 5}");
        fails(r#"lookupIP(getv("/raw"))"#, "cannot look up `\\xff\\xfe`: not a host name");
    }
}
