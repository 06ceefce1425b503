//! Builds configurations for the program under test, table by table. A key is set in the table that was opened last, so
//! that a chain of calls reads like the file. Tests of the text of a configuration write that text themselves.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

use super::TempDir;

/// A configuration file that grows by tables.
#[derive(Clone)]
pub struct Config {
    tables: Vec<Table>,
}

#[derive(Clone)]
struct Table {
    /// As in the file: `[[resource]]`, or nothing for the keys at the top.
    header: String,
    lines: Vec<(String, String)>,
    /// Further lines, as a test wrote them.
    text: String,
}

impl Table {
    fn set(&mut self, key: &str, value: Value) {
        // Texts, numbers, booleans and arrays are the same in JSON and TOML.
        let value = value.to_string();
        match self.lines.iter_mut().find(|(known, _)| known == key) {
            Some(line) => line.1 = value,
            None => self.lines.push((key.to_owned(), value)),
        }
    }
}

/// A configuration with one resource.
pub fn resource(name: &str) -> Config {
    config().resource(name)
}

/// An empty configuration. Keys that are set first belong to the program as a whole.
pub fn config() -> Config {
    Config { tables: Vec::new() }.table("")
}

impl Config {
    /// Opens a table, with its header as it is in the file.
    pub fn table(mut self, header: &str) -> Config {
        self.tables.push(Table { header: header.to_owned(), lines: Vec::new(), text: String::new() });
        self
    }

    /// Sets a key in the table that was opened last, also where it was set before.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Config {
        self.tables.last_mut().expect("the top is a table").set(key, value.into());
        self
    }

    /// Adds lines of TOML to the table that was opened last, for tests that vary them.
    pub fn lines(mut self, text: &str) -> Config {
        let table = self.tables.last_mut().expect("the top is a table");
        table.text += text;
        table.text += if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self
    }

    /// Sets a key in the last table with this header.
    pub fn set_in(mut self, header: &str, key: &str, value: impl Into<Value>) -> Config {
        let table = self.tables.iter_mut().rfind(|table| table.header == header);
        table.unwrap_or_else(|| panic!("there is no {header}")).set(key, value.into());
        self
    }

    /// Adds a resource.
    pub fn resource(self, name: &str) -> Config {
        self.table("[[resource]]").set("name", name)
    }

    /// Adds a template to the resource.
    pub fn template(self, src: &str, dst: &str) -> Config {
        self.table("[[resource.template]]").set("src", src).set("dst", dst)
    }

    /// Adds a backend to the resource. It reads all keys where [`Config::keys`] does not follow.
    pub fn backend(self, kind: &str) -> Config {
        self.table(&format!("[resource.backend.{kind}]")).keys(["/"])
    }

    /// Adds the file backend.
    pub fn file(self, path: &str) -> Config {
        self.backend("file").set("filepath", path)
    }

    /// Adds an etcd with version 3 of its API.
    pub fn etcd(self, node: &str) -> Config {
        self.backend("etcd").set("version", 3).set("nodes", [node])
    }

    pub fn keys<const N: usize>(self, keys: [&str; N]) -> Config {
        self.set("keys", keys)
    }

    pub fn watch(self) -> Config {
        self.set("watch", true)
    }

    /// Reads the backend once and does not watch it.
    pub fn onetime(self) -> Config {
        self.set("onetime", true)
    }

    /// Adds the program's process to the resource.
    pub fn exec(self, command: &str) -> Config {
        self.table("[resource.exec]").set("command", command)
    }

    /// Adds the tables of another configuration, which has nothing at its top.
    pub fn and(mut self, other: Config) -> Config {
        assert!(other.tables[0].lines.is_empty(), "keys of the program as a whole are set first");
        self.tables.extend(other.tables.into_iter().skip(1));
        self
    }

    /// Writes the configuration to the folder, as the program's default file of the tests.
    pub fn write(&self, dir: &TempDir) {
        dir.write("config.toml", self.to_string());
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            if !table.header.is_empty() {
                writeln!(f, "{}", table.header)?;
            }
            for (key, value) in &table.lines {
                writeln!(f, "{key} = {value}")?;
            }
            f.write_str(&table.text)?;
        }
        Ok(())
    }
}
