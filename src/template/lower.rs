//! Lowers a template, with every file it names, to what runs: texts and control flow become upon's source, expressions
//! become numbered nodes that this source asks for. Evaluates nothing.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::ast::{Block, Expr, File, For, If, Include, Pairs, Stmt, StmtKind};
use super::lexer::{self, Blocks};
use super::library::{Library, Need, resolve};
use super::parser::{self, Use};
use super::render;
use super::scope::Name;
use super::source::{Error, Source, Span};
use super::{NESTING, World};

/// A compiled file with everything it includes by a fixed name.
pub(super) struct Program {
    sources: Vec<Source>,
    nodes: Vec<Node>,
    /// What upon runs. The first is the file itself.
    units: Vec<upon::Template<'static>>,
    /// Where names are read that no tag sets and no function has.
    unknown: Vec<(Name, Span)>,
}

/// What upon asks for by its number.
pub(super) struct Node {
    pub tag: Span,
    pub kind: NodeKind,
}

pub(super) enum NodeKind {
    /// Text that upon would not take, or not leave alone.
    Text(Vec<u8>),
    Print(Expr),
    Test(Expr),
    /// Finds out which branch of an `if` is taken; each branch then tests whether it is meant.
    Choose(Vec<(Expr, Span)>),
    Chosen(usize),
    EndChoose,
    Set(Name, Expr),
    /// Opens a loop, counts its rounds, and begins each.
    For(Box<ForNode>),
    /// Whether the loop just gone through had no rounds.
    Empty,
    EndFor,
    With(Pairs),
    EndWith,
    /// Enters a file that upon includes. The pairs are seen in it, and nothing else if `only`.
    Enter {
        pairs: Pairs,
        only: bool,
    },
    /// Leaves it.
    Leave,
    IncludeComputed(Box<IncludeNode>),
}

/// An include of a file that is not known before.
pub(super) struct IncludeNode {
    pub file: Expr,
    pub file_span: Span,
    pub need: Need,
    pub pairs: Pairs,
    pub only: bool,
}

pub(super) struct ForNode {
    pub key: Name,
    pub value: Option<Name>,
    pub iterated: Expr,
    pub iterated_span: Span,
    pub reversed: bool,
    pub sorted: bool,
}

impl Program {
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    pub fn unit(&self, number: usize) -> &upon::Template<'static> {
        &self.units[number]
    }

    pub fn unknown(&self) -> &[(Name, Span)] {
        &self.unknown
    }

    pub fn source(&self, span: Span) -> &Source {
        &self.sources[span.file as usize]
    }

    /// An error in a tag, of which `what` is underlined.
    pub fn error(&self, tag: Span, what: Span, message: String) -> Error {
        self.source(tag).error(tag, what, message)
    }
}

/// Whether a file is rendered by itself, or within another one whose variables and macros it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Main,
    /// By a computed include, where so many levels of nesting are open.
    Included {
        open: usize,
    },
}

/// Compiles a file, and all files it includes by a fixed name.
pub(super) fn compile(
    path: &Path,
    bytes: Vec<u8>,
    role: Role,
    library: &Library,
    world: &dyn World,
) -> Result<Program, Error> {
    let mut lowering = Lowering {
        library,
        world,
        sources: Vec::new(),
        nodes: Vec::new(),
        units: Vec::new(),
        files: HashMap::new(),
        includes: Vec::new(),
        variables: Vec::new(),
        bound: HashSet::from([Name::FORLOOP]),
    };
    lowering.add(path.to_owned(), bytes)?;
    // Files join behind while the ones before them are lowered, so that includes take no stack here.
    while lowering.units.len() < lowering.sources.len() {
        let file = lowering.units.len();
        let unit = lowering.file(file, role).map_err(|error| lowering.reached(file, error))?;
        lowering.units.push(unit);
    }
    lowering.refuse_cycles()?;
    let Lowering { sources, nodes, units, variables, bound, .. } = lowering;
    let unknown = variables.into_iter().filter(|variable| !bound.contains(&variable.name));
    let unknown = unknown.map(|variable| (variable.name, variable.tag)).collect();
    Ok(Program { sources, nodes, units, unknown })
}

struct Lowering<'a> {
    library: &'a Library,
    world: &'a dyn World,
    sources: Vec<Source>,
    nodes: Vec<Node>,
    /// Each of the file with the same number.
    units: Vec<upon::Template<'static>>,
    files: HashMap<PathBuf, usize>,
    /// Each include by a fixed name: its tag, and the number of the file it names.
    includes: Vec<(Span, usize)>,
    variables: Vec<Use>,
    bound: HashSet<Name>,
}

impl Lowering<'_> {
    /// Takes a file in. It is lowered when its turn comes.
    fn add(&mut self, path: PathBuf, bytes: Vec<u8>) -> Result<usize, Error> {
        if bytes.len() > Source::LARGEST {
            let message = format!("failed to compile the template, it is larger than {} MiB", Source::LARGEST >> 20);
            return Err(Error::of_file(&path, message));
        }
        let file = self.sources.len();
        self.files.insert(path.clone(), file);
        self.sources.push(Source { id: file as u32, path, bytes });
        Ok(file)
    }

    fn file(&mut self, file: usize, role: Role) -> Result<upon::Template<'static>, Error> {
        let source = &self.sources[file];
        let pieces = lexer::lex(source, Blocks::Trimmed)?;
        let open = match role {
            Role::Main => 0,
            Role::Included { open } => open,
        };
        let document = parser::parse(source, &mut self.library.names(), &self.world.scripts(), pieces, open)?;
        if let (Role::Main, 0, Some(error)) = (role, file, document.wrong_call) {
            return Err(error);
        }
        self.variables.extend(document.variables);
        self.bound.extend(document.bound);
        let mut out = String::new();
        self.block(document.body, &mut out)?;
        render::ENGINE.compile(out).map_err(|error| {
            let message = format!("failed to lower the template, which is a mistake of remco: {error}");
            Error::of_file(&self.sources[file].path, message)
        })
    }

    /// Adds to an error in a file how one got there.
    fn reached(&self, mut file: usize, mut error: Error) -> Error {
        // The first include of a file is the one that took it in, and stands in a file with a lower number.
        while let Some((tag, _)) =
            self.includes.iter().find(|(tag, included)| *included == file && (tag.file as usize) < file)
        {
            file = tag.file as usize;
            error = error.reached("included from", &self.sources[file], *tag);
        }
        error
    }

    fn block(&mut self, block: Block, out: &mut String) -> Result<(), Error> {
        block.into_iter().try_for_each(|statement| self.statement(statement, out))
    }

    fn statement(&mut self, Stmt { tag, kind }: Stmt, out: &mut String) -> Result<(), Error> {
        match kind {
            StmtKind::Text => self.text(tag, out),
            StmtKind::Print(value) => self.run(tag, NodeKind::Print(value), out),
            StmtKind::Set(name, value) => self.run(tag, NodeKind::Set(name, value), out),
            StmtKind::If(if_) => self.if_(tag, if_, out)?,
            StmtKind::For(for_) => self.for_(tag, *for_, out)?,
            StmtKind::With(pairs, body) => {
                self.run(tag, NodeKind::With(pairs), out);
                self.block(body, out)?;
                self.run(tag, NodeKind::EndWith, out);
            }
            StmtKind::Include(include) => self.include(tag, *include, out)?,
        }
        Ok(())
    }

    /// Adds a node and gives its number.
    fn node(&mut self, tag: Span, kind: NodeKind) -> usize {
        self.nodes.push(Node { tag, kind });
        self.nodes.len() - 1
    }

    /// Adds a node that is run where the source stands.
    fn run(&mut self, tag: Span, kind: NodeKind, out: &mut String) {
        let number = self.node(tag, kind);
        push(out, format_args!("{{{{ {number} | run }}}}"));
    }

    fn text(&mut self, span: Span, out: &mut String) {
        let bytes = self.sources[span.file as usize].slice(span);
        match str::from_utf8(bytes) {
            Ok(text) if upon_takes(text) => out.push_str(text),
            _ => {
                let text = NodeKind::Text(bytes.to_vec());
                self.run(span, text, out);
            }
        }
    }

    fn if_(&mut self, tag: Span, If { mut branches, otherwise }: If, out: &mut String) -> Result<(), Error> {
        if branches.len() == 1
            && let Some((condition, block)) = branches.pop()
        {
            let number = self.node(tag, NodeKind::Test(condition.value));
            push(out, format_args!("{{% if {number} | test %}}"));
            self.block(block, out)?;
            if let Some(block) = otherwise {
                out.push_str("{% else %}");
                self.block(block, out)?;
            }
            out.push_str("{% endif %}");
            return Ok(());
        }
        // upon makes each `else if` a level of nesting and recurses over it: a long chain would take all stack.
        let (conditions, blocks): (Vec<_>, Vec<_>) = branches.into_iter().unzip();
        let conditions = conditions.into_iter().map(|condition| (condition.value, condition.tag)).collect();
        self.run(tag, NodeKind::Choose(conditions), out);
        for (branch, block) in blocks.into_iter().chain(otherwise).enumerate() {
            let number = self.node(tag, NodeKind::Chosen(branch));
            push(out, format_args!("{{% if {number} | test %}}"));
            self.block(block, out)?;
            out.push_str("{% endif %}");
        }
        self.run(tag, NodeKind::EndChoose, out);
        Ok(())
    }

    fn for_(&mut self, tag: Span, for_: For, out: &mut String) -> Result<(), Error> {
        let For { key, value, iterated, iterated_span, reversed, sorted, body, empty } = for_;
        let node = ForNode { key, value, iterated, iterated_span, reversed, sorted };
        let number = self.node(tag, NodeKind::For(Box::new(node)));
        push(out, format_args!("{{% for _ in rows({number}) %}}{{{{ {number} | run }}}}"));
        self.block(body, out)?;
        out.push_str("{% endfor %}");
        if let Some(block) = empty {
            let number = self.node(tag, NodeKind::Empty);
            push(out, format_args!("{{% if {number} | test %}}"));
            self.block(block, out)?;
            out.push_str("{% endif %}");
        }
        self.run(tag, NodeKind::EndFor, out);
        Ok(())
    }

    fn include(&mut self, tag: Span, include: Include, out: &mut String) -> Result<(), Error> {
        let Include { file, file_span, need, pairs, only } = include;
        let name = match file {
            File::Fixed(name) => name,
            File::Computed(file) => {
                let node = IncludeNode { file, file_span, need, pairs, only };
                self.run(tag, NodeKind::IncludeComputed(Box::new(node)), out);
                return Ok(());
            }
        };
        let source = &self.sources[tag.file as usize];
        let path = resolve(&source.path, &name).map_err(|message| source.error(tag, file_span, message))?;
        let file = match self.files.get(&path) {
            Some(file) => *file,
            None => match self.library.read(self.world, &path, need) {
                Ok(Some(bytes)) => self.add(path, bytes)?,
                Ok(None) => return Ok(()),
                Err(message) => return Err(source.error(tag, file_span, message)),
            },
        };
        self.includes.push((tag, file));
        self.run(tag, NodeKind::Enter { pairs, only }, out);
        push(out, format_args!("{{% include \"{file}\" %}}"));
        self.run(tag, NodeKind::Leave, out);
        Ok(())
    }

    /// A file that includes itself by a fixed name, over others or not, would never end.
    fn refuse_cycles(&self) -> Result<(), Error> {
        let mut included: Vec<Vec<(Span, usize)>> = vec![Vec::new(); self.sources.len()];
        for (tag, file) in &self.includes {
            included[tag.file as usize].push((*tag, *file));
        }
        /// How far a file is looked through.
        #[derive(Clone, Copy)]
        enum Seen {
            Not,
            Open,
            /// With so many levels of files below it.
            Done(usize),
        }
        let mut seen = vec![Seen::Not; self.sources.len()];
        // The files from the first one to the one at hand: each with how many of its includes are looked at, and the
        // levels found below it.
        let mut open: Vec<(usize, usize, usize)> = vec![(0, 0, 0)];
        while let Some((file, at, levels)) = open.pop() {
            let Some((tag, next)) = included[file].get(at).copied() else {
                seen[file] = Seen::Done(levels);
                if let Some((_, _, above)) = open.last_mut() {
                    *above = levels.saturating_add(1).max(*above);
                }
                continue;
            };
            seen[file] = Seen::Open;
            open.push((file, at + 1, levels));
            let fail = |message: String| Err(self.sources[file].error(tag, tag, message));
            let below = match seen[next] {
                Seen::Not => 0,
                Seen::Done(below) => below,
                Seen::Open => {
                    let start = open.iter().position(|(file, ..)| *file == next).unwrap_or_default();
                    let files = open[start..].iter().map(|(file, ..)| *file).chain([next]);
                    let names: Vec<_> = files.map(|file| self.sources[file].path.display().to_string()).collect();
                    return fail(format!("files include each other: {}", names.join(" > ")));
                }
            };
            if open.len() + below >= NESTING {
                return fail(format!("files are included too deeply, {NESTING} levels are the limit"));
            }
            match seen[next] {
                Seen::Not => open.push((next, 0, 0)),
                _ => _ = open.last_mut().map(|(_, _, levels)| *levels = (*levels).max(below + 1)),
            }
        }
        Ok(())
    }
}

/// Appends to upon's source. (Writing to a String does not fail.)
fn push(out: &mut String, what: std::fmt::Arguments) {
    let _ = out.write_fmt(what);
}

/// Whether upon prints a text as it is: it holds no delimiter, and makes none together with what stands around it.
fn upon_takes(text: &str) -> bool {
    let delimiter = |pair: &[u8]| matches!(pair, b"{{" | b"{%" | b"{#" | b"}}" | b"%}" | b"#}");
    !text.starts_with('}') && !text.ends_with('{') && !text.as_bytes().windows(2).any(delimiter)
}
