//! Lowers a template with its files to a program: control flow becomes source text for upon, everything else numbered
//! nodes. The source text runs the first node of each line of nodes. Evaluates nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::template::compile::library::{Library, resolve};
use crate::template::compile::program::{CycleNode, ForNode, IncludeNode, MacroNode, Node, NodeKind, Place, Program};
use crate::template::limits::NESTING;
use crate::template::source::{Error, Macros, Reach, Source, Span};
use crate::template::syntax::ast::Presence;
use crate::template::syntax::ast::{Block, File, For, If, IfChanged, Import, Include, Macro, Stmt, StmtKind};
use crate::template::syntax::lexer::{self, Blocks};
use crate::template::syntax::names::Name;
use crate::template::syntax::parser::{Document, Purpose, Use};
use crate::template::syntax::tags;
use crate::template::value::meter::Hold;
use crate::template::world::World;

/// Whether a file is rendered by itself, or within another one whose variables and macros it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Main,
    /// By a computed include. `open`: the levels of nesting around it.
    Included {
        open: usize,
    },
}

/// The memory of a node, with upon's source and instruction for it, in bytes. Measured.
const NODE: usize = 512;

/// The additional memory of a loop, which is two loops of upon.
const LOOP: usize = 4 * NODE;

/// Compiles a file, and all files that it includes by fixed names. `room` grows by their memory.
pub(crate) fn compile(
    path: &Path,
    bytes: Vec<u8>,
    role: Role,
    library: &Library,
    world: &dyn World,
    room: &mut Hold,
    engine: &upon::Engine<'static>,
) -> Result<Program, Error> {
    let mut lowering = Lowering {
        library,
        world,
        room,
        engine,
        role,
        sources: Vec::new(),
        nodes: Vec::new(),
        line: None,
        units: Vec::new(),
        starts: Vec::new(),
        work: VecDeque::new(),
        files: HashMap::new(),
        exports: HashMap::new(),
        includes: Vec::new(),
        variables: Vec::new(),
        bound: HashSet::from([Name::FORLOOP, Name::BLOCK, Name::PONGO2]),
    };
    lowering.include_file(path.to_owned(), bytes, None)?;
    // Lowering adds files, blocks and macros to the end of the queue, so that nested ones need no stack.
    while let Some(work) = lowering.work.pop_front() {
        match work {
            Work::File { source, unit } => lowering.file(source, unit)?,
            Work::Body { body, unit, chain } => lowering.unit(body, unit, &chain)?,
        }
    }
    lowering.refuse_cycles()?;
    let Lowering { mut sources, mut nodes, units, mut starts, variables, bound, .. } = lowering;
    // A program lives as long as its resource, and most programs are small.
    sources.shrink_to_fit();
    nodes.shrink_to_fit();
    starts.shrink_to_fit();
    let unknown = variables.into_iter().filter(|variable| !bound.contains(&variable.name));
    let unknown = unknown.map(|variable| (variable.name, variable.span)).collect();
    let mut units: Vec<_> =
        units.into_iter().map(|unit| unit.expect("no unit is left when there is no work")).collect();
    units.shrink_to_fit();
    Ok(Program { sources, nodes, units, starts, unknown })
}

pub(super) struct Lowering<'a> {
    library: &'a Library,
    world: &'a dyn World,
    /// The memory of the compiled files.
    room: &'a mut Hold,
    /// Has the callables that upon's source names.
    engine: &'a upon::Engine<'static>,
    role: Role,
    pub(super) sources: Vec<Source>,
    nodes: Vec<Node>,
    /// The last node that runs, and the length of upon's source behind it. If neither nodes nor source have grown
    /// since, the next node continues its line.
    line: Option<(usize, usize)>,
    units: Vec<Option<upon::Template<'static>>>,
    /// The beginning of each unit; the default for an empty one.
    starts: Vec<Span>,
    work: VecDeque<Work>,
    /// The included files: the numbers of source and unit.
    files: HashMap<PathBuf, (usize, usize)>,
    /// The macros of the imported files.
    exports: HashMap<PathBuf, Exports>,
    /// Each include by a fixed name: the source of its inheritance chain, its tag, and the included source.
    pub(super) includes: Vec<(usize, Span, usize)>,
    variables: Vec<Use>,
    bound: HashSet<Name>,
}

type Exports = BTreeMap<Name, Rc<MacroNode>>;

/// The units that are not lowered yet.
enum Work {
    File { source: usize, unit: usize },
    Body { body: Block, unit: usize, chain: Rc<InheritanceChain> },
}

/// A file with the files that it extends, and the blocks of all of them.
#[derive(Default)]
struct InheritanceChain {
    /// The first file. `None` for macros, whose includes run when they are called.
    source: Option<usize>,
    /// The units of each block, from the base file to the first one. The last unit is rendered.
    blocks: Rc<BTreeMap<Name, Rc<[usize]>>>,
}

/// Files.
impl Lowering<'_> {
    /// Adds a file. `reached`: the tag that names it.
    fn add(&mut self, path: PathBuf, bytes: Vec<u8>, reached: Option<(Reach, Span)>) -> Result<usize, Error> {
        if bytes.len() > Source::LARGEST {
            let message = format!("failed to compile the template, it is larger than {} MiB", Source::LARGEST >> 20);
            return Err(Error::of_file(&path, message));
        }
        self.room.build(bytes.len() + NODE).map_err(|message| match reached {
            Some((_, tag)) => self.error(tag, message),
            None => Error::of_file(&path, message),
        })?;
        let id = u32::try_from(self.sources.len()).expect("there are fewer files than bytes of memory");
        self.sources.push(Source { id, path, bytes, reached, macros: Macros::None, hinted: Default::default() });
        Ok(id as usize)
    }

    /// Adds a file that is rendered as a whole, and queues it.
    fn include_file(&mut self, path: PathBuf, bytes: Vec<u8>, tag: Option<Span>) -> Result<(usize, usize), Error> {
        let source = self.add(path.clone(), bytes, tag.map(|tag| (Reach::Included, tag)))?;
        let unit = self.reserve();
        self.files.insert(path, (source, unit));
        self.work.push_back(Work::File { source, unit });
        Ok((source, unit))
    }

    fn reserve(&mut self) -> usize {
        self.units.push(None);
        self.starts.push(Span::default());
        self.units.len() - 1
    }

    /// Reads a file that a tag names. `None`: the file does not exist, and is optional.
    fn read(
        &self,
        tag: Span,
        name: &[u8],
        named: Span,
        presence: Presence,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
        let path = self.resolve(tag, name, named)?;
        let bytes = self.library.read(self.world, &path, presence).map_err(|message| self.error(named, message))?;
        Ok(bytes.map(|bytes| (path, bytes)))
    }

    fn resolve(&self, tag: Span, name: &[u8], named: Span) -> Result<PathBuf, Error> {
        resolve(&self.sources[tag.file as usize].path, name).map_err(|message| self.error(named, message))
    }

    pub(super) fn error(&self, what: Span, message: impl Into<String>) -> Error {
        self.reached(what.file as usize, self.sources[what.file as usize].error(what, message))
    }

    /// Adds to an error the files and tags that led to its file.
    fn reached(&self, source: usize, mut error: Error) -> Error {
        let mut source = &self.sources[source];
        while let Some((reach, tag)) = source.reached {
            source = &self.sources[tag.file as usize];
            error = error.reached(reach.text(), source, tag);
        }
        error
    }

    fn parse(&mut self, source: usize, blocks: Blocks, purpose: Purpose) -> Result<Document, Error> {
        let open = match self.role {
            Role::Main => 0,
            Role::Included { open } => open,
        };
        let file = &self.sources[source];
        let document = lexer::lex(file, blocks, self.room)
            .and_then(|pieces| {
                tags::parse(file, &mut self.library.names(), &self.library.scripts, pieces, purpose, open)
            })
            .map_err(|error| self.reached(source, error))?;
        self.sources[source].macros = document.macros;
        Ok(document)
    }

    /// Lowers a file with the files that it extends: the base file is rendered, with the blocks of the others.
    fn file(&mut self, source: usize, unit: usize) -> Result<(), Error> {
        let mut document = self.parse(source, Blocks::Trimmed, Purpose::Render)?;
        if let (Role::Main, 0, None, Some(error)) = (self.role, source, &document.extends, document.wrong_call.take()) {
            return Err(error);
        }
        let mut paths = vec![self.sources[source].path.clone()];
        let mut blocks: Vec<BTreeMap<Name, Block>> = Vec::new();
        let body = loop {
            self.variables.append(&mut document.variables);
            self.bound.extend(document.bound);
            blocks.push(document.blocks);
            let Some(extends) = document.extends else { break document.body };
            let Some((path, bytes)) = self.read(extends.tag, &extends.file, extends.span, Presence::Required)? else {
                break document.body;
            };
            if paths.contains(&path) || paths.len() >= NESTING {
                return Err(self.error(extends.span, "files extend each other without an end"));
            }
            paths.push(path.clone());
            let parent = self.add(path, bytes, Some((Reach::Extended, extends.tag)))?;
            document = self.parse(parent, Blocks::Kept, Purpose::Render)?;
        };
        let mut bodies = Vec::new();
        let mut units: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (name, body) in blocks.into_iter().rev().flatten() {
            let unit = self.reserve();
            units.entry(name).or_default().push(unit);
            bodies.push((body, unit));
        }
        let blocks = Rc::new(units.into_iter().map(|(name, units)| (name, Rc::from(units))).collect());
        let chain = Rc::new(InheritanceChain { source: Some(source), blocks });
        let bodies = bodies.into_iter().map(|(body, unit)| Work::Body { body, unit, chain: chain.clone() });
        self.work.extend(bodies);
        self.unit(body, unit, &chain)
    }

    /// Lowers a unit, which is a template of upon.
    fn unit(&mut self, body: Block, unit: usize, chain: &Rc<InheritanceChain>) -> Result<(), Error> {
        let mut out = String::new();
        self.line = None;
        self.starts[unit] = body.first().map(|first| first.tag).unwrap_or_default();
        self.block(body, &mut out, chain)?;
        let compiled = self.engine.compile(out).map_err(|error| {
            let message = format!("failed to lower the template, which is a mistake of remco: {error}");
            Error::of_file(&self.sources[0].path, message)
        })?;
        self.units[unit] = Some(compiled);
        Ok(())
    }
}

/// Statements.
impl Lowering<'_> {
    fn block(&mut self, block: Block, out: &mut String, chain: &Rc<InheritanceChain>) -> Result<(), Error> {
        for statement in block {
            self.statement(statement, out, chain)?;
        }
        Ok(())
    }

    fn statement(
        &mut self,
        Stmt { tag, kind }: Stmt,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        self.charge(tag, cost(&kind, chain))?;
        use NodeKind::{Autoescape, Capture, EndAutoescape, EndWith, Filter, Spaceless, With};
        match kind {
            StmtKind::If(if_) => self.if_(tag, if_, out, chain),
            StmtKind::For(for_) => self.for_(tag, *for_, out, chain),
            StmtKind::With(pairs, body) => self.around(tag, With(pairs), body, EndWith, out, chain),
            StmtKind::Filter(filters, body) => self.around(tag, Capture, body, Filter(filters), out, chain),
            StmtKind::Spaceless(body) => self.around(tag, Capture, body, Spaceless, out, chain),
            StmtKind::Autoescape(escape, body) => self.around(tag, Autoescape(escape), body, EndAutoescape, out, chain),
            StmtKind::IfChanged(ifchanged) => self.ifchanged(tag, *ifchanged, out, chain),
            single => self.single(tag, single, out, chain),
        }
    }

    /// A statement without a body.
    fn single(
        &mut self,
        tag: Span,
        kind: StmtKind,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        match kind {
            StmtKind::Text => self.run(tag, NodeKind::Source, out),
            StmtKind::Print(printed) => self.run(tag, NodeKind::Print(printed), out),
            StmtKind::Set(name, value) => self.run(tag, NodeKind::Set(name, value), out),
            StmtKind::Include(include) => self.include(tag, *include, out, chain)?,
            StmtKind::Block(name) => self.block_tag(tag, name, out, chain),
            StmtKind::Macro(macro_) => {
                let name = macro_.name;
                let node = self.macro_(tag, *macro_, chain);
                self.run(tag, NodeKind::Define(vec![(name, node)]), out);
            }
            StmtKind::Import(import) => self.import(tag, *import, out)?,
            StmtKind::Cycle(cycle) => {
                let slot = self.library.slot();
                let node = CycleNode { values: cycle.values, name: cycle.name, silent: cycle.silent, tag, slot };
                self.run(tag, NodeKind::Cycle(Rc::new(node)), out);
            }
            StmtKind::FirstOf(values) => self.run(tag, NodeKind::FirstOf(values), out),
            StmtKind::Literal(text) => self.run(tag, NodeKind::Text(text.into()), out),
            StmtKind::Ssi(name, named) => {
                if let Some((_, bytes)) = self.read(tag, &name, named, Presence::Required)? {
                    self.charge(tag, bytes.len())?;
                    self.run(tag, NodeKind::Text(bytes), out);
                }
            }
            StmtKind::WidthRatio(ratio) => self.run(tag, NodeKind::WidthRatio(ratio), out),
            StmtKind::Time(clock, layout) => self.run(tag, NodeKind::Time(clock, layout), out),
            StmtKind::Lorem(lorem) => self.run(tag, NodeKind::Lorem(lorem), out),
            StmtKind::If(_)
            | StmtKind::For(_)
            | StmtKind::With(..)
            | StmtKind::Filter(..)
            | StmtKind::Spaceless(_)
            | StmtKind::Autoescape(..)
            | StmtKind::IfChanged(_) => {}
        }
        Ok(())
    }

    /// Counts the memory of the compiled files.
    fn charge(&mut self, tag: Span, bytes: usize) -> Result<(), Error> {
        self.room.build(bytes).map_err(|message| self.error(tag, message))
    }

    /// Adds a node and gives its number.
    fn node(&mut self, tag: Span, kind: NodeKind) -> usize {
        self.nodes.push(Node { tag, kind, place: Place::EndOfLine });
        self.nodes.len() - 1
    }

    /// Adds a node that runs at this place of the source. A node that directly follows another one continues its line,
    /// and upon does not run it by itself.
    fn run(&mut self, tag: Span, kind: NodeKind, out: &mut String) {
        let continued = self.line == Some((self.nodes.len().wrapping_sub(1), out.len()));
        let number = self.node(tag, kind);
        match self.nodes[..number].last_mut().filter(|_| continued) {
            Some(before) => before.place = Place::Within,
            None => push(out, format_args!("{{{{ {number} | run }}}}")),
        }
        self.line = Some((number, out.len()));
    }

    /// A body between two nodes.
    fn around(
        &mut self,
        tag: Span,
        before: NodeKind,
        body: Block,
        behind: NodeKind,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        self.run(tag, before, out);
        self.block(body, out, chain)?;
        self.run(tag, behind, out);
        Ok(())
    }

    /// `{% if n | test %}..{% else %}..{% endif %}`
    fn branch(
        &mut self,
        tag: Span,
        test: NodeKind,
        block: Block,
        otherwise: Option<Block>,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        let number = self.node(tag, test);
        push(out, format_args!("{{% if {number} | test %}}"));
        self.block(block, out, chain)?;
        if let Some(block) = otherwise {
            out.push_str("{% else %}");
            self.block(block, out, chain)?;
        }
        out.push_str("{% endif %}");
        Ok(())
    }

    fn if_(&mut self, tag: Span, if_: If, out: &mut String, chain: &Rc<InheritanceChain>) -> Result<(), Error> {
        let If { mut branches, otherwise } = if_;
        if branches.len() == 1
            && let Some((condition, block)) = branches.pop()
        {
            return self.branch(tag, NodeKind::Test(condition.value), block, otherwise, out, chain);
        }
        // upon nests and recurses over each `else if`, so a long chain would overflow the stack.
        let (conditions, blocks): (Vec<_>, Vec<_>) = branches.into_iter().unzip();
        let conditions = conditions.into_iter().map(|condition| (condition.value, condition.tag)).collect();
        self.run(tag, NodeKind::Choose(conditions), out);
        for (branch, block) in blocks.into_iter().chain(otherwise).enumerate() {
            self.branch(tag, NodeKind::Chosen(branch), block, None, out, chain)?;
        }
        self.run(tag, NodeKind::EndChoose, out);
        Ok(())
    }

    fn for_(&mut self, tag: Span, for_: For, out: &mut String, chain: &Rc<InheritanceChain>) -> Result<(), Error> {
        let For { key, value, iterated, iterated_span, reversed, sorted, body, empty } = for_;
        let node = ForNode { key, value, iterated, iterated_span, reversed, sorted };
        let number = self.node(tag, NodeKind::For(Box::new(node)));
        let head = "{% for _ in bursts(N) %}{% for _ in times(N) %}{{ N | run }}";
        out.push_str(&head.replace('N', &number.to_string()));
        // The body continues the line of the node that begins the round.
        self.line = Some((number, out.len()));
        self.block(body, out, chain)?;
        out.push_str("{% endfor %}{% endfor %}");
        if let Some(block) = empty {
            self.branch(tag, NodeKind::Empty, block, None, out, chain)?;
        }
        self.run(tag, NodeKind::EndFor, out);
        Ok(())
    }

    fn include(
        &mut self,
        tag: Span,
        include: Include,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        let Include { file, file_span, presence, pairs, only, malformed } = include;
        let name = match file {
            File::Fixed(name) => name,
            File::Computed(file) => {
                let node = IncludeNode { file, file_span, presence, pairs, only };
                self.run(tag, NodeKind::IncludeComputed(Box::new(node)), out);
                return Ok(());
            }
        };
        let path = self.resolve(tag, &name, file_span)?;
        let (source, unit) = match self.files.get(&path) {
            Some(file) => *file,
            None => match self.read(tag, &name, file_span, presence)? {
                Some((path, bytes)) => self.include_file(path, bytes, Some(tag))?,
                None => return Ok(()),
            },
        };
        if let Some(error) = malformed {
            return Err(self.reached(tag.file as usize, error));
        }
        if let Some(includer) = chain.source {
            self.includes.push((includer, tag, source));
        }
        self.run(tag, NodeKind::Enter { pairs, only }, out);
        push(out, format_args!("{{% include \"{unit}\" %}}"));
        self.run(tag, NodeKind::Leave, out);
        Ok(())
    }

    fn block_tag(&mut self, tag: Span, name: Name, out: &mut String, chain: &Rc<InheritanceChain>) {
        let Some((unit, supers)) = chain.blocks.get(&name).and_then(|units| units.split_last()) else {
            // A macro of another file knows the blocks of neither file.
            return self.run(tag, NodeKind::Fail("a block in a macro that is imported has nothing to show"), out);
        };
        self.run(tag, NodeKind::Block(Rc::from(supers)), out);
        push(out, format_args!("{{% include \"{unit}\" %}}"));
    }

    fn macro_(&mut self, tag: Span, macro_: Macro, chain: &InheritanceChain) -> Rc<MacroNode> {
        let Macro { name, params, body } = macro_;
        let unit = self.reserve();
        let chain = Rc::new(InheritanceChain { source: None, blocks: chain.blocks.clone() });
        self.work.push_back(Work::Body { body, unit, chain });
        Rc::new(MacroNode { name, params, unit, tag })
    }

    fn import(&mut self, tag: Span, import: Import, out: &mut String) -> Result<(), Error> {
        let Import { file, file_span, macros } = import;
        let path = self.resolve(tag, &file, file_span)?;
        if !self.exports.contains_key(&path) {
            let exports = self.exports(tag, &file, file_span)?;
            self.exports.insert(path.clone(), exports);
        }
        let mut define = Vec::new();
        for (name, span, alias) in macros {
            let Some(node) = self.exports.get(&path).and_then(|exports| exports.get(&name)) else {
                let message = format!(
                    "`{}` exports no macro `{}`; a macro is exported with {{% macro name() export %}}",
                    path.display(),
                    self.library.names().text(name)
                );
                return Err(self.error(span, message));
            };
            define.push((alias, node.clone()));
        }
        self.run(tag, NodeKind::Define(define), out);
        Ok(())
    }

    /// The macros that a file exports. Nothing else of the file is used.
    fn exports(&mut self, tag: Span, file: &[u8], named: Span) -> Result<Exports, Error> {
        let Some((path, bytes)) = self.read(tag, file, named, Presence::Required)? else { return Ok(Exports::new()) };
        let source = self.add(path, bytes, Some((Reach::Imported, tag)))?;
        let document = self.parse(source, Blocks::Kept, Purpose::Import)?;
        self.variables.extend(document.variables);
        self.bound.extend(document.bound);
        let exports = document.exports.into_iter();
        Ok(exports.map(|(tag, macro_)| (macro_.name, self.macro_(tag, macro_, &InheritanceChain::default()))).collect())
    }

    fn ifchanged(
        &mut self,
        tag: Span,
        ifchanged: IfChanged,
        out: &mut String,
        chain: &Rc<InheritanceChain>,
    ) -> Result<(), Error> {
        let IfChanged { watched, body, otherwise } = ifchanged;
        let slot = self.library.slot();
        if watched.is_empty() {
            // As in Go remco, the part behind `else` is not used here.
            return self.around(tag, NodeKind::Capture, body, NodeKind::Changed(slot), out, chain);
        }
        self.branch(tag, NodeKind::Watch(watched, slot), body, otherwise, out, chain)
    }
}

/// The memory of a statement without its body, in bytes.
fn cost(kind: &StmtKind, chain: &InheritanceChain) -> usize {
    match kind {
        StmtKind::If(if_) => (1 + if_.branches.len()) * NODE,
        StmtKind::For(_) => 2 * NODE + LOOP,
        StmtKind::Block(name) => NODE + chain.blocks.get(name).map_or(0, |units| size_of_val(&**units)),
        StmtKind::With(..) | StmtKind::Filter(..) | StmtKind::Spaceless(_) | StmtKind::Autoescape(..) => 2 * NODE,
        StmtKind::IfChanged(_) | StmtKind::Include(_) | StmtKind::Import(_) => 2 * NODE,
        _ => NODE,
    }
}

/// Appends to upon's source. (Writing to a String does not fail.)
fn push(out: &mut String, what: std::fmt::Arguments) {
    let _ = out.write_fmt(what);
}
