//! What distributions and admins decide, as data.

pub mod admin;
pub mod distro;
pub mod framework;
pub mod strength;

use crate::layout::Layout;

pub use admin::Admin;
pub use distro::Row;
pub use framework::Framework;
pub use strength::Strength;

/// Everything that decides without looking at the state.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The distribution's row.
    pub row: Row,
    /// framework.conf.
    pub framework: Framework,
    /// policy.toml.
    pub admin: Admin,
}

impl Policy {
    /// Reads the distribution and the admin's choices. `framework` has been read already: it says where the
    /// layout is.
    pub fn load(layout: &Layout, framework: Framework) -> Self {
        Self { row: Row::detect(layout), framework, admin: Admin::load(&layout.policy()) }
    }
}
