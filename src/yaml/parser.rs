//! Parses the tokens of a YAML text into events: scalars, and the begin and end of lists and maps. The grammar is that
//! of libyaml 0.2.5. Does not read beyond the first document, and does not interpret scalars and tags.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Fault;
use super::scanner::{Form, Kind, Mark, Scanner};

/// The parts of a document, in order.
#[derive(Debug)]
pub enum Event<'t> {
    /// One scalar; empty if nothing is written.
    Scalar {
        /// With escapes and line folds resolved.
        text: Cow<'t, str>,
        /// How it is written: only a plain scalar may be a number.
        form: Form,
        /// Its anchor and tag.
        properties: Properties<'t>,
    },
    /// `*name`: the node with this anchor, repeated.
    Alias(&'t str),
    /// Its items follow, up to [`Event::ListEnd`].
    ListStart(Properties<'t>),
    /// Its keys and values follow in turns, up to [`Event::MapEnd`].
    MapStart(Properties<'t>),
    /// Ends the list that began last.
    ListEnd,
    /// Ends the map that began last.
    MapEnd,
    /// The last one.
    DocumentEnd,
}

/// The properties before a node.
#[derive(Debug, Default)]
pub struct Properties<'t> {
    /// The name after a `&`.
    pub anchor: Option<&'t str>,
    /// In full: `!!str` is `tag:yaml.org,2002:str`.
    pub tag: Option<String>,
}

/// The part of the grammar that comes next.
#[derive(Clone, Copy, Debug)]
enum State {
    DocumentStart,
    DocumentContent,
    DocumentEnd,
    BlockEntry,
    /// Of a list in the column of the map around it, which has no end token.
    IndentlessEntry,
    BlockKey,
    BlockValue,
    FlowEntry {
        is_first: bool,
    },
    /// A map of one entry without brackets, in a list.
    PairKey,
    PairValue,
    PairEnd,
    FlowKey {
        is_first: bool,
    },
    FlowValue,
    FlowEmptyValue,
}

/// The kinds of nodes that are allowed at a place.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Flow,
    Block,
    /// A list may be no farther in than the map around it.
    BlockOrIndentless,
}

/// Reads one document, event by event.
pub struct Parser<'t> {
    scanner: Scanner<'t>,
    state: State,
    /// The states to return to, innermost last.
    states: Vec<State>,
    /// The begin of each open list and map, for messages.
    starts: Vec<Mark>,
    tag_prefixes: HashMap<&'t str, String>,
}

const LIST: &str = "a block collection";
const MAP: &str = "a block mapping";
const FLOW_LIST: &str = "a flow sequence";
const FLOW_MAP: &str = "a flow mapping";

impl<'t> Parser<'t> {
    /// A parser at the begin of a text.
    pub fn new(text: &'t str) -> Parser<'t> {
        Parser {
            scanner: Scanner::new(text),
            state: State::DocumentStart,
            states: Vec::new(),
            starts: Vec::new(),
            tag_prefixes: HashMap::new(),
        }
    }

    /// The next event and its place.
    pub fn next_event(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        match self.state {
            State::DocumentStart => self.document_start(),
            State::DocumentContent => self.document_content(),
            State::DocumentEnd => self.document_end(),
            State::BlockEntry => self.block_entry(),
            State::IndentlessEntry => self.indentless_entry(),
            State::BlockKey => self.block_key(),
            State::BlockValue => self.block_value(),
            State::FlowEntry { is_first } => self.flow_entry(is_first),
            State::PairKey => self.pair_key(),
            State::PairValue => self.pair_value(),
            State::PairEnd => {
                self.state = State::FlowEntry { is_first: false };
                Ok((Event::MapEnd, self.scanner.peek()?.start))
            }
            State::FlowKey { is_first } => self.flow_key(is_first),
            State::FlowValue => self.flow_value(),
            State::FlowEmptyValue => {
                let mark = self.scanner.peek()?.start;
                self.empty(mark, State::FlowKey { is_first: false })
            }
        }
    }

    /// Fails if anything but a further document follows.
    pub fn expect_end(&mut self) -> Result<(), Fault> {
        let token = self.scanner.peek()?;
        match token.kind {
            Kind::StreamEnd
            | Kind::DocumentStart
            | Kind::DocumentEnd
            | Kind::VersionDirective { .. }
            | Kind::TagDirective { .. } => Ok(()),
            _ => Err(Fault::new(token.start, "did not find expected <document start>")),
        }
    }

    /// Returns to the enclosing state.
    fn pop(&mut self) {
        self.state = self.states.pop().unwrap_or(State::DocumentEnd);
    }

    fn empty(&mut self, mark: Mark, then: State) -> Result<(Event<'t>, Mark), Fault> {
        self.state = then;
        let event = Event::Scalar { text: "".into(), form: Form::Plain, properties: Properties::default() };
        Ok((event, mark))
    }

    fn node_then(&mut self, place: Place, then: State) -> Result<(Event<'t>, Mark), Fault> {
        self.states.push(then);
        self.node(place)
    }

    /// Ends a list or a map at its token.
    fn end(&mut self, event: Event<'t>, mark: Mark) -> Result<(Event<'t>, Mark), Fault> {
        self.scanner.skip();
        self.starts.pop();
        self.pop();
        Ok((event, mark))
    }

    fn fault_in<T>(&self, what: &str, mark: Mark, why: &str) -> Result<T, Fault> {
        Err(Fault::inside(mark, what, self.starts.last().copied().unwrap_or_default(), why))
    }

    fn document_start(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let (mut version, mut has_directives) = (None, false);
        self.tag_prefixes.clear();
        loop {
            let token = self.scanner.peek()?;
            let mark = token.start;
            match &mut token.kind {
                Kind::VersionDirective { major, minor } => {
                    if version.is_some() {
                        return Err(Fault::new(mark, "found duplicate %YAML directive"));
                    }
                    if !matches!((*major, *minor), (1, 1 | 2)) {
                        return Err(Fault::new(mark, "found incompatible YAML document"));
                    }
                    version = Some((*major, *minor));
                }
                Kind::TagDirective { handle, prefix } => {
                    if self.tag_prefixes.insert(handle, std::mem::take(prefix)).is_some() {
                        return Err(Fault::new(mark, "found duplicate %TAG directive"));
                    }
                }
                _ => break,
            }
            has_directives = true;
            self.scanner.skip();
        }
        self.tag_prefixes.entry("!").or_insert_with(|| "!".to_owned());
        self.tag_prefixes.entry("!!").or_insert_with(|| super::TAG_PREFIX.to_owned());
        let token = self.scanner.peek()?;
        match token.kind {
            Kind::DocumentStart => {
                self.scanner.skip();
                self.state = State::DocumentContent;
                self.document_content()
            }
            _ if has_directives => Err(Fault::new(token.start, "did not find expected <document start>")),
            Kind::StreamEnd => {
                let mark = token.start;
                self.state = State::DocumentEnd;
                Ok((Event::DocumentEnd, mark))
            }
            _ => self.node_then(Place::Block, State::DocumentEnd),
        }
    }

    fn document_content(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        match token.kind {
            Kind::VersionDirective { .. }
            | Kind::TagDirective { .. }
            | Kind::DocumentStart
            | Kind::DocumentEnd
            | Kind::StreamEnd => {
                let mark = token.start;
                self.empty(mark, State::DocumentEnd)
            }
            _ => self.node_then(Place::Block, State::DocumentEnd),
        }
    }

    fn document_end(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        Ok((Event::DocumentEnd, self.scanner.peek()?.start))
    }

    fn node(&mut self, place: Place) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let start = token.start;
        if let Kind::Alias(name) = token.kind {
            self.scanner.skip();
            self.pop();
            return Ok((Event::Alias(name), start));
        }
        let properties = self.properties()?;
        let has_some = properties.anchor.is_some() || properties.tag.is_some();
        let token = self.scanner.peek()?;
        let mark = token.start;
        match &mut token.kind {
            Kind::BlockEntry if place == Place::BlockOrIndentless => {
                self.state = State::IndentlessEntry;
                Ok((Event::ListStart(properties), start))
            }
            Kind::Scalar(text, form) => {
                let (text, form) = (std::mem::take(text), *form);
                self.scanner.skip();
                self.pop();
                Ok((Event::Scalar { text, form, properties }, start))
            }
            Kind::FlowSequenceStart => {
                self.begin(State::FlowEntry { is_first: true }, mark);
                Ok((Event::ListStart(properties), start))
            }
            Kind::FlowMappingStart => {
                self.begin(State::FlowKey { is_first: true }, mark);
                Ok((Event::MapStart(properties), start))
            }
            Kind::BlockSequenceStart if place != Place::Flow => {
                self.begin(State::BlockEntry, mark);
                Ok((Event::ListStart(properties), start))
            }
            Kind::BlockMappingStart if place != Place::Flow => {
                self.begin(State::BlockKey, mark);
                Ok((Event::MapStart(properties), start))
            }
            _ if has_some => {
                self.pop();
                Ok((Event::Scalar { text: "".into(), form: Form::Plain, properties }, start))
            }
            _ => {
                let what = if place == Place::Flow { "a flow node" } else { "a block node" };
                Err(Fault::inside(mark, what, start, "did not find expected node content"))
            }
        }
    }

    /// An anchor and a tag, in any order.
    fn properties(&mut self) -> Result<Properties<'t>, Fault> {
        let mut properties = Properties::default();
        let mut tag = None;
        for _ in 0..2 {
            let token = self.scanner.peek()?;
            let mark = token.start;
            match &mut token.kind {
                Kind::Anchor(name) if properties.anchor.is_none() => properties.anchor = Some(name),
                Kind::Tag { handle, suffix } if tag.is_none() => tag = Some((*handle, std::mem::take(suffix), mark)),
                _ => break,
            }
            self.scanner.skip();
        }
        properties.tag = match tag {
            None => None,
            Some(("", suffix, _)) => Some(suffix),
            Some((handle, suffix, mark)) => match self.tag_prefixes.get(handle) {
                Some(prefix) => Some(format!("{prefix}{suffix}")),
                None => return Err(Fault::new(mark, &format!("found undefined tag handle `{handle}`"))),
            },
        };
        Ok(properties)
    }

    /// Begins a list or a map at its token.
    fn begin(&mut self, state: State, mark: Mark) {
        self.scanner.skip();
        self.starts.push(mark);
        self.state = state;
    }

    /// The node after an indicator, whose end is `end`. It is empty if the next token belongs to the list or map
    /// around it.
    fn node_behind(
        &mut self,
        end: Mark,
        is_next: impl Fn(&Kind<'t>) -> bool,
        place: Place,
        then: State,
    ) -> Result<(Event<'t>, Mark), Fault> {
        self.scanner.skip();
        match is_next(&self.scanner.peek()?.kind) {
            true => self.empty(end, then),
            false => self.node_then(place, then),
        }
    }

    /// Takes the comma before every entry of a list or map in brackets but the first one and the end.
    fn separator(&mut self, is_first: bool, is_end: fn(&Kind) -> bool, what: &str, why: &str) -> Result<(), Fault> {
        let token = self.scanner.peek()?;
        if is_first || is_end(&token.kind) {
            return Ok(());
        }
        let start = token.start;
        if !matches!(token.kind, Kind::FlowEntry) {
            return self.fault_in(what, start, why);
        }
        self.scanner.skip();
        Ok(())
    }

    fn block_entry(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let (start, end) = (token.start, token.end);
        match token.kind {
            Kind::BlockEntry => {
                let is_next = |kind: &Kind| matches!(kind, Kind::BlockEntry | Kind::BlockEnd);
                self.node_behind(end, is_next, Place::Block, State::BlockEntry)
            }
            Kind::BlockEnd => self.end(Event::ListEnd, start),
            _ => self.fault_in(LIST, start, "did not find expected '-' indicator"),
        }
    }

    fn indentless_entry(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let (start, end) = (token.start, token.end);
        match token.kind {
            Kind::BlockEntry => {
                let is_next = |kind: &Kind| matches!(kind, Kind::BlockEntry | Kind::Key | Kind::Value | Kind::BlockEnd);
                self.node_behind(end, is_next, Place::Block, State::IndentlessEntry)
            }
            // An indentless list has no end token.
            _ => {
                self.pop();
                Ok((Event::ListEnd, start))
            }
        }
    }

    fn block_key(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let (start, end) = (token.start, token.end);
        match token.kind {
            Kind::Key => self.node_behind(end, is_next_in_map, Place::BlockOrIndentless, State::BlockValue),
            Kind::BlockEnd => self.end(Event::MapEnd, start),
            _ => self.fault_in(MAP, start, "did not find expected key"),
        }
    }

    fn block_value(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let (start, end) = (token.start, token.end);
        match token.kind {
            Kind::Value => self.node_behind(end, is_next_in_map, Place::BlockOrIndentless, State::BlockKey),
            _ => self.empty(start, State::BlockKey),
        }
    }

    fn flow_entry(&mut self, is_first: bool) -> Result<(Event<'t>, Mark), Fault> {
        let is_end = |kind: &Kind| matches!(kind, Kind::FlowSequenceEnd);
        self.separator(is_first, is_end, FLOW_LIST, "did not find expected ',' or ']'")?;
        let token = self.scanner.peek()?;
        let start = token.start;
        match token.kind {
            Kind::FlowSequenceEnd => self.end(Event::ListEnd, start),
            Kind::Key => {
                self.scanner.skip();
                self.state = State::PairKey;
                Ok((Event::MapStart(Properties::default()), start))
            }
            _ => self.node_then(Place::Flow, State::FlowEntry { is_first: false }),
        }
    }

    fn pair_key(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let token = self.scanner.peek()?;
        let end = token.end;
        match token.kind {
            Kind::Value | Kind::FlowEntry | Kind::FlowSequenceEnd => {
                // libyaml drops this token. Few texts can be parsed after it, but those are accepted as by libyaml.
                self.scanner.skip();
                self.empty(end, State::PairValue)
            }
            _ => self.node_then(Place::Flow, State::PairValue),
        }
    }

    fn pair_value(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        let mut token = self.scanner.peek()?;
        if matches!(token.kind, Kind::Value) {
            self.scanner.skip();
            token = self.scanner.peek()?;
            if !matches!(token.kind, Kind::FlowEntry | Kind::FlowSequenceEnd) {
                return self.node_then(Place::Flow, State::PairEnd);
            }
        }
        let start = token.start;
        self.empty(start, State::PairEnd)
    }

    fn flow_key(&mut self, is_first: bool) -> Result<(Event<'t>, Mark), Fault> {
        let is_end = |kind: &Kind| matches!(kind, Kind::FlowMappingEnd);
        self.separator(is_first, is_end, FLOW_MAP, "did not find expected ',' or '}'")?;
        let token = self.scanner.peek()?;
        let start = token.start;
        match token.kind {
            Kind::FlowMappingEnd => self.end(Event::MapEnd, start),
            Kind::Key => {
                self.scanner.skip();
                let token = self.scanner.peek()?;
                let start = token.start;
                match token.kind {
                    Kind::Value | Kind::FlowEntry | Kind::FlowMappingEnd => self.empty(start, State::FlowValue),
                    _ => self.node_then(Place::Flow, State::FlowValue),
                }
            }
            _ => self.node_then(Place::Flow, State::FlowEmptyValue),
        }
    }

    fn flow_value(&mut self) -> Result<(Event<'t>, Mark), Fault> {
        const NEXT: State = State::FlowKey { is_first: false };
        let mut token = self.scanner.peek()?;
        if matches!(token.kind, Kind::Value) {
            self.scanner.skip();
            token = self.scanner.peek()?;
            if !matches!(token.kind, Kind::FlowEntry | Kind::FlowMappingEnd) {
                return self.node_then(Place::Flow, NEXT);
            }
        }
        let start = token.start;
        self.empty(start, NEXT)
    }
}

/// Whether a token in a block map shows that the node before it is empty.
fn is_next_in_map(kind: &Kind) -> bool {
    matches!(kind, Kind::Key | Kind::Value | Kind::BlockEnd)
}
