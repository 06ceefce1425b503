//! Reads the links of a page in Markdown, for the pages of this tree and for those of a package. Follows none.

/// The lines outside of blocks between fences.
pub fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// What the links of a page lead to.
pub fn targets(text: &str) -> Vec<String> {
    let lines = prose(text).map(without_code).collect::<Vec<_>>().join("\n");
    let links = lines.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    links.filter(|target| !target.contains("://")).collect()
}
