//! Parses expressions. Precedence, from loose to tight, as in pongo2's parser_expression.go: `and or` (one level,
//! grouped to the right); `== != < ..` (grouped to the right) and `in`; `+ -` with one sign and one `not` before the
//! first operand; `* / %`; `^` (grouped to the right); a path or literal with its filters.

use crate::template::builtin::functions;
use crate::template::source::{Error, Span};
use crate::template::syntax::ast::{Access, Arg, Callee, Expr, FilterCall, Head, Logic, Path, Step};
use crate::template::syntax::hints::{self, suggest};
use crate::template::syntax::lexer::{Token, TokenKind};
use crate::template::syntax::parser::{Parser, Use};
use crate::template::syntax::tokens::{Tokens, unescape};
use crate::template::value::{Op, Value};

const LOGIC: [(&str, Logic); 4] = [("and", Logic::And), ("&&", Logic::And), ("or", Logic::Or), ("||", Logic::Or)];
const COMPARISONS: [(&str, Op); 8] = [
    ("==", Op::Eq),
    ("<=", Op::Le),
    (">=", Op::Ge),
    ("!=", Op::Ne),
    ("<>", Op::Ne),
    (">", Op::Gt),
    ("<", Op::Lt),
    ("in", Op::In),
];
const SUMS: [(&str, Op); 2] = [("+", Op::Add), ("-", Op::Sub)];
const PRODUCTS: [(&str, Op); 3] = [("*", Op::Mul), ("/", Op::Div), ("%", Op::Rem)];

impl Parser<'_> {
    /// Parses a whole expression. The caller handles the tokens behind it.
    pub fn expression(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        self.open_level(tokens.here())?;
        let first = self.comparison(tokens)?;
        let mut rest = Vec::new();
        while let Some(logic) = tokens.take_one(&LOGIC) {
            rest.push((logic, self.comparison(tokens)?));
        }
        self.close_level();
        Ok(if rest.is_empty() { first } else { Expr::Logic(Box::new(first), rest) })
    }

    fn comparison(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let left = self.sum(tokens)?;
        let Some(op) = tokens.take_one(&COMPARISONS) else {
            return Ok(left);
        };
        self.open_level(tokens.here())?;
        // Go remco refuses `a in b == c` too.
        let right = if op == Op::In { self.sum(tokens)? } else { self.comparison(tokens)? };
        self.close_level();
        Ok(Expr::Binary(op, Box::new((left, right)), tokens.since(start)))
    }

    fn sum(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let sign = tokens.take_one(&SUMS);
        let not = tokens.take("!").or_else(|| tokens.take("not")).is_some();
        // The sign and the `not` apply only to the first product: `-2 ^ 2` is -4, `not a == b` is `(not a) == b`.
        let mut first = self.product(tokens)?;
        if not {
            first = Expr::Not(Box::new(first));
        }
        if sign == Some(Op::Sub) {
            first = Expr::Negate(Box::new(first), tokens.since(start));
        }
        self.chain(tokens, start, first, &SUMS, Parser::product)
    }

    fn product(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let first = self.power(tokens)?;
        self.chain(tokens, start, first, &PRODUCTS, Parser::power)
    }

    fn chain(
        &mut self,
        tokens: &mut Tokens,
        start: Span,
        first: Expr,
        ops: &[(&str, Op)],
        operand: fn(&mut Self, &mut Tokens) -> Result<Expr, Error>,
    ) -> Result<Expr, Error> {
        let mut rest = Vec::new();
        while let Some(op) = tokens.take_one(ops) {
            let right = operand(self, tokens)?;
            rest.push((op, right, tokens.since(start)));
        }
        Ok(if rest.is_empty() { first } else { Expr::Chain(Box::new(first), rest) })
    }

    fn power(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let base = self.operand(tokens)?;
        if tokens.take("^").is_none() {
            return Ok(base);
        }
        self.open_level(tokens.here())?;
        let exponent = self.power(tokens)?;
        self.close_level();
        Ok(Expr::Binary(Op::Pow, Box::new((base, exponent)), tokens.since(start)))
    }

    fn operand(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        if let Some(open) = tokens.take("(") {
            let inner = self.expression(tokens)?;
            if tokens.take(")").is_none() {
                let message = format!("`(` is not closed, found {}", tokens.found());
                return Err(self.error(tokens.since(open.span), message));
            }
            return Ok(inner);
        }
        let input = self.simple(tokens)?;
        let filters = self.filters(tokens)?;
        Ok(if filters.is_empty() { input } else { Expr::Filtered(Box::new(input), filters) })
    }

    /// All filters: `|a|b:1`
    pub fn filters(&mut self, tokens: &mut Tokens) -> Result<Vec<FilterCall>, Error> {
        let mut filters = Vec::new();
        while tokens.take("|").is_some() {
            filters.push(self.filter(tokens)?);
        }
        filters.shrink_to_fit();
        Ok(filters)
    }

    /// `name:argument`
    pub fn filter(&mut self, tokens: &mut Tokens) -> Result<FilterCall, Error> {
        let Some(name) = tokens.take_kind(TokenKind::Name) else {
            let message = format!("the name of a filter is expected, found {}", tokens.found());
            return Err(self.error(tokens.here(), message));
        };
        let text = name.name();
        let Some(filter) = self.scripts.lookup(text) else {
            let message = match functions::lookup(text) {
                Some(_) => format!("`{text}` is a function and no filter, write {text}(..)"),
                None => match hints::filter(text) {
                    Some(hint) => format!("unknown filter `{text}`: {hint}"),
                    None => format!("unknown filter `{text}`{}", suggest(text, self.scripts.names())),
                },
            };
            return Err(self.error(name.span, message));
        };
        let argument = match (tokens.take(":"), tokens.peek().map(|token| (token.kind, token.text))) {
            (Some(_), Some((TokenKind::Symbol, b"-" | b"+"))) => {
                let message = "an argument with a sign stands in quotes, like \"-1\"";
                return Err(self.error(tokens.here(), message));
            }
            (Some(_), _) => Some(self.simple(tokens)?),
            (None, Some((TokenKind::Symbol, b"("))) => {
                let message = format!("the argument of a filter stands behind a colon, write {text}:..");
                return Err(self.error(tokens.here(), message));
            }
            (None, _) => None,
        };
        Ok(FilterCall { filter, argument, span: tokens.since(name.span) })
    }

    /// A literal or a path, which are the possible arguments of a filter.
    fn simple(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let Some(token) = tokens.peek() else {
            return Err(self.error(start, "a value is missing before the end of the tag"));
        };
        match (token.kind, token.text) {
            (TokenKind::Name, _) => return self.path(tokens),
            (TokenKind::Digits, _) => return self.number(tokens),
            (TokenKind::String, text) => {
                tokens.next();
                return Ok(Expr::Literal(Value::str(unescape(text))));
            }
            (TokenKind::Keyword, b"true" | b"false") => {
                tokens.next();
                return Ok(Expr::Literal(Value::Bool(token.text == b"true")));
            }
            _ => {}
        }
        let message = match token.text {
            b"-" | b"+" => "a sign has to be in parentheses here, like (-1)".to_owned(),
            b"." => format!("a value is expected, found `.`{}", hints::VERBATIM),
            _ => format!("a value is expected, found {}", tokens.found()),
        };
        Err(self.error(start, message))
    }

    fn number(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let whole = tokens.next().map_or("", Token::name);
        if tokens.take(".").is_none() {
            return match whole.parse() {
                Ok(number) => Ok(Expr::Literal(Value::integer(number))),
                Err(_) => {
                    let message = format!("number is too large, the largest is {}", i64::MAX);
                    Err(self.error(start, message))
                }
            };
        }
        let Some(fraction) = tokens.take_kind(TokenKind::Digits) else {
            let message = format!("digits are expected after the point, found {}", tokens.found());
            return Err(self.error(tokens.since(start), message));
        };
        match format!("{whole}.{}", fraction.name()).parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Expr::Literal(Value::Float(number))),
            _ => Err(self.error(tokens.since(start), "number is too large")),
        }
    }

    fn path(&mut self, tokens: &mut Tokens) -> Result<Expr, Error> {
        let start = tokens.here();
        let text = tokens.next().map_or("", Token::name);
        let args = self.args(tokens)?;
        let callee =
            functions::lookup(text).map(Callee::Function).or_else(|| self.scripts.lookup(text).map(Callee::Filter));
        let head = Head { name: self.names.name(text), callee, args, span: tokens.since(start) };
        self.uses(&head);
        let mut steps = Vec::new();
        while tokens.take(".").is_some() {
            let access = match tokens.peek() {
                Some(token) if token.kind == TokenKind::Name => {
                    let name = self.names.name(token.name());
                    Access::Field(self.names.text(name).clone())
                }
                Some(token) if token.kind == TokenKind::Digits => {
                    match token.name().parse::<i64>().ok().and_then(|n| n.try_into().ok()) {
                        Some(index) => Access::Index(index),
                        None => return Err(self.error(tokens.here(), "index is too large")),
                    }
                }
                _ => {
                    let message = format!("a name or a number is expected after the dot, found {}", tokens.found());
                    return Err(self.error(tokens.here(), message));
                }
            };
            tokens.next();
            let args = self.args(tokens)?;
            steps.push(Step { access, args, span: tokens.since(start) });
        }
        steps.shrink_to_fit();
        Ok(Expr::Path(Box::new(Path { head, steps })))
    }

    /// The arguments of a call. `f(a)(b)` is `f(a, b)`, as in Go remco.
    fn args(&mut self, tokens: &mut Tokens) -> Result<Option<Vec<Arg>>, Error> {
        let mut args: Option<Vec<Arg>> = None;
        while let Some(open) = tokens.take("(") {
            let args = args.get_or_insert_default();
            while tokens.take(")").is_none() {
                if tokens.is_empty() {
                    return Err(self.error(open.span, "the arguments are not closed, `)` is missing"));
                }
                let start = tokens.here();
                let value = self.expression(tokens)?;
                args.push(Arg { value, span: tokens.since(start) });
                let closes = tokens.peek().is_some_and(|token| token.text == b")" && token.kind == TokenKind::Symbol);
                if !closes && tokens.take(",").is_none() {
                    let message = match tokens.peek() {
                        Some(Token { text: b"=", .. }) => "a call takes no named arguments".to_owned(),
                        _ => format!("`,` or `)` is expected after an argument, found {}", tokens.found()),
                    };
                    return Err(self.error(tokens.here(), message));
                }
            }
            args.shrink_to_fit();
        }
        Ok(args)
    }
}

/// Remembers the checks that need the whole file, because any tag may give a name another meaning.
impl Parser<'_> {
    fn uses(&mut self, head: &Head) {
        let here = Use { name: head.name, span: head.span };
        match (&head.callee, &head.args) {
            // Wrong arguments are an error when the call runs, as in Go remco, because it may never run.
            (Some(Callee::Function(_)), _) | (Some(Callee::Filter(_)), Some(_)) => {}
            (None, Some(_)) => self.wrong_calls.push(here),
            (None | Some(Callee::Filter(_)), None) => self.variables.push(here),
        }
    }
}
