//! The read of all keys of one resource, page by page at one revision, and the events that arrive during the read.
//! Makes no request, and does not know what follows the last page: see `subscription`.

use std::collections::VecDeque;
use std::time::Instant;

use crate::backend::etcd::mirror::{Loading, Mirror};
use crate::backend::etcd::wire::{self, Entry, Header, Page, Span, WatchAnswer};
use crate::backend::tally::Tally;
use crate::config::ReadLimits;

/// The number of bytes of events that are held back while all keys are read.
pub const HELD: usize = 1 << 20;

/// A read of all keys, page by page.
pub struct Reading {
    /// The ranges that are not read yet. The next page starts at the first key of the first range.
    pub rest: VecDeque<Span>,
    /// The header of the first page. All other pages are read at its revision.
    pub first: Option<Header>,
    /// The entries of the page that is arriving. They count when its end has arrived.
    pub page: Vec<Entry>,
    pub loading: Loading,
    /// The size of the complete pages, without and with the page that is arriving.
    pub tally: Tally,
    pub page_tally: Tally,
    /// The next page is not requested before this moment.
    pub from: Option<Instant>,
    /// How often the read restarted because its revision was compacted.
    pub restarts: u32,
    pub held: Held,
}

impl Reading {
    /// A read of all ranges of the mirror. The first page is requested at `from`; `None`: at once.
    pub fn new(mirror: &Mirror, limits: ReadLimits, from: Option<Instant>) -> Reading {
        let (tally, page_tally) = (Tally::new(limits), Tally::new(limits));
        Reading {
            rest: mirror.spans().into(),
            first: None,
            page: Vec::new(),
            loading: mirror.load(),
            tally,
            page_tally,
            from,
            restarts: 0,
            held: Held::default(),
        }
    }

    /// Takes the end of a page. Returns whether it was the last one.
    pub fn turn_page(&mut self, page: Page) -> Result<bool, &'static str> {
        let first = *self.first.get_or_insert(page.header);
        if first.revision == 0 {
            return Err("answer without a revision");
        }
        if first.cluster_id != page.header.cluster_id {
            return Err("keys of another cluster than those of the node before it");
        }
        match (self.rest.front_mut(), page.more, page.last) {
            (Some(span), true, Some(last)) if span.holds(&last) => *span = span.after(&last),
            (_, true, _) => return Err("page that leads to no other"),
            (_, false, _) => drop(self.rest.pop_front()),
        }
        Ok(self.rest.is_empty())
    }
}

/// Events that arrived during a read of all keys. They must not overtake the read.
#[derive(Default)]
pub struct Held {
    pub answers: Vec<(usize, WatchAnswer)>,
    /// The size of the events in bytes.
    size: usize,
}

impl Held {
    /// Adds an answer. Returns whether the limit still holds.
    pub fn push(&mut self, watch: usize, answer: WatchAnswer) -> bool {
        let size = |event: &wire::Event| size_of_val(event) + event.entry.key.len() + event.entry.value.len();
        self.size += size_of_val(&answer) + answer.events.iter().map(size).sum::<usize>();
        self.answers.push((watch, answer));
        self.size <= HELD
    }
}
