//! Checks that a file is never missing while something else runs.

use crate::Root;

/// A watcher in the root; ends with the root.
#[derive(Debug)]
pub struct Watch<'a> {
    root: &'a Root,
    what: String,
}

impl<'a> Watch<'a> {
    /// Starts checking for files that match this shell pattern, a few hundred times per second.
    pub fn on(root: &'a Root, pattern: &str) -> Self {
        root.run("mkdir -p /opt/watch; rm -f /opt/watch/*; mkfifo /opt/watch/never").ok();
        // `read -t` on a FIFO without a writer is bash's own short sleep.
        root.start(&format!(
            "exec 8<>/opt/watch/never; shopt -s nullglob; while [ ! -e /opt/watch/stop ]; do \
             f=({pattern}); [ ${{#f[@]}} -gt 0 ] || echo missing >>/opt/watch/log; : >/opt/watch/alive; read -t 0.003 <&8; done; \
             : >/opt/watch/done"
        ));
        let watch = Self { root, what: pattern.to_owned() };
        watch.wait_for("alive");
        watch
    }

    /// Stops and requires that the file existed at every check.
    #[track_caller]
    pub fn expect_never_missing(self) {
        self.root.write("/opt/watch/stop", "");
        self.wait_for("done");
        let missed = if self.root.exists("/opt/watch/log") {
            self.root.read("/opt/watch/log").lines().count()
        } else {
            0
        };
        assert_eq!(missed, 0, "{} was missing at {missed} looks", self.what);
    }

    fn wait_for(&self, name: &str) {
        for _ in 0..500 {
            if self.root.exists(&format!("/opt/watch/{name}")) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the watcher does not run");
    }
}
