//! One verb per file. A step is independent of the other steps, and makes no decisions.

pub mod boot_default;
pub mod build;
pub mod depmod;
pub mod initramfs;
pub mod load;
pub mod on_failure;
pub mod publish;
pub mod script;
pub mod sign;
pub mod verify;
pub mod weak_modules;
pub mod withdraw;
