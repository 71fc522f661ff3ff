//! Will the kernel refuse what was installed, because of its signature? Then that is said beside it.

use std::path::Path;

use super::Work;
use crate::kernel::certificate::Certificate;
use crate::kernel::demand::{Demand, Running};
use crate::kernel::{self, Firmware, Kernel, elf, read_module};
use crate::plan::Make;
use crate::step::sign;
use crate::sys::file;
use crate::tree::{Installed, Snapshot};

/// What to say of files that were just published; nothing when the kernel takes them, or when nobody can tell.
pub(super) fn warning(
    work: &Work<'_>,
    make: &Make,
    kernel: &Kernel,
    published: &[Installed],
) -> Option<String> {
    let session = work.session;
    let headers = kernel.headers.as_ref()?;
    // Of a system that lies elsewhere nobody knows on which machine it will run.
    let here = session.layout.depmod_root() == Some(Path::new("/"));
    let firmware = if here { Firmware::read(&session.layout) } else { Firmware::default() };
    let runs = here && kernel::running().is_some_and(|running| running == make.target.kernel);
    let running = runs.then(|| Running::read(&session.layout));
    let Demand::Refuses(why) = Demand::of(Some(&headers.config), running.as_ref(), &firmware) else {
        return None;
    };
    // What cannot be read is not this note's business.
    let signed = |file: &Installed| read_module(&file.path).map_or(true, |content| elf::is_signed(&content));
    if !published.iter().all(signed) {
        return Some(format!("it is not signed, and this kernel will refuse it: {why}"));
    }
    // Which certificate is meant is known for what was signed by the pair that is in use.
    let now = Snapshot::load_some(&session.layout, [make.module.name.clone()]).ok()?;
    let signer = now.build(&make.module, &make.target)?.record.as_ref()?.signer.as_ref()?;
    if sign::expected(session, &make.target, headers).as_ref() != Some(signer) {
        return None;
    }
    let (_, path) = sign::pair(session, &make.target);
    let certificate = Certificate::parse(&std::fs::read(&path).ok()?)?;
    let built_in = file::read_optional(&headers.dir.join("certs/signing_key.x509")).ok().flatten();
    let known = built_in.and_then(|der| Certificate::parse(&der)) == Some(certificate.clone())
        || firmware.enrolled?.contains(&certificate);
    (!known).then(|| {
        let enrol = sign::enrol(session, &path);
        let path = path.display();
        format!(
            "it is signed with {path}, which is not enrolled, and this kernel will refuse it: {why}; enrol it once: \
             {enrol}, then restart"
        )
    })
}
