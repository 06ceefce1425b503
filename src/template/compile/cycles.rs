//! Refuses files that include each other by fixed names without an end, or too deeply. Computed includes are not
//! checked here: `run` bounds their depth.

use super::lower::Lowering;
use crate::template::limits::NESTING;
use crate::template::source::{Error, Span};

impl Lowering<'_> {
    /// Refuses files that include themselves by fixed names, directly or through others, because they would never end.
    pub(super) fn refuse_cycles(&self) -> Result<(), Error> {
        let mut included: Vec<Vec<(Span, usize)>> = vec![Vec::new(); self.sources.len()];
        for (includer, tag, file) in &self.includes {
            included[*includer].push((*tag, *file));
        }
        let mut visits = vec![Visit::Not; self.sources.len()];
        for file in 0..self.sources.len() {
            self.visit(file, &included, &mut visits)?;
        }
        Ok(())
    }

    /// Visits a file and its includes.
    fn visit(&self, first: usize, included: &[Vec<(Span, usize)>], visits: &mut [Visit]) -> Result<(), Error> {
        if !matches!(visits[first], Visit::Not) {
            return Ok(());
        }
        // The files from the first to the present one, each with the number of its visited includes and the levels
        // below it.
        let mut open: Vec<(usize, usize, usize)> = vec![(first, 0, 0)];
        while let Some((file, at, levels)) = open.pop() {
            let Some((tag, next)) = included[file].get(at).copied() else {
                visits[file] = Visit::Done(levels);
                if let Some((_, _, above)) = open.last_mut() {
                    *above = levels.saturating_add(1).max(*above);
                }
                continue;
            };
            visits[file] = Visit::Open;
            open.push((file, at + 1, levels));
            let fail = |message: String| Err(self.error(tag, message));
            let below = match visits[next] {
                Visit::Not => 0,
                Visit::Done(below) => below,
                Visit::Open => {
                    let start = open.iter().position(|(file, ..)| *file == next).unwrap_or_default();
                    let files = open[start..].iter().map(|(file, ..)| *file).chain([next]);
                    let names: Vec<_> = files.map(|file| self.sources[file].path.display().to_string()).collect();
                    return fail(format!("files include each other: {}", names.join(" > ")));
                }
            };
            if open.len() + below >= NESTING {
                return fail(format!("files are included too deeply, {NESTING} levels are the limit"));
            }
            match visits[next] {
                Visit::Not => open.push((next, 0, 0)),
                _ => _ = open.last_mut().map(|(_, _, levels)| *levels = (*levels).max(below + 1)),
            }
        }
        Ok(())
    }
}

/// The progress of a visit to a file.
#[derive(Clone, Copy)]
enum Visit {
    Not,
    Open,
    /// Complete. The number is that of the levels of files below it.
    Done(usize),
}
