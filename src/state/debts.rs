//! The reloads that a resource owes: files that were replaced and whose reload command has not succeeded yet.
//! Decides nothing about reloads.

use super::{push, sealed, unsealed};

/// What the file is, and its version.
const HEAD: &[u8] = b"remco reloads 1\n";

/// The owed reloads of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debts {
    /// The `dst` of each template whose reload command is owed.
    pub templates: Vec<String>,
    /// Whether the reload command of the resource is owed.
    pub resource: bool,
}

impl Debts {
    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty() && !self.resource
    }

    /// As a file.
    pub fn encode(&self) -> Vec<u8> {
        sealed(HEAD, |file| {
            file.push(u8::from(self.resource));
            self.templates.iter().for_each(|dst| push(dst.as_bytes(), file));
        })
    }

    /// What a file says; `None`: it is damaged, or not of this kind and version.
    pub fn decode(file: &[u8]) -> Option<Debts> {
        let mut fields = unsealed(HEAD, file)?;
        let (resource, rest) = fields.0.split_first()?;
        fields.0 = rest;
        let mut debts = Debts { templates: Vec::new(), resource: *resource != 0 };
        while !fields.is_empty() {
            debts.templates.push(String::from_utf8(fields.bytes()?.to_vec()).ok()?);
        }
        Some(debts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_damage;
    use super::*;

    #[test]
    fn debts_come_back_as_they_were() {
        for (templates, resource) in [(&[][..], false), (&[], true), (&["/etc/a", "/etc/ä b"], true), (&[""], false)] {
            let debts = Debts { templates: templates.iter().map(|dst| dst.to_string()).collect(), resource };
            assert_eq!(Debts::decode(&debts.encode()), Some(debts));
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let debts = Debts { templates: vec!["/etc/a".into()], resource: true };
        check_damage(&debts.encode(), |file| Debts::decode(file).is_none_or(|read| read != debts));
    }
}
