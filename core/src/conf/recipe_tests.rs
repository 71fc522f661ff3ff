//! Tables of dkms.conf files and their recipes.

use super::recipe::{Recipe, make_command, patches};
use super::{Context, RawConf};
use crate::kernel::Config;
use crate::layout::Layout;
use crate::types::Target;

fn recipe(pairs: &[(&str, usize, &str)]) -> Result<Recipe, Vec<String>> {
    let mut raw = RawConf { kernel_matches: true, arch_matches: true, ..RawConf::default() };
    for (name, index, value) in pairs {
        raw.values.entry((*name).into()).or_default().insert(*index, (*value).into());
    }
    let layout = Layout::default();
    let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
    let module = "a/1".parse().unwrap();
    let headers = layout.headers(&target.kernel);
    let context = Context {
        layout: &layout,
        module: &module,
        target: &target,
        headers: &headers,
        identity: "",
        destination: None,
        overrides: &[],
        directives: &[],
        environment: &[],
    };
    Recipe::from_raw(&raw, &context, None)
}

const BASE: [(&str, usize, &str); 3] =
    [("PACKAGE_NAME", 0, "a"), ("PACKAGE_VERSION", 0, "1"), ("DEST_MODULE_LOCATION", 0, "/extra")];

fn with<'a>(extra: &[(&'a str, usize, &'a str)]) -> Vec<(&'a str, usize, &'a str)> {
    BASE.iter().chain(extra).copied().collect()
}

#[test]
fn the_package_name_stands_in_for_a_single_module() {
    let recipe = recipe(&BASE).unwrap();
    assert_eq!(recipe.modules[0].built, "a");
    assert_eq!(recipe.make, "make -C /lib/modules/6.1/build M=/var/lib/dkms/a/1/build");
    assert!(recipe.modules[0].strip && !recipe.autoinstall);
}

#[test]
fn a_command_on_many_lines_is_one_command() {
    let recipe = recipe(&with(&[("PRE_BUILD", 0, "configure\n  --prefix=/usr\n\t--with-config=kernel\n")]));
    assert_eq!(recipe.unwrap().scripts.pre_build, "configure --prefix=/usr --with-config=kernel");
}

#[test]
fn an_empty_conf_names_all_that_is_missing() {
    assert_eq!(recipe(&[]).unwrap_err(), ["PACKAGE_NAME is not set", "PACKAGE_VERSION is not set"]);
}

#[test]
fn bad_values_are_named_with_their_index() {
    for (extra, expected) in [
        (("BUILT_MODULE_NAME", 0, "a.ko"), "must not end in .o or .ko"),
        (("BUILT_MODULE_NAME", 0, "../a"), "slash"),
        (("BUILT_MODULE_LOCATION", 0, "../../etc"), "points outside the build directory"),
        (("BUILT_MODULE_NAME", 2, "c"), "BUILT_MODULE_NAME[1] is not set"),
        (("DEST_MODULE_LOCATION", 0, "/etc"), "must begin with /kernel"),
        (("DEST_MODULE_LOCATION", 0, "/updates/../../etc"), "points outside the kernel's module directory"),
        (("BUILT_MODULE_LOCATION", 0, "/lib/"), "points outside the build directory"),
        (("NO_WEAK_MODULES", 0, "1"), "must be yes or no"),
        (("AUTOINSTALL", 0, "maybe"), "must be yes or no"),
        (("BUILD_DEPENDS", 0, "x/y"), "slash"),
        (("BUILD_DEPENDS", 0, "$(id)"), "character other than"),
        (("BUILT_MODULE_NAME", 0, "a'b"), "character other than"),
        (("DEST_MODULE_NAME", 0, "a;b"), "character other than"),
        (("DEST_MODULE_NAME", 0, "-a"), "dash"),
        (("BUILT_MODULE_LOCATION", 0, "a b"), "character other than"),
        (("BUILT_MODULE_LOCATION", 0, "$(id)"), "character other than"),
        (("DEST_MODULE_LOCATION", 0, "/extra/a'b"), "character other than"),
        (("DEST_MODULE_LOCATION", 0, "/extra/a\u{1b}b"), "character other than"),
    ] {
        let problems = recipe(&with(&[extra])).unwrap_err().join("; ");
        assert!(problems.contains(expected), "{extra:?}: {problems}");
    }
}

#[test]
fn a_module_is_built_in_the_build_directory_or_in_the_source_beside_it() {
    for (location, expected) in [
        ("", "a"),
        ("src/", "src/a"),
        ("./src/../lib", "lib/a"),
        ("../build/src", "src/a"),
        ("../source", "../source/a"),
        ("../source/src/", "../source/src/a"),
        ("sub/../../source/.", "../source/a"),
    ] {
        let module = [("BUILT_MODULE_NAME", 0, "a"), ("BUILT_MODULE_LOCATION", 0, location)];
        let recipe = recipe(&with(&module)).unwrap();
        assert_eq!(recipe.modules[0].built, expected, "{location}");
        assert_eq!(recipe.builds_in_source(), expected.starts_with(".."), "{location}");
        let stored = serde_json::to_string(&recipe.modules).unwrap();
        let read: Vec<super::ModuleSpec> = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, recipe.modules, "{location}");
    }
    for location in ["..", "../sources", "../buildx", "../source/../../etc", "../6.1", "/source"] {
        let problems = recipe(&with(&[("BUILT_MODULE_LOCATION", 0, location)])).unwrap_err().join("; ");
        assert!(problems.contains("points outside the build directory"), "{location}: {problems}");
    }
}

#[test]
fn a_destination_may_go_up_and_down_inside() {
    let recipe = recipe(&with(&[("DEST_MODULE_LOCATION", 0, "/kernel/../misc/")])).unwrap();
    assert_eq!(recipe.modules[0].dest_location, "/misc");
}

#[test]
fn strip_of_the_first_module_is_the_default_of_the_others() {
    let recipe = recipe(&with(&[
        ("BUILT_MODULE_NAME", 0, "a"),
        ("BUILT_MODULE_NAME", 1, "b"),
        ("DEST_MODULE_LOCATION", 1, "/extra"),
        ("BUILT_MODULE_NAME", 2, "c"),
        ("DEST_MODULE_LOCATION", 2, "/extra"),
        ("STRIP", 0, "no"),
        ("STRIP", 2, "yes"),
    ]))
    .unwrap();
    assert_eq!(recipe.modules.iter().map(|module| module.strip).collect::<Vec<_>>(), [false, false, true]);
}

#[test]
fn modules_that_are_not_for_this_kernel_are_left_out() {
    let family = [
        ("BUILT_MODULE_NAME", 0, "a"),
        ("BUILT_MODULE_NAME", 1, "b"),
        ("DEST_MODULE_LOCATION", 1, "/extra"),
        ("BUILT_MODULE_NAME", 2, "c"),
        ("DEST_MODULE_LOCATION", 2, "/extra"),
    ];
    let built = |rules: &[(&'static str, usize, &'static str)]| {
        let all: Vec<_> = family.iter().chain(rules).copied().collect();
        let recipe = recipe(&with(&all)).unwrap();
        let names: Vec<_> = recipe.modules.iter().map(|module| module.built.clone()).collect();
        (names.join(""), recipe.left_out.len(), recipe.excluded.is_some())
    };
    let min = "BUILD_EXCLUSIVE_KERNEL_MIN";
    assert_eq!(built(&[]), ("abc".into(), 0, false));
    assert_eq!(built(&[(min, 1, "7")]), ("ac".into(), 1, false));
    assert_eq!(built(&[(min, 1, "7"), (min, 2, "8")]), ("a".into(), 2, false));
    // A rule at index 0 applies to all modules; then nothing is built, and no module is listed as excluded.
    assert_eq!(built(&[(min, 0, "7")]), ("abc".into(), 0, true));
    assert_eq!(built(&[(min, 0, "6"), (min, 1, "7")]), ("ac".into(), 1, false));
}

#[test]
fn the_last_matching_make_wins() {
    let make = |matches: &[usize], pairs: &[(&str, usize, &str)]| {
        let mut raw = RawConf { kernel_matches: true, arch_matches: true, ..RawConf::default() };
        for (name, index, value) in pairs {
            raw.values.entry((*name).into()).or_default().insert(*index, (*value).into());
        }
        raw.make_matches = matches.to_vec();
        let layout = Layout::default();
        let target = Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() };
        let (module, headers) = ("a/1".parse().unwrap(), layout.headers(&target.kernel));
        let (module, headers) = (&module, headers.as_path());
        let context = Context {
            layout: &layout,
            module,
            target: &target,
            headers,
            identity: "",
            destination: None,
            overrides: &[],
            directives: &[],
            environment: &[],
        };
        let clang = Config::new(b"CONFIG_CC_IS_CLANG=y\n");
        [None, Some(&clang)].map(|config| make_command(&raw, &context, config))
    };
    let generic = "make -C /lib/modules/6.1/build M=/var/lib/dkms/a/1/build";
    let (a, b, c) = (("MAKE", 0, "make a"), ("MAKE", 1, "'make' b"), ("MAKE", 7, "make c"));
    for (matches, pairs, expected) in [
        (&[][..], vec![], generic),
        (&[], vec![a, b, c], "make a"),
        (&[1], vec![a, b, c, ("MAKE_MATCH", 1, "6")], "'make' b"),
        (&[1, 7], vec![a, b, c], "make c"),
        // A pattern for the first command: without a match it is not the default.
        (&[], vec![a, ("MAKE_MATCH", 0, "5")], generic),
        (&[0], vec![a, ("MAKE_MATCH", 0, "6")], "make a"),
        // A pattern without a command.
        (&[3], vec![a], "make a"),
    ] {
        assert_eq!(make(matches, &pairs), [expected.to_owned(), format!("{expected} LLVM=1")], "{pairs:?}");
    }
}

#[test]
fn patches_are_chosen_by_their_patterns() {
    let mut raw = RawConf { patch_matches: vec![4], ..RawConf::default() };
    for (name, index, value) in [
        ("PATCH", 0, "always"),
        ("PATCH", 2, "never"),
        ("PATCH", 4, "now"),
        ("PATCH", 5, ""),
        ("PATCH_MATCH", 2, "^5"),
        ("PATCH_MATCH", 4, "^6"),
    ] {
        raw.values.entry(name.into()).or_default().insert(index, value.into());
    }
    assert_eq!(patches(&raw), ["always", "now"]);
}

#[test]
fn a_module_that_was_written_down_is_checked_again() {
    let read = |built: &str, name: &str, location: &str| {
        let text =
            serde_json::json!({"built": built, "dest_name": name, "dest_location": location, "strip": true});
        serde_json::from_value::<super::ModuleSpec>(text).is_ok()
    };
    for (built, name, location) in
        [("a", "a", "/extra"), ("src/sub/a", "b", "/kernel/drivers/net"), ("a", "a", "/")]
    {
        assert!(read(built, name, location), "{built} {name} {location}");
    }
    for (built, name, location) in [
        ("/a", "a", "/extra"),
        ("../a", "a", "/extra"),
        ("a/../../b", "a", "/extra"),
        ("", "a", "/extra"),
        ("a'b", "a", "/extra"),
        ("a", "../a", "/extra"),
        ("a", "", "/extra"),
        ("a", "a", "extra"),
        ("a", "a", "/extra/../../../etc"),
        ("a", "a", "/extra/"),
        ("a", "a", "/ex tra"),
        ("a", "a", ""),
    ] {
        assert!(!read(built, name, location), "{built} {name} {location}");
    }
}
