//! Effects: the only place that runs processes, acquires locks, changes files, reads the environment and creates
//! namespaces. Nothing here knows what a module is.

pub mod cgroup;
pub mod confine;
pub mod environment;
pub mod file;
pub mod guest;
pub mod hash;
pub mod inside;
pub mod jobs;
pub mod lock;
pub mod memfd;
pub mod mounts;
pub mod number;
pub mod overlay;
pub mod parallel;
pub mod plain;
pub mod private;
pub mod root;
pub mod run;
pub mod signal;
pub mod time;
