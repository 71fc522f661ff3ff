//! Files as people write them, and files as nobody would.

use proptest::prelude::*;

/// Names that are asked for, given, neither, or the shell's own.
const NAMES: &[&str] =
    &["A", "A", "B", "B", "LIST", "MAKE", "PACKAGE_NAME", "kernelver", "parallel_jobs", "U"];
const OWN: &[&str] =
    &["RANDOM", "UID", "PWD", "IFS", "HOME", "_", "BASH_VERSION", "__i", "TERM", "PS4", "OPTIND"];

/// Characters with a meaning somewhere, and some without.
const ODD: &str = "[-$`'\"\\\\{}()\\[\\]*?!@#%^&|;<>~=+:,./ \t\n\r\0aA01_é\u{7f}\u{1}]";

/// A file, mostly in the language that is understood.
pub(super) fn file() -> BoxedStrategy<String> {
    prop::collection::vec(statement(), 1..6).prop_map(|statements| statements.concat()).boxed()
}

/// The same with a few characters changed.
pub(super) fn odd_file() -> BoxedStrategy<String> {
    let change = (any::<prop::sample::Index>(), 0..3, ODD);
    (file(), prop::collection::vec(change, 1..4))
        .prop_map(|(text, changes)| {
            let mut characters: Vec<String> = text.chars().map(String::from).collect();
            for (place, kind, odd) in changes {
                let place = place.index(characters.len());
                match kind {
                    0 => characters[place].push_str(&odd),
                    1 => characters[place] = odd,
                    _ => characters[place].clear(),
                }
            }
            characters.concat()
        })
        .boxed()
}

fn name() -> BoxedStrategy<String> {
    prop_oneof![60 => prop::sample::select(NAMES), 1 => prop::sample::select(OWN)].prop_map_into().boxed()
}

fn statement() -> BoxedStrategy<String> {
    let index = prop_oneof![
        30 => Just(String::new()),
        10 => "\\[[0-9]\\]",
        1 => "\\[(0[0-9]|[0-9]{2,3}|-1|1\\+1| 1|)\\]",
        1 => name().prop_map(|name| format!("[${name}]")),
        3 => name().prop_map(|name| format!("[${{#{name}[@]}}]")),
    ];
    let list = prop::collection::vec(item(), 0..5).prop_map(|items| format!("({})", items.concat()));
    let value = prop_oneof![4 => word(false), 1 => list];
    let end = prop::sample::select(vec!["\n", "\n", "\n", ";", " # c; 'x\n", " ", " \\\n", "\\\n"]);
    let rule = prop_oneof![
        (
            prop::sample::select(vec![
                "MAKE_MATCH[0]",
                "MAKE_MATCH[2]",
                "PATCH_MATCH",
                "BUILD_EXCLUSIVE_KERNEL",
                "BUILD_EXCLUSIVE_ARCH"
            ]),
            expression()
        )
            .prop_map(|(name, text)| format!("{name}='{text}'\n")),
    ];
    let assignment = (name(), index, prop_oneof![3 => Just("="), 1 => Just("+=")], value, end)
        .prop_map(|(name, index, sign, value, end)| format!("{name}{index}{sign}{value}{end}"));
    let other =
        prop::sample::select(vec!["# comment\n", "\n", "echo x\n", "export A=1\n", "unset B\n", "B= A\n"]);
    prop_oneof![32 => assignment, 6 => rule, 1 => other.prop_map_into()].boxed()
}

fn item() -> BoxedStrategy<String> {
    let index = prop_oneof![12 => Just(""), 2 => Just("[2]="), 2 => Just("[0]="), 1 => Just("[1]+=")];
    let gap = prop_oneof![6 => Just(" "), 1 => Just("\n"), 1 => Just(" # c\n"), 1 => Just(" \\\n\t")];
    (index, word(true), gap).prop_map(|(index, word, gap)| format!("{index}{word}{gap}")).boxed()
}

fn word(in_list: bool) -> BoxedStrategy<String> {
    let bare = if in_list { "[-a-c0-2_.,:/%@^+=#é]{1,4}" } else { "[-a-c0-2_.,:/%@^+=#é!*?\\[\\]]{1,4}" };
    let piece = prop_oneof![
        4 => bare,
        2 => "'[a-c \\\\$\"\n*é;#~]{0,4}'",
        3 => prop::collection::vec(quoted_piece(), 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat())),
        1 => "\\\\[ a$'\"\\\\;#*~\\[\\](){}&|<>!=\n-]",
        1 => "\\$'[ab\"$ ]{0,2}(\\\\[nt'\"\\\\?])?'",
        4 => expansion(2),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat()).boxed()
}

fn quoted_piece() -> BoxedStrategy<String> {
    prop_oneof![
        3 => "[-a-c0-2_.,:/ '*?\\[\\]{}()~;|&<>!#=\né]{1,4}",
        1 => "\\\\[$`\"\\\\\na' .!]",
        1 => "\\$[ /.|)%:;,]",
        4 => expansion(2),
    ]
    .boxed()
}

fn expansion(depth: u32) -> BoxedStrategy<String> {
    let plain = prop_oneof![
        3 => name().prop_map(|name| format!("${name}")),
        3 => name().prop_map(|name| format!("${{{name}}}")),
        1 => (name(), "\\[[0-3@*]\\]").prop_map(|(name, which)| format!("${{{name}{which}}}")),
        1 => (name(), "(\\[[0-3@*]\\])?").prop_map(|(name, which)| format!("${{#{name}{which}}}")),
    ];
    if depth == 0 {
        return plain.boxed();
    }
    let part = prop_oneof![3 => "[-a-c0-2_./:,=+%@^# ]{0,3}", 1 => expansion(depth - 1)];
    let inner = prop::collection::vec(part, 0..3).prop_map(|parts| parts.concat());
    let change = prop_oneof![
        20 => (":?[-+]", inner.clone()).prop_map(|(sign, word)| sign + &word),
        10 => "(:[0-9]|: -[0-9])(:[0-9])?",
        20 => ("[#%]{1,2}", pattern()).prop_map(|(sign, pattern)| sign + &pattern),
        20 => ("/[/#%]?", pattern(), prop_oneof![1 => Just(String::new()), 3 => inner.prop_map(|word| format!("/{word}"))])
            .prop_map(|(sign, pattern, word)| sign + &pattern + &word),
        5 => "(\\^\\^?|,,?)",
        1 => "[=?@:!][a-zQ0]?",
    ];
    let which = prop_oneof![6 => Just(String::new()), 1 => "\\[[0-3@*]\\]"];
    let changed =
        (name(), which, change).prop_map(|(name, which, change)| format!("${{{name}{which}{change}}}"));
    prop_oneof![3 => plain, 3 => changed].boxed()
}

fn pattern() -> BoxedStrategy<String> {
    let piece = prop_oneof![
        4 => "[a-c0-26xrtm.-]",
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        2 => "\\[[!^]?[a-c0-2.-]{1,3}\\]",
        1 => "\\[[!^]?([a-c]-[a-z]|[0-5]-[3-9])[.-]?\\]",
        1 => "\\\\[.*?\\[\\]/-]",
        1 => "[/ :+_]",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat()).boxed()
}

fn expression() -> BoxedStrategy<String> {
    let piece = prop_oneof![
        6 => "[1-6x_.a-z+*?^$|()-]",
        2 => "\\[\\^?[a-z0-9.+\\\\-]{1,3}\\]",
        2 => "\\[\\^?([a-f]-[a-z]|[0-5]-[3-9])[.-]?\\]",
        1 => "\\\\[.+*$^()-]",
        1 => "\\([a-z0-9.]{0,2}\\|?[a-z0-9]?\\)[*+?]?",
    ];
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat()).boxed()
}
