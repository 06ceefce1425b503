//! Reads the recipes of docs/recipes.md and other pages: tests write their files and run their commands as written.
//! Starts no server, and does not know the purpose of a recipe.

use std::path::Path;
use std::process::Command;
use std::{env, fs, mem};

use super::{Finished, Invocation, LIMIT, Remco, TempDir, wait_until};

const PAGE: &str = include_str!("../../../docs/recipes.md");

/// One section of a page, with a folder for the files whose names are relative.
pub struct Recipe {
    blocks: Vec<Block>,
    dir: TempDir,
}

/// What stands between two fences.
struct Block {
    /// The file that it is: the paragraph before it begins with its name and ends with a colon.
    file: Option<&'static str>,
    /// The word behind the first fence.
    kind: &'static str,
    text: String,
}

impl Recipe {
    /// By its heading, with the `#` before it.
    pub fn of(heading: &str) -> Recipe {
        Recipe::on(PAGE, heading)
    }

    /// The same on another page.
    pub fn on(page: &'static str, heading: &str) -> Recipe {
        let level = heading.split(' ').next().expect("a part is never missing").len();
        let mut lines = page.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "there is no {heading}");
        let (mut blocks, mut open) = (Vec::new(), None::<Block>);
        let (mut paragraph, mut is_over) = (Vec::new(), false);
        for line in lines {
            match (&mut open, line.strip_prefix("```")) {
                (Some(_), Some("")) => blocks.extend(open.take()),
                (Some(block), _) => block.text.extend([line, "\n"]),
                (None, Some(kind)) => {
                    open = Some(Block { file: named(&mem::take(&mut paragraph)), kind, text: String::new() });
                }
                (None, None) if is_heading(line, level) => break,
                (None, None) if line.is_empty() => is_over = true,
                (None, None) => {
                    if mem::take(&mut is_over) {
                        paragraph.clear();
                    }
                    paragraph.push(line);
                }
            }
        }
        assert!(!blocks.is_empty(), "{heading} has no blocks");
        Recipe { blocks, dir: TempDir::new() }
    }

    /// The folder of its files and the working directory of its commands.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// The text of a file.
    pub fn file(&self, name: &str) -> &str {
        let block = self.blocks.iter().find(|block| block.file == Some(name));
        &block.unwrap_or_else(|| panic!("no file {name} in the recipe")).text
    }

    /// Writes all files, with the folders above them.
    pub fn write_files(&self) {
        for block in &self.blocks {
            if let Some(file) = block.file {
                self.dir.write(file, &block.text);
            }
        }
    }

    /// The blocks of a kind that are no files.
    pub fn texts(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.blocks.iter().filter(|block| block.kind == kind && block.file.is_none());
        of_kind.map(|block| &*block.text).collect()
    }

    /// Runs the block of commands with this number.
    #[track_caller]
    pub fn sh(&self, number: usize) -> Finished {
        self.run(self.texts("sh")[number])
    }

    /// Runs other commands in the same way.
    #[track_caller]
    pub fn run(&self, commands: &str) -> Finished {
        let mut shell = Command::new("sh");
        shell.args(["-c", commands]);
        let program = Path::new(env!("CARGO_BIN_EXE_remco")).parent().expect("it is in a folder");
        let path = format!("{}:{}", program.display(), env::var("PATH").expect("there is a PATH"));
        Invocation::of(shell, self.dir.path()).env("PATH", &path).run()
    }

    /// Panics unless this is what the recipe says is printed, in its block of text with this number.
    #[track_caller]
    pub fn expect_printed(&self, number: usize, finished: &Finished) {
        assert_eq!(String::from_utf8_lossy(&finished.stdout), self.texts("text")[number], "{}", finished.log);
    }

    /// Starts the daemon with its usual configuration, `/etc/remco/config`.
    pub fn start(&self) -> Remco {
        Invocation::bare(&self.dir, &[]).start()
    }
}

/// Waits until a file outside of the folder of a test has this text.
#[track_caller]
pub fn await_file(path: &str, text: &str) {
    let holds = || fs::read_to_string(path).is_ok_and(|read| read == text);
    wait_until(&format!("{path} holds {text:?}"), LIMIT, holds);
}

fn is_heading(line: &str, level: usize) -> bool {
    let marks = line.bytes().take_while(|byte| *byte == b'#').count();
    (1..=level).contains(&marks) && line.as_bytes().get(marks) == Some(&b' ')
}

fn named(paragraph: &[&'static str]) -> Option<&'static str> {
    let is_name = paragraph.last()?.ends_with(':');
    let name = paragraph.first()?.strip_prefix('`')?.split('`').next()?;
    is_name.then_some(name)
}
