//! Where a store is: a directory, or behind a web server.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::web;
use crate::session::Session;
use crate::sys::{file, signal};

/// The place of a store, from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory: `file:/path` or `file:///path`.
    Dir(PathBuf),
    /// `http:` or `https:`, without the last slash.
    Web(String),
    /// A bucket of an S3-compatible server, which takes signed requests: the same after `s3+`.
    Bucket(String),
}

impl FromStr for Place {
    type Err = anyhow::Error;
    fn from_str(url: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:%+[]".contains(&byte);
        if url.len() > 1000 || !url.bytes().all(plain) {
            bail!("its URL has characters that are not supported, or a user name or a query");
        }
        if let Some(path) = url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') || path.contains('%') {
                bail!("its URL does not have the form file:///DIRECTORY");
            }
            return Ok(Self::Dir(path.into()));
        }
        let bucket = url.strip_prefix("s3+");
        let url = bucket.unwrap_or(url);
        let host = ["https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
        match host {
            Some(host) if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') => {
                let url = url.trim_end_matches('/').to_owned();
                Ok(if bucket.is_some() { Self::Bucket(url) } else { Self::Web(url) })
            }
            _ => bail!("its URL does not begin with https://, http:// or file:///"),
        }
    }
}

/// What came before something failed: for each file its content, or `None` if the store does not have it.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) files: Vec<Option<Vec<u8>>>,
    /// Why the rest is missing. The store is not used any more in this run.
    pub(super) fault: Option<String>,
}

impl Place {
    /// Reads files, each of which is smaller than `limit`. `Err` means that dkms was interrupted.
    pub(super) fn get(
        &self,
        session: &Session,
        names: &[String],
        limit: u64,
        deadline: Instant,
    ) -> Result<Got> {
        match self {
            Self::Dir(dir) => {
                let mut got = Got::default();
                for name in names {
                    signal::check()?;
                    let read = match Instant::now() < deadline {
                        true => read(dir, name, limit),
                        false => Err(anyhow::anyhow!("it is too slow")),
                    };
                    match read {
                        Ok(file) => got.files.push(file),
                        Err(error) => {
                            got.fault = Some(format!("{error:#}"));
                            break;
                        }
                    }
                }
                Ok(got)
            }
            Self::Web(base) => {
                let urls: Vec<String> = names.iter().map(|name| format!("{base}/{name}")).collect();
                web::get(session, &urls, limit, deadline)
            }
            // What every machine reads needs no key of a bucket.
            Self::Bucket(url) => Ok(Got {
                fault: Some(format!("s3+ is for `dkms store push` only; builds are read from {url}")),
                ..Got::default()
            }),
        }
    }
}

/// A file of a directory that other users may write to: no link leads out of it.
fn read(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    if !dir.is_dir() {
        bail!("{} is not a directory", dir.display());
    }
    match file::read_untrusted(dir, Path::new(name), limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::NotFound) => Ok(None),
            _ => Err(error).context("reading a file"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls() {
        for (url, place) in [
            ("https://store.example/dkms/", Some(Place::Web("https://store.example/dkms".into()))),
            ("http://[::1]:8080", Some(Place::Web("http://[::1]:8080".into()))),
            ("file:///srv/store", Some(Place::Dir("/srv/store".into()))),
            ("s3+https://s3.example/bucket/", Some(Place::Bucket("https://s3.example/bucket".into()))),
            ("s3+file:///srv", None),
            ("s3://bucket", None),
            ("file:/srv/store", Some(Place::Dir("/srv/store".into()))),
            ("file://host/srv", None),
            ("file:srv", None),
            ("file:///srv/%2e%2e", None),
            ("/srv/store", None),
            ("ftp://store.example", None),
            ("scp://store.example", None),
            ("https://", None),
            ("https://-oProxy", None),
            ("https://user:password@store.example", None),
            ("https://store.example/?a", None),
            ("https://store.example/#a", None),
            ("https://store.example/{a,b}", None),
            ("https://store.example/\n", None),
            ("https://store.example/ -o x", None),
            ("", None),
        ] {
            assert_eq!(url.parse::<Place>().ok(), place, "{url:?}");
        }
    }
}
