//! Budgets of suites. Exceeding one causes a warning, never a failure: other machines may be slower.

use crate::order::Which;

/// Suite, and seconds of processor time for its tests in `make test` and in `make test-long`, without prepared layers.
const BUDGETS: &[(&str, u32, u32)] = &[
    ("arm64", 0, 3600),
    ("attacks", 80, 0),
    ("bad_conf", 60, 0),
    ("bad_moments", 60, 0),
    ("bad_names", 20, 0),
    ("boot", 50, 800),
    ("boot_default", 280, 150),
    ("borrowed", 180, 60),
    ("compat", 0, 10800),
    ("concurrency", 60, 2400),
    ("conf_corpus", 30, 0),
    ("counts", 60, 0),
    ("cross", 0, 60),
    ("dkms_conf", 60, 0),
    ("doctor", 120, 0),
    ("failure_policy", 140, 70),
    ("fleet", 0, 600),
    ("framework_conf", 50, 0),
    ("full_transaction", 0, 1200),
    ("headers_advice", 80, 110),
    ("hooks", 60, 0),
    ("hostile_builds", 150, 0),
    ("image_build", 120, 500),
    ("image_builders", 0, 300),
    ("immutable", 60, 0),
    ("interchange", 85, 85),
    ("kernel_change", 120, 90),
    ("kernel_install", 130, 60),
    ("kernel_verdicts", 200, 400),
    ("kill_storm", 40, 240),
    ("late_headers", 80, 0),
    ("migration", 60, 30),
    ("mkpackage", 230, 800),
    ("module_package", 100, 50),
    ("ordinary_user", 20, 0),
    ("package_files", 30, 0),
    ("package_reading", 110, 40),
    ("pacman", 240, 0),
    ("pacman_odd", 180, 30),
    ("pacman_preflight", 150, 0),
    ("powercut", 120, 4000),
    ("preflight", 210, 100),
    ("preflight_wall", 320, 60),
    ("release_upgrade", 0, 1100),
    ("reproducible", 60, 300),
    ("reuse", 60, 0),
    ("rolled_back", 40, 0),
    ("rpm_odd", 320, 330),
    ("rpm_preflight", 200, 200),
    ("rpm_transactions", 260, 380),
    ("same_verdicts", 530, 0),
    ("screens", 150, 60),
    ("secure_boot", 40, 600),
    ("signing", 20, 0),
    ("stock_debian", 20, 2700),
    ("store", 260, 350),
    ("systems", 110, 300),
    ("tarballs", 60, 0),
    ("ubuntu", 70, 0),
    ("unified", 75, 0),
    ("upcoming", 400, 540),
    ("would_not_load", 60, 0),
];

/// The budget of a suite.
pub fn of(suite: &str, which: Which) -> Option<u32> {
    let (_, everyday, long) = BUDGETS.iter().find(|(name, ..)| *name == suite)?;
    Some(if which == Which::Long { *long } else { *everyday })
}

#[cfg(test)]
mod tests {
    use super::BUDGETS;
    use dkms_tests::host;

    #[test]
    fn every_row_is_of_a_suite() {
        let names: Vec<&str> = BUDGETS.iter().map(|(name, ..)| *name).collect();
        let gone = |name: &&&str| !host::workspace().join(format!("tests/tests/{name}.rs")).exists();
        assert_eq!(names.iter().filter(gone).collect::<Vec<_>>(), [&""; 0]);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted, each suite once: {names:?}");
    }
}
