//! What is understood, with the result, and what is left to bash. Every row is also evaluated by bash.

use super::both::{disagreement, native};

/// A text, and the value of `A`: its elements separated by `|`.
const UNDERSTOOD: &[(&str, &str)] = &[
    // Assignments, and their ends.
    ("A=1", "1"),
    ("A=", ""),
    ("  A=1 # comment", "1"),
    ("A=1#2", "1#2"),
    ("A=1;B=2; A=3", "3"),
    ("A=1 B=$A A=$B$B", "11"),
    ("# A=1\n\n\t\nA=2\n# A=3", "2"),
    ("A=1\\\n2 \\\nB=3", "12"),
    ("A=x=y", "x=y"),
    ("A=a+b:c/*.[ch]?", "a+b:c/*.[ch]?"),
    ("A=1;A+=2", "12"),
    ("A=é", "é"),
    // Quotes.
    ("A='a \"$B\" \\ b'", "a \"$B\" \\ b"),
    ("A='a\nb'", "a\nb"),
    ("A=\"a 'b' # c\"", "a 'b' # c"),
    ("A=\"\\$B \\\" \\\\ \\` \\n\"", "$B \" \\ ` \\n"),
    ("A=\"a\\\nb\"", "ab"),
    ("A=\"^6\\.1$\"", "^6\\.1$"),
    ("A=\"($|-)\"", "($|-)"),
    ("A=$'a\\tb\\'c'", "a\tb'c"),
    ("A=a\\ b\\;\\$c", "a b;$c"),
    ("A=a'b'\"c\"\\d", "abcd"),
    ("A=\"'make' all\"", "'make' all"),
    // Variables that are given, assigned, or unset.
    (
        "A=\"-C ${kernel_source_dir} K=$kernelver\"",
        "-C /lib/modules/6.12.1-rt5+deb13-amd64/build K=6.12.1-rt5+deb13-amd64",
    ),
    ("A=$B", ""),
    ("A=$kernelver.x", "6.12.1-rt5+deb13-amd64.x"),
    ("kernelver=7; A=$kernelver", "7"),
    ("B=1; A=$B[0]", "1[0]"),
    // Arrays: gaps, appending, element 0.
    ("A[2]=c;A[0]=a", "a|c"),
    ("A=(a b);A=c", "c|b"),
    ("A=a;A+=(b)", "a|b"),
    ("A[3]=x;A+=(b)", "x|b"),
    ("A=(a b);A[1]+=c;A+=d", "ad|bc"),
    ("A=(a [5]=b c # d\n e)", "a|b|c|e"),
    ("A=(a b);A=(\"${A[@]}\" c)", "a|b|c"),
    ("A=(a b);A=(${A[1]})", "b"),
    ("B=(a b);A=\"${B[@]}-${B[*]}-${#B[@]}-$B\"", "a b-a b-2-a"),
    ("B=(x y);A[${#B[@]}]=1;B=1;A[$B]=2", "2|1"),
    // Words of a list are split at white space unless they are quoted.
    ("B=' a  b ';A=(x$B\"$B\"y)", "x|a|b| a  b y"),
    ("A=($B \"$B\" '')", "|"),
    ("A=()", ""),
    // Expansions.
    ("B=;A=${B:-x}${B-y}${C-z}", "xz"),
    ("B=b;A=${B:+x$B}${B+y}${C+z}", "xby"),
    ("A=\"make ${parallel_jobs+-j$parallel_jobs} all\"", "make  all"),
    ("B=abc;A=${#B}${B:1}${B:0:2}${B: -1}${B:5}${B: -5}${B: -0:1}", "3bcabca"),
    ("B=a.b.c;A=${B%.*}-${B%%.*}-${B#*.}-${B##*.}", "a.b-a-b.c-c"),
    ("A=${kernelver%%[!0-9.]*}", "6.12.1"),
    ("A=${kernel_source_dir/%build/source}", "/lib/modules/6.12.1-rt5+deb13-amd64/source"),
    ("B=a.b.c;A=${B/./_}-${B//./_}-${B/#a/x}-${B//[a-b]}", "a_b.c-a_b_c-x.b.c-..c"),
    ("B=aBc;A=${B^}${B^^}${B,,}", "ABcABCabc"),
];

/// A text, and why it needs bash.
const LEFT: &[(&str, &str)] = &[
    ("echo", "a command"),
    ("A=1 make", "a command"),
    ("export A=1", "a command"),
    ("A = 1", "a command"),
    ("if true; then A=1; fi", "a command"),
    ("[[ $kernelver ]] && A=1", "a command"),
    ("A=$(uname -r)", "a special parameter or substitution"),
    ("A=`uname -r`", "a command substitution"),
    ("A=\"`uname -r`\"", "a command substitution"),
    ("A=$((1+1))", "a special parameter or substitution"),
    ("A[1+1]=x", "arithmetic"),
    ("A[08]=x", "arithmetic"),
    ("A[-1]=x", "arithmetic"),
    ("A[$B]=x", "arithmetic"),
    ("A=1&", "an operator"),
    ("A=1 | B=2", "a command"),
    ("A=1;;", "a command"),
    ("B=1;A=$B\\\nC", "a name that may go on in the next line"),
    ("A=()\\\nB=1", "something right after a word"),
    ("A=(a)b", "something right after a word"),
    ("A=(a;b)", "an operator"),
    ("A=(*.ko)", "a file name pattern"),
    ("B='*';A=($B)", "a file name pattern"),
    ("A=({a,b})", "braces"),
    ("A=~/x", "a tilde"),
    ("A=$RANDOM", "a variable of the shell"),
    ("IFS=:", "a variable of the shell"),
    ("PATH=/x", "a variable of the shell"),
    ("A=$1", "a special parameter or substitution"),
    ("A=${!B}", "a special parameter"),
    ("A=${B@Q}", "an unknown expansion"),
    ("A=${B:=x}", "arithmetic"),
    ("A=${B%\"x\"}", "a pattern that is not plain"),
    ("B=a;A=${B/a/&}", "an unknown character inside of an expansion"),
    ("B=a;C='&';A=${B/a/$C}", "a special character in a replacement"),
    ("B=é;A=${#B}", "a change of text that is not ASCII"),
    ("A='open", "an open end"),
    ("A=\"open", "an open end"),
    ("A=${B", "an open end"),
    ("A=(open", "an open end"),
    ("A=1\r\n", "a control character"),
    ("A=\0", "a control character"),
    ("BUILD_EXCLUSIVE_KERNEL='^6{1}'", "a regular expression"),
    ("BUILD_EXCLUSIVE_KERNEL='\\<6'", "an escape in a regular expression"),
];

/// A regular expression for kernels, and whether `6.12.1-rt5+deb13-amd64` matches it.
const EXPRESSIONS: &[(&str, bool)] = &[
    ("^6", true),
    ("^(5\\.[4-9]|[6-9]\\.)", true),
    ("^(2\\.6\\.(2[4-9]|3)|[3-5])", false),
    ("-rt[0-9]+\\+", true),
    ("amd64$", true),
    ("^amd64", false),
    ("6.?1*2", true),
    ("[^a-z0-9.+-]", false),
    ("[.]12[.]", true),
    ("REQUIRES CONFIG_X", false),
];

#[test]
fn what_is_understood_gives_these_values() {
    for (text, expected) in UNDERSTOOD {
        let raw = native(text).unwrap_or_else(|why| panic!("{text}: left to bash: {}", why.0));
        let values: Vec<&str> = raw.all("A").map(|(_, value)| value).collect();
        assert_eq!(values.join("|"), *expected, "{text}");
    }
}

#[test]
fn what_is_not_certain_is_left_to_bash() {
    for (text, expected) in LEFT {
        let why = native(text).err().unwrap_or_else(|| panic!("{text}: understood"));
        assert_eq!(why.0, *expected, "{text}");
    }
}

#[test]
fn regular_expressions_decide_about_kernels() {
    for (expression, expected) in EXPRESSIONS {
        let text = format!("BUILD_EXCLUSIVE_KERNEL='{expression}'; PATCH_MATCH[3]='{expression}'");
        let raw = native(&text).unwrap_or_else(|why| panic!("{text}: left to bash: {}", why.0));
        assert_eq!(raw.kernel_matches, *expected, "{text}");
        assert_eq!(raw.patch_matches == [3], *expected, "{text}");
    }
}

#[test]
fn bash_says_the_same_about_every_row() {
    let rows = UNDERSTOOD.iter().map(|(text, _)| (*text).to_owned());
    let expressions = EXPRESSIONS.iter().map(|(text, _)| format!("BUILD_EXCLUSIVE_KERNEL='{text}'"));
    if let Some(difference) = disagreement(&rows.chain(expressions).collect::<Vec<_>>()) {
        panic!("{difference}");
    }
}

#[test]
fn work_and_nesting_have_bounds() {
    let doubling = "A=aaaaaaaaaaaaaaaa\n".to_owned() + &"A=$A$A\n".repeat(64);
    let nested = format!("A={}x{}", "${B:-".repeat(10_000), "}".repeat(10_000));
    let greedy = format!("A={}; B=${{A//*a*a*a*a*b}}", "a".repeat(3000));
    let regex = format!("BUILD_EXCLUSIVE_KERNEL='{}'", "(".repeat(100));
    for (text, expected) in [
        (doubling, "too much work"),
        (nested, "deep nesting"),
        (greedy, "too much work"),
        (regex, "a regular expression"),
        ("#".repeat(100_000), "a large file"),
    ] {
        assert_eq!(native(&text).unwrap_err().0, expected);
    }
}
