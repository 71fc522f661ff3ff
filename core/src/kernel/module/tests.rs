//! Modules as bytes.

use super::*;

#[test]
fn what_is_no_module_says_so() {
    assert_eq!(Module::read(b"hello"), Err(Malformed::Magic));
    assert_eq!(Module::read(b""), Err(Malformed::Magic));
    let own = std::fs::read("/proc/self/exe").unwrap();
    assert!(Module::read(&own).unwrap_err().to_string().contains("not a kernel module"));
}
