//! A command on a real terminal, and what is on it at the end.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{LIMIT_SECONDS, Root, base};
use crate::host;

/// The terminal keeps what has scrolled away, and stays when its command has ended.
const CONFIGURATION: &str = "set -g history-limit 50000\nset -g remain-on-exit on\nset -g status off\n";

/// One terminal. It ends with this value.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-L", &self.socket]).args(words).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = tmux.output().expect("tmux");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "tmux {words:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let end = ["-L", &self.socket, "kill-server"];
        let _ = Command::new("tmux").args(end).output();
    }
}

impl Root {
    /// Runs a shell command on a terminal with this many columns; returns everything that it shows at the end. A line that
    /// the terminal has wrapped is one line.
    pub fn terminal(&self, columns: u16, command: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        host::need_tools(&[("tmux", "tmux")]);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal { socket: format!("dkms-tests-{}-{number}", std::process::id()) };
        let configuration = self.path("/opt/tmux.conf");
        fs::write(&configuration, CONFIGURATION).expect("tmux.conf");
        let (leader, columns) = (self.space.leader().to_string(), columns.to_string());
        // tmux sometimes never learns the status of a command whose terminal is closed already.
        let ended = format!("/opt/terminal-{number}");
        let guarded = format!("[ -e {} ] || exit 98\n({command}\n)\necho $? >{ended}", base::STAMP);
        let configuration = configuration.display().to_string();
        let mut words = vec!["-f", &configuration, "new-session", "-d", "-x", &columns, "-y", "50"];
        words.extend(["nsenter", "-t", &leader, "-m", "-p", "-r", "-w", "--", "/usr/bin/env", "-i"]);
        words.extend(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=screen"]);
        words.extend(["DEBIAN_FRONTEND=noninteractive", "/bin/bash", "-c", &guarded]);
        terminal.tmux(&words);
        let began = Instant::now();
        while terminal.tmux(&["list-panes", "-F", "#{pane_dead}"]).trim() != "1" {
            assert!(began.elapsed() < Duration::from_secs(LIMIT_SECONDS.into()), "{command} does not end");
            std::thread::sleep(Duration::from_millis(200));
        }
        let code = if self.exists(&ended) { self.read(&ended) } else { "none".to_owned() };
        let screen = terminal.tmux(&["capture-pane", "-p", "-J", "-S", "-"]);
        self.note(&format!("$ {command}\n[exit {}]\n{screen}", code.trim()));
        assert_eq!(code.trim(), "0", "{screen}");
        screen
    }
}
