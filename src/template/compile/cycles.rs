//! Refuses files that include each other by fixed names without an end, or too deeply. Computed includes are bounded while the
//! template runs.

use super::lower::Lowering;
use crate::template::limits::NESTING;
use crate::template::source::{Error, Span};

impl Lowering<'_> {
    /// A file that includes itself by a fixed name, over others or not, would never end.
    pub(super) fn refuse_cycles(&self) -> Result<(), Error> {
        let mut included: Vec<Vec<(Span, usize)>> = vec![Vec::new(); self.sources.len()];
        for (includer, tag, file) in &self.includes {
            included[*includer].push((*tag, *file));
        }
        let mut seen = vec![Seen::Not; self.sources.len()];
        for file in 0..self.sources.len() {
            self.look_through(file, &included, &mut seen)?;
        }
        Ok(())
    }

    /// Looks through a file and what it includes.
    fn look_through(&self, first: usize, included: &[Vec<(Span, usize)>], seen: &mut [Seen]) -> Result<(), Error> {
        if !matches!(seen[first], Seen::Not) {
            return Ok(());
        }
        // The files from the first one to the one at hand: each with how many of its includes are looked at, and the
        // levels found below it.
        let mut open: Vec<(usize, usize, usize)> = vec![(first, 0, 0)];
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
            let fail = |message: String| Err(self.error(tag, message));
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

/// How far a file is looked through.
#[derive(Clone, Copy)]
enum Seen {
    Not,
    Open,
    /// With so many levels of files below it.
    Done(usize),
}
