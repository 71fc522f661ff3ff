//! The package mirror: read from the host's apt configuration at run time, and not stored anywhere.

use std::path::{Path, PathBuf};

/// One enabled `deb` source of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Base address, without a trailing slash.
    pub uri: String,
    /// Suite names, as written.
    pub suites: Vec<String>,
    /// Components such as `main`.
    pub components: Vec<String>,
}

/// The Debian mirror of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The archive that holds the suites themselves.
    pub main: String,
    /// The archive with `SUITE-security`, if the host uses one.
    pub security: Option<String>,
    /// Lines for apt.conf.d that the host needs to reach the mirror (proxy, expired snapshot, …).
    pub apt_conf: String,
}

impl Mirror {
    /// Reads the host's sources and the part of its apt configuration that concerns fetching.
    pub fn of_host() -> Self {
        let sources: Vec<Source> = source_files().iter().flat_map(|p| parse_file(p, &read(p))).collect();
        let dump = std::process::Command::new("apt-config").arg("dump").output().expect("apt-config dump");
        let mut mirror = Self::choose(&sources).expect("the host's apt sources name no Debian archive");
        mirror.apt_conf = fetch_settings(&String::from_utf8_lossy(&dump.stdout));
        mirror
    }

    /// Selects the Debian archive among sources that may include other archives.
    pub fn choose(sources: &[Source]) -> Option<Self> {
        let has = |s: &Source, wanted: &dyn Fn(&str) -> bool| s.suites.iter().any(|n| wanted(n));
        let debian = |s: &&Source| s.components.iter().any(|c| c == "main") && has(s, &is_debian_suite);
        let main = sources.iter().find(debian)?.uri.clone();
        let security = sources.iter().find(|s| has(s, &is_security_suite)).map(|s| s.uri.clone());
        Some(Self { main, security, apt_conf: String::new() })
    }

    /// One-line sources for a root of this suite.
    pub fn lines_for(&self, suite: &str) -> Vec<String> {
        self.lines_of(suite, "main")
    }

    /// The same with these components of the archive.
    pub fn lines_of(&self, suite: &str, components: &str) -> Vec<String> {
        let mut lines = vec![format!("deb {} {suite} {components}", self.main)];
        // Unstable has no security archive.
        if suite == "sid" {
            return lines;
        }
        lines.push(format!("deb {} {suite}-updates {components}", self.main));
        lines.extend(self.security.iter().map(|uri| format!("deb {uri} {suite}-security {components}")));
        lines
    }
}

const CODENAMES: &[&str] =
    &["bullseye", "bookworm", "trixie", "forky", "duke", "stable", "oldstable", "testing", "unstable", "sid"];

fn is_debian_suite(name: &str) -> bool {
    CODENAMES.contains(&name)
}

fn is_security_suite(name: &str) -> bool {
    name.strip_suffix("-security").is_some_and(is_debian_suite)
}

fn source_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|e| e.path()));
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn parse_file(path: &Path, text: &str) -> Vec<Source> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("sources") => parse_deb822(text),
        Some("list") => parse_one_line(text),
        _ => Vec::new(),
    }
}

/// `Types: deb` stanzas. A comment may stand between fields; a line that begins with a blank continues the field above.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            found.extend(stanza(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

fn stanza(fields: &[(String, String)]) -> Vec<Source> {
    let words = |name: &str| -> Vec<String> {
        let value = fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v);
        value.split_whitespace().map(str::to_owned).collect()
    };
    if !words("types").iter().any(|t| t == "deb") || words("enabled").first().is_some_and(|v| v == "no") {
        return Vec::new();
    }
    let source = |uri: &String| Source {
        uri: uri.trim_end_matches('/').to_owned(),
        suites: words("suites"),
        components: words("components"),
    };
    words("uris").iter().map(source).collect()
}

/// `deb [options] URI SUITE COMPONENT…` lines.
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?.trim_end_matches('/').to_owned();
    let suites = vec![words.next()?.to_owned()];
    Some(Source { uri, suites, components: words.map(str::to_owned).collect() })
}

/// The settings of `apt-config dump` that the host needs for downloads.
pub fn fetch_settings(dump: &str) -> String {
    const WANTED: &[&str] = &[
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
        "Acquire::ForceIPv",
        "Acquire::Retries ",
        "Acquire::http::",
        "Acquire::https::",
    ];
    let wanted = |line: &&str| WANTED.iter().any(|w| line.starts_with(w)) && !line.ends_with("\"\";");
    dump.lines().filter(wanted).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{Mirror, Source, fetch_settings, parse_deb822, parse_one_line};

    fn source(uri: &str, suites: &[&str], components: &[&str]) -> Source {
        let own = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        Source { uri: uri.to_owned(), suites: own(suites), components: own(components) }
    }

    #[test]
    fn deb822_with_comments_continuations_and_disabled_stanzas() {
        let text = "Types: deb deb-src\n# a snapshot\nURIs: http://mirror.example/debian/\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\n\n\nTypes: deb\nEnabled: no\nURIs: http://off.example\nSuites: sid\nComponents: main\n\n\
                    Types: deb-src\nURIs: http://src.example\nSuites: sid\nComponents: main";
        let wanted = source("http://mirror.example/debian", &["bookworm", "bookworm-updates"], &["main"]);
        assert_eq!(parse_deb822(text), [wanted]);
    }

    #[test]
    fn one_line_with_options_comments_and_sources() {
        let text = "# deb http://no.example sid main\ndeb-src http://src.example sid main\n\
                    deb [signed-by=/k arch=amd64] http://mirror.example/debian trixie main contrib # why\n";
        assert_eq!(
            parse_one_line(text),
            [source("http://mirror.example/debian", &["trixie"], &["main", "contrib"])]
        );
    }

    #[test]
    fn other_vendors_are_not_the_mirror() {
        let sources = [
            source("http://vendor.example", &["nodistro"], &["main"]),
            source("http://mirror.example/debian", &["trixie", "trixie-updates"], &["main"]),
            source("http://mirror.example/security", &["trixie-security"], &["main"]),
        ];
        let mirror = Mirror::choose(&sources).unwrap();
        assert_eq!(mirror.main, "http://mirror.example/debian");
        assert_eq!(
            mirror.lines_for("bookworm")[2],
            "deb http://mirror.example/security bookworm-security main"
        );
        assert_eq!(mirror.lines_for("sid"), ["deb http://mirror.example/debian sid main"]);
        assert!(Mirror::choose(&sources[..1]).is_none());
    }

    #[test]
    fn only_fetch_settings_are_copied() {
        let dump = "Acquire::Check-Valid-Until \"false\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://p:1\";\n\
                    APT::Install-Recommends \"1\";\n";
        assert_eq!(
            fetch_settings(dump),
            "Acquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy \"http://p:1\";\n"
        );
    }
}
