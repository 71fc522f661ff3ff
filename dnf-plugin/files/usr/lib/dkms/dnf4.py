# dkms-rs plugin for dnf4. Before the transaction, it compiles modules for the packages that are about to be installed.
# After the transaction, when rpm's triggers have done the work, it repeats the summary below dnf's list of packages. An
# error in this plugin must never make dnf fail.
import atexit
import os
import subprocess
import sys
import tempfile

import dnf
import dnf.exceptions

HOOK = "/usr/lib/dkms/dnf-hook"
# What the hook decides: transaction aborted (3), critical module failed (11), interrupted. Any other status is of a hook
# that crashed.
INTERRUPTED = (129, 130, 143)
STOPS = (3,) + INTERRUPTED
DECIDED = (0, 11) + INTERRUPTED
SKIPPED = "pre-build skipped"
REPAIR = "kernel modules may be missing; to build them, run dkms autoinstall"


def say(text):
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass


def run(verb, lines, stderr=None):
    # Input from a file: writing to a pipe would end dnf with SIGPIPE if the hook exited early.
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        file.writelines(lines)
        file.seek(0)
        return subprocess.run([HOOK, verb], stdin=file, text=True, errors="replace",
                              stdout=subprocess.DEVNULL, stderr=stderr)


def ended(code):
    return "exited with status %d" % code if code >= 0 else "was killed by signal %d" % -code


# What dkms keeps back. dnf5 reads this file itself.
EXCLUDES = "/etc/dnf/libdnf5.conf.d/80-dkms.conf"


def kept_back():
    try:
        with open(EXCLUDES) as file:
            lines = [line for line in file if line.startswith("excludepkgs=")]
        return [package for line in lines for package in line.strip().split("=", 1)[1].split(",")]
    except OSError:
        return []


class Dkms(dnf.Plugin):
    name = "dkms"

    def config(self):
        try:
            if self.base.conf.installroot == "/":
                self.base.conf.excludepkgs += kept_back()
        except Exception as error:
            say("dkms: %s: kernels are not kept back\n" % error)

    def incoming(self):
        # Packages for another root do not concern this machine's kernels.
        return self.base.transaction.install_set if self.base.conf.installroot == "/" else []

    def pre_transaction(self):
        try:
            files = ["%s\n" % package.localPkg() for package in self.incoming()]
            code = run("dnf4-before", files).returncode if files else 0
            if code != 0 and code not in STOPS:
                say("dkms: %s %s: %s\n" % (HOOK, ended(code), SKIPPED))
        except Exception as error:
            say("dkms: %s: %s\n" % (error, SKIPPED))
            return
        if code in STOPS:
            raise dnf.exceptions.Error("transaction aborted by dkms (see above), nothing changed")

    def transaction(self):
        try:
            lines = ["%s %s %s %s\n" % (p.name, p.version, p.release, p.arch) for p in self.incoming()]
            # The plugin's own package has been removed: there is nothing to report.
            if not lines or not os.path.exists(__file__):
                return
            done = run("dnf4", lines, subprocess.PIPE)
            if done.stderr:
                atexit.register(say, done.stderr)
            if done.returncode not in DECIDED:
                atexit.register(say, "dkms: %s %s: %s\n" % (HOOK, ended(done.returncode), REPAIR))
        except Exception as error:
            atexit.register(say, "dkms: could not check kernel modules: %s: %s\n" % (error, REPAIR))
