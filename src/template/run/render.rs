//! Runs a compiled template: upon runs the control flow, and calls back for everything that is printed or evaluated.
//! `eval` evaluates expressions.
//!
//! upon passes its callables the number of a node and nothing else, so they find the running render in a thread local.
//! They print into the result themselves, because upon prints only text and the result may have any bytes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::LazyLock;

use crate::store::Bytes;
use crate::template::builtin::env::Env;
use crate::template::compile::library::Library;
use crate::template::compile::program::{ForNode, Node, NodeKind, Place, Program, Slot};
use crate::template::limits::NESTING;
use crate::template::run::loops::{LoopInfo, Memory, OpenLoop};
use crate::template::run::marked;
use crate::template::run::scope::{NameQuery, Scopes};
use crate::template::run::stacks::{Frame, Stacks};
use crate::template::source::{Error, Span};
use crate::template::syntax::ast::{Access, Escape, Expr, Path, Printed, Step};
use crate::template::syntax::names::Name;
use crate::template::value::bounded::Text;
use crate::template::value::meter::{Hold, STEP, raised_by};
use crate::template::value::{Rows, Value};

/// upon with its four callables, for all templates.
pub(crate) static ENGINE: LazyLock<upon::Engine<'static>> = LazyLock::new(|| {
    let mut engine = upon::Engine::new();
    // {{ 4 | run }}: runs node 4 and the nodes that continue its line. They may print.
    engine.add_formatter("run", |_, number| current(|render| render.run_line(number)).map_err(upon::fmt::Error::from));
    // {% if 4 | test %}: tests the condition of node 4.
    engine.add_function("test", |number: &upon::Value| {
        current(|render| render.at_node(number, |node| render.test(node)))
    });
    // {% for _ in bursts(4) %}{% for _ in times(4) %}: the rounds of loop 4. upon only counts them, by iterating over a
    // list. Two nested lists stay short.
    engine.add_function("bursts", |number: &upon::Value| -> Result<upon::Value, String> {
        let rounds = current(|render| render.at_node(number, |node| render.open_loop(node)))?;
        Ok(upon::Value::List(vec![upon::Value::None; rounds.div_ceil(BURST)]))
    });
    engine.add_function("times", |number: &upon::Value| -> Result<upon::Value, String> {
        let left = current(|render| render.at_node(number, |_| Ok(render.rounds_left())))?;
        Ok(upon::Value::List(vec![upon::Value::None; left.min(BURST)]))
    });
    engine
});

/// The rounds of a loop that upon counts at a time.
const BURST: usize = 1024;

/// The largest number of open levels of expressions, which bounds the stack of a render to less than 2 MiB. A level
/// takes up to 3.2 KiB without optimisation and 1.2 KiB with it (measured).
const DEPTH: usize = if cfg!(debug_assertions) { 480 } else { 1400 };

/// The largest number of nested files and blocks in upon. They have no cycles, and upon needs no stack for them.
const INCLUDES: usize = NESTING * (NESTING + 1);

/// The levels of a nested run of upon, for a call or a computed include.
pub(crate) const UNIT: usize = 8;

/// The levels that one level of parsing counts for.
pub(super) const PARSING: usize = DEPTH / NESTING;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Render>>> = const { RefCell::new(None) };
}

pub(crate) fn current<T>(call: impl FnOnce(&Render) -> T) -> T {
    let render = CURRENT.with_borrow(Clone::clone).expect("upon only runs within a render");
    call(&render)
}

/// Makes a render the current one until dropped.
struct Guard {
    before: Option<Rc<Render>>,
}

impl Guard {
    fn enter(render: Rc<Render>) -> Guard {
        Guard { before: CURRENT.replace(Some(render)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// Renders the first unit of a program.
pub(crate) fn render(program: &Rc<Program>, library: &Rc<Library>, env: Env) -> Result<Vec<u8>, Error> {
    library.begin();
    let render = Rc::new(Render {
        library: library.clone(),
        program: RefCell::new(program.clone()),
        scopes: RefCell::new(Scopes::new()),
        open: RefCell::default(),
        memory: RefCell::new(HashMap::new()),
        out: RefCell::new(Text::result(&env.meter)),
        variables: RefCell::new(env.meter.hold()),
        failure: RefCell::new(None),
        tag: Cell::default(),
        over: Cell::new(false),
        depth: Cell::new(0),
        env,
    });
    let guard = Guard::enter(render.clone());
    let result = render.unit(program, 0);
    drop(guard);
    library.keep_reads(render.env.store.take());
    match result {
        Ok(()) => Ok(render.out.replace(Text::result(&render.env.meter)).into_vec()),
        Err(Stop::Reported) => Err(render.failure.take().expect("an error is kept before it is told")),
        Err(Stop::At(what, message)) => Err(program.error(what, message)),
    }
}

/// One render from its beginning to its end. Cells, because upon's callables and the methods of values reach it by a
/// shared reference, one within another.
pub(crate) struct Render {
    pub library: Rc<Library>,
    pub env: Env,
    /// The program that upon runs at present. The node numbers are those of this program.
    pub program: RefCell<Rc<Program>>,
    pub scopes: RefCell<Scopes>,
    pub(super) open: RefCell<Stacks>,
    pub memory: RefCell<HashMap<Slot, Memory>>,
    /// The result so far.
    pub(super) out: RefCell<Text>,
    /// The memory of the variables.
    variables: RefCell<Hold>,
    /// The error that stopped upon, which itself can only pass on a text.
    pub(super) failure: RefCell<Option<Error>>,
    /// The place of the last node in the present program, for errors without a nearer place. During a method of a
    /// value, the place of its call.
    pub tag: Cell<Span>,
    /// Whether calls were nested too deeply, which ends the render.
    pub(super) over: Cell<bool>,
    pub depth: Cell<usize>,
}

/// The reason why an evaluation stops.
pub(crate) enum Stop {
    /// An error with its place, not reported yet.
    At(Span, String),
    /// The error is in [`Render::failure`].
    Reported,
}

pub(crate) type Outcome<T> = Result<T, Stop>;

/// The node of a number, and the nodes behind it.
fn numbered<'p>(program: &'p Program, number: &upon::Value) -> Result<&'p [Node], String> {
    let from = match number {
        upon::Value::Integer(number) => usize::try_from(*number).ok().and_then(|number| program.nodes.get(number..)),
        _ => None,
    };
    from.filter(|nodes| !nodes.is_empty()).ok_or_else(|| "lowering numbers nodes that there are".to_owned())
}

impl Render {
    /// Runs a unit of a program in upon. Its output is appended to the result.
    pub fn unit(&self, program: &Rc<Program>, number: usize) -> Outcome<()> {
        let outer = self.program.replace(program.clone());
        let tag = self.tag.replace(program.starts[number]);
        let result = program.units[number]
            .render_from(&ENGINE, &upon::Value::None)
            .with_max_include_depth(INCLUDES)
            .with_template_fn(|name| match name.parse::<usize>() {
                Ok(number) => Ok(&program.units[number]),
                Err(_) => Err("lowering names units by their numbers".to_owned()),
            })
            .to_writer(io::sink())
            .map_err(|error| {
                if self.failure.borrow().is_none() {
                    self.report_stop(Stop::At(self.tag.get(), error.to_string()));
                }
                Stop::Reported
            });
        self.program.replace(outer);
        self.tag.set(tag);
        result
    }

    /// Calls the function of a node, and reports its error with its place. upon gets only a text.
    fn at_node<T>(&self, number: &upon::Value, call: impl FnOnce(&Node) -> Outcome<T>) -> Result<T, String> {
        let program = self.program.borrow().clone();
        let node = &numbered(&program, number)?[0];
        self.to_text(self.reach(node).and_then(|()| call(node)))
    }

    /// Runs a node and the nodes that continue its line.
    fn run_line(&self, number: &upon::Value) -> Result<(), String> {
        let program = self.program.borrow().clone();
        for node in numbered(&program, number)? {
            // Text is no step, and errors do not refer to it.
            let reached = if let NodeKind::Source = node.kind { Ok(()) } else { self.reach(node) };
            self.to_text(reached.and_then(|()| self.run(&program, node)))?;
            if node.place == Place::EndOfLine {
                break;
            }
        }
        Ok(())
    }

    /// Counts a node as a step, and notes its place.
    fn reach(&self, node: &Node) -> Outcome<()> {
        self.tag.set(node.tag);
        self.charge(STEP, node.tag)
    }

    fn to_text<T>(&self, result: Outcome<T>) -> Result<T, String> {
        result.map_err(|stop| {
            self.report_stop(stop);
            "stopped".to_owned()
        })
    }

    fn report_stop(&self, stop: Stop) {
        let Stop::At(what, message) = stop else { return };
        let error = self.program.borrow().error(what, message);
        self.report(error);
    }

    /// Keeps an error with the frames that led to its place. Only the first error is kept; later ones follow from it.
    pub(super) fn report(&self, mut error: Error) {
        if self.failure.borrow().is_some() {
            return;
        }
        for frame in self.open.borrow().frames.iter().rev() {
            error = error.reached(frame.how, frame.program.source(frame.from), frame.from);
        }
        self.failure.replace(Some(error));
    }

    /// The text of an error, for callers that can pass on only a text.
    pub fn message(&self, stop: Stop) -> String {
        match stop {
            Stop::At(_, message) => message,
            Stop::Reported => "stopped".to_owned(),
        }
    }

    /// Evaluates a part of a tag of another program.
    pub fn within<T>(&self, program: &Rc<Program>, tag: Span, call: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let outer = self.program.replace(program.clone());
        let outer_tag = self.tag.replace(tag);
        let result = call().map_err(|stop| {
            self.report_stop(stop);
            Stop::Reported
        });
        self.program.replace(outer);
        self.tag.set(outer_tag);
        result
    }

    /// Charges work to the render, in bytes that are read and written.
    pub fn charge(&self, bytes: usize, place: Span) -> Outcome<()> {
        self.env.meter.charge(bytes).map_err(|message| Stop::At(place, message))
    }

    /// Appends to the result.
    pub(super) fn print(&self, text: &[u8]) -> Result<(), String> {
        let mut out = self.out.borrow_mut();
        let most = self.env.meter.limits().output;
        if text.len() > most.saturating_sub(out.len()) {
            self.env.meter.end();
            return Err(format!("the result is larger than {most} bytes; {}", raised_by("template_output")));
        }
        out.push(text)
    }

    /// Appends a value to the result, not escaped. Fails if the result becomes too large.
    pub fn print_value(&self, value: &Value) -> Outcome<()> {
        match value {
            Value::Str(text) => self.print_text(text),
            _ => self.print_text(&value.text()),
        }
    }

    /// The present end of the result. [`Render::take`] removes the output behind it.
    pub fn mark(&self) -> usize {
        self.out.borrow().len()
    }

    /// Removes and returns the output from [`Render::mark`] on. Fails if the copy exceeds the memory of the render.
    pub fn take(&self, start: usize) -> Outcome<Bytes> {
        let at_tag = |message| Stop::At(self.tag.get(), message);
        let mut out = self.out.borrow_mut();
        let _held = self.env.meter.room_for(out.len().saturating_sub(start)).map_err(at_tag)?;
        let text = out.split_off(start);
        self.env.meter.keep(&Value::Str(text.clone())).map_err(at_tag)?;
        Ok(text)
    }

    /// Accounts for the memory of the variables. Called after tags that may set many.
    pub fn hold_variables(&self) -> Outcome<()> {
        /// The number of bytes that are accounted for at a time.
        const CHUNK: usize = 64 << 10;
        let bytes = self.scopes.borrow().bytes();
        let mut held = self.variables.borrow_mut();
        if bytes > held.bytes() {
            let more = (bytes - held.bytes()).max(CHUNK);
            held.grow(more).map_err(|message| Stop::At(self.tag.get(), message))?;
        }
        Ok(())
    }

    /// Runs a node. Each kind has a function of its own, because this function is on the stack of every call.
    fn run(&self, program: &Program, node: &Node) -> Outcome<()> {
        match &node.kind {
            NodeKind::Source => self.print_text(program.source(node.tag).slice(node.tag)),
            NodeKind::Text(text) => self.print_text(text),
            NodeKind::Print(printed) => self.print_node(printed),
            NodeKind::Set(name, expr) => self.set(*name, expr),
            NodeKind::Choose(conditions) => self.choose(conditions),
            NodeKind::EndChoose => self.end_choose(),
            NodeKind::For(for_) => self.begin_round(for_),
            NodeKind::EndFor => self.end_loop(),
            NodeKind::With(pairs) => self.with(pairs),
            NodeKind::EndWith => self.end_with(),
            NodeKind::Enter { pairs, only } => self.enter(node.tag, pairs, *only),
            NodeKind::Leave => self.leave(),
            NodeKind::IncludeComputed(include) => self.include(node.tag, include),
            NodeKind::Block(supers) => self.begin_block(supers),
            NodeKind::Define(macros) => self.define(macros),
            NodeKind::Capture => self.capture(),
            NodeKind::Filter(filters) => self.end_filter(filters),
            NodeKind::Spaceless => self.end_spaceless(),
            NodeKind::Changed(slot) => self.end_changed(*slot),
            NodeKind::Cycle(cycle) => self.cycle(cycle),
            NodeKind::FirstOf(values) => self.first_of(values),
            NodeKind::WidthRatio(ratio) => self.width_ratio(ratio),
            NodeKind::Time(clock, layout) => self.time(*clock, layout),
            NodeKind::Lorem(lorem) => self.lorem(lorem),
            NodeKind::Autoescape(escape) => self.autoescape(*escape),
            NodeKind::EndAutoescape => self.end_autoescape(),
            NodeKind::Fail(message) => Err(Stop::At(node.tag, (*message).to_owned())),
            NodeKind::Test(_) | NodeKind::Chosen(_) | NodeKind::Empty | NodeKind::Watch(..) => Ok(()),
        }
    }

    fn test(&self, node: &Node) -> Outcome<bool> {
        match &node.kind {
            NodeKind::Test(expr) => Ok(self.eval(expr)?.truthy()),
            NodeKind::Chosen(branch) => Ok(self.open.borrow().branches.last() == Some(branch)),
            NodeKind::Empty => Ok(self.open.borrow().loops.last().is_none_or(|open| open.round == 0)),
            NodeKind::Watch(watched, slot) => self.watch(watched, *slot, node.tag),
            _ => Ok(false),
        }
    }

    pub(super) fn print_text(&self, text: &[u8]) -> Outcome<()> {
        self.print(text).map_err(|message| Stop::At(self.tag.get(), message))
    }

    fn print_node(&self, printed: &Printed) -> Outcome<()> {
        if let Expr::Path(path) = &printed.value
            && let scopes = self.scopes.borrow()
            && scopes.escape() == Escape::Off
            && let Some(text) = text_at(&scopes, path)
        {
            return self.print_text(text);
        }
        if self.scopes.borrow().escape() == Escape::Off {
            return self.print_value(&self.eval(&printed.value)?);
        }
        let value = self.eval_marked(&printed.value)?;
        let escaped = !printed.safe && !marked::is_safe(&value);
        match marked::plain(&value) {
            value @ Value::Str(_) if escaped => self.print_escaped(&value),
            value => self.print_value(&value),
        }
    }

    fn set(&self, name: Name, expr: &Expr) -> Outcome<()> {
        let value = self.eval_marked(expr)?;
        self.scopes.borrow_mut().set(name, value);
        self.hold_variables()
    }

    fn end_choose(&self) -> Outcome<()> {
        self.open.borrow_mut().branches.pop();
        Ok(())
    }

    fn choose(&self, conditions: &[(Expr, Span)]) -> Outcome<()> {
        let mut chosen = conditions.len();
        for (branch, (condition, tag)) in conditions.iter().enumerate() {
            // An error belongs to the `elif`, not to the `if` of the node.
            self.tag.set(*tag);
            if self.eval(condition)?.truthy() {
                chosen = branch;
                break;
            }
        }
        self.open.borrow_mut().branches.push(chosen);
        Ok(())
    }
}

/// Loops.
impl Render {
    /// Opens the scope of a loop, evaluates the iterated value in it, and returns the number of rounds.
    fn open_loop(&self, node: &Node) -> Outcome<usize> {
        let NodeKind::For(for_) = &node.kind else { return Ok(0) };
        let parent = self.scopes.borrow().enclosing_loop();
        let info = Rc::new(LoopInfo::within(parent));
        {
            let mut scopes = self.scopes.borrow_mut();
            scopes.open_child();
            scopes.set(Name::FORLOOP, Value::Object(info.clone()));
        }
        let rows = self.eval(&for_.iterated)?.rows(&self.env.meter, for_.reversed, for_.sorted);
        let rows = rows.map_err(|message| Stop::At(for_.iterated_span, message))?;
        let rounds = rows.as_ref().map_or(0, Rows::len);
        info.count.set(rounds);
        self.open.borrow_mut().loops.push(OpenLoop { rows, round: 0, info });
        Ok(rounds)
    }

    /// The remaining rounds of the innermost loop.
    fn rounds_left(&self) -> usize {
        let stacks = self.open.borrow();
        let of = |open: &OpenLoop| open.rows.as_ref().map_or(0, Rows::len).saturating_sub(open.round);
        stacks.loops.last().map_or(0, of)
    }

    fn begin_round(&self, for_: &ForNode) -> Outcome<()> {
        let mut stacks = self.open.borrow_mut();
        let Some(OpenLoop { rows: Some(rows), round, info }) = stacks.loops.last_mut() else { return Ok(()) };
        let Some((key, value)) = rows.row(*round) else { return Ok(()) };
        info.begin(rows.number(*round));
        *round += 1;
        let mut scopes = self.scopes.borrow_mut();
        scopes.set(for_.key, key);
        if let (Some(name), Some(value)) = (for_.value, value) {
            scopes.set(name, value);
        }
        drop(scopes);
        self.hold_variables()
    }

    fn end_loop(&self) -> Outcome<()> {
        self.open.borrow_mut().loops.pop();
        self.scopes.borrow_mut().close();
        Ok(())
    }
}

/// The text of a path, if it is a variable or a part of a pair, as most printed values are. Avoids a clone of the
/// value.
fn text_at<'s>(scopes: &'s Scopes, path: &Path) -> Option<&'s Bytes> {
    let NameQuery::Value(value) = scopes.look(path.head.name) else { return None };
    match (value, &path.head.args, &path.steps[..]) {
        (Value::Str(text), None, []) => Some(text),
        (Value::Pair(key, value), None, [Step { access: Access::Field(field), args: None, .. }]) => match &**field {
            "Key" => Some(key),
            "Value" => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// Depth and frames.
impl Render {
    /// Opens levels of expressions, calls or computed files. Has no closure, because a closure would double the stack
    /// of a level.
    pub fn descend(&self, levels: usize) -> Outcome<()> {
        let depth = self.depth.get() + levels;
        if depth > DEPTH {
            self.over.set(true);
            let message = "calls and includes are nested too deeply, do they ever end?".to_owned();
            return Err(Stop::At(self.tag.get(), message));
        }
        self.depth.set(depth);
        Ok(())
    }

    /// Closes levels. Not needed if an error ends the render.
    pub fn ascend(&self, levels: usize) {
        self.depth.set(self.depth.get() - levels);
    }

    /// Removes the frame that [`Render::push_frame`] added.
    pub fn pop_frame(&self) {
        self.open.borrow_mut().frames.pop();
    }

    /// Adds a frame, which errors show from here on.
    pub fn push_frame(&self, how: &'static str, from: Span) {
        let program = self.program.borrow().clone();
        self.open.borrow_mut().frames.push(Frame { how, program, from });
    }
}
