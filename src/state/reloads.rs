//! The pending reloads of a resource: files that were replaced and whose reload command has not succeeded yet. Finds
//! the templates of another configuration that replace those of a file. Does not decide when a reload runs.

use super::{push, sealed, unsealed};
use crate::fnv::fnv;

/// The type and the version of the file.
const HEAD: &[u8] = b"remco reloads 2\n";

/// The pending reloads of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingReloads {
    /// The `dst` of each template whose reload command is pending.
    pub templates: Vec<String>,
    /// Whether the reload command of the resource is pending.
    pub resource: bool,
}

impl PendingReloads {
    /// Whether no reload is pending.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty() && !self.resource
    }

    /// Encodes them as a file. `commands`: those of the configuration.
    pub fn encode(&self, commands: &Commands) -> Vec<u8> {
        sealed(HEAD, |file| {
            file.push(u8::from(self.resource));
            for dst in &self.templates {
                push(dst.as_bytes(), file);
                file.extend(commands.of(dst).unwrap_or(0).to_le_bytes());
            }
        })
    }

    /// Decodes a file, for the templates of a configuration with these commands. `None`: it is damaged, or has another
    /// type or version. A template that is gone is replaced by one with an equal command. The second list has the
    /// templates without a replacement.
    pub fn decode(file: &[u8], commands: &Commands) -> Option<(PendingReloads, Vec<String>)> {
        let mut fields = unsealed(HEAD, file)?;
        let (resource, rest) = fields.0.split_first()?;
        fields.0 = rest;
        let mut reloads = PendingReloads { templates: Vec::new(), resource: *resource != 0 };
        let mut lost = Vec::new();
        while !fields.is_empty() {
            let dst = String::from_utf8(fields.bytes()?.to_vec()).ok()?;
            let sum = fields.number()?;
            match commands.stands_for(&dst, sum) {
                Some(dst) if reloads.templates.contains(dst) => {}
                Some(dst) => reloads.templates.push(dst.clone()),
                None => lost.push(dst),
            }
        }
        Some((reloads, lost))
    }
}

/// The templates of a resource and their reload commands.
#[derive(Clone, Debug, Default)]
pub struct Commands(Vec<(String, Option<u64>)>);

impl Commands {
    /// `templates`: the `dst` of each, and its reload command with the placeholder path.
    pub fn new(templates: impl Iterator<Item = (String, Option<Vec<u8>>)>) -> Commands {
        Commands(templates.map(|(dst, command)| (dst, command.map(|text| fnv(&text)))).collect())
    }

    fn of(&self, dst: &str) -> Option<u64> {
        self.0.iter().find(|(own, _)| own == dst).and_then(|(_, sum)| *sum)
    }

    fn stands_for(&self, dst: &str, sum: u64) -> Option<&String> {
        let same = self.0.iter().find(|(own, _)| own == dst);
        let other = || self.0.iter().find(|(_, own)| *own == Some(sum));
        same.or_else(other).map(|(dst, _)| dst)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_damage;
    use super::*;

    fn commands(templates: &[(&str, &str)]) -> Commands {
        let one = |(dst, command): &(&str, &str)| {
            (dst.to_string(), (!command.is_empty()).then(|| command.as_bytes().to_vec()))
        };
        Commands::new(templates.iter().map(one))
    }

    fn reloads(templates: &[&str], resource: bool) -> PendingReloads {
        PendingReloads { templates: templates.iter().map(|dst| dst.to_string()).collect(), resource }
    }

    #[test]
    fn reloads_come_back_as_they_were() {
        let commands = commands(&[("/etc/a", "one"), ("/etc/ä b", "two"), ("", "one")]);
        for (templates, resource) in [(&[][..], false), (&[], true), (&["/etc/a", "/etc/ä b"], true), (&[""], false)] {
            let reloads = reloads(templates, resource);
            assert_eq!(PendingReloads::decode(&reloads.encode(&commands), &commands), Some((reloads, vec![])));
        }
    }

    #[test]
    fn another_template_with_the_command_stands_for_one_that_is_gone() {
        let file = reloads(&["/a", "/b", "/c"], false).encode(&commands(&[("/a", "x"), ("/b", "x"), ("/c", "y")]));
        for (now, templates, lost) in [
            (&[("/c", "y"), ("/b", "x"), ("/a", "x")][..], &["/a", "/b", "/c"][..], &[][..]),
            (&[("/n", "y"), ("/m", "x")], &["/m", "/n"], &[]),
            (&[("/a", "z"), ("/b", "x")], &["/a", "/b"], &["/c"]),
            (&[("/m", ""), ("/n", "z")], &[], &["/a", "/b", "/c"]),
            (&[], &[], &["/a", "/b", "/c"]),
        ] {
            let lost = lost.iter().map(|dst| dst.to_string()).collect();
            assert_eq!(
                PendingReloads::decode(&file, &commands(now)),
                Some((reloads(templates, false), lost)),
                "{now:?}"
            );
        }
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let (reloads, commands) = (reloads(&["/etc/a"], true), commands(&[("/etc/a", "x")]));
        let whole = Some((reloads.clone(), vec![]));
        check_damage(&reloads.encode(&commands), |file| PendingReloads::decode(file, &commands) != whole);
    }
}
