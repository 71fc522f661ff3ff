# dkms-rs: dnf4's part. Before anything is changed, modules are built for what comes. Afterwards rpm's triggers have done the
# work, and what must be known is said again as the last words of the run, below dnf's list of packages. Nothing that goes
# wrong here may take dnf down.
import atexit
import os
import subprocess
import sys
import tempfile

import dnf
import dnf.exceptions

HOOK = "/usr/lib/dkms/dnf-hook"


def say(text):
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass


def run(verb, lines, stderr=None):
    # From a file: dnf dies of SIGPIPE when it writes to a hook that is gone.
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        told.writelines(lines)
        told.seek(0)
        return subprocess.run([HOOK, verb], stdin=told, text=True, errors="replace",
                              stdout=subprocess.DEVNULL, stderr=stderr)


class Dkms(dnf.Plugin):
    name = "dkms"

    def incoming(self):
        # Packages of another system are none of this one's kernels.
        return self.base.transaction.install_set if self.base.conf.installroot == "/" else []

    def pre_transaction(self):
        try:
            files = ["%s\n" % package.localPkg() for package in self.incoming()]
            code = run("dnf4-before", files).returncode if files else 0
            if code not in (0, 3, 130, 143):
                say("dkms: not tried before it is installed: %s ended with code %d\n" % (HOOK, code))
        except Exception as error:
            say("dkms: not tried before it is installed: %s\n" % error)
            return
        if code in (3, 130, 143):
            raise dnf.exceptions.Error("dkms stops the transaction, for the reason above: nothing was changed")

    def transaction(self):
        try:
            lines = ["%s %s %s %s\n" % (p.name, p.version, p.release, p.arch) for p in self.incoming()]
            # Gone with its package: nobody is missed.
            if not lines or not os.path.exists(__file__):
                return
            done = run("dnf4", lines, subprocess.PIPE)
            if done.stderr:
                atexit.register(say, done.stderr)
            if done.returncode < 0:
                atexit.register(say, "dkms: %s was ended by signal %d\n" % (HOOK, -done.returncode))
        except Exception as error:
            atexit.register(say, "dkms: kernel modules were not looked at: %s\n" % error)
