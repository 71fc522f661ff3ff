# dkms-rs: dnf4's part. rpm's triggers have done the work; what must be known is said again as the last words of the run,
# below dnf's list of packages. Nothing that goes wrong here may take dnf down.
import atexit
import subprocess
import sys

import dnf

HOOK = "/usr/lib/dkms/dnf-hook"


def say(text):
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass


class Dkms(dnf.Plugin):
    name = "dkms"

    def transaction(self):
        try:
            # Packages of another system are none of this one's kernels.
            if self.base.conf.installroot != "/":
                return
            lines = ["%s %s %s %s\n" % (p.name, p.version, p.release, p.arch)
                     for p in self.base.transaction.install_set]
            done = subprocess.run([HOOK, "dnf4"], input="".join(lines), text=True, errors="replace",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.stderr:
                atexit.register(say, done.stderr)
            if done.returncode < 0:
                atexit.register(say, "dkms: %s was ended by signal %d\n" % (HOOK, -done.returncode))
        except Exception as error:
            atexit.register(say, "dkms: kernel modules were not looked at: %s\n" % error)
