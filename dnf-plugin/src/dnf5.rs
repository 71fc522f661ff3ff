//! dnf5's actions plugin in JSON mode: we write requests to standard output, one per line, and read its replies from
//! standard input. The summary goes to its log, and the reason for aborting a transaction to its error message.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dkms_core::hook::{Answer, Channel, FailureEffect, Input};
use dkms_core::preflight::Question;
use dkms_core::session::Session;
use serde_json::{Value, json};

use crate::affected::Affected;
use crate::cache::cached;

/// Requests the packages that the transaction installed.
pub fn came(session: &Session, input: &mut Input<'_>) -> Result<Answer> {
    let output = ["direction", "name", "version", "release", "arch"];
    let all = ask(input, "trans_packages", json!({ "output": output }))?;
    if elsewhere(input)? {
        return Ok(Answer::Nothing);
    }
    let events = Affected::packages(session, incoming(&all).map(words)).came(session)?;
    Ok(Answer::Events(FailureEffect::Stops, events, Channel::Protocol))
}

/// Requests the packages that the transaction is about to install.
pub fn comes(input: &mut Input<'_>) -> Result<Answer> {
    let comes = ask(input, "trans_packages", json!({ "output": ["direction", "repo_id", "location"] }))?;
    if elsewhere(input)? {
        return Ok(Answer::Nothing);
    }
    let cache = PathBuf::from(value(&ask(input, "conf", json!({ "key": "cachedir" }))?));
    let question = Question::of(incoming(&comes).map(|package| file(&cache, package)));
    Ok(Answer::Incoming(question, Channel::Protocol))
}

/// A text for dnf5: an error with which it fails, or a line of its log. The calling shell reads dnf5's replies.
pub fn reply(text: &str, held: bool) -> String {
    let request = match held {
        true => json!({"op": "error", "args": {"message": format!("\n{text}")}}),
        false => json!({"op": "log", "args": {"level": "WARNING", "message": text}}),
    };
    format!("{request}\n")
}

/// Requests a list from dnf5.
fn ask(input: &mut Input<'_>, domain: &str, args: Value) -> Result<Value> {
    writeln!(input.writer, "{}", json!({"op": "get", "domain": domain, "args": args}))?;
    input.writer.flush()?;
    let mut line = String::new();
    input.reader.read_line(&mut line).context("reading dnf5's reply")?;
    if line.is_empty() {
        bail!("no reply from dnf5");
    }
    let mut reply: Value = serde_json::from_str(&line).context("dnf5's reply is not JSON")?;
    if reply["status"] != "OK" {
        bail!("dnf5 refused {domain}: {}", reply["message"]);
    }
    Ok(reply["return"].take())
}

/// With another root directory, the packages are not for this system.
fn elsewhere(input: &mut Input<'_>) -> Result<bool> {
    Ok(value(&ask(input, "conf", json!({"key": "installroot"}))?) != "/")
}

/// A setting.
fn value(reply: &Value) -> &str {
    word(&reply["keys_val"][0], "value")
}

/// The packages that are installed.
fn incoming(reply: &Value) -> impl Iterator<Item = &Value> {
    let packages = reply["trans_packages"].as_array().into_iter().flatten();
    packages.filter(|package| package["direction"] == "IN")
}

fn word<'v>(object: &'v Value, key: &str) -> &'v str {
    object[key].as_str().unwrap_or_default()
}

/// `NAME VERSION RELEASE ARCH`
fn words(package: &Value) -> String {
    ["name", "version", "release", "arch"].map(|key| word(package, key)).join(" ")
}

/// The path of a package's file, which dnf5 does not report: on the command line, or in its cache.
fn file(cache: &Path, package: &Value) -> PathBuf {
    let (repository, location) = (word(package, "repo_id"), word(package, "location"));
    match std::path::absolute(location) {
        Ok(here) if repository == "@commandline" && here.is_file() => here,
        _ => cached(cache, repository, location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_counts() {
        // As written by dnf5 5.4.6.
        let reply = r#"{ "trans_packages": [
            { "direction": "IN", "name": "kernel-core", "arch": "x86_64", "version": "6.12.1", "release": "1.fc43" },
            { "direction": "OUT", "name": "kernel-core", "arch": "x86_64", "version": "6.11.1", "release": "1.fc43" } ] }"#;
        let reply: Value = serde_json::from_str(reply).unwrap();
        assert_eq!(incoming(&reply).map(words).collect::<Vec<_>>(), ["kernel-core 6.12.1 1.fc43 x86_64"]);
        for strange in ["{}", "[]", "null", r#"{"trans_packages": [{"direction": "IN", "name": 3}]}"#] {
            let strange: Value = serde_json::from_str(strange).unwrap();
            assert!(incoming(&strange).map(words).all(|package| package.trim().is_empty()), "{strange}");
        }
    }
}
