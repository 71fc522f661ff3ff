//! Typical files, and files with unusual syntax.

use proptest::prelude::*;

/// Names that are requested, given, neither, or used by bash.
const NAMES: &[&str] =
    &["A", "A", "B", "B", "LIST", "MAKE", "PACKAGE_NAME", "kernelver", "parallel_jobs", "U"];
const OWN: &[&str] =
    &["RANDOM", "UID", "PWD", "IFS", "HOME", "_", "BASH_VERSION", "__i", "TERM", "PS4", "OPTIND"];

/// Characters that are special in some context, and some that are not.
const ODD: &str = "[-$`'\"\\\\{}()\\[\\]*?!@#%^&|;<>~=+:,./ \t\n\r\0aA01_é\u{7f}\u{1}]";

/// Values for later statements to operate on.
const VALUES: &[&str] = &[
    "",
    "A='a.b/c-a.b' B=2.0.10 U= PACKAGE_NAME=\n",
    "A=(a 'b  c' '' d.d) B=' x  y '\n",
    "A=$'a\\nb\\tc' B='a&b\\c'\nLIST=(x [3]=y)\n",
];

/// A file, mostly in the accepted syntax.
pub(super) fn file() -> BoxedStrategy<String> {
    (prop::sample::select(VALUES), prop::collection::vec(statement(), 1..6))
        .prop_map(|(values, statements)| values.to_owned() + &statements.concat())
        .boxed()
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
    let end = prop::sample::select(vec!["\n", "\n", "\n", ";", " # c; 'x\n", " ", " \\\n", "\\\n"]).boxed();
    let sign = prop_oneof![3 => Just("="), 1 => Just("+=")];
    let plain = (name(), index, sign.clone(), word(false), end.clone())
        .prop_map(|(name, index, sign, value, end)| format!("{name}{index}{sign}{value}{end}"));
    let array =
        (name(), sign, list, end).prop_map(|(name, sign, value, end)| format!("{name}{sign}{value}{end}"));
    // Most operations are applied to a value that is long enough.
    let long = prop::sample::select(vec!["kernelver", "kernel_source_dir", "dkms_tree", "A", "B"]);
    let worked =
        (name(), long, change(1)).prop_map(|(name, long, change)| format!("{name}=${{{long}{change}}}\n"));
    let ruled = prop::sample::select(vec![
        "MAKE_MATCH[0]",
        "MAKE_MATCH[2]",
        "PATCH_MATCH",
        "BUILD_EXCLUSIVE_KERNEL",
        "BUILD_EXCLUSIVE_ARCH",
    ]);
    let rule = (ruled, expression()).prop_map(|(name, text)| format!("{name}='{text}'\n"));
    let other =
        prop::sample::select(vec!["# comment\n", "\n", "echo x\n", "export A=1\n", "unset B\n", "B= A\n"]);
    prop_oneof![20 => plain, 8 => array, 12 => worked, 6 => rule, 1 => other.prop_map_into()].boxed()
}

fn item() -> BoxedStrategy<String> {
    let index = prop_oneof![12 => Just(""), 2 => Just("[2]="), 2 => Just("[0]="), 1 => Just("[1]+=")];
    let gap = prop_oneof![6 => Just(" "), 1 => Just("\n"), 1 => Just(" # c\n"), 1 => Just(" \\\n\t")];
    (index, word(true), gap).prop_map(|(index, word, gap)| format!("{index}{word}{gap}")).boxed()
}

fn word(in_list: bool) -> BoxedStrategy<String> {
    let bare = if in_list { "[-a-c0-2_.,:/%@^+=#é]{1,4}" } else { "[-a-c0-2_.,:/%@^+=#é!*?\\[\\]]{1,4}" };
    let piece = prop_oneof![
        50 => bare,
        1 => "[~{}]",
        24 => "'[a-c \\\\$\"\n*é;#~]{0,4}'",
        36 => prop::collection::vec(quoted_piece(), 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat())),
        12 => "\\\\[ a$'\"\\\\;#*~\\[\\](){}&|<>!=\n-]",
        12 => "\\$'[ab\"$ ]{0,2}(\\\\[nt'\"\\\\?])?'",
        96 => expansion(2),
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
    let which = prop_oneof![6 => Just(String::new()), 1 => "\\[[0-3@*]\\]"];
    let changed = (name(), which, change(depth - 1))
        .prop_map(|(name, which, change)| format!("${{{name}{which}{change}}}"));
    prop_oneof![3 => plain, 3 => changed].boxed()
}

/// The operation after the name in `${name…}`; `depth` more of them may be nested.
fn change(depth: u32) -> BoxedStrategy<String> {
    let part = prop_oneof![3 => "[-a-c0-2_./:,=+%@^# ]{0,3}", 1 => expansion(depth)];
    let inner = prop::collection::vec(part, 0..3).prop_map(|parts| parts.concat());
    let word = prop_oneof![1 => Just(String::new()), 3 => inner.clone().prop_map(|word| format!("/{word}"))];
    prop_oneof![
        20 => (":?[-+]", inner).prop_map(|(sign, word)| sign + &word),
        10 => "(:[0-9]|: -[0-9])(:[0-9])?",
        20 => ("[#%]{1,2}", pattern()).prop_map(|(sign, pattern)| sign + &pattern),
        20 => ("/[/#%]?", pattern(), word).prop_map(|(sign, pattern, word)| sign + &pattern + &word),
        5 => "(\\^\\^?|,,?)",
        1 => "[=?@:!][a-zQ0]?",
    ]
    .boxed()
}

fn pattern() -> BoxedStrategy<String> {
    let piece = prop_oneof![
        6 => "[-a-c./0126rtm]",
        3 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => "\\[[!^]?[-a-c0-2.]{1,3}\\]",
        2 => "\\[[!^]?([a-c]-[a-z]|[0-5]-[3-9])[.-]?\\]",
        1 => "\\\\[.*?\\[\\]/-]",
        1 => "[ :+_]",
    ];
    // Typical patterns cut at a character; if it occurs more than once, the position matters.
    let cut = ("[*?]?", "[-./rtm0126ab]|\\[!?[-.0-9]\\]", "\\*?")
        .prop_map(|(before, at, after)| before + &at + &after);
    prop_oneof![2 => cut, 1 => prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())].boxed()
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
