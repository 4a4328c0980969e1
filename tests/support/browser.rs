//! A real browser without a window: Debian's chromium, driven by its own protocol over two pipes.
//!
//! ```text
//! call --NUL-terminated JSON--> chromium --remote-debugging-pipe --answers, events--> read
//! ```
//! One browser has one page. What the page says on its console and what it asks for is kept, so
//! that a test can say that there was no error and no request to another host. The browser ends by
//! its own id; its profile is in the scratch folder.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::process::{Kept, wait_for};
use super::wait::{Deadline, PATIENCE, readable};

/// A browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Kept,
    commands: PipeWriter,
    answers: PipeReader,
    unread: Vec<u8>,
    session: String,
    calls: u64,
    /// Errors and warnings that the page has put on its console, and exceptions that it threw.
    pub(crate) complaints: Vec<String>,
    /// URLs that the page has asked for.
    pub(crate) requests: Vec<String>,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts with an empty page of this size.
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir_in(super::scratch()).unwrap();
        let (their_commands, commands) = pipe().unwrap();
        let (answers, their_answers) = pipe().unwrap();
        let mut command = Command::new("sh");
        // The protocol is spoken on descriptors 3 and 4.
        let script = "exec chromium \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null";
        command.args(["-c", script, "sh", "--headless", "--remote-debugging-pipe"]);
        command.args(FLAGS).arg(format!("--user-data-dir={}", profile.path().display()));
        command.arg("about:blank").stdin(their_commands).stdout(their_answers);
        command.stderr(Stdio::from(File::create(profile.path().join("stderr")).unwrap()));
        let child = command.spawn().map(Kept);
        let child = child.expect("scripts/test-setup.sh installs chromium");
        drop(command);
        let mut browser = Self {
            child,
            commands,
            answers,
            unread: Vec::new(),
            session: String::new(),
            calls: 0,
            complaints: Vec::new(),
            requests: Vec::new(),
            profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        attached["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.resize(width, height);
        browser
    }

    /// As a phone or a desktop of this size would show it.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// As a system with this colour scheme, `light` or `dark`, would show it.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Sends a header with each request from now on.
    pub(crate) fn send_header(&mut self, name: &str, value: &str) {
        self.call("Network.setExtraHTTPHeaders", json!({ "headers": { name: value } }));
    }

    /// Runs a script in each page that is opened from now on, before the page's own.
    pub(crate) fn run_before_pages(&mut self, script: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
    }

    /// Opens a URL.
    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        self.until("document.readyState === 'complete'");
    }

    /// The value of a JavaScript expression in the page; promises are waited for.
    ///
    /// # Panics
    /// When it throws.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", asked);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown:#}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true. One that throws is not: what it looks at may not be there
    /// yet.
    pub(crate) fn until(&mut self, expression: &str) {
        let deadline = Deadline::after(PATIENCE);
        let tried = format!(
            "(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()"
        );
        while self.eval(&tried) != true {
            if deadline.has_passed() {
                let text = self.eval("document.body.innerText");
                let complaints = &self.complaints;
                panic!("waited in vain: {expression}\n{complaints:?}\n{text}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Clicks on the middle of what `expression` is, which must be seen and not be covered.
    pub(crate) fn click(&mut self, expression: &str) {
        self.until(&format!("({expression})?.checkVisibility()"));
        let place = self.eval(&format!(
            "(() => {{ const it = {expression}; it.scrollIntoView({{ block: 'center' }});
               const box = it.getBoundingClientRect();
               const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
               return {{ x, y, hit: it.contains(document.elementFromPoint(x, y)) }}; }})()"
        ));
        assert_eq!(place["hit"], true, "{expression} is covered: {place}");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`, `ArrowDown`.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowDown" => 40,
            _ => panic!("no such key: {key}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types text into what has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// A picture of what is seen, as PNG.
    pub(crate) fn screenshot(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// What stands in the page for people who do not see it: role and name of each node.
    pub(crate) fn accessible(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let seen = nodes.filter(|node| node["ignored"] != true);
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        seen.map(|node| (text(&node["role"]), text(&node["name"]))).collect()
    }

    /// Nothing was complained of, and nothing was asked of another host than `origin`.
    pub(crate) fn assert_content(&mut self, origin: &str) {
        // What came until now is read with the answer.
        self.eval("0");
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
        let foreign = self.requests.iter().filter(|url| !url.starts_with(origin));
        let foreign: Vec<_> =
            foreign.filter(|url| !url.starts_with("data:") && *url != "about:blank").collect();
        assert!(foreign.is_empty(), "{foreign:#?}");
        assert!(!self.requests.is_empty());
    }

    /// A command of the protocol, and its answer.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut command = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let mut text = command.to_string().into_bytes();
        text.push(0);
        if let Err(error) = self.commands.write_all(&text) {
            panic!("the browser is gone: {error}\n{}", self.log());
        }
        let deadline = Deadline::after(PATIENCE);
        loop {
            let message = self.read(deadline, method);
            if message["id"] == id {
                let error = &message["error"];
                assert!(error.is_null(), "{method}: {error}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    /// The next message.
    fn read(&mut self, deadline: Deadline, why: &str) -> Value {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            let mut block = [0; 65_536];
            let is_readable = readable(&[self.answers.as_fd()], deadline)[0];
            let bytes = if is_readable { self.answers.read(&mut block).unwrap() } else { 0 };
            if bytes == 0 {
                panic!("the browser does not answer {why}\n{}", self.log());
            }
            self.unread.extend_from_slice(&block[..bytes]);
        }
    }

    /// What it has written to standard error.
    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("stderr")).unwrap_or_default()
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => self.complaints.push(params.to_string()),
            "Runtime.consoleAPICalled"
                if ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind) =>
            {
                self.complaints.push(params["args"].to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] != "verbose" => {
                let entry = &params["entry"];
                self.complaints.push(format!("{} {}", entry["text"], entry["url"]));
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap();
                self.requests.push(url.to_owned());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends itself with all its processes, which a signal might leave.
        let close = b"{\"id\":0,\"method\":\"Browser.close\"}\0";
        if self.commands.write_all(close).is_err()
            || wait_for(&mut self.child.0, Duration::from_secs(10)).is_none()
        {
            self.child.kill();
        }
    }
}

/// Nothing of a browser but the page: no sandbox (tests may be root), no questions to its makers.
const FLAGS: [&str; 10] = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
];
