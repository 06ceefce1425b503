//! What any bytes must survive as a format of printf, with operands of every kind: nothing may panic or grow beyond the
//! limit, and the same call gives the same text. The first four bytes choose the operands.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use remco::store::Store;
use remco::template::{Limits, Template};

use crate::still::{PATH, still};

const LIMITS: Limits = Limits { steps: 1000, output: 64 << 10, time: Duration::from_secs(10), memory: 16 << 20 };

/// As the template language writes them.
const OPERANDS: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "7",
    "65",
    "128512",
    "1114112",
    "9223372036854775807",
    "-9223372036854775807 - 1",
    "1000001",
    "0.0",
    "-1.5",
    "3.14159265358979",
    "1e300*1e10",
    "123456789.125",
    "\"text\"",
    "\"\"",
    "\"caf\u{e9} \u{1f600}\"",
    "getv(\"/raw\")",
    "getv(\"/quotes\")",
    "true",
    "false",
    "nil",
    "getvs(\"/list/*\")",
    "parseJSON(getv(\"/json\"))",
    "gets(\"/list/*\")",
    "createMap()",
];

pub fn run(bytes: &[u8]) {
    let Some((choice, format)) = bytes.split_at_checked(4) else { return };
    let mut store = Store::new(1);
    let pairs: &[(&[u8], &[u8])] = &[
        (b"/format", format),
        (b"/json", br#"{"list":[1,2.5,"x",null,true],"map":{"a":{"b":"c"}},"":[[]]}"#),
        (b"/list/0", b"one"),
        (b"/list/1", b"\xfftwo"),
        (b"/quotes", b"\"back\\slash\" `tick` \x7f\n"),
        (b"/raw", b"\xff\xfe\x00\xc3"),
    ];
    pairs.iter().for_each(|(key, value)| {
        store.put(0, (*key).into(), (*value).into());
    });
    let store = Rc::new(store);
    let chosen = choice.iter().map(|byte| OPERANDS[usize::from(*byte) % OPERANDS.len()]);
    let operands: String = chosen.filter(|operand| !operand.is_empty()).flat_map(|operand| [", ", operand]).collect();
    let text = format!("{{{{ printf(getv(\"/format\"){operands}) }}}}");
    let world = still(text.as_bytes());
    let mut template = Template::compile(Path::new(PATH), &world).unwrap_or_else(|e| panic!("{text}: {e}"));
    template.limits = LIMITS;
    let render = || template.render(&store, &world).map_err(|error| error.to_string());
    let result = render();
    assert_eq!(result, render(), "the second time differs");
    if let Ok(result) = result {
        assert!(result.len() <= LIMITS.output, "{} bytes in spite of the limit", result.len());
        let has_operands = operands.is_empty() || format.contains(&b'%');
        assert!(!has_operands || format.contains(&b'%') || result == format, "text is not copied");
    }
}
