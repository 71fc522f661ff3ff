//! One verb a file. A step knows nothing of the other steps, and decides nothing.

pub mod boot_default;
pub mod build;
pub mod depmod;
pub mod initramfs;
pub mod load;
pub mod publish;
pub mod script;
pub mod sign;
pub mod verify;
pub mod weak_modules;
pub mod withdraw;
