//! Numbers with their noun: `1 key`, `2 keys`. Counts nothing, and the caller gives the plural. Not for texts that
//! programs parse: their words must not depend on numbers.

/// The number and its noun: `one` for 1, else `many`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let all = [0, 1, 2].map(|number| count(number, "key", "keys"));
        assert_eq!(all, ["0 keys", "1 key", "2 keys"]);
    }
}
