//! Filters written in JavaScript: reads their files and runs them, each in an engine of its own that is kept.
//! A script sees In and Param, and nothing of the machine but its clock. Which files there are is told by the
//! configuration, what a filter may cost by the render.

use std::cell::RefCell;
use std::iter;
use std::mem;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::function::This;
use rquickjs::object::Property;
use rquickjs::{self as js, CaughtError, Context, Ctx, Exception, Function, Module, Persistent, Runtime, Type};

use super::read::whole_file;
use crate::error::cause;
use crate::template::Env;
use crate::template::meter::{Hold, Meter, STEP, tree};
use crate::template::scripts::{Script, Scripts};
use crate::template::value::{Data, ListKind, Map, Value};

/// More than any filter.
const LARGEST_SCRIPT: usize = 1 << 20;

/// What one script may use at any time.
const MEMORY: usize = 64 << 20;
/// What its calls may take of the stack.
const STACK: usize = 256 << 10;
/// The engine asks once in so many jumps and calls of a script whether it may go on (QuickJS's
/// JS_INTERRUPT_COUNTER_INIT). Each counts as a step of the render.
const PATIENCE: u64 = 10_000;
/// What a call costs in steps before its script has done anything: some 10 µs, in which a render makes as many.
const CALL: u64 = 100;
/// Elements of 16 bytes that fill the memory: a longer array is mostly holes.
const LONGEST: f64 = (MEMORY / 16) as f64;
/// So many lists and maps may stand within each other on their way in or out.
const NESTING: usize = 200;

/// Calls a script afresh: what it declares goes with the call. Its own `arguments` hold its text, because any other name
/// would be seen by it.
const RUN: &str = "(function (In, Param) { return eval(arguments[2]); })";
/// What kind of object something is: `[object Date]`. Made before a script can change what it is made of.
const KIND: &str = "Function.prototype.call.bind(Object.prototype.toString)";

/// Has the functions of arrays ask before they go through one. A module, since that has a name, by which its lines are
/// kept out of messages.
const ARRAYS: &str = include_str!("javascript/arrays.js");
const ARRAYS_NAME: &str = "arrays.js";

/// Reads filters. The name of each is that of its file without `.js`.
///
/// # Errors
/// A file that cannot be read or is no JavaScript.
pub fn load(paths: &[PathBuf]) -> Result<Scripts, String> {
    let mut scripts = Scripts::default();
    for path in paths {
        let filter = Filter::read(path)?;
        // A name that is no text cannot stand in a template either.
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            scripts.insert(name, filter);
        }
    }
    Ok(scripts)
}

/// A filter of the user.
struct Filter {
    path: PathBuf,
    source: String,
    /// Made for the first call.
    engine: RefCell<Option<Engine>>,
}

impl Filter {
    fn read(path: &Path) -> Result<Filter, String> {
        let fail = |why: String| format!("failed to read filter `{}`: {why}", path.display());
        let bytes = whole_file(path, LARGEST_SCRIPT).map_err(|error| fail(cause(&error)))?;
        let source = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        let filter = Filter { path: path.to_owned(), source, engine: RefCell::default() };
        filter.check()?;
        Ok(filter)
    }

    /// Compiles the script without running it.
    fn check(&self) -> Result<(), String> {
        let engine = Engine::new().map_err(|error| self.told(&Failure::from(error)))?;
        // A text is compiled as a whole before it runs, and this one does not get far.
        let text = format!("throw 0;{}", self.source);
        let thrown = engine.context.with(|ctx| {
            let error = ctx.eval_with_options::<js::Value, _>(text, sloppy()).err()?;
            match CaughtError::from_error(&ctx, error) {
                CaughtError::Value(thrown) if thrown.as_int() == Some(0) => None,
                caught => Some(explain(caught)),
            }
        });
        thrown.map_or(Ok(()), |failure| Err(self.told(&failure)))
    }

    fn told(&self, failure: &Failure) -> String {
        let path = self.path.display();
        match failure {
            Failure::At(Some(line), what) => format!("{path}:{line}: {what}"),
            Failure::At(None, what) => format!("{path}: {what}"),
            Failure::Engine(error) => format!("{path}: failed to run JavaScript: {error}"),
        }
    }
}

impl Script for Filter {
    fn call(&self, env: &Env, value: &Value, argument: &Value) -> Result<Value, String> {
        let mut kept = self.engine.borrow_mut();
        let engine = match kept.take() {
            Some(engine) => engine,
            None => Engine::new().map_err(|error| self.told(&Failure::from(error)))?,
        };
        let result = engine.run(&self.source, env, value, argument);
        let value = result.map_err(|failure| self.told(&failure))?;
        // What a script that failed leaves behind, half-built values or used up memory, goes with its engine.
        *kept = engine.is_clean().then_some(engine);
        Ok(value)
    }
}

/// QuickJS with one script's world in it.
struct Engine {
    // In this order: what is kept of a context has to be let go of before the context.
    run: Persistent<Function<'static>>,
    kind: Persistent<Function<'static>>,
    context: Context,
    watch: Rc<Watch>,
}

/// What the engine asks whether it may go on.
#[derive(Default)]
struct Watch {
    /// Of the render that the script runs in; only while it runs.
    meter: RefCell<Option<Meter>>,
    /// Why it may not.
    end: RefCell<Option<String>>,
}

/// Why a call gives no value.
enum Failure {
    /// In this line of the script, where it is known.
    At(Option<u32>, String),
    Engine(js::Error),
}

impl From<js::Error> for Failure {
    fn from(error: js::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Engine {
    fn new() -> js::Result<Engine> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(MEMORY);
        runtime.set_max_stack_size(STACK);
        let watch = Rc::new(Watch::default());
        let watched = watch.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || watched.is_over(PATIENCE))));
        let context = Context::full(&runtime)?;
        let asked = watch.clone();
        let (run, kind) = context.with(|ctx| {
            let ask = Function::new(ctx.clone(), move |ctx, length, steps, name: String| {
                asked.ask(&ctx, length, steps, &name)
            })?;
            let (arrays, loaded) = Module::declare(ctx.clone(), ARRAYS_NAME, ARRAYS)?.eval()?;
            loaded.finish::<()>()?;
            arrays.get::<_, Function>("default")?.call::<_, ()>((ask,))?;
            let made = |text: &str| -> js::Result<Persistent<Function<'static>>> {
                let function: Function = ctx.eval_with_options(text, sloppy())?;
                Ok(Persistent::save(&ctx, function))
            };
            Ok::<_, js::Error>((made(RUN)?, made(KIND)?))
        })?;
        Ok(Engine { run, kind, context, watch })
    }

    fn run(&self, source: &str, env: &Env, value: &Value, argument: &Value) -> Result<Value, Failure> {
        self.watch.begin(&env.meter);
        self.watch.is_over(CALL);
        // Runs no job, there is none; but it is what tells the engine where the stack is now, which the first call may
        // have found deep below.
        let ran = self.context.runtime().execute_pending_job();
        debug_assert!(ran.is_ok_and(|ran| !ran), "an engine with jobs is not kept");
        let result = self.context.with(|ctx| {
            let most = env.meter.limits().output;
            let mut inward = Inward { ctx: &ctx, carried: Carried { bytes: 0, most } };
            let input = inward.value(value, 0);
            let called = input.and_then(|input| {
                let param = inward.value(argument, 0)?;
                let run = self.run.clone().restore(&ctx)?;
                let result: js::Value = run.call((input, param, source))?;
                let kind = self.kind.clone().restore(&ctx)?;
                let mut outward = Outward { kind, carried: Carried { bytes: 0, most }, held: env.meter.hold() };
                let value = outward.value(result, 0)?;
                let carried = (inward.carried.bytes + outward.carried.bytes) / STEP;
                self.watch.is_over(carried as u64);
                Ok(value)
            });
            called.map_err(|failure| match failure {
                Failure::Engine(error) => explain(CaughtError::from_error(&ctx, error)),
                told => told,
            })
        });
        match self.watch.finish() {
            Some(why) => Err(Failure::At(None, why)),
            None => result,
        }
    }

    /// Makes the engine as it was before the script ran, but for what it did to JavaScript's own objects. `false`: it
    /// cannot be done.
    fn is_clean(&self) -> bool {
        let removed = self.context.with(|ctx| -> js::Result<()> {
            let globals = ctx.globals();
            // Only what is assigned without `var` can be listed here.
            let keys: Vec<js::Atom> = globals.keys().collect::<js::Result<_>>()?;
            keys.into_iter().try_for_each(|key| globals.remove(key))
        });
        removed.is_ok() && !self.context.runtime().is_job_pending()
    }
}

/// What a script threw, in words.
fn explain(caught: CaughtError) -> Failure {
    let told = |what: &str| Failure::At(None, what.to_owned());
    match caught {
        CaughtError::Exception(exception) => {
            let message = exception.message().unwrap_or_default();
            if message == "out of memory" {
                return told(OUT_OF_MEMORY);
            }
            let name: String = exception.get("name").unwrap_or_else(|_| "Error".to_owned());
            let line = exception.stack().as_deref().and_then(line_of);
            Failure::At(line, excerpt(&format!("{name}: {message}")))
        }
        // The engine has no memory left to make an error of it. Nobody throws null.
        CaughtError::Value(thrown) if thrown.is_null() => told(OUT_OF_MEMORY),
        CaughtError::Value(thrown) => match thrown.get::<js::Coerced<String>>() {
            Ok(text) => told(&excerpt(&format!("throws {}", text.0))),
            Err(_) => told("throws an object"),
        },
        CaughtError::Error(error) => Failure::Engine(error),
    }
}

const OUT_OF_MEMORY: &str = "needs more than 64 MiB of memory";

impl Watch {
    fn begin(&self, meter: &Meter) {
        self.end.take();
        self.meter.replace(Some(meter.clone()));
    }

    /// Tells why the script was ended, if it was.
    fn finish(&self) -> Option<String> {
        self.meter.take();
        self.end.take()
    }

    /// Whether a function may go through an array of this length. A script that catches the exception does not get far.
    fn ask(&self, ctx: &Ctx, length: f64, steps: f64, name: &str) -> js::Result<()> {
        if length > LONGEST {
            let message = format!("an array of {length} elements is too long for {name}");
            return Err(Exception::throw_range(ctx, &message));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
        match self.is_over(steps as u64) {
            true => Err(Exception::throw_internal(ctx, "the script is ended")),
            false => Ok(()),
        }
    }

    /// Counts steps. Whether the script may not go on.
    fn is_over(&self, steps: u64) -> bool {
        // No script runs while the engine is made, though it asks then too.
        let Some(meter) = &*self.meter.borrow() else { return false };
        let bytes = usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(STEP);
        // What is not looked at by then is looked at here: the engine asks seldom enough.
        match meter.charge(bytes).and_then(|()| meter.look()) {
            Ok(()) => false,
            Err(why) => {
                self.end.replace(Some(why));
                true
            }
        }
    }
}

/// What the values hold that were taken in or out by one call: it is bounded like all that a render builds.
struct Carried {
    bytes: usize,
    most: usize,
}

impl Carried {
    fn add(&mut self, text: usize, depth: usize) -> Result<(), Failure> {
        self.bytes += text + mem::size_of::<Value>();
        if self.bytes > self.most {
            return Err(Failure::At(None, format!("cannot build a value of more than {} bytes", self.most)));
        }
        if depth > NESTING {
            return Err(Failure::At(None, format!("cannot take a value of more than {NESTING} levels")));
        }
        Ok(())
    }
}

/// Makes JavaScript's values of the template's.
struct Inward<'c, 'js> {
    ctx: &'c Ctx<'js>,
    carried: Carried,
}

impl<'js> Inward<'_, 'js> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<js::Value<'js>, Failure> {
        let ctx = self.ctx.clone();
        self.carried.add(0, depth)?;
        Ok(match value {
            Value::Nil => js::Value::new_null(ctx),
            Value::Bool(value) => js::Value::new_bool(ctx, *value),
            // Beyond 2^53 to the nearest number that there is.
            Value::Int(number, _) => js::Value::new_number(ctx, *number as f64),
            Value::Float(number) => js::Value::new_number(ctx, *number),
            Value::Str(text) => self.text(text)?.into_value(),
            Value::List(list) => {
                let array = js::Array::new(ctx)?;
                for (at, item) in list.items.iter().enumerate() {
                    array.set(at, self.value(item, depth + 1)?)?;
                }
                array.into_value()
            }
            Value::Map(map) => self.map(map, depth)?,
            Value::Pair(key, value) => {
                let (key, value) = (Value::Str(key.clone()), Value::Str(value.clone()));
                self.record(&[("Key", key), ("Value", value)], depth)?
            }
            Value::Object(object) => match (object.text(), object.data()) {
                (Some(text), _) => self.text(&text)?.into_value(),
                (None, Data::Value(value)) => self.value(&value, depth + 1)?,
                (None, Data::Record(fields)) => self.record(&fields, depth)?,
            },
        })
    }

    fn map(&mut self, map: &Map, depth: usize) -> Result<js::Value<'js>, Failure> {
        let object = js::Object::new(self.ctx.clone())?;
        for (key, value) in map {
            // Defined, not set: a key may be `__proto__`.
            let value = Property::from(self.value(value, depth + 1)?).writable().enumerable().configurable();
            object.prop(self.text(key)?, value)?;
        }
        Ok(object.into_value())
    }

    fn record(&mut self, fields: &[(&str, Value)], depth: usize) -> Result<js::Value<'js>, Failure> {
        let object = js::Object::new(self.ctx.clone())?;
        for (name, value) in fields {
            object.set(*name, self.value(value, depth + 1)?)?;
        }
        Ok(object.into_value())
    }

    fn text(&mut self, text: &[u8]) -> Result<js::String<'js>, Failure> {
        self.carried.add(text.len(), 0)?;
        if let Ok(text) = str::from_utf8(text) {
            return Ok(js::String::from_str(self.ctx.clone(), text)?);
        }
        let units = text.utf8_chunks().flat_map(|chunk| {
            let raw = chunk.invalid().iter().map(|byte| RAW + u16::from(*byte));
            chunk.valid().encode_utf16().chain(raw).collect::<Vec<u16>>()
        });
        let join: Function = self.ctx.eval_with_options(JOIN, sloppy())?;
        Ok(join.call((units.collect::<Vec<u16>>(),))?)
    }
}

/// A byte that is not UTF-8 is this lone surrogate and the byte in JavaScript, whose texts are UTF-16, so that it
/// comes out as it went in (Python's "surrogateescape").
const RAW: u16 = 0xdc00;
/// Numbers to a text of these units, and back. For texts that are not UTF-8 the engine knows no other way.
const JOIN: &str = "(function (u) { var t = ''; for (var i = 0; i < u.length; i++) t += String.fromCharCode(u[i]); \
                    return t; })";
const SPLIT: &str = "(function (t) { var u = []; for (var i = 0; i < t.length; i++) u.push(t.charCodeAt(i)); \
                     return u; })";

/// Makes the template's values of JavaScript's.
struct Outward<'js> {
    kind: Function<'js>,
    carried: Carried,
    /// What the values take until the result is accounted for as a whole.
    held: Hold,
}

impl<'js> Outward<'js> {
    fn value(&mut self, value: js::Value<'js>, depth: usize) -> Result<Value, Failure> {
        self.add(0, depth)?;
        let refused = |what: &str| {
            let advice = "a filter gives a string, a number, a boolean, a list or a map";
            Err(Failure::At(None, format!("the result is {what}, but {advice}")))
        };
        match value.type_of() {
            Type::Uninitialized | Type::Undefined | Type::Null => Ok(Value::Nil),
            Type::Bool => Ok(value.as_bool().map_or(Value::Nil, Value::Bool)),
            Type::Int | Type::Float => Ok(number(value.as_number().unwrap_or(f64::NAN))),
            Type::String => Ok(Value::str(self.text(value.get()?)?)),
            Type::BigInt => match value.get::<js::Coerced<String>>()?.0.parse() {
                Ok(number) => Ok(Value::integer(number)),
                Err(_) => refused("an integer of more than 64 bits"),
            },
            Type::Symbol => refused("a symbol"),
            Type::Function | Type::Constructor => refused("a function"),
            kind => match value.into_object() {
                Some(array) if kind == Type::Array => self.array(&array, depth),
                Some(object) => self.object(object, depth),
                None => refused("no value"),
            },
        }
    }

    fn add(&mut self, text: usize, depth: usize) -> Result<(), Failure> {
        self.carried.add(text, depth)?;
        self.hold(text + mem::size_of::<Value>())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        self.held.grow(bytes).map_err(|why| Failure::At(None, why))
    }

    fn array(&mut self, array: &js::Object<'js>, depth: usize) -> Result<Value, Failure> {
        // Up to 2^32 - 1, of which none need to be there; `rquickjs::Array` panics beyond 2^31.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a length is an integer of 32 bits"
        )]
        let length = array.get::<_, f64>("length")? as u32;
        self.add((length as usize).saturating_mul(mem::size_of::<Value>()), depth)?;
        let mut items = Vec::new();
        for at in 0..length {
            items.push(self.value(array.get(at)?, depth + 1)?);
        }
        Ok(Value::list(ListKind::Any, items))
    }

    fn object(&mut self, object: js::Object<'js>, depth: usize) -> Result<Value, Failure> {
        let kind: String = self.kind.call((object.clone(),))?;
        match kind.trim_start_matches("[object ").trim_end_matches(']') {
            "Object" => {
                let mut map = Map::new();
                for property in object.props::<js::String, js::Value>() {
                    let (key, value) = property?;
                    self.hold(tree(map.len() + 1) - tree(map.len()))?;
                    map.insert(self.text(key)?.into(), self.value(value, depth + 1)?);
                }
                Ok(Value::map(map))
            }
            // Those that `new` makes.
            "String" | "Number" | "Boolean" => {
                let inner: Function = object.get("valueOf")?;
                let inner = inner.call((This(object),))?;
                self.value(inner, depth + 1)
            }
            other => Err(Failure::At(None, format!("the result is an object of kind {other}; give its text instead"))),
        }
    }

    fn text(&mut self, text: js::String<'js>) -> Result<Vec<u8>, Failure> {
        let bytes = match text.to_string() {
            Ok(text) => text.into_bytes(),
            Err(js::Error::Utf8(_)) => {
                let split: Function = text.ctx().eval_with_options(SPLIT, sloppy())?;
                let units: Vec<u16> = split.call((text,))?;
                from_units(&units)
            }
            Err(error) => return Err(error.into()),
        };
        self.add(bytes.len(), 0)?;
        Ok(bytes)
    }
}

/// A text with lone surrogates.
fn from_units(units: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(char) => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => match u8::try_from(lone.unpaired_surrogate().wrapping_sub(RAW)) {
                Ok(byte @ 0x80..) => bytes.push(byte),
                _ => bytes.extend_from_slice(char::REPLACEMENT_CHARACTER.encode_utf8(&mut [0; 4]).as_bytes()),
            },
        }
    }
    bytes
}

/// JavaScript has one kind of number. As in the original (goja), what is whole and exact is an integer.
fn number(number: f64) -> Value {
    const EXACT: f64 = (1_i64 << 53) as f64;
    if number.trunc() == number && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and exact")]
        return Value::integer(number as i64);
    }
    Value::Float(number)
}

/// As a script in a page: what is not declared may be assigned.
fn sloppy() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options
}

/// The line of the innermost frame of the script that has one: `    at f (eval_script:2:13)`.
fn line_of(stack: &str) -> Option<u32> {
    let mut frames = stack.lines().filter(|frame| !frame.contains(ARRAYS_NAME));
    frames.find_map(|frame| {
        let (rest, _column) = frame.trim_end_matches(')').rsplit_once(':')?;
        rest.rsplit_once(':')?.1.parse().ok()
    })
}

/// What of a script's message goes into ours: its first line, and not too much of it.
fn excerpt(message: &str) -> String {
    const LONGEST: usize = 200;
    let line = message.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    let more = iter::once("...").filter(|_| short.len() < line.len());
    iter::once(&*short).chain(more).collect()
}

#[cfg(test)]
mod tests;
