//! System calls that a build does not need, and that have been used to attack kernels.
//!
//! A deny list, because a build may run any program. Each is denied with an error that programs handle; none is killed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::sys::guest;

/// Denied with EPERM, with what each would reach.
const REFUSED: &[c_long] = &[
    // Other processes of the same user, and their memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Keys of the kernel.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Kernel subsystems with many vulnerabilities, which a compiler does not need.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    // Namespaces and mounts: a user namespace would return all capabilities that were dropped.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Allowed address families of sockets.
const FAMILIES: [u64; 3] = [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_NETLINK as u64];
/// The same for a command that may use the network. In the network namespace of the system, a local socket without a file
/// reaches the system's daemons.
const REMOTE: [u64; 3] = [libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64];

/// Inserts text into a terminal's input.
const TIOCSTI: u64 = 0x5412;
/// Pastes on a virtual console.
const TIOCLINUX: u64 = 0x541c;

/// The x32 system call table: the same numbers with this bit.
const X32: c_long = 0x4000_0000;
/// Numbers of x32-specific system calls: ptrace, kexec_load, process_vm_readv, process_vm_writev.
const X32_OWN: [c_long; 4] = [521, 528, 539, 540];

/// Newer than the C library's list. The number is the same on all architectures.
const FCHMODAT2: c_long = 452;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Installs the filter for this process and its children, which must not be able to gain privileges any more. On
/// architectures that the library does not support there is no filter. False if an emulator of another architecture's
/// programs (qemu-user) runs this process: it has no filters.
pub(super) fn refuse(network: bool) -> Result<bool> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(true) };
    match install_all(network, arch) {
        Err(error) if is_missing(&error) && guest::emulated().is_some() => Ok(false),
        other => other.map(|()| true),
    }
}

/// Whether the system call does not exist. On a kernel without it, no command is run.
fn is_missing(error: &anyhow::Error) -> bool {
    let missing = |error: &seccompiler::Error| matches!(error, seccompiler::Error::Seccomp(why) if why.raw_os_error() == Some(libc::ENOSYS));
    error.downcast_ref::<seccompiler::Error>().is_some_and(missing)
}

fn install_all(network: bool, arch: TargetArch) -> Result<()> {
    let mut refused: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    refused.insert(
        libc::SYS_clone,
        vec![rule(SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(libc::CLONE_NEWUSER as u64),
            libc::CLONE_NEWUSER as u64,
        ))?],
    );
    set_id(&mut refused)?;
    let request = |number| SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, number);
    refused.insert(libc::SYS_ioctl, vec![rule(request(TIOCSTI))?, rule(request(TIOCLINUX))?]);
    install(refused, libc::EPERM, arch)?;
    // Their flags and modes are in memory, which a filter cannot read. Programs then use clone and openat.
    let unreadable = [(libc::SYS_clone3, Vec::new()), (libc::SYS_openat2, Vec::new())];
    install(unreadable.into(), libc::ENOSYS, arch)?;
    let families = if network { REMOTE } else { FAMILIES };
    let other =
        families.map(|family| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family));
    let other = other.into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
    install([(libc::SYS_socket, vec![SeccompRule::new(other)?])].into(), libc::EAFNOSUPPORT, arch)
}

/// Set-user-id and set-group-id bits: without namespaces, another user could run such a file and become the build user, and
/// so reach the builds of other modules. With each call, the number of its argument with the mode.
fn set_id(refused: &mut Rules) -> Result<()> {
    let calls = [
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chmod, 1),
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (FCHMODAT2, 2),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, 2),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, 1),
        (libc::SYS_openat, 3),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, 1),
        (libc::SYS_mknodat, 2),
    ];
    for (call, argument) in calls {
        // The mode of open has no meaning unless a file is created; no program passes these bits then.
        let bit = |bit: u64| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit)
        };
        refused.insert(call, vec![rule(bit(0o4000))?, rule(bit(0o2000))?]);
    }
    Ok(())
}

fn rule(condition: std::result::Result<SeccompCondition, seccompiler::BackendError>) -> Result<SeccompRule> {
    Ok(SeccompRule::new(vec![condition?])?)
}

fn install(mut rules: Rules, errno: i32, arch: TargetArch) -> Result<()> {
    if cfg!(target_arch = "x86_64") {
        let twins: Rules = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twins);
        if errno == libc::EPERM {
            rules.extend(X32_OWN.map(|call| (call | X32, Vec::new())));
        }
    }
    let action = SeccompAction::Errno(errno as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program).context("installing the filter of system calls")
}
