//! Filler text for the tag `lorem`: the traditional words of printers, and the units of the tag.
//! `render` prints them.

/// The amount of text that a tag prints.
pub(crate) struct Lorem {
    pub count: u64,
    pub unit: Unit,
    pub order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Words,
    Paragraphs,
    /// Each in `<p>`.
    HtmlParagraphs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The words in their order, from the beginning again after the end.
    Text,
    Random,
}

impl Unit {
    /// The letter in the tag (as in Django and pongo2).
    pub fn of(method: &[u8]) -> Option<Unit> {
        match method {
            b"w" => Some(Unit::Words),
            b"b" => Some(Unit::Paragraphs),
            b"p" => Some(Unit::HtmlParagraphs),
            _ => None,
        }
    }

    /// The units of the whole text.
    pub fn split(self) -> Vec<&'static str> {
        match self {
            Unit::Words => TEXT.split_ascii_whitespace().collect(),
            Unit::Paragraphs | Unit::HtmlParagraphs => TEXT.lines().collect(),
        }
    }

    /// The texts between two units, before each and behind each.
    pub fn marks(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Unit::Words => (" ", "", ""),
            Unit::Paragraphs => ("\n", "", ""),
            Unit::HtmlParagraphs => ("\n", "<p>", "</p>"),
        }
    }
}

/// Each line is a paragraph.
const TEXT: &str = "\
Lorem ipsum dolor sit amet, consectetur adipisici elit, sed eiusmod tempor incidunt ut labore et dolore magna aliqua. \
Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquid ex ea commodi consequat. \
Quis aute iure reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. \
Excepteur sint obcaecat cupiditat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum.
Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat, vel illum dolore eu feugiat \
nulla facilisis at vero eros et accumsan et iusto odio dignissim qui blandit praesent luptatum zzril delenit augue \
duis dolore te feugait nulla facilisi. \
Lorem ipsum dolor sit amet, consectetuer adipiscing elit, sed diam nonummy nibh euismod tincidunt ut laoreet dolore \
magna aliquam erat volutpat.
Ut wisi enim ad minim veniam, quis nostrud exerci tation ullamcorper suscipit lobortis nisl ut aliquip ex ea commodo \
consequat. \
Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat, vel illum dolore eu feugiat \
nulla facilisis at vero eros et accumsan et iusto odio dignissim qui blandit praesent luptatum zzril delenit augue \
duis dolore te feugait nulla facilisi.
Nam liber tempor cum soluta nobis eleifend option congue nihil imperdiet doming id quod mazim placerat facer possim \
assum. \
Lorem ipsum dolor sit amet, consectetuer adipiscing elit, sed diam nonummy nibh euismod tincidunt ut laoreet dolore \
magna aliquam erat volutpat. \
Ut wisi enim ad minim veniam, quis nostrud exerci tation ullamcorper suscipit lobortis nisl ut aliquip ex ea commodo \
consequat.
Duis autem vel eum iriure dolor in hendrerit in vulputate velit esse molestie consequat, vel illum dolore eu feugiat \
nulla facilisis.
At vero eos et accusam et justo duo dolores et ea rebum. \
Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet. \
Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore \
magna aliquyam erat, sed diam voluptua. \
At vero eos et accusam et justo duo dolores et ea rebum. \
Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet. \
Lorem ipsum dolor sit amet, consetetur sadipscing elitr, At accusam aliquyam diam diam dolore dolores duo eirmod eos \
erat, et nonumy sed tempor et et invidunt justo labore Stet clita ea et gubergren, kasd magna no rebum. \
sanctus sea sed takimata ut vero voluptua. \
est Lorem ipsum dolor sit amet. \
Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore \
magna aliquyam erat.
Consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore magna aliquyam erat, \
sed diam voluptua. \
At vero eos et accusam et justo duo dolores et ea rebum. \
Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet. \
Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore \
magna aliquyam erat, sed diam voluptua. \
At vero eos et accusam et justo duo dolores et ea rebum. \
Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet. \
Lorem ipsum dolor sit amet, consetetur sadipscing elitr, sed diam nonumy eirmod tempor invidunt ut labore et dolore \
magna aliquyam erat, sed diam voluptua. \
At vero eos et accusam et justo duo dolores et ea rebum. \
Stet clita kasd gubergren, no sea takimata sanctus est Lorem ipsum dolor sit amet.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_whole() {
        let paragraphs = Unit::Paragraphs.split();
        assert_eq!(paragraphs.len(), 7);
        for paragraph in paragraphs {
            assert!(paragraph.starts_with(|c: char| c.is_ascii_uppercase()), "{paragraph}");
            assert!(paragraph.ends_with('.') && !paragraph.contains("  "), "{paragraph}");
        }
        assert_eq!(Unit::Words.split()[..5].join(" "), "Lorem ipsum dolor sit amet,");
    }
}
