//! dnf5's actions plugin in JSON mode: we ask on standard output, one request a line, and it answers on standard input.
//! Its log takes the closing summary, and its error message why a transaction must not begin.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dkms_core::hook::{Answer, Power};
use dkms_core::package::cached;
use dkms_core::preflight::Question;
use dkms_core::report::Screen;
use dkms_core::session::Session;
use serde_json::{Value, json};

use crate::seen::{Seen, lines};

/// Asks dnf5 what the transaction brought.
pub fn came(session: &Session) -> Result<Answer> {
    let (mut ask, screen) = (asking(session.screen), session.screen);
    let all = ask("trans_packages", json!({"output": ["direction", "name", "version", "release", "arch"]}))?;
    if elsewhere(&mut ask)? {
        return Ok(Answer::Code(0));
    }
    let events = Seen::packages(session, incoming(&all).map(words)).came(session)?;
    Ok(Answer::Told(Power::Stops, events, Box::new(move |summary| log(screen, summary))))
}

/// Asks dnf5 what the transaction is about to bring.
pub fn comes(session: &Session) -> Result<Answer> {
    let (mut ask, screen) = (asking(session.screen), session.screen);
    let comes = ask("trans_packages", json!({ "output": ["direction", "repo_id", "location"] }))?;
    if elsewhere(&mut ask)? {
        return Ok(Answer::Code(0));
    }
    let cache = PathBuf::from(value(&ask("conf", json!({ "key": "cachedir" }))?));
    let question = Question::of(incoming(&comes).map(|package| file(&cache, package)));
    let tell = move |text: &str, held: bool| match held {
        // It is what dnf5 fails with, and shows.
        true => {
            screen.answer(&format!("{}\n", json!({"op": "error", "args": {"message": format!("\n{text}")}})))
        }
        false => log(screen, text),
    };
    Ok(Answer::IncomingTold(question, Box::new(tell)))
}

/// One who asks dnf5 for what it knows of a domain.
fn asking(screen: Screen) -> impl FnMut(&str, Value) -> Result<Value> {
    let mut replies = lines();
    move |domain, args| {
        screen.answer(&format!("{}\n", json!({"op": "get", "domain": domain, "args": args})));
        let line = replies.next().context("dnf5 does not answer")?;
        let mut reply: Value = serde_json::from_str(&line).context("dnf5's answer is not JSON")?;
        if reply["status"] != "OK" {
            bail!("dnf5 does not tell {domain}: {}", reply["message"]);
        }
        Ok(reply["return"].take())
    }
}

/// Packages of another system are none of this one's kernels.
fn elsewhere(ask: &mut impl FnMut(&str, Value) -> Result<Value>) -> Result<bool> {
    Ok(value(&ask("conf", json!({"key": "installroot"}))?) != "/")
}

/// A setting.
fn value(reply: &Value) -> &str {
    word(&reply["keys_val"][0], "value")
}

/// Has dnf5 write something into its log. The shell above us reads what it answers.
fn log(screen: Screen, text: &str) {
    screen.answer(&format!("{}\n", json!({"op": "log", "args": {"level": "WARNING", "message": text}})));
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
