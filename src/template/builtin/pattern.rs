//! Regular expressions in the syntax of Go's package regexp (RE2), for the filter whose argument is a pattern. Follows
//! all alternatives at once, so the time is linear in the text. Classes of Unicode (`\pL`) and multi-line mode are not
//! supported.

use crate::template::value::meter::Meter;
use crate::template::value::runes;

/// The limits of a pattern's instructions and nesting.
const LARGEST: usize = 2000;
const DEPTH: usize = 100;

/// A compiled pattern.
pub struct Pattern {
    code: Vec<Step>,
}

enum Step {
    One(Class),
    /// Continues at both; the first one is preferred.
    Fork(usize, usize),
    Go(usize),
    Assert(Assertion),
    Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Assertion {
    Start,
    End,
    Word,
    NoWord,
}

#[derive(Clone, Default)]
struct Class {
    ranges: Vec<(char, char)>,
    negated: bool,
    any_case: bool,
}

impl Class {
    fn of(c: char) -> Class {
        Class { ranges: vec![(c, c)], ..Class::default() }
    }

    fn has(&self, c: char) -> bool {
        let within = |c: char| self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
        let other_case = || c.to_lowercase().next().is_some_and(within) || c.to_uppercase().next().is_some_and(within);
        (within(c) || self.any_case && other_case()) != self.negated
    }

    /// The ranges of the class.
    fn positive(&self) -> Vec<(char, char)> {
        if !self.negated {
            return self.ranges.clone();
        }
        // Only classes of `escape` are negated: their ranges are sorted, ASCII and not adjacent.
        let mut gaps = Vec::new();
        let mut from = 0;
        for (low, high) in &self.ranges {
            if u32::from(*low) > from {
                gaps.extend(char::from_u32(from).zip(char::from_u32(u32::from(*low) - 1)));
            }
            from = u32::from(*high) + 1;
        }
        gaps.extend(char::from_u32(from).map(|from| (from, char::MAX)));
        gaps
    }
}

enum Node {
    Empty,
    One(Class),
    Assert(Assertion),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    /// A repetition: the minimum, whether it may be repeated more than once, whether it is greedy.
    Repeat {
        node: Box<Node>,
        least: usize,
        most: Option<usize>,
        greedy: bool,
    },
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The pattern is invalid or too large.
    pub fn compile(text: &str) -> Result<Pattern, String> {
        let mut parser = Parser { rest: text, depth: 0, any_case: false, dot_all: false, lazy: false };
        let node = parser.either()?;
        if !parser.rest.is_empty() {
            return Err("a `)` closes nothing".to_owned());
        }
        let mut code = Vec::new();
        emit(&node, &mut code)?;
        code.push(Step::Found);
        Ok(Pattern { code })
    }

    /// The first non-empty match from a position on.
    ///
    /// # Errors
    /// The render is over. Each character costs the number of followed alternatives.
    pub fn find(&self, meter: &Meter, text: &[u8], mut start: usize) -> Result<Option<(usize, usize)>, String> {
        while start <= text.len() {
            match self.first(meter, text, start)? {
                Some((from, to)) if to > from => return Ok(Some((from, to))),
                Some((_, to)) => start = to + runes::runes(&text[to..]).next().map_or(1, <[u8]>::len),
                None => break,
            }
        }
        Ok(None)
    }

    /// The leftmost match.
    fn first(&self, meter: &Meter, text: &[u8], start: usize) -> Result<Option<(usize, usize)>, String> {
        let mut now = Threads::new(self.code.len());
        let mut next = Threads::new(self.code.len());
        let mut best = None;
        let mut at = start;
        loop {
            if best.is_none() {
                now.add(&self.code, 0, at, text, at);
            }
            meter.charge(self.code.len() + 1)?;
            let rune = runes::runes(&text[at..]).next();
            let c = rune.map(|rune| runes::decode(rune).unwrap_or(char::REPLACEMENT_CHARACTER));
            let after = at + rune.map_or(0, <[u8]>::len);
            for (step, from) in std::mem::take(&mut now.list) {
                match &self.code[step] {
                    Step::One(class) if c.is_some_and(|c| class.has(c)) => {
                        next.add(&self.code, step + 1, from, text, after);
                    }
                    Step::Found => {
                        best = Some((from, at));
                        // The alternatives behind it are less preferred.
                        break;
                    }
                    _ => {}
                }
            }
            if rune.is_none() {
                return Ok(best);
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
            at = after;
            if best.is_some() && now.list.is_empty() {
                return Ok(best);
            }
        }
    }
}

/// The followed positions in a pattern, preferred ones first, each with the beginning of its match.
struct Threads {
    list: Vec<(usize, usize)>,
    seen: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Threads {
        Threads { list: Vec::new(), seen: vec![false; steps] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.seen.fill(false);
    }

    fn add(&mut self, code: &[Step], step: usize, from: usize, text: &[u8], at: usize) {
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            if std::mem::replace(&mut self.seen[step], true) {
                continue;
            }
            match &code[step] {
                Step::Fork(first, second) => open.extend([*second, *first]),
                Step::Go(to) => open.push(*to),
                Step::Assert(assertion) if holds(*assertion, text, at) => open.push(step + 1),
                Step::Assert(_) => {}
                Step::One(_) | Step::Found => self.list.push((step, from)),
            }
        }
    }
}

fn holds(assertion: Assertion, text: &[u8], at: usize) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let edge = is_word(at.checked_sub(1).and_then(|before| text.get(before))) != is_word(text.get(at));
    match assertion {
        Assertion::Start => at == 0,
        Assertion::End => at == text.len(),
        Assertion::Word => edge,
        Assertion::NoWord => !edge,
    }
}

fn emit(node: &Node, code: &mut Vec<Step>) -> Result<(), String> {
    if code.len() > LARGEST {
        return Err("it is too large".to_owned());
    }
    match node {
        Node::Empty => {}
        Node::One(class) => code.push(Step::One(class.clone())),
        Node::Assert(assertion) => code.push(Step::Assert(*assertion)),
        Node::Both(first, second) => {
            emit(first, code)?;
            emit(second, code)?;
        }
        Node::Either(first, second) => {
            let fork = code.len();
            code.push(Step::Fork(fork + 1, 0));
            emit(first, code)?;
            let end = code.len();
            code.push(Step::Go(0));
            code[fork] = Step::Fork(fork + 1, end + 1);
            emit(second, code)?;
            code[end] = Step::Go(code.len());
        }
        Node::Repeat { node, least, most, greedy } => {
            for _ in 0..*least {
                emit(node, code)?;
            }
            let fork = |inner, behind| if *greedy { Step::Fork(inner, behind) } else { Step::Fork(behind, inner) };
            match most {
                None => {
                    let start = code.len();
                    code.push(Step::Go(0));
                    emit(node, code)?;
                    code.push(Step::Go(start));
                    code[start] = fork(start + 1, code.len());
                }
                Some(most) => {
                    for _ in *least..*most {
                        let start = code.len();
                        code.push(Step::Go(0));
                        emit(node, code)?;
                        code[start] = fork(start + 1, code.len());
                    }
                }
            }
        }
    }
    Ok(())
}

struct Parser<'p> {
    rest: &'p str,
    depth: usize,
    /// `(?i)`
    any_case: bool,
    /// `(?s)`
    dot_all: bool,
    /// `(?U)`
    lazy: bool,
}

impl Parser<'_> {
    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn either(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deeply".to_owned());
        }
        let mut branches = vec![self.sequence()?];
        while self.take("|") {
            branches.push(self.sequence()?);
            if branches.len() > LARGEST {
                return Err("it is too large".to_owned());
            }
        }
        self.depth -= 1;
        Ok(joined(branches, &|first, second| Node::Either(Box::new(first), Box::new(second))))
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while !self.rest.is_empty() && !self.rest.starts_with(['|', ')']) {
            nodes.push(self.repeated()?);
            if nodes.len() > LARGEST {
                return Err("it is too large".to_owned());
            }
        }
        Ok(joined(nodes, &|first, second| Node::Both(Box::new(first), Box::new(second))))
    }

    fn repeated(&mut self) -> Result<Node, String> {
        let node = self.atom()?;
        let Some((least, most)) = self.counts()? else { return Ok(node) };
        let greedy = !self.take("?");
        if self.counts()?.is_some() {
            return Err("a repetition is repeated".to_owned());
        }
        Ok(Node::Repeat { node: Box::new(node), least, most, greedy: greedy != self.lazy })
    }

    /// Takes `*`, `+`, `?`, `{2}`, `{2,}` or `{2,5}`: the minimum and the maximum.
    fn counts(&mut self) -> Result<Option<(usize, Option<usize>)>, String> {
        /// Go's limit.
        const MOST: usize = 1000;
        for (sign, counts) in [("*", (0, None)), ("+", (1, None)), ("?", (0, Some(1)))] {
            if self.take(sign) {
                return Ok(Some(counts));
            }
        }
        let Some((inner, rest)) = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Ok(None);
        };
        let (least, most) = inner
            .split_once(',')
            .map_or((inner, Some(inner)), |(least, most)| (least, Some(most).filter(|most| !most.is_empty())));
        // Other text in braces is literal.
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || most.is_some_and(|most| !is_number(most)) {
            return Ok(None);
        }
        let number = |text: &str| text.parse().ok().filter(|n| *n <= MOST);
        match (number(least), most.map(number)) {
            (Some(least), Some(Some(most))) if least <= most => {
                self.rest = rest;
                Ok(Some((least, Some(most))))
            }
            (Some(least), None) => {
                self.rest = rest;
                Ok(Some((least, None)))
            }
            _ => Err(format!("the count `{{{inner}}}` is out of range")),
        }
    }

    fn atom(&mut self) -> Result<Node, String> {
        if self.counts()?.is_some() {
            return Err("a repetition follows nothing".to_owned());
        }
        let any = |negated: &[char]| {
            let ranges = negated.iter().map(|c| (*c, *c)).collect();
            Node::One(Class { ranges, negated: true, any_case: false })
        };
        Ok(match self.next() {
            None => Node::Empty,
            Some('.') if self.dot_all => any(&[]),
            Some('.') => any(&['\n']),
            Some('^') => Node::Assert(Assertion::Start),
            Some('$') => Node::Assert(Assertion::End),
            Some('(') => return self.group(),
            Some('[') => return Ok(Node::One(self.class()?)),
            Some('\\') => match self.next() {
                Some('b') => Node::Assert(Assertion::Word),
                Some('B') => Node::Assert(Assertion::NoWord),
                Some('A') => Node::Assert(Assertion::Start),
                Some('z') => Node::Assert(Assertion::End),
                Some(c) => Node::One(Class { any_case: self.any_case, ..self.escape(c)? }),
                None => return Err("a `\\` is the last character".to_owned()),
            },
            Some(c) => Node::One(Class { any_case: self.any_case, ..Class::of(c) }),
        })
    }

    /// Parses the text behind `(`.
    fn group(&mut self) -> Result<Node, String> {
        let outer = (self.any_case, self.dot_all, self.lazy);
        if self.take("?") {
            let named = self.take("P<") || self.take("<");
            if named {
                let Some((_, rest)) = self.rest.split_once('>') else {
                    return Err("the name of a group is not closed".to_owned());
                };
                self.rest = rest;
            } else if self.flags()? {
                // The flags apply up to the end of the enclosing group.
                return Ok(Node::Empty);
            }
        }
        let node = self.either()?;
        if !self.take(")") {
            return Err("a `(` is not closed".to_owned());
        }
        (self.any_case, self.dot_all, self.lazy) = outer;
        Ok(node)
    }

    /// Parses `i:` or `i)`. Returns whether the group has only flags.
    fn flags(&mut self) -> Result<bool, String> {
        let mut on = true;
        loop {
            match self.next() {
                Some('i') => self.any_case = on,
                Some('s') => self.dot_all = on,
                Some('U') => self.lazy = on,
                Some('-') if on => on = false,
                Some(':') => return Ok(false),
                Some(')') => return Ok(true),
                _ => return Err("behind `(?` stand the flags `i`, `s` and `U`, or a `:`".to_owned()),
            }
        }
    }

    /// Parses the text behind a `\`, except assertions.
    fn escape(&mut self, c: char) -> Result<Class, String> {
        let digits = vec![('0', '9')];
        let word = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
        let blank = vec![('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
        let class = |ranges, negated| Ok(Class { ranges, negated, any_case: false });
        match c {
            'd' => class(digits, false),
            'D' => class(digits, true),
            'w' => class(word, false),
            'W' => class(word, true),
            's' => class(blank, false),
            'S' => class(blank, true),
            't' => Ok(Class::of('\t')),
            'n' => Ok(Class::of('\n')),
            'r' => Ok(Class::of('\r')),
            'f' => Ok(Class::of('\x0c')),
            'v' => Ok(Class::of('\x0b')),
            'a' => Ok(Class::of('\x07')),
            'x' => {
                self.code().map(Class::of).ok_or_else(|| "behind `\\x` stand two digits, or some in `{}`".to_owned())
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(Class::of(c)),
            c => Err(format!("there is no `\\{c}`")),
        }
    }

    /// The digits of `\x41` and `\x{41}`.
    fn code(&mut self) -> Option<char> {
        let (digits, rest) = match self.rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None => self.rest.split_at_checked(2)?,
        };
        self.rest = rest;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
    }

    /// Parses the text behind `[`.
    fn class(&mut self) -> Result<Class, String> {
        let negated = self.take("^");
        let mut ranges = Vec::new();
        let mut first = true;
        loop {
            if !first && self.take("]") {
                return Ok(Class { ranges, negated, any_case: self.any_case });
            }
            first = false;
            if let Some(rest) = self.rest.strip_prefix("[:") {
                let Some((name, rest)) = rest.split_once(":]") else {
                    return Err("a `[:` is not closed".to_owned());
                };
                ranges.extend_from_slice(posix(name).ok_or_else(|| format!("there is no class `[:{name}:]`"))?);
                self.rest = rest;
                continue;
            }
            let Some(low) = self.member(&mut ranges)? else { continue };
            let high = match self.rest.strip_prefix('-') {
                Some(rest) if !rest.starts_with(']') => {
                    self.rest = rest;
                    match self.member(&mut ranges)? {
                        Some(high) => high,
                        None => return Err("a class ends a range".to_owned()),
                    }
                }
                _ => low,
            };
            if low > high {
                return Err(format!("the range `{low}-{high}` is empty"));
            }
            ranges.push((low, high));
        }
    }

    /// One character of a class, or a class in it, which is added.
    fn member(&mut self, ranges: &mut Vec<(char, char)>) -> Result<Option<char>, String> {
        match self.next() {
            None => Err("a `[` is not closed".to_owned()),
            Some('\\') => {
                let Some(c) = self.next() else { return Err("a `\\` is the last character".to_owned()) };
                let class = self.escape(c)?;
                match class.ranges[..] {
                    [(low, high)] if low == high && !class.negated => Ok(Some(low)),
                    _ => {
                        ranges.extend(class.positive());
                        Ok(None)
                    }
                }
            }
            Some(c) => Ok(Some(c)),
        }
    }
}

fn posix(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "digit" => &[('0', '9')],
        "lower" => &[('a', 'z')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

/// Joins nodes in pairs, so that a long list needs little stack.
fn joined(mut nodes: Vec<Node>, join: &dyn Fn(Node, Node) -> Node) -> Node {
    while nodes.len() > 1 {
        let mut pairs = Vec::with_capacity(nodes.len().div_ceil(2));
        let mut rest = nodes.into_iter();
        while let Some(first) = rest.next() {
            pairs.push(match rest.next() {
                Some(second) => join(first, second),
                None => first,
            });
        }
        nodes = pairs;
    }
    nodes.pop().unwrap_or(Node::Empty)
}

#[cfg(test)]
mod tests;
