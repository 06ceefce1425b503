//! Hints for names of other template languages that this one lacks: Jinja, Go's text/template, confd and
//! consul-template. [`crate::nearest`] finds misspelt names; the hints for them are here.

use crate::nearest::nearest;
use crate::template::builtin::functions;
use crate::template::builtin::scripts::Scripts;

/// The error of a call of an unknown function.
pub(crate) fn unknown_function(name: &str, scripts: &Scripts) -> String {
    let known = functions::names().map(|name| -> &str { name }).chain(scripts.names());
    match function(name) {
        Some(hint) => format!("unknown function `{name}`: {hint}"),
        None => format!("unknown function `{name}`{}", suggest(name, known)),
    }
}

/// The end of a message about a name that does not exist, if a known one is near.
pub(crate) fn suggest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!(", did you mean `{known}`?"))
}

/// The replacement of a foreign tag. `open`: the innermost open tag.
pub(crate) fn tag(name: &str, open: Option<&str>) -> Option<String> {
    let text = match name {
        "raw" => "text that stands as it is begins with {% verbatim %}",
        "endraw" => "text that stands as it is ends with {% endverbatim %}",
        "end" => {
            return Some(match open {
                Some(open) => format!("a tag ends with its own name, write {{% end{open} %}}"),
                None => "a tag ends with its own name, like {% endif %}, and none is open".to_owned(),
            });
        }
        "elseif" | "elsif" | "else_if" => "write {% elif %}",
        "range" | "foreach" | "each" | "loop" => "a loop is written {% for x in list %}",
        "unless" => "write {% if not (..) %}",
        "assign" | "let" | "var" | "define" => "a variable is set with {% set x = 1 %}",
        "template" | "partial" | "render" => "a file is included with {% include \"file\" %}",
        "layout" => "a file is extended with {% extends \"file\" %}",
        "case" | "switch" | "when" => "write {% if %} .. {% elif %} .. {% endif %}",
        "break" | "continue" => "a loop goes through all of its elements, {% if %} leaves some out",
        "call" => "a macro is called as a value: {{ name() }}",
        "do" | "echo" | "print" | "return" => "a value is printed with {{ value }}",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The replacement of a foreign filter.
pub(crate) fn filter(name: &str) -> Option<&'static str> {
    Some(match name {
        "json" | "tojson" | "to_json" | "json_encode" | "jsonify" => "write toJSON",
        "prettyjson" | "toPretty" | "to_nice_json" | "toJSONPretty" => "write toPrettyJSON",
        "yaml" | "to_yaml" | "to_nice_yaml" => "write toYAML",
        "fromJson" | "from_json" | "fromjson" | "json_decode" | "jsonArray" => "write parseJSON",
        "fromYaml" | "from_yaml" | "fromyaml" => "write parseYAML",
        "b64enc" | "b64encode" | "base64Encode" | "base64encode" => "write base64",
        "b64dec" | "b64decode" => "write base64decode",
        "toUpper" | "uppercase" | "upcase" => "write upper",
        "toLower" | "lowercase" | "downcase" => "write lower",
        "toTitle" | "capitalize" => "write title or capfirst",
        "len" | "count" | "size" => "write length",
        "int" | "atoi" | "toInt" => "write integer, or parseInt, which refuses what is no integer",
        "basename" => "write base",
        "dirname" => "write dir",
        "d" => "write default",
        "quote" | "squote" | "toQuote" => "write stringformat:\"%q\"",
        "format" => "write stringformat:\"%s\", or printf(\"%s\", x)",
        "truncate" => "write truncatechars or truncatewords",
        "nl2br" => "write linebreaksbr",
        "list" => "write make_list",
        "sort" | "sorted" => "a loop sorts: {% for x in list sorted %}",
        "reverse" | "reversed" => "a loop goes backwards: {% for x in list reversed %}",
        _ => return None,
    })
}

/// The replacement of a foreign function.
pub(crate) fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "key" | "keyOrDefault" | "cgetv" | "secret" | "lookup" => "a key is read with getv(\"/key\", \"default\")",
        "keyExists" => "write exists(\"/key\")",
        "cget" => "write get(\"/key\")",
        "cgets" | "tree" | "safeTree" => "write gets(\"/prefix/*\")",
        "cgetvs" => "write getvs(\"/prefix/*\")",
        "env" | "environ" => "write getenv(\"NAME\", \"default\")",
        "json" | "jsonObject" | "jsonArray" | "fromJson" => "write getv(\"/key\")|parseJSON",
        "base64Encode" | "b64enc" => "write x|base64",
        "base64Decode" | "b64dec" => "write x|base64decode",
        "toUpper" => "write x|upper",
        "toLower" => "write x|lower",
        "len" => "write x|length",
        "atoi" | "int" => "write x|integer or x|parseInt",
        "datetime" | "timestamp" | "now" => "write dateRFC3339() or unixTS(), or the tag {% now \"2006-01-02\" %}",
        "map" | "dict" => "write createMap()",
        "range" | "seq" => "a loop goes through a list or a text: {% for x in \"1,2,3\"|split:\",\" %}",
        "hostname" => "write getenv(\"HOSTNAME\")",
        "service" | "services" => "write lookupSRV(\"service\", \"tcp\", \"domain\") or lookupIP(\"host\")",
        _ => return None,
    })
}

/// A text that another program reads as a template.
pub(crate) const VERBATIM: &str = ": text for another program stands within {% verbatim %} .. {% endverbatim %}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::builtin::filters;

    #[test]
    fn what_exists_has_no_hint() {
        assert!(filters::names().all(|name| filter(name).is_none()));
        assert!(functions::names().all(|name| function(name).is_none()));
        assert!(crate::template::syntax::tags::LANGUAGE.names().all(|name| tag(name, None).is_none()));
    }

    #[test]
    fn the_end_of_a_tag_has_its_name() {
        assert_eq!(tag("end", Some("for")).as_deref(), Some("a tag ends with its own name, write {% endfor %}"));
        assert_eq!(tag("nothing", Some("for")), None);
    }
}
