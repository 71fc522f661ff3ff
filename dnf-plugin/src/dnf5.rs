//! dnf5's actions plugin in JSON mode: we ask on standard output, one request a line, and it answers on standard input.
//! It shows nobody what we say on standard error; its log takes the closing summary.

use anyhow::{Context, Result, bail};
use dkms_core::hook::{Answer, Power};
use dkms_core::session::Session;
use serde_json::{Value, json};

use crate::seen::{Seen, lines};

/// Asks dnf5 what the transaction brought.
pub fn answer(session: &Session) -> Result<Answer> {
    let mut replies = lines();
    let mut ask = |request: Value| -> Result<Value> {
        session.screen.answer(&format!("{request}\n"));
        let line = replies.next().context("dnf5 does not answer")?;
        let mut reply: Value = serde_json::from_str(&line).context("dnf5's answer is not JSON")?;
        if reply["status"] != "OK" {
            bail!("dnf5 does not tell {}: {}", request["domain"], reply["message"]);
        }
        Ok(reply["return"].take())
    };
    // Packages of another system are none of this one's kernels.
    let root = ask(json!({"op": "get", "domain": "conf", "args": {"key": "installroot"}}))?;
    if root["keys_val"][0]["value"] != "/" {
        return Ok(Answer::Code(0));
    }
    let output = ["direction", "name", "version", "release", "arch"];
    let brought = ask(json!({"op": "get", "domain": "trans_packages", "args": {"output": output}}))?;
    let events = Seen::packages(session, incoming(&brought).into_iter()).came(session)?;
    let screen = session.screen;
    let log = move |summary: &str| {
        let args = json!({"level": "WARNING", "message": summary});
        // The shell above us reads what dnf5 answers.
        screen.answer(&format!("{}\n", json!({"op": "log", "args": args})));
    };
    Ok(Answer::Told(Power::Stops, events, Box::new(log)))
}

/// `NAME VERSION RELEASE ARCH` of what came.
fn incoming(brought: &Value) -> Vec<String> {
    let packages = brought["trans_packages"].as_array().into_iter().flatten();
    let word = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    packages
        .filter(|package| package["direction"] == "IN")
        .map(|package| ["name", "version", "release", "arch"].map(|key| word(package, key)).join(" "))
        .collect()
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
        assert_eq!(incoming(&reply), ["kernel-core 6.12.1 1.fc43 x86_64"]);
        for strange in ["{}", "[]", "null", r#"{"trans_packages": [{"direction": "IN", "name": 3}]}"#] {
            let strange: Value = serde_json::from_str(strange).unwrap();
            assert!(incoming(&strange).iter().all(|package| package.trim().is_empty()), "{strange}");
        }
    }
}
