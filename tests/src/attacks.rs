//! Attacks on the sandbox, one row per attack. `tests/attacks.rs` runs each in a root, and SECURITY.md contains the
//! same table.

use std::fmt::Write as _;

/// The users that builds run as, as an extended regular expression.
pub const BUILD_USERS: &str = "6552[0-9]|6553[0-2]";

/// The place of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// In a dkms.conf that is evaluated; the value of `leak` is printed by its build.
    Conf,
    /// In the dkms.conf of a tarball that is loaded.
    Tarball,
    /// In a script that runs as part of a build.
    Build,
    /// By another user of the machine, while root installs a module.
    User,
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name, which is also that of its module.
    pub name: &'static str,
    /// Its place.
    pub via: Via,
    /// The attack as shell text. If it succeeds, it prints `REACHED` or creates a file whose path begins with
    /// `/canary`.
    pub does: &'static str,
    /// What it must not reach.
    pub guards: &'static str,
    /// A command that must succeed afterwards; if empty, only the canaries are checked.
    pub afterwards: &'static str,
}

const fn row(
    name: &'static str,
    via: Via,
    does: &'static str,
    guards: &'static str,
    afterwards: &'static str,
) -> Attack {
    Attack { name, via, does, guards, afterwards }
}

use Via::{Build, Conf, Tarball, User};

/// A registered source that another user owns, and changes after that.
macro_rules! owned_source {
    ($change:literal) => {
        concat!(
            "d=/opt/of-user; rm -rf $d /usr/src/ou-1; mkdir $d; cd $d; ",
            "printf 'PACKAGE_NAME=ou\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=ou\n",
            "DEST_MODULE_LOCATION=/updates\nAUTOINSTALL=yes\nMAKE=false\n' >dkms.conf; chown -R user $d; ",
            "ln -s $d /usr/src/ou-1; dkms add ou/1; ",
            $change,
            "; chown -hR user $d; timeout 30 dkms autoinstall --all; code=$?; ",
            "timeout 30 dkms remove ou/1 --all; [ $? -ne 124 ] || code=124; ",
            "rm -rf /usr/src/ou-1 /var/lib/dkms/ou $d; [ $code -ne 124 ]"
        )
    };
}

/// All attacks.
pub const ATTACKS: &[Attack] = &[
    // dkms.conf: evaluated by an unprivileged user, with any result.
    row("conf-exit-66", Conf, "id -u >/canary/conf-66; exit 66", "a second evaluation as root", ""),
    row("tarball-exit-66", Tarball, "id -u >/canary/tarball-66; exit 66", "a second evaluation as root", ""),
    row(
        "tarball-exit-125",
        Tarball,
        "id -u >/canary/tarball-125; exit 125",
        "an evaluation without the sandbox",
        "",
    ),
    row(
        "conf-every-exit-code",
        Conf,
        "n=$(( $(date +%N) % 256 )); id -u >/canary/conf-code; exit \"$n\"",
        "an exit code with a meaning of its own",
        "",
    ),
    row(
        "conf-kills-itself",
        Conf,
        "id -u >/canary/conf-kill; kill -KILL $$",
        "an evaluation without the sandbox",
        "",
    ),
    row(
        "conf-kills-process-1",
        Conf,
        "kill -KILL 1; kill -TERM 1; kill -KILL -1",
        "the process that confines it",
        "",
    ),
    row(
        "conf-imitates-the-end",
        Conf,
        "printf '=end\\0000\\0yes\\0' >&4; printf '=end\\0000\\0yes\\0' >/proc/1/fd/0; exec 4>&-",
        "the verdict on its evaluation",
        "",
    ),
    row(
        "conf-writes-the-verdict",
        Conf,
        "for fd in /proc/1/fd/* /proc/$PPID/fd/*; do echo '{\"Ended\":0}' >\"$fd\" && leak=REACHED; done",
        "the file that carries the verdict",
        "",
    ),
    row(
        "conf-trap-exit",
        Conf,
        "trap 'id -u >/canary/trap; exit 66' EXIT ERR DEBUG",
        "what the shell does at its end",
        "",
    ),
    row("conf-exec", Conf, "exec sh -c 'id -u >/canary/exec; exit 66'", "a shell of its own", ""),
    row(
        "conf-redefines-builtins",
        Conf,
        "printf() { id -u >/canary/printf; }; builtin() { :; }; eval() { :; }; command_not_found_handle() { id -u >/canary/cnf; }; readonly IFS __names",
        "the words of the driver",
        "",
    ),
    row(
        "conf-bash-env",
        Conf,
        "export BASH_ENV=/canary/x ENV=/canary/x PROMPT_COMMAND='id -u >/canary/p'",
        "later shells",
        "",
    ),
    row(
        "conf-background",
        Conf,
        "(setsid sh -c 'while :; do echo x >&4; id -u >/canary/late; sleep 0.1; done' &)",
        "a process that outlives its evaluation",
        "",
    ),
    row("conf-closes-everything", Conf, "exec 0>&- 1>&- 2>&- 3>&- 4>&-", "a hang or a crash", ""),
    row(
        "conf-huge-output",
        Conf,
        "MAKE_MATCH=$(head -c 100000000 /dev/zero | tr '\\0' a)",
        "root's memory",
        "",
    ),
    row("conf-many-values", Conf, "for ((i = 0; i < 400000; i++)); do PATCH[i]=x; done", "root's memory", ""),
    row("conf-fork-bomb", Conf, ":() { : | : & }; :; sleep 5", "the machine's processes", ""),
    row("conf-loop", Conf, "while :; do :; done", "the time of a transaction", ""),
    row("conf-reads-shadow", Conf, "leak=$(grep -c root /etc/shadow && echo REACHED)", "password hashes", ""),
    row("conf-reads-home", Conf, "leak=$(cat /home/*/secret /root/secret)", "homes", ""),
    row(
        "conf-writes",
        Conf,
        "echo x >/canary-open/conf; echo x >/etc/canary",
        "files that anyone may write",
        "",
    ),
    row("conf-odd-name", Tarball, "PACKAGE_NAME='a;id -u>/canary/name'", "a shell, through a name", ""),
    // Builds.
    row("build-is-root", Build, "[ $(id -u) = 0 ] && echo REACHED", "root", ""),
    row(
        "build-setuid",
        Build,
        "cp /bin/sh s && chmod 4755 s; ./s -c true; su -c 'echo REACHED'; sudo -n echo REACHED",
        "root",
        "",
    ),
    row(
        "build-set-id-bits",
        Build,
        "cp /bin/true s; chmod 4755 s; chmod 2755 s; install -m 6755 /bin/true t; mkdir -m 2777 g; \
         perl -e 'syscall(437, -100, \"o\", pack(\"QQQ\", 0101, 06755, 0), 24)'; \
         [ -u o ] || [ -g o ] || [ -u s ] || [ -g s ] || [ -u t ] || [ -g t ] || [ -g g ] && echo REACHED",
        "the build user, by another user",
        "",
    ),
    row("build-exit-125", Build, "touch ran; exit 125", "a second run without the sandbox", ""),
    row(
        "build-writes-system",
        Build,
        "for d in / /usr /etc /lib/modules /usr/src /boot; do echo x >$d/canary-x; done",
        "the system",
        "",
    ),
    row("build-writes-open", Build, "echo x >/canary-open/build", "directories that anyone may write", ""),
    row(
        "build-writes-tmp",
        Build,
        "echo x >/tmp/canary-tmp; echo x >/var/tmp/canary-tmp; echo x >/dev/shm/canary-shm",
        "the machine's temporary directories",
        "! ls /tmp/canary-tmp /var/tmp/canary-tmp /dev/shm/canary-shm 2>/dev/null",
    ),
    row(
        "build-odd-mount",
        Build,
        "echo x >/srv/odd*/canary-mount && echo REACHED",
        "a mount point whose name is not UTF-8",
        "[ ! -e /srv/odd*/canary-mount ]",
    ),
    row(
        "build-blank-mount",
        Build,
        "echo x >'/srv/with blank'/canary-mount && echo REACHED",
        "a mount point with a blank",
        "",
    ),
    row(
        "build-remounts",
        Build,
        "mount -o remount,rw / && echo REACHED; mount -t tmpfs x /tmp && echo REACHED",
        "mounts",
        "",
    ),
    row("build-user-namespace", Build, "unshare -Ur echo REACHED", "capabilities", ""),
    row(
        "build-capabilities",
        Build,
        "grep -q 'CapBnd:.*[1-9a-f]' /proc/self/status && echo REACHED",
        "capabilities",
        "",
    ),
    row(
        "build-privileges",
        Build,
        "grep -q 'NoNewPrivs:.*0' /proc/self/status && echo REACHED",
        "set-user-id programs",
        "",
    ),
    row(
        "build-no-filter",
        Build,
        "grep -q 'Seccomp:.*2' /proc/self/status || echo REACHED",
        "system calls",
        "",
    ),
    row(
        "build-network",
        Build,
        "[ $(ls /sys/class/net /proc/net/dev_snmp6 2>/dev/null | grep -cv 'lo\\|^$\\|:') = 0 ] || (exec 3<>/dev/tcp/127.0.0.1/9 && echo REACHED)",
        "the network",
        "",
    ),
    row(
        "build-raw-socket",
        Build,
        "perl -e 'use Socket; socket(my $s, 17, 3, 0) and print \"REACHED\"; socket($s, 40, 1, 0) and print \"REACHED\"'",
        "packet and vsock sockets",
        "",
    ),
    row(
        "build-keyring",
        Build,
        "perl -e 'syscall(250, 6, -3, 0, 0, 0) >= 0 and print \"REACHED\"'; [ -s /proc/keys ] && echo REACHED",
        "keyrings",
        "",
    ),
    row(
        "build-bpf",
        Build,
        "perl -e 'for (321, 323, 425, 298) { my $r = syscall($_, 0, 0, 0, 0, 0); print \"REACHED $_\" if $r >= 0 || $! != 1 }'",
        "bpf, userfaultfd, io_uring, perf",
        "",
    ),
    row(
        "build-ptrace",
        Build,
        "sleep 9 & perl -e 'syscall(101, 16, $ARGV[0], 0, 0) >= 0 and print \"REACHED\"' $!",
        "other processes",
        "",
    ),
    row(
        "build-sees-processes",
        Build,
        "ps ax -o args= | grep -q '[d]kms autoinstall' && echo REACHED",
        "other processes",
        "",
    ),
    row("build-signals", Build, "kill -KILL -1; kill -KILL 1; kill -STOP 1; :", "other processes", ""),
    row(
        "build-terminal",
        Build,
        "echo REACHED >/dev/tty; ls /dev/pts/0 /dev/tty1 && echo REACHED",
        "a terminal",
        "",
    ),
    row(
        "build-devices",
        Build,
        "ls /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/loop-control 2>/dev/null && echo REACHED; mknod d b 8 0 && echo REACHED",
        "disks and kernel memory",
        "",
    ),
    row(
        "build-reads-key",
        Build,
        "cat /var/lib/dkms/mok.key && echo REACHED | grep -q x; head -c 20 /var/lib/dkms/mok.key | grep -q . && echo REACHED",
        "the signing key",
        "",
    ),
    row("build-reads-home", Build, "cat /root/secret /home/user/secret", "homes", ""),
    row(
        "build-reads-ssh",
        Build,
        "ls /etc/ssh | grep -q . && echo REACHED; grep root /etc/shadow && echo REACHED",
        "keys and password hashes",
        "",
    ),
    row("build-run", Build, "ls /run | grep -q . && echo REACHED", "the sockets of daemons", ""),
    row(
        "build-descriptors",
        Build,
        "for fd in /proc/self/fd/*; do case ${fd##*/} in [012]|255) ;; *) [ -e $fd ] && readlink $fd | grep -v '/proc\\|build-descriptors\\|before.sh' | sed 's/^/REACHED /' ;; esac; done",
        "open files of our caller",
        "",
    ),
    row(
        "build-daemon",
        Build,
        "(trap '' HUP TERM; setsid sh -c 'sleep 600' &) >/dev/null 2>&1 </dev/null",
        "a process that outlives its build",
        "",
    ),
    row(
        "build-fork-bomb",
        Build,
        "timeout -s KILL 5 bash -c 'f() { f | f & }; f; sleep 4'",
        "the machine's processes",
        "",
    ),
    row("build-huge-file", Build, "truncate -s 5G big && echo REACHED; rm -f big", "the disk", ""),
    row("build-core", Build, "ulimit -c unlimited && echo REACHED", "core files", ""),
    row(
        "build-deep-tree",
        Build,
        "perl -e 'for (1..3000) { mkdir \"d\" or last; chdir \"d\" or last }'",
        "our own stack, when we delete it",
        "[ -z \"$(ls -A /var/lib/dkms/.dkms-rs/work)\" ]",
    ),
    row(
        "build-links-out",
        Build,
        "rm -f ../source; ln -sfn /canary ../6.1; ln -sfn /etc/shadow leak; ln -s /canary log",
        "files, through links that we follow",
        "",
    ),
    row("build-fifo-module", Build, "mkfifo Module.symvers", "a hang, when we read what it left", ""),
    row(
        "build-terminal-words",
        Build,
        "printf '\\033]0;owned\\007\\033[2J\\302\\233 31m error: \\033]52;c;eA==\\007\\n'; exit 1",
        "the terminal of whoever reads the summary",
        "",
    ),
    row(
        "build-other-build",
        Build,
        "ls /var/lib/dkms/.dkms-rs/work/* | grep -q . && echo REACHED",
        "other builds",
        "",
    ),
    row(
        "build-abuses-jobserver",
        Build,
        "for f in /var/lib/dkms/.dkms-rs/.dkms-tmp-*-jobs*; do timeout 1 head -c 99999 $f >/dev/null; timeout 1 head -c 4000 /dev/zero >$f; done; :",
        "the jobs of other builds",
        "",
    ),
    // Other users.
    row(
        "user-holds-lock",
        User,
        "exec 9</var/lib/dkms/.dkms-rs/lock && flock -n 9 && sleep 30",
        "the lock",
        "",
    ),
    row(
        "user-reads-work",
        User,
        "for i in 1 2 3 4 5 6 7 8 9; do ls /var/lib/dkms/.dkms-rs/work/*/view && echo x >/canary-open/reached; sleep 0.2; done",
        "builds",
        "[ ! -e /canary-open/reached ]",
    ),
    row(
        "source-conf-fifo",
        User,
        "true",
        "the time of a transaction",
        owned_source!("rm dkms.conf; mkfifo dkms.conf"),
    ),
    row("source-conf-device", User, "true", "root's memory", owned_source!("ln -sf /dev/zero dkms.conf")),
    row(
        "source-conf-kernel-log",
        User,
        "true",
        "the time of a transaction",
        owned_source!("ln -sf /proc/kmsg dkms.conf"),
    ),
    row("source-fifo", User, "true", "the time of a transaction", owned_source!("mkfifo fifo")),
    row("source-large", User, "true", "root's memory, the disk", owned_source!("truncate -s 8T large")),
    row(
        "source-deep",
        User,
        "true",
        "the time of a transaction",
        owned_source!("perl -e 'for (1..9000) { mkdir \"d\"; chdir \"d\" }'"),
    ),
];

/// The table in SECURITY.md.
pub fn table() -> String {
    let mut text = String::from("| attack | through | must not reach |\n|---|---|---|\n");
    for Attack { name, via, guards, .. } in ATTACKS {
        let via = match via {
            Conf => "dkms.conf",
            Tarball => "a tarball",
            Build => "a build",
            User => "another user",
        };
        let _ = writeln!(text, "| `{name}` | {via} | {guards} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_every_attack() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../SECURITY.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&table()), "SECURITY.md lacks this table:\n{}", table());
    }

    #[test]
    fn names_are_unique_and_no_two_tests_are_one() {
        let mut names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTACKS.len());
    }
}
