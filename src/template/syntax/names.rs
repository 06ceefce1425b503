//! The names of a template as numbers, so that finding a variable compares numbers. The values of names are in
//! `run/scope`.

use std::collections::HashMap;
use std::rc::Rc;

/// A name of a template, so that finding a variable compares numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(u32);

/// All names of a template and its includes.
#[derive(Debug)]
pub(crate) struct Names {
    known: HashMap<Rc<str>, Name>,
    texts: Vec<Rc<str>>,
}

impl Name {
    /// The variable with the state of a loop, as in Go remco; it is set like any other.
    pub const FORLOOP: Name = Name(0);
    /// The variable that `block.Super` reads.
    pub const BLOCK: Name = Name(1);
    /// The variable with facts about pongo2. Every file has it, also one that is included with `only`.
    pub const PONGO2: Name = Name(2);

    /// One of 64 bits, which several names may share.
    pub fn bit(self) -> u64 {
        1 << (self.0 % u64::BITS)
    }
}

impl Default for Names {
    fn default() -> Names {
        let mut names = Names { known: HashMap::new(), texts: Vec::new() };
        let forloop = names.name("forloop");
        let block = names.name("block");
        let pongo2 = names.name("pongo2");
        debug_assert_eq!((forloop, block, pongo2), (Name::FORLOOP, Name::BLOCK, Name::PONGO2));
        names
    }
}

impl Names {
    /// The number of a name. A new name gets the next number.
    pub fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return *name;
        }
        let name = Name(u32::try_from(self.texts.len()).expect("a template has fewer names than bytes"));
        let text: Rc<str> = Rc::from(text);
        self.texts.push(text.clone());
        self.known.insert(text, name);
        name
    }

    /// The text of a name. The name must come from this list.
    pub fn text(&self, name: Name) -> &Rc<str> {
        &self.texts[name.0 as usize]
    }
}
