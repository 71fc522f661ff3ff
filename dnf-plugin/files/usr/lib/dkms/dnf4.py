# dkms-rs: dnf4's part. rpm's triggers have done the work; what must be known is said again as the last words of the run,
# below dnf's list of packages. Nothing that goes wrong here may take dnf down.
import atexit
import subprocess
import sys
import tempfile

import dnf

HOOK = "/usr/lib/dkms/dnf-hook"


def say(text):
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass


def run(verb, lines):
    # From a file: dnf dies of SIGPIPE when it writes to a hook that is gone.
    with tempfile.TemporaryFile("w+", errors="replace") as told:
        told.writelines(lines)
        told.seek(0)
        return subprocess.run([HOOK, verb], stdin=told, text=True, errors="replace",
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Dkms(dnf.Plugin):
    name = "dkms"

    def transaction(self):
        try:
            # Packages of another system are none of this one's kernels.
            if self.base.conf.installroot != "/":
                return
            lines = ["%s %s %s %s\n" % (p.name, p.version, p.release, p.arch)
                     for p in self.base.transaction.install_set]
            done = run("dnf4", lines)
            if done.stderr:
                atexit.register(say, done.stderr)
            if done.returncode < 0:
                atexit.register(say, "dkms: %s was ended by signal %d\n" % (HOOK, -done.returncode))
        except Exception as error:
            atexit.register(say, "dkms: kernel modules were not looked at: %s\n" % error)
