//! What commands do to one module, one after another: a model of two versions for one kernel, and whether what many processes
//! did at once equals some order of it.

use std::collections::BTreeSet;
use std::fmt;

pub use dkms_core::event::Verb;

/// How far one version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not in the DKMS tree.
    Absent,
    /// Registered.
    Added,
    /// Built for the kernel.
    Built,
    /// Built and installed.
    Installed,
}

/// Both versions.
pub type State = [Stage; 2];

/// The commands that change one version.
pub const VERBS: [Verb; 6] =
    [Verb::Add, Verb::Build, Verb::Install, Verb::Uninstall, Verb::Unbuild, Verb::Remove];

/// What one process was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// What.
    pub verb: Verb,
    /// With which version, 0 or 1.
    pub version: usize,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}.0", self.verb, self.version + 1)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exit(i32),
    /// By SIGKILL: it did everything, nothing, or a part that leaves a state from which every command works.
    Killed,
}

impl Action {
    /// The state after the command, and its exit code.
    pub fn apply(self, state: State) -> (State, i32) {
        let (this, other) = (state[self.version], state[1 - self.version]);
        let with = |this: Stage| {
            let mut state = state;
            state[self.version] = this;
            state
        };
        match (self.verb, this) {
            (Verb::Add, Stage::Absent) => (with(Stage::Added), 0),
            (Verb::Uninstall | Verb::Unbuild | Verb::Remove, Stage::Absent) | (Verb::Add, _) => (state, 3),
            (Verb::Build, Stage::Absent | Stage::Added) => (with(Stage::Built), 0),
            (Verb::Install, _) => {
                let mut state = with(Stage::Installed);
                // A kernel has one version of a module.
                state[1 - self.version] = if other == Stage::Installed { Stage::Built } else { other };
                (state, 0)
            }
            (Verb::Uninstall, Stage::Installed) => (with(Stage::Built), 0),
            (Verb::Unbuild, Stage::Built | Stage::Installed) => (with(Stage::Added), 0),
            (Verb::Remove, _) => (with(Stage::Absent), 0),
            (Verb::Build | Verb::Uninstall | Verb::Unbuild, _) => (state, 0),
        }
    }

    /// The states that a process may leave that ended so.
    fn outcomes(self, state: State, end: End) -> Vec<State> {
        let (after, code) = self.apply(state);
        match end {
            End::Exit(exit) => {
                if exit == code {
                    vec![after]
                } else {
                    Vec::new()
                }
            }
            End::Killed => {
                let steps: &[Verb] = match self.verb {
                    Verb::Build => &[Verb::Add, Verb::Build],
                    Verb::Install => &[Verb::Add, Verb::Build, Verb::Install],
                    Verb::Unbuild => &[Verb::Uninstall, Verb::Unbuild],
                    Verb::Remove => &[Verb::Uninstall, Verb::Unbuild, Verb::Remove],
                    Verb::Add | Verb::Uninstall => std::slice::from_ref(&self.verb),
                };
                let mut states = vec![state];
                for verb in steps {
                    let step = Self { verb: *verb, ..self };
                    states.push(step.apply(*states.last().expect("the first")).0);
                }
                states
            }
        }
    }
}

/// Whether some order of these commands leads from one state to the other, with these ends.
pub fn is_serial(before: State, done: &[(Action, End)], after: State) -> bool {
    // For each set of commands, the states after any order of them.
    let mut reached: Vec<BTreeSet<State>> = vec![BTreeSet::new(); 1 << done.len()];
    reached[0].insert(before);
    for set in 0..reached.len() {
        for state in reached[set].clone() {
            for (number, (action, end)) in
                done.iter().enumerate().filter(|(number, _)| set >> number & 1 == 0)
            {
                reached[set | 1 << number].extend(action.outcomes(state, *end));
            }
        }
    }
    reached.last().is_some_and(|states| states.contains(&after))
}

#[cfg(test)]
mod tests {
    use super::Stage::{Absent, Added, Built, Installed};
    use super::*;

    const fn act(verb: Verb, version: usize) -> Action {
        Action { verb, version }
    }

    #[test]
    fn orders_that_exist_and_orders_that_do_not() {
        use End::{Exit, Killed};
        let (install, other, add) = (act(Verb::Install, 0), act(Verb::Install, 1), act(Verb::Add, 0));
        for (before, done, after, serial) in [
            ([Absent, Absent], vec![], [Absent, Absent], true),
            ([Absent, Absent], vec![], [Added, Absent], false),
            // Either version may win, not both, and not none.
            ([Absent, Absent], vec![(install, Exit(0)), (other, Exit(0))], [Installed, Built], true),
            ([Absent, Absent], vec![(install, Exit(0)), (other, Exit(0))], [Built, Installed], true),
            ([Absent, Absent], vec![(install, Exit(0)), (other, Exit(0))], [Installed, Installed], false),
            ([Absent, Absent], vec![(install, Exit(0)), (other, Exit(0))], [Built, Built], false),
            // One of two registers.
            ([Absent, Absent], vec![(add, Exit(0)), (add, Exit(3))], [Added, Absent], true),
            ([Absent, Absent], vec![(add, Exit(0)), (add, Exit(0))], [Added, Absent], false),
            // A killed one may have come as far as it likes, but another version is replaced only at its end.
            ([Absent, Installed], vec![(install, Killed)], [Built, Installed], true),
            ([Absent, Installed], vec![(install, Killed)], [Installed, Built], true),
            ([Absent, Installed], vec![(install, Killed)], [Built, Built], false),
        ] {
            assert_eq!(is_serial(before, &done, after), serial, "{before:?} {done:?} {after:?}");
        }
    }
}
