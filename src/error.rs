//! The text of system errors, for the end of a message.
//! Adds no subject and no advice; the caller does.

use std::io;

/// The cause in lower case, without the redundant "(os error 2)" of std.
pub fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" (os error ").map_or(&*text, |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_words() {
        assert_eq!(cause(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(cause(&io::ErrorKind::IsADirectory.into()), "is a directory");
        assert_eq!(cause(&io::Error::other("odd (os errors)")), "odd (os errors)");
        assert_eq!(cause(&io::Error::other("")), "");
    }
}
