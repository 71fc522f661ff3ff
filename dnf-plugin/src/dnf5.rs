//! dnf5's actions plugin in JSON mode: we ask on standard output, one request a line, and it answers on standard input.
//! Its log takes the closing summary, and its error message why a transaction must not begin.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dkms_core::hook::{Answer, Channel, FailureEffect, Input};
use dkms_core::preflight::Question;
use dkms_core::session::Session;
use serde_json::{Value, json};

use crate::cache::cached;
use crate::seen::Seen;

/// Asks dnf5 what the transaction brought.
pub fn came(session: &Session, input: &mut Input<'_>) -> Result<Answer> {
    let output = ["direction", "name", "version", "release", "arch"];
    let all = ask(input, "trans_packages", json!({ "output": output }))?;
    if elsewhere(input)? {
        return Ok(Answer::Nothing);
    }
    let events = Seen::packages(session, incoming(&all).map(words)).came(session)?;
    Ok(Answer::Events(FailureEffect::Stops, events, Channel::Protocol))
}

/// Asks dnf5 what the transaction is about to bring.
pub fn comes(input: &mut Input<'_>) -> Result<Answer> {
    let comes = ask(input, "trans_packages", json!({ "output": ["direction", "repo_id", "location"] }))?;
    if elsewhere(input)? {
        return Ok(Answer::Nothing);
    }
    let cache = PathBuf::from(value(&ask(input, "conf", json!({ "key": "cachedir" }))?));
    let question = Question::of(incoming(&comes).map(|package| file(&cache, package)));
    Ok(Answer::Incoming(question, Channel::Protocol))
}

/// A text for dnf5: what it fails with and shows, or a line of its log. The shell above us reads what it answers.
pub fn reply(text: &str, held: bool) -> String {
    let request = match held {
        true => json!({"op": "error", "args": {"message": format!("\n{text}")}}),
        false => json!({"op": "log", "args": {"level": "WARNING", "message": text}}),
    };
    format!("{request}\n")
}

/// Asks dnf5 for what it knows of a domain.
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

/// Packages of another system are none of this one's kernels.
fn elsewhere(input: &mut Input<'_>) -> Result<bool> {
    Ok(value(&ask(input, "conf", json!({"key": "installroot"}))?) != "/")
}

/// A setting.
fn value(reply: &Value) -> &str {
    word(&reply["keys_val"][0], "value")
}

/// The packages that come.
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

/// Where dnf5 has a package's file, which it does not tell: where the command line says, or in its cache.
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
        // As dnf5 5.4.6 says it.
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
