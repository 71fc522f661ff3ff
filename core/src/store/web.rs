//! The web, spoken by the system's `curl` in the sandbox: as an unprivileged user, without the DKMS tree, keys, the users'
//! directories and local sockets, with limits of time and size. No TLS is linked into what runs as root, and a fault in a
//! protocol's code is one in a process that has nothing. Its output is data until hash and signature were verified.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::reach::Got;
use crate::session::Session;
use crate::sys::confine::Spec;
use crate::sys::run::{Done, Output, which};
use crate::sys::signal;

/// The program.
pub(super) const CURL: &str = "curl";
/// Its memory in bytes; it needs a tenth of it.
const MEMORY: u64 = 512 << 20;
/// How many redirects are followed, for example to the servers of a bucket.
const REDIRECTS: &str = "3";
/// A transfer that is slower than this, for this many seconds, is ended.
const SLOWEST: (&str, &str) = ("16384", "5");
/// The beginning of the line that curl writes after each transfer.
const MARK: &str = "@dkms ";
/// Statuses that mean that there is no such file. Buckets whose content may not be listed answer 403.
const ABSENT: [&str; 3] = ["403", "404", "410"];

/// Downloads files, in this order.
pub(super) fn get(session: &Session, urls: &[String], limit: u64, deadline: Instant) -> Result<Got> {
    let time = deadline.saturating_duration_since(Instant::now());
    if time.is_zero() {
        return Ok(Got { fault: Some("it is too slow".into()), ..Got::default() });
    }
    let limit_text = limit.to_string();
    let mut args = vec!["--max-filesize", &limit_text, "--location", "--max-redirs", REDIRECTS];
    args.extend(["--speed-limit", SLOWEST.0, "--speed-time", SLOWEST.1]);
    // Written when all of a file was written, so that its size is known.
    let mark = mark();
    args.extend(["--write-out", &mark]);
    args.extend(urls.iter().flat_map(|url| ["--url", url]));
    let all = limit.saturating_mul(urls.len() as u64);
    let done = match run(session, &args, Vec::new(), (all, time), urls) {
        Ok(done) => done,
        Err(error) if error.is::<signal::Interrupted>() => return Err(error),
        Err(error) => return Ok(Got { fault: Some(format!("{error:#}")), ..Got::default() }),
    };
    Ok(read(&done, time, urls.len()))
}

/// What curl writes after each transfer.
pub(super) fn mark() -> String {
    format!("%{{stderr}}\\n{MARK}%{{http_code}} %{{exitcode}} %{{size_download}}\\n")
}

/// The status of the last answer.
pub(super) fn status(text: &str) -> Option<String> {
    let line = text.lines().filter_map(|line| line.strip_prefix(MARK)).next_back()?;
    line.split(' ').next().map(plain)
}

/// Runs curl. `handed` are the contents of its descriptors from `FIRST_HANDED` on; `limits` are those of its output and of
/// its time.
pub(super) fn run(
    session: &Session,
    args: &[&str],
    handed: Vec<Vec<u8>>,
    (size, time): (u64, Duration),
    urls: &[String],
) -> Result<Done> {
    if which(CURL).is_none() {
        let install = session.policy.distribution.advise_install(CURL);
        anyhow::bail!("curl is not installed; {install}");
    }
    let seconds = format!("{:.1}", time.as_secs_f64().max(0.1));
    // `-q` must be the first argument: no .curlrc is read. No variable of the environment is passed on, and so no proxy.
    let mut argv =
        vec![CURL, "-q", "--silent", "--show-error", "--globoff", "--fail", "--proto", "=https,http"];
    // A redirect must not lead to a protocol without encryption.
    let safe = urls.iter().all(|url| url.starts_with("https:"));
    argv.extend(["--proto-redir", if safe { "=https" } else { "=https,http" }]);
    argv.extend(["--connect-timeout", &seconds, "--max-time", &seconds, "--user-agent", "dkms-rs"]);
    match session.policy.admin.store().proxy.as_deref() {
        Some(proxy) => argv.extend(["--proxy", proxy]),
        None => argv.extend(["--noproxy", "*"]),
    }
    argv.extend(args);
    let layout = &session.layout;
    let own = [&layout.dkms_tree, &layout.keys, &layout.cache(), &layout.config()].map(|dir| dir.to_owned());
    let spec = Spec {
        argv: argv.into_iter().map(str::to_owned).collect(),
        cwd: "/".into(),
        // On many systems this is a link to a file below /run.
        visible: layout.name_resolution(),
        absent: own.to_vec(),
        handed,
        memory: Some(MEMORY),
        file: Some(size.saturating_add(64 << 10)),
        network: true,
        ..Spec::default()
    };
    spec.run(|cmd| cmd.output(Output::Split).limit(time))
}

/// The files in curl's output.
fn read(done: &Done, time: Duration, count: usize) -> Got {
    let text = String::from_utf8_lossy(&done.errors);
    let mut got = Got::default();
    let mut rest = done.output.as_slice();
    for line in text.lines().filter_map(|line| line.strip_prefix(MARK)) {
        let mut words = line.split(' ');
        let (status, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let size = words.next().and_then(|size| size.parse::<usize>().ok());
        if ABSENT.contains(&status) {
            got.files.push(None);
            continue;
        }
        if status != "200" && code == "0" {
            got.fault = Some(format!("its answer has the status {}", plain(status)));
            return got;
        }
        let content = size.filter(|_| status == "200" && matches!(code, "0" | ""));
        let Some((content, more)) = content.and_then(|size| rest.split_at_checked(size)) else {
            break;
        };
        got.files.push(Some(content.to_owned()));
        rest = more;
        if got.files.len() == count {
            return got;
        }
    }
    if got.files.len() < count {
        got.fault = Some(fault(done, &text, time, &ABSENT));
    }
    got
}

/// Why a transfer failed, in curl's words. Answers with the statuses `expected` are no faults, and are reported, too.
pub(super) fn fault(done: &Done, text: &str, time: Duration, expected: &[&str]) -> String {
    if done.timed_out() {
        return format!("no complete answer within {:.0} s", time.as_secs_f64().max(1.0));
    }
    if let Some(why) = &done.not_run {
        return format!("cannot set up the sandbox: {why}");
    }
    let mut said = text.lines().filter_map(|line| line.strip_prefix("curl: "));
    let said = said.find(|line| !expected.iter().any(|status| line.ends_with(status)));
    match said {
        Some(line) => plain(line),
        None => format!("curl failed (exit code {})", done.code()),
    }
}

/// A text in one line of a message.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn done(output: &[u8], errors: &str) -> Done {
        Done {
            status: ExitStatus::from_raw(0),
            output: output.to_owned(),
            errors: errors.as_bytes().to_owned(),
            exceeded: None,
            not_run: None,
            failed: None,
            starved: None,
        }
    }

    #[test]
    fn files_are_separated_by_their_sizes() {
        let text = "\n@dkms 200 0 3\ncurl: (22) The requested URL returned error: 404\n\n@dkms 404 22 0\n\n@dkms 200 0 2\n";
        let got = read(&done(b"onetw", text), Duration::from_secs(5), 3);
        assert_eq!(got.files, [Some(b"one".to_vec()), None, Some(b"tw".to_vec())]);
        assert_eq!(got.fault, None);
        // curl writes this line for the second transfer, too: the output has less.
        let got = read(&done(b"onet", text), Duration::from_secs(5), 3);
        assert_eq!(got.files.len(), 2);
        assert!(got.fault.is_some());
    }

    #[test]
    fn the_first_fault_ends_it() {
        for (text, why) in [
            (
                "curl: (22) The requested URL returned error: 500\n\n@dkms 500 22 0\n@dkms 200 0 3\n",
                "(22) The requested URL returned error: 500",
            ),
            (
                "curl: (18) transfer closed with 5 bytes remaining to read\n\n@dkms 200 18 3\n",
                "(18) transfer closed",
            ),
            ("@dkms 200 0 99\n", "curl failed"),
            ("@dkms 200 0 -1\n", "curl failed"),
            ("@dkms\n@dkms x y z\n", "curl failed"),
            ("", "curl failed"),
        ] {
            let got = read(&done(b"one", text), Duration::from_secs(5), 2);
            assert!(
                got.files.is_empty() && got.fault.as_ref().is_some_and(|said| said.starts_with(why)),
                "{text}: {got:?}"
            );
        }
    }
}
