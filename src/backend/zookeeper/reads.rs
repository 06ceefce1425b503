//! The queue of reads: one read of each node for all resources that want it, and one more if the node changed
//! meanwhile. Knows neither bytes nor the meaning of answers.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::wire::{Names, Unreadable};
use crate::backend::protocol::Id;
use crate::store::Bytes;

/// A part of a node that one request reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodePart {
    /// The value.
    Data,
    /// The names of its children.
    Children,
}

/// A subscriber of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The resource.
    pub id: Id,
    /// Whether the result triggers an update.
    pub trigger: bool,
}

/// All pending reads.
#[derive(Default)]
pub struct Reads {
    reads: BTreeMap<(Bytes, NodePart), Read>,
    /// The reads that are not sent yet, in order. Entries that are no longer in `reads` are skipped.
    queue: VecDeque<(Bytes, NodePart)>,
    /// Lists of children to read, the newest last.
    listings: Vec<Listing>,
}

#[derive(Default)]
struct Read {
    interests: Vec<Interest>,
    is_asked: bool,
    /// The subscribers that need one more read, because the pending one may be older than a change that they know of.
    again: Vec<Interest>,
}

/// Children of a node to read. Their names stay encoded until their turn.
struct Listing {
    parent: Bytes,
    left: u32,
    names: Rc<[u8]>,
    at: usize,
    interests: Vec<Interest>,
}

/// The next step through the lists of children.
#[derive(Debug, PartialEq, Eq)]
pub enum Listed {
    /// A child of a node, and the subscribers of the list.
    Child {
        /// The node.
        parent: Bytes,
        /// The name of the child.
        name: Vec<u8>,
        /// The subscribers.
        interests: Vec<Interest>,
    },
    /// The end of the list for these subscribers.
    End(Vec<Interest>),
}

impl Reads {
    /// Plans a read. Returns whether the resource gets one more answer.
    pub fn want(&mut self, path: Bytes, what: NodePart, interest: Interest) -> bool {
        let read = self.reads.entry((path.clone(), what)).or_default();
        if read.interests.is_empty() && !read.is_asked {
            self.queue.push_back((path, what));
        }
        let interests = if read.is_asked { &mut read.again } else { &mut read.interests };
        match interests.iter_mut().find(|known| known.id == interest.id) {
            Some(known) => {
                known.trigger |= interest.trigger;
                false
            }
            None => {
                interests.push(interest);
                true
            }
        }
    }

    /// The next read to send, with its subscribers. It counts as sent.
    pub fn next(&mut self) -> Option<(Bytes, NodePart, &[Interest])> {
        while let Some((path, what)) = self.queue.pop_front() {
            let key = (path, what);
            if self.reads.get(&key).is_some_and(|read| !read.is_asked) {
                let read = self.reads.get_mut(&key)?;
                read.is_asked = true;
                return Some((key.0, what, &read.interests));
            }
        }
        None
    }

    /// Takes an answer, and returns its subscribers. If some need one more read, it is queued again.
    pub fn answered(&mut self, path: &Bytes, what: NodePart) -> Vec<Interest> {
        let key = (path.clone(), what);
        let Some(read) = self.reads.remove(&key) else { return Vec::new() };
        if !read.again.is_empty() {
            self.queue.push_back(key.clone());
            self.reads.insert(key, Read { interests: read.again, ..Read::default() });
        }
        read.interests
    }

    /// Adds a list of children, which are read one after the other. Each subscriber gets one more answer:
    /// [`Listed::End`].
    pub fn list(&mut self, parent: Bytes, names: &Names<'_>, interests: Vec<Interest>) {
        let (left, names) = names.rest();
        self.listings.push(Listing { parent, left, names: Rc::from(names), at: 0, interests });
    }

    /// The next child to read.
    pub fn next_listed(&mut self) -> Option<Result<Listed, Unreadable>> {
        let listing = self.listings.last_mut()?;
        let mut names = Names::resume(listing.left, &listing.names[listing.at..]);
        match names.next() {
            Some(Ok(name)) => {
                let (left, rest) = names.rest();
                (listing.left, listing.at) = (left, listing.names.len() - rest.len());
                let (parent, interests) = (listing.parent.clone(), listing.interests.clone());
                Some(Ok(Listed::Child { parent, name: name.to_vec(), interests }))
            }
            Some(Err(error)) => Some(Err(error)),
            None => self.listings.pop().map(|listing| Ok(Listed::End(listing.interests))),
        }
    }

    /// The number of pending reads and lists.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// Removes a subscriber.
    pub fn forget(&mut self, id: Id) {
        let drop = |interests: &mut Vec<Interest>| interests.retain(|interest| interest.id != id);
        self.reads.retain(|_, read| {
            drop(&mut read.interests);
            drop(&mut read.again);
            // A sent read will be answered.
            read.is_asked || !read.interests.is_empty()
        });
        self.listings.iter_mut().for_each(|listing| drop(&mut listing.interests));
        self.listings.retain(|listing| !listing.interests.is_empty());
    }

    /// Drops all reads.
    pub fn clear(&mut self) {
        *self = Reads::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::zookeeper::wire;

    fn bytes(text: &str) -> Bytes {
        Rc::from(text.as_bytes())
    }

    fn want(reads: &mut Reads, path: &str, id: u64, trigger: bool) -> bool {
        reads.want(bytes(path), NodePart::Data, Interest { id: Id(id), trigger })
    }

    fn next(reads: &mut Reads) -> Option<String> {
        reads.next().map(|(path, _, interests)| format!("{} {}", String::from_utf8_lossy(&path), shown(interests)))
    }

    fn answered(reads: &mut Reads, path: &str) -> String {
        shown(&reads.answered(&bytes(path), NodePart::Data))
    }

    fn shown(interests: &[Interest]) -> String {
        let text = |interest: &Interest| format!("{}{}", interest.id.0, if interest.trigger { "!" } else { "" });
        interests.iter().map(text).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_node_is_asked_about_once_for_all() {
        let mut reads = Reads::default();
        assert!(want(&mut reads, "/a", 1, false) && want(&mut reads, "/a", 2, true));
        assert!(!want(&mut reads, "/a", 1, true), "its answer is to come already");
        assert!(want(&mut reads, "/b", 1, false));
        assert_eq!(next(&mut reads).as_deref(), Some("/a 1!,2!"));
        // A change during the read causes one more read.
        assert!(want(&mut reads, "/a", 1, false) && !want(&mut reads, "/a", 1, false));
        assert_eq!((answered(&mut reads, "/a"), answered(&mut reads, "/never")), ("1!,2!".into(), "".into()));
        assert_eq!((next(&mut reads).as_deref(), next(&mut reads).as_deref()), (Some("/b 1"), Some("/a 1")));
        assert_eq!((next(&mut reads), reads.len()), (None, 2));
    }

    #[test]
    fn removed_resources_are_not_requested() {
        let mut reads = Reads::default();
        (1..=2).for_each(|id| _ = want(&mut reads, "/a", id, false));
        want(&mut reads, "/b", 1, false);
        reads.forget(Id(1));
        assert_eq!((next(&mut reads).as_deref(), next(&mut reads)), (Some("/a 2"), None));
        reads.forget(Id(2));
        assert!(want(&mut reads, "/a", 3, false), "what is under way was asked before it was wanted");
        assert_eq!((answered(&mut reads, "/a"), next(&mut reads).as_deref()), (String::new(), Some("/a 3")));
    }

    #[test]
    fn children_are_asked_about_by_and_by() {
        let mut reads = Reads::default();
        let names = wire::read_children(b"\0\0\0\x02\0\0\0\x01x\0\0\0\x01y").unwrap();
        let interests = vec![Interest { id: Id(1), trigger: false }];
        reads.list(bytes("/a"), &names, interests.clone());
        let child = |name: &str| {
            let (parent, name) = (bytes("/a"), name.as_bytes().to_vec());
            Some(Ok(Listed::Child { parent, name, interests: interests.clone() }))
        };
        assert_eq!(reads.next_listed(), child("x"));
        assert_eq!(reads.next_listed(), child("y"));
        assert_eq!(reads.next_listed(), Some(Ok(Listed::End(interests.clone()))));
        assert_eq!(reads.next_listed(), None);
        reads.list(bytes("/a"), &wire::read_children(b"\0\0\0\x02\0\0\0\x01").unwrap(), interests);
        assert!(reads.next_listed().is_some_and(|listed| listed.is_err()));
    }
}
