//! For tests: a store, an environment with it, and an evaluator of simple expressions: those of the language without
//! operators, `getv("/a")|split:","|first`, `m.Set("k", 1)`. The world is in `fixture/world.rs`.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::store::Store;
use crate::template::builtin::env::Env;
use crate::template::builtin::filters;
use crate::template::builtin::functions;
use crate::template::limits::Limits;
use crate::template::reads::Recording;
use crate::template::value::Value;
use crate::template::value::meter::Meter;

pub mod world;
pub use world::TestWorld;

/// A few keys.
pub fn store() -> Rc<Store> {
    let mut store = Store::new(1);
    for (key, value) in [
        ("/app/name", "shop"),
        ("/app/port", "8080"),
        ("/app/db/host", "pg1"),
        ("/app/db/port", "5432"),
        ("/hosts/one", "10.0.0.2"),
        ("/hosts/two", "10.0.0.1"),
        ("/empty", ""),
    ] {
        store.put(0, key.as_bytes().into(), value.as_bytes().into());
    }
    store.put(0, b"/raw"[..].into(), b"\xff\xfe"[..].into());
    Rc::new(store)
}

/// An environment with this store.
pub fn env() -> Env {
    with(Limits::default())
}

/// The environment with other limits.
pub fn with(limits: Limits) -> Env {
    Env::new(store(), Rc::new(TestWorld::of([("/etc/hosts", "")])), limits, Recording::default())
}

/// The environment with a limit for the size of values and results.
pub fn limited(output: usize) -> Env {
    with(Limits { output, ..Limits::default() })
}

/// A meter without a render, with a clock that stands still.
pub fn metered(limits: Limits) -> Meter {
    Meter::new(limits, Rc::new(TestWorld::default()))
}

/// A meter with the usual limits.
pub fn usual() -> Meter {
    metered(Limits::default())
}

/// A meter with a limit for the size of values and results.
pub fn small(output: usize) -> Meter {
    metered(Limits { output, ..Limits::default() })
}

/// The cells of the tables' rows under a heading of a page of the documentation.
pub fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let title = |section: &&str| section.lines().next().is_some_and(|line| line.trim_matches(['#', ' ']) == heading);
    let section = page.split("\n#").find(title).expect("there is such a heading");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        let row = row.replace("\\|", "\u{1}");
        let inner = row.trim_matches('|').split('|').map(|cell| {
            let cell = cell.trim().trim_start_matches('`').trim_end_matches('`');
            cell.replace('\u{1}', "|")
        });
        inner.collect::<Vec<_>>()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "{heading} has no table");
    rows
}

/// Names that expressions may use.
pub type Variables = BTreeMap<&'static str, Value>;

/// The value of an expression.
pub fn eval(env: &Env, variables: &Variables, expression: &str) -> Result<Value, String> {
    let mut reader = Reader { env, variables, rest: expression };
    let value = reader.expression()?;
    assert!(reader.rest.trim().is_empty(), "`{}` is left of `{expression}`", reader.rest);
    Ok(value)
}

struct Reader<'a> {
    env: &'a Env,
    variables: &'a Variables,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn expression(&mut self) -> Result<Value, String> {
        let mut value = self.operand()?;
        while self.eat("|") {
            let name = self.name();
            let filter = filters::lookup(name).unwrap_or_else(|| panic!("no filter {name}"));
            let argument = if self.eat(":") { self.operand()? } else { Value::Nil };
            value = filter.call(self.env, &value, &argument)?;
        }
        Ok(value)
    }

    fn operand(&mut self) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next().unwrap_or_else(|| panic!("nothing to read"));
        let mut value = match first {
            '"' | '\'' => self.string(first),
            '0'..='9' => self.number(),
            _ => self.named()?,
        };
        while self.eat(".") {
            let step = self.name();
            value = match step.parse() {
                Ok(index) => value.index(index)?,
                Err(_) if self.rest.starts_with('(') => {
                    let args = self.args()?;
                    value.call(step, &args).unwrap_or_else(|| panic!("no method {step}"))?
                }
                Err(_) => value.field(step)?,
            };
        }
        Ok(value)
    }

    fn named(&mut self) -> Result<Value, String> {
        let name = self.name();
        if self.rest.starts_with('(') {
            let args = self.args()?;
            return match (functions::lookup(name), filters::lookup(name)) {
                (Some(function), _) => function.call(self.env, &args),
                (None, Some(filter)) => {
                    filters::Filter::check_count(args.len())?;
                    filter.call(self.env, &args[0], args.get(1).unwrap_or(&Value::Nil))
                }
                (None, None) => panic!("no function {name}"),
            };
        }
        Ok(match (name, functions::lookup(name)) {
            ("true", _) => Value::Bool(true),
            ("false", _) => Value::Bool(false),
            (_, Some(function)) => function.call(self.env, &[])?,
            _ => self.variables.get(name).cloned().unwrap_or(Value::Nil),
        })
    }

    fn args(&mut self) -> Result<Vec<Value>, String> {
        let mut args = Vec::new();
        assert!(self.eat("("));
        while !self.eat(")") {
            args.push(self.expression()?);
            self.eat(",");
        }
        Ok(args)
    }

    fn string(&mut self, quote: char) -> Value {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next() {
                Some('\\') => text.extend(chars.next()),
                Some(c) if c == quote => break,
                Some(c) => text.push(c),
                None => panic!("`{}` is not closed", self.rest),
            }
        }
        self.rest = chars.as_str();
        Value::str(text)
    }

    fn number(&mut self) -> Value {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        self.rest = rest;
        match number.parse() {
            Ok(n) => Value::integer(n),
            Err(_) => Value::Float(number.parse().unwrap_or_else(|_| panic!("no number: {number}"))),
        }
    }

    fn name(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// Checks the output of an expression with [`env`].
#[track_caller]
pub fn check(expression: &str, expected: &str) {
    let value = eval(&env(), &Variables::new(), expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    assert_eq!(String::from_utf8_lossy(&value.text()), expected, "{expression}");
}

/// Checks the error of an expression with [`env`].
#[track_caller]
pub fn fails(expression: &str, expected: &str) {
    match eval(&env(), &Variables::new(), expression) {
        Ok(value) => panic!("{expression}: {value:?}"),
        Err(error) => assert_eq!(error, expected, "{expression}"),
    }
}
