//! Filters in JavaScript: reads their files and runs each in an engine of its own, which is kept. A script sees In
//! and Param, and nothing of the machine but its clock. The configuration names the files, and the limits of the
//! render apply.

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

/// Larger than any useful filter.
const LARGEST_SCRIPT: usize = 1 << 20;

/// The memory limit of one script, in bytes.
const MEMORY: usize = 64 << 20;
/// The stack limit of a script's calls, in bytes.
const STACK: usize = 256 << 10;
/// QuickJS calls the interrupt handler once in so many jumps and calls (its JS_INTERRUPT_COUNTER_INIT). Each of them
/// counts as a step of the render.
const INTERRUPT_INTERVAL: u64 = 10_000;
/// The cost of a call in steps, without its script: about 10 µs, in which a render makes that many.
const CALL: u64 = 100;
/// So many elements of 16 bytes fill the memory: a longer array consists mostly of holes.
const LONGEST: f64 = (MEMORY / 16) as f64;
/// The nesting limit of lists and maps on their way in or out.
const NESTING: usize = 200;

/// Runs a script in a function of its own, so that its declarations end with the call. The text is in `arguments`,
/// because the script would see any other name.
const RUN: &str = "(function (In, Param) { return eval(arguments[2]); })";
/// The class of an object, such as `[object Date]`. It is bound before a script can change the prototypes.
const KIND: &str = "Function.prototype.call.bind(Object.prototype.toString)";

/// Makes array functions ask before they iterate. It is a module, so that its name keeps its lines out of messages.
const ARRAYS: &str = include_str!("javascript/arrays.js");
const ARRAYS_NAME: &str = "arrays.js";

/// Reads filters, and returns the errors of those that cannot be read or are no JavaScript. The name of a filter is the
/// name of its file without `.js`. A broken filter has its name, too, so that templates can be compiled.
pub fn load(paths: &[PathBuf]) -> (Scripts, Vec<String>) {
    let (mut scripts, mut broken) = (Scripts::default(), Vec::new());
    for path in paths {
        let filter = Filter::read(path).unwrap_or_else(|error| {
            broken.push(error);
            Filter { path: path.clone(), source: String::new(), engine: RefCell::default() }
        });
        // A name that is not UTF-8 cannot be written in a template.
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            scripts.insert(name, filter);
        }
    }
    (scripts, broken)
}

/// One filter of filter_dir.
struct Filter {
    path: PathBuf,
    source: String,
    /// Created by the first call. In a `RefCell`, because a template calls its filters by shared references.
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
        let engine = Engine::new().map_err(|error| self.message(&Failure::from(error)))?;
        // The engine compiles the whole text before it runs; the throw ends it at once.
        let text = format!("throw 0;{}", self.source);
        let thrown = engine.context.with(|ctx| {
            let error = ctx.eval_with_options::<js::Value, _>(text, sloppy()).err()?;
            match CaughtError::from_error(&ctx, error) {
                CaughtError::Value(thrown) if thrown.as_int() == Some(0) => None,
                caught => Some(explain(caught)),
            }
        });
        thrown.map_or(Ok(()), |failure| Err(self.message(&failure)))
    }

    fn message(&self, failure: &Failure) -> String {
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
            None => Engine::new().map_err(|error| self.message(&Failure::from(error)))?,
        };
        let result = engine.run(&self.source, env, value, argument);
        let value = result.map_err(|failure| self.message(&failure))?;
        // An engine with leftovers of a failed script, such as half-built values or used memory, is dropped.
        *kept = engine.is_clean().then_some(engine);
        Ok(value)
    }
}

/// QuickJS with the environment of one script.
struct Engine {
    // The order matters: persistent values have to be dropped before their context.
    run: Persistent<Function<'static>>,
    kind: Persistent<Function<'static>>,
    context: Context,
    watch: Rc<Watch>,
}

/// The state of the interrupt handler. In cells, because the engine owns the handler while the call changes its state.
#[derive(Default)]
struct Watch {
    /// The meter of the render that the script runs in; set only while it runs.
    meter: RefCell<Option<Meter>>,
    /// Why the script was interrupted.
    end: RefCell<Option<String>>,
}

/// Why a call has no value.
enum Failure {
    /// The line of the script, if it is known, and the cause.
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
        runtime.set_interrupt_handler(Some(Box::new(move || watched.is_over(INTERRUPT_INTERVAL))));
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
        // There is no job to run. But this call tells the engine the present stack pointer; the first call may have
        // been deep in the stack.
        let ran = self.context.runtime().execute_pending_job();
        debug_assert!(ran.is_ok_and(|ran| !ran), "an engine with jobs is not kept");
        let result = self.context.with(|ctx| {
            let most = env.meter.limits().output;
            let mut inward = ToScript { ctx: &ctx, size: Size { bytes: 0, most } };
            let input = inward.value(value, 0);
            let called = input.and_then(|input| {
                let param = inward.value(argument, 0)?;
                let run = self.run.clone().restore(&ctx)?;
                let result: js::Value = run.call((input, param, source))?;
                let kind = self.kind.clone().restore(&ctx)?;
                let mut outward = FromScript { kind, size: Size { bytes: 0, most }, held: env.meter.hold() };
                let value = outward.value(result, 0)?;
                let size = (inward.size.bytes + outward.size.bytes) / STEP;
                self.watch.is_over(size as u64);
                Ok(value)
            });
            called.map_err(|failure| match failure {
                Failure::Engine(error) => explain(CaughtError::from_error(&ctx, error)),
                message => message,
            })
        });
        match self.watch.finish() {
            Some(why) => Err(Failure::At(None, why)),
            None => result,
        }
    }

    /// Resets the engine, except for changes to JavaScript's own objects. `false`: it cannot be reset.
    fn is_clean(&self) -> bool {
        let removed = self.context.with(|ctx| -> js::Result<()> {
            let globals = ctx.globals();
            // Only variables that are assigned without `var` can be listed here.
            let keys: Vec<js::Atom> = globals.keys().collect::<js::Result<_>>()?;
            keys.into_iter().try_for_each(|key| globals.remove(key))
        });
        removed.is_ok() && !self.context.runtime().is_job_pending()
    }
}

/// The message of an exception.
fn explain(caught: CaughtError) -> Failure {
    let failure = |what: &str| Failure::At(None, what.to_owned());
    match caught {
        CaughtError::Exception(exception) => {
            let message = exception.message().unwrap_or_default();
            if message == "out of memory" {
                return failure(OUT_OF_MEMORY);
            }
            let name: String = exception.get("name").unwrap_or_else(|_| "Error".to_owned());
            let line = exception.stack().as_deref().and_then(line_of);
            Failure::At(line, excerpt(&format!("{name}: {message}")))
        }
        // The engine has no memory left for an error object, and throws null.
        CaughtError::Value(thrown) if thrown.is_null() => failure(OUT_OF_MEMORY),
        CaughtError::Value(thrown) => match thrown.get::<js::Coerced<String>>() {
            Ok(text) => failure(&excerpt(&format!("throws {}", text.0))),
            Err(_) => failure("throws an object"),
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

    /// Returns why the script was interrupted, if it was.
    fn finish(&self) -> Option<String> {
        self.meter.take();
        self.end.take()
    }

    /// Whether a function may iterate over an array of this length. A script that catches the exception is ended soon.
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

    /// Counts steps. Returns whether the script has to end.
    fn is_over(&self, steps: u64) -> bool {
        // While the engine is created no script runs, but the handler is called.
        let Some(meter) = &*self.meter.borrow() else { return false };
        let bytes = usize::try_from(steps).unwrap_or(usize::MAX).saturating_mul(STEP);
        // The handler is called rarely enough to look at the clock each time.
        match meter.charge(bytes).and_then(|()| meter.look()) {
            Ok(()) => false,
            Err(why) => {
                self.end.replace(Some(why));
                true
            }
        }
    }
}

/// The cost of the values that one call converts: it has the limits of everything that a render builds.
struct Size {
    bytes: usize,
    most: usize,
}

impl Size {
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

/// Converts values of the template to JavaScript.
struct ToScript<'c, 'js> {
    ctx: &'c Ctx<'js>,
    size: Size,
}

impl<'js> ToScript<'_, 'js> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<js::Value<'js>, Failure> {
        let ctx = self.ctx.clone();
        self.size.add(0, depth)?;
        Ok(match value {
            Value::Nil => js::Value::new_null(ctx),
            Value::Bool(value) => js::Value::new_bool(ctx, *value),
            // Beyond 2^53, the nearest float.
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
            // Defined and not assigned: a key may be `__proto__`.
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
        self.size.add(text.len(), 0)?;
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

/// A byte that is not UTF-8 becomes this lone surrogate plus the byte, because texts in JavaScript are UTF-16. So it
/// survives both conversions (Python's "surrogateescape").
const RAW: u16 = 0xdc00;
/// Converts UTF-16 units to a text, and back. The engine has no other way for texts that are not UTF-8.
const JOIN: &str = "(function (u) { var t = ''; for (var i = 0; i < u.length; i++) t += String.fromCharCode(u[i]); \
                    return t; })";
const SPLIT: &str = "(function (t) { var u = []; for (var i = 0; i < t.length; i++) u.push(t.charCodeAt(i)); \
                     return u; })";

/// Converts values of JavaScript to the template's.
struct FromScript<'js> {
    kind: Function<'js>,
    size: Size,
    /// The memory of the values, until the result is accounted for as a whole.
    held: Hold,
}

impl<'js> FromScript<'js> {
    fn value(&mut self, value: js::Value<'js>, depth: usize) -> Result<Value, Failure> {
        self.add(0, depth)?;
        let refused = |what: &str| {
            let advice = "a filter returns a string, a number, a boolean, a list or a map";
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
        self.size.add(text, depth)?;
        self.hold(text + mem::size_of::<Value>())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        self.held.grow(bytes).map_err(|why| Failure::At(None, why))
    }

    fn array(&mut self, array: &js::Object<'js>, depth: usize) -> Result<Value, Failure> {
        // Up to 2^32 - 1, also if most elements do not exist; `rquickjs::Array` panics beyond 2^31.
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
            // Objects of `new String` and the like.
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

/// The bytes of a text with lone surrogates.
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

/// JavaScript has one type of number. As in Go remco (goja), a whole number that is exact is an integer.
fn number(number: f64) -> Value {
    const EXACT: f64 = (1_i64 << 53) as f64;
    if number.trunc() == number && number.abs() <= EXACT && !(number == 0.0 && number.is_sign_negative()) {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and exact")]
        return Value::integer(number as i64);
    }
    Value::Float(number)
}

/// Non-strict mode, as in a web page: undeclared variables may be assigned.
fn sloppy() -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options
}

/// The line of the innermost frame of the script, such as `    at f (eval_script:2:13)`.
fn line_of(stack: &str) -> Option<u32> {
    let mut frames = stack.lines().filter(|frame| !frame.contains(ARRAYS_NAME));
    frames.find_map(|frame| {
        let (rest, _column) = frame.trim_end_matches(')').rsplit_once(':')?;
        rest.rsplit_once(':')?.1.parse().ok()
    })
}

/// The first line of a script's message, cut.
fn excerpt(message: &str) -> String {
    const LONGEST: usize = 200;
    let line = message.lines().next().unwrap_or_default();
    let short: String = line.chars().take(LONGEST).collect();
    let more = iter::once("...").filter(|_| short.len() < line.len());
    iter::once(&*short).chain(more).collect()
}

#[cfg(test)]
mod tests;
