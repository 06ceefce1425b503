//! Runs a compiled template: upon prints the texts and follows the control flow, and calls back here for everything
//! that has a value. What an expression is worth is found out in `eval`.
//!
//! upon's callables know nothing but a number, so the render at work is found through a thread local. What they print
//! goes straight to the result, past upon, which knows text only: the result may hold any bytes.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::LazyLock;

use super::ast::{Expr, Pairs};
use super::library::{Failure, Library, resolve};
use super::lower::{ForNode, IncludeNode, Node, NodeKind, Program};
use super::scope::{Name, Scopes, Sees};
use super::source::{Error, Span};
use super::value::{Object, Rows, Value};
use super::{Env, NESTING};

/// upon with its three callables; the same for all templates.
pub(super) static ENGINE: LazyLock<upon::Engine<'static>> = LazyLock::new(|| {
    let mut engine = upon::Engine::new();
    // {{ 4 | run }}: runs node 4, which may print.
    engine.add_formatter("run", |_, number| {
        current(|render| render.at_node(number, |node| render.run(node))).map_err(upon::fmt::Error::from)
    });
    // {% if 4 | test %}: whether node 4 holds.
    engine.add_function("test", |number: &upon::Value| {
        current(|render| render.at_node(number, |node| render.test(node)))
    });
    // {% for _ in rows(4) %}: the rounds of loop 4. The variables are ours, upon only counts.
    engine.add_function("rows", |number: &upon::Value| -> Result<upon::Value, String> {
        let rounds = current(|render| render.at_node(number, |node| render.open_loop(node)))?;
        Ok(upon::Value::List(vec![upon::Value::None; rounds]))
    });
    engine
});

/// So many levels of expressions may be open while a template runs, which bounds its stack: measured without
/// optimisation a level takes up to 2.7 KiB, and all of them fit a thread of 2 MiB.
const DEPTH: usize = 600;

/// What a nested run of upon, for a call or a computed include, takes of these levels.
const UNIT: usize = 8;

/// What a level of parsing takes of them.
const PARSING: usize = DEPTH / NESTING;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Render>>> = const { RefCell::new(None) };
}

fn current<T>(call: impl FnOnce(&Render) -> T) -> T {
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
pub(super) fn render(program: &Rc<Program>, library: &Rc<Library>, env: Env) -> Result<Vec<u8>, Error> {
    let render = Rc::new(Render {
        library: library.clone(),
        env,
        program: RefCell::new(program.clone()),
        scopes: RefCell::new(Scopes::new()),
        loops: RefCell::new(Vec::new()),
        chosen: RefCell::new(Vec::new()),
        trail: RefCell::new(Vec::new()),
        out: RefCell::new(Vec::new()),
        failure: RefCell::new(None),
        tag: Cell::default(),
        steps: Cell::new(0),
        depth: Cell::new(0),
    });
    let guard = Guard::enter(render.clone());
    let result = render.unit(program, 0);
    drop(guard);
    match result {
        Ok(()) => Ok(render.out.take()),
        Err(Stop::Told) => Err(render.failure.take().expect("an error is kept before it is told")),
        Err(Stop::At(what, message)) => Err(program.error(what, what, message)),
    }
}

/// One render from its beginning to its end.
pub(super) struct Render {
    pub library: Rc<Library>,
    pub env: Env,
    /// The program whose node numbers upon counts in at the moment.
    pub program: RefCell<Rc<Program>>,
    pub scopes: RefCell<Scopes>,
    /// The loops that are open, innermost last.
    loops: RefCell<Vec<OpenLoop>>,
    /// Which branches are taken of the `if`s that are open.
    chosen: RefCell<Vec<usize>>,
    /// The includes and calls that are open, for errors.
    trail: RefCell<Vec<Passed>>,
    /// The result so far.
    out: RefCell<Vec<u8>>,
    /// Why upon was told to stop; it only carries text.
    failure: RefCell<Option<Error>>,
    /// Where the node stands that ran last: the nearest place there is for what goes wrong in text.
    tag: Cell<Span>,
    steps: Cell<u64>,
    pub depth: Cell<usize>,
}

struct OpenLoop {
    rows: Option<Rows>,
    round: usize,
    info: Rc<LoopInfo>,
}

struct Passed {
    how: &'static str,
    program: Rc<Program>,
    tag: Span,
}

/// Why evaluating stops.
pub(super) enum Stop {
    /// For this reason, which is to be told with its place.
    At(Span, String),
    /// For a reason that [`Render::failure`] holds.
    Told,
}

pub(super) type Outcome<T> = Result<T, Stop>;

/// `forloop`
#[derive(Default)]
struct LoopInfo {
    count: Cell<usize>,
    /// Counter0
    number: Cell<usize>,
    later: Cell<bool>,
    last: Cell<bool>,
    parent: Option<Value>,
}

impl Render {
    /// Has upon render a unit of a program; what it prints is appended to the result.
    pub fn unit(&self, program: &Rc<Program>, number: usize) -> Outcome<()> {
        let outer = self.program.replace(program.clone());
        let result = program
            .unit(number)
            .render_from(&ENGINE, &upon::Value::None)
            .with_max_include_depth(NESTING + 1)
            .with_template_fn(|name| match name.parse() {
                Ok(number) => Ok(program.unit(number)),
                Err(_) => Err("lowering names units by their numbers".to_owned()),
            })
            .to_writer(Sink(self))
            .map_err(|error| {
                if self.failure.borrow().is_none() {
                    self.keep(self.tag.get(), Stop::At(self.tag.get(), error.to_string()));
                }
                Stop::Told
            });
        self.program.replace(outer);
        result
    }

    /// Calls what a node does, and keeps its error with its place; upon gets a word only.
    fn at_node<T>(&self, number: &upon::Value, call: impl FnOnce(&Node) -> Outcome<T>) -> Result<T, String> {
        let upon::Value::Integer(number) = number else {
            return Err("lowering gives nodes numbers".to_owned());
        };
        let program = self.program.borrow().clone();
        let node = program.node(*number as usize);
        self.tag.set(node.tag);
        self.spend(1, node.tag).and_then(|()| call(node)).map_err(|stop| {
            self.keep(node.tag, stop);
            "stopped".to_owned()
        })
    }

    fn keep(&self, tag: Span, stop: Stop) {
        let Stop::At(what, message) = stop else { return };
        let error = self.program.borrow().error(tag, what, message);
        self.tell(error);
    }

    /// Adds to an error how one got to its place.
    fn tell(&self, mut error: Error) {
        for passed in self.trail.borrow().iter().rev() {
            error = error.reached(passed.how, passed.program.source(passed.tag), passed.tag);
        }
        self.failure.replace(Some(error));
    }

    /// How much more the render may cost.
    pub fn steps_left(&self) -> u64 {
        self.env.limits.steps.saturating_sub(self.steps.get())
    }

    /// Counts what the render costs, and asks now and then whether it is still wanted.
    pub fn spend(&self, steps: u64, place: Span) -> Outcome<()> {
        /// Asked for whether to stop once in so many steps.
        const PATIENCE: u64 = 1024;
        let before = self.steps.get();
        let after = before.saturating_add(steps);
        self.steps.set(after);
        if after > self.env.limits.steps {
            let message = format!("the template takes more than {} steps", self.env.limits.steps);
            return Err(Stop::At(place, message));
        }
        if before / PATIENCE != after / PATIENCE && self.env.world.stopped() {
            return Err(Stop::At(place, "stopped before the end".to_owned()));
        }
        Ok(())
    }

    /// Appends to the result.
    fn print(&self, print: impl FnOnce(&mut Vec<u8>)) -> Result<(), String> {
        let mut out = self.out.borrow_mut();
        print(&mut out);
        let most = self.env.limits.output;
        if out.len() > most {
            return Err(format!("the result is larger than {most} bytes"));
        }
        Ok(())
    }

    fn run(&self, node: &Node) -> Outcome<()> {
        let at_tag = |message| Stop::At(node.tag, message);
        match &node.kind {
            NodeKind::Text(text) => self.print(|out| out.extend_from_slice(text)).map_err(at_tag)?,
            NodeKind::Print(expr) => {
                let value = self.eval(expr)?;
                self.print(|out| value.print(out)).map_err(at_tag)?;
            }
            NodeKind::Set(name, expr) => {
                let value = self.eval(expr)?;
                self.scopes.borrow_mut().set(*name, value);
            }
            NodeKind::Choose(conditions) => self.choose(conditions)?,
            NodeKind::EndChoose => _ = self.chosen.borrow_mut().pop(),
            NodeKind::For(for_) => self.begin_round(for_),
            NodeKind::EndFor => {
                self.loops.borrow_mut().pop();
                self.scopes.borrow_mut().close();
            }
            NodeKind::With(pairs) => {
                let values = self.pairs(pairs)?;
                self.scopes.borrow_mut().open_child();
                self.set_all(values);
            }
            NodeKind::EndWith => self.scopes.borrow_mut().close(),
            NodeKind::Enter { pairs, only } => self.enter(node.tag, pairs, *only)?,
            NodeKind::Leave => self.leave(),
            NodeKind::IncludeComputed(include) => self.include(node.tag, include)?,
            NodeKind::Test(_) | NodeKind::Chosen(_) | NodeKind::Empty => {}
        }
        Ok(())
    }

    fn test(&self, node: &Node) -> Outcome<bool> {
        match &node.kind {
            NodeKind::Test(expr) => Ok(self.eval(expr)?.truthy()),
            NodeKind::Chosen(branch) => Ok(self.chosen.borrow().last() == Some(branch)),
            NodeKind::Empty => Ok(self.loops.borrow().last().is_none_or(|open| open.round == 0)),
            _ => Ok(false),
        }
    }

    fn choose(&self, conditions: &[(Expr, Span)]) -> Outcome<()> {
        let mut chosen = conditions.len();
        for (branch, (condition, tag)) in conditions.iter().enumerate() {
            // An error belongs to the `elif`, not to the `if` that the node stands for.
            let holds = self.eval(condition).map_err(|stop| {
                self.keep(*tag, stop);
                Stop::Told
            })?;
            if holds.truthy() {
                chosen = branch;
                break;
            }
        }
        self.chosen.borrow_mut().push(chosen);
        Ok(())
    }
}

/// Loops.
impl Render {
    /// Opens the scope of a loop, in which what it goes through is evaluated too, and counts its rounds.
    fn open_loop(&self, node: &Node) -> Outcome<usize> {
        let NodeKind::For(for_) = &node.kind else { return Ok(0) };
        let parent = self.scopes.borrow().enclosing_loop();
        let info = Rc::new(LoopInfo { parent, ..LoopInfo::default() });
        {
            let mut scopes = self.scopes.borrow_mut();
            scopes.open_child();
            scopes.set(Name::FORLOOP, Value::Object(info.clone()));
        }
        let rows = self.eval(&for_.iterated)?.rows(for_.reversed, for_.sorted);
        let rows = rows.map_err(|message| Stop::At(for_.iterated_span, message))?;
        let rounds = rows.as_ref().map_or(0, Rows::len);
        info.count.set(rounds);
        self.loops.borrow_mut().push(OpenLoop { rows, round: 0, info });
        Ok(rounds)
    }

    fn begin_round(&self, for_: &ForNode) {
        let mut loops = self.loops.borrow_mut();
        let Some(OpenLoop { rows: Some(rows), round, info }) = loops.last_mut() else {
            return;
        };
        let Some((key, value)) = rows.row(*round) else { return };
        info.begin(rows.number(*round));
        *round += 1;
        let mut scopes = self.scopes.borrow_mut();
        scopes.set(for_.key, key);
        if let (Some(name), Some(value)) = (for_.value, value) {
            scopes.set(name, value);
        }
    }
}

impl LoopInfo {
    /// First and Last are set on the way and not taken back, which shows where a text is gone through in reverse: its
    /// rounds are numbered downwards.
    fn begin(&self, number: usize) {
        self.number.set(number);
        if number == 1 {
            self.later.set(true);
        }
        if number + 1 == self.count.get() {
            self.last.set(true);
        }
    }
}

impl Object for LoopInfo {
    fn type_name(&self) -> &'static str {
        "pongo2.tagForLoopInformation"
    }

    fn field(&self, name: &str) -> Option<Value> {
        let number = |n: usize| Some(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)));
        let (count, at) = (self.count.get(), self.number.get());
        match name {
            "Counter" => number(if count == 0 { 0 } else { at + 1 }),
            "Counter0" => number(at),
            "Revcounter" => number(count - at),
            "Revcounter0" => number((count - at).saturating_sub(1)),
            "First" => Some(Value::Bool(!self.later.get())),
            "Last" => Some(Value::Bool(self.last.get())),
            "Parentloop" => Some(self.parent.clone().unwrap_or(Value::Nil)),
            _ => None,
        }
    }

    fn call(&self, _method: &str, _args: &[Value]) -> Option<Result<Value, String>> {
        None
    }
}

/// Includes.
impl Render {
    fn pairs(&self, pairs: &Pairs) -> Outcome<Vec<(Name, Value)>> {
        pairs.iter().map(|(name, expr)| Ok((*name, self.eval(expr)?))).collect()
    }

    fn set_all(&self, values: Vec<(Name, Value)>) {
        let mut scopes = self.scopes.borrow_mut();
        for (name, value) in values {
            scopes.set(name, value);
        }
    }

    fn enter(&self, tag: Span, pairs: &Pairs, only: bool) -> Outcome<()> {
        let values = self.pairs(pairs)?;
        {
            let mut scopes = self.scopes.borrow_mut();
            let outer = scopes.innermost();
            scopes.open(if only { Sees::Nothing } else { Sees::AsFile(outer) });
        }
        self.set_all(values);
        self.pass("included from", tag);
        Ok(())
    }

    fn leave(&self) {
        self.trail.borrow_mut().pop();
        self.scopes.borrow_mut().close();
    }

    /// Goes deeper into expressions, calls or files that are found when the template runs. (No closure here: it would
    /// double the stack that a level takes.)
    pub fn descend(&self, levels: usize) -> Outcome<()> {
        let depth = self.depth.get() + levels;
        if depth > DEPTH {
            let message = "calls and includes are nested too deeply, do they ever end?".to_owned();
            return Err(Stop::At(self.tag.get(), message));
        }
        self.depth.set(depth);
        Ok(())
    }

    /// Comes back. (Not needed where an error ends the render.)
    pub fn ascend(&self, levels: usize) {
        self.depth.set(self.depth.get() - levels);
    }

    fn pass(&self, how: &'static str, tag: Span) {
        let program = self.program.borrow().clone();
        self.trail.borrow_mut().push(Passed { how, program, tag });
    }

    fn include(&self, tag: Span, include: &IncludeNode) -> Outcome<()> {
        let at_file = |message| Stop::At(include.file_span, message);
        let name = self.eval(&include.file)?.text();
        let path = resolve(&self.program.borrow().source(tag).path, &name).map_err(at_file)?;
        let open = self.depth.get() / PARSING;
        let program = match self.library.computed(&*self.env.world, &path, include.need, open) {
            Ok(Some(program)) => program,
            Ok(None) => return Ok(()),
            Err(Failure::Read(message)) => return Err(at_file(message)),
            Err(Failure::Compile(error)) => {
                self.pass("included from", tag);
                self.tell(error);
                return Err(Stop::Told);
            }
        };
        self.enter(tag, &include.pairs, include.only)?;
        self.descend(UNIT)?;
        self.unit(&program, 0)?;
        self.ascend(UNIT);
        self.leave();
        Ok(())
    }
}

/// Where upon writes the texts between nodes.
struct Sink<'r>(&'r Render);

impl io::Write for Sink<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let render = self.0;
        render.print(|out| out.extend_from_slice(text)).map_err(|message| {
            render.keep(render.tag.get(), Stop::At(render.tag.get(), message));
            io::Error::other("stopped")
        })?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
