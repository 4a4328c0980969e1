//! Playlists over HTTP: what is answered, and what is kept.

use serde_json::json;

use super::*;

const LIST: &str = "/v1/paths/live/c:d%20e/playlist";

impl Running {
    /// A request with a body, `METHOD target`.
    fn send(&self, line: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let length = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n\
             {body}"
        )
        .unwrap();
        Answer::read(&mut stream)
    }

    fn titles_of_list(&self) -> Vec<String> {
        self.request(&format!("GET {LIST}")).names("items", "title")
    }
}

#[test]
fn playlist_is_shown_edited_and_kept() {
    let fake = Fake::new(Shard::Answers, true);
    let server = Running::start(&fake);
    let shown = server.request(&format!("GET {LIST}"));
    let json = shown.json();
    assert_eq!(
        (shown.status, &json["path"], &json["loop"]),
        (200, &json!("live/c:d e"), &json!(true))
    );
    assert_eq!(
        (&json["items"][1]["item"], &json["items"][1]["at"]),
        (&json!(2), &json!("20:15:00"))
    );
    assert_eq!(server.titles_of_list(), ["a", "b"]);

    let insert = format!("POST {LIST}:insert");
    let inserted = server.send(&insert, "{\"title\":\"vod/x\",\"after\":1}");
    assert_eq!((inserted.status, inserted.json()), (200, json!({ "item": 3, "kept": true })));
    let timed = server.send(&insert, "{\"title\":\"y\",\"at\":\"21:00\",\"place\":0}");
    assert_eq!(timed.json()["item"], 4);
    assert_eq!(server.titles_of_list(), ["y", "a", "x", "b"]);
    let removed = server.request(&format!("DELETE {LIST}/3"));
    assert_eq!(removed.json(), json!({ "item": 3, "kept": true }));
    assert_eq!(server.send(&format!("POST {LIST}:remove"), "{\"item\":1}").status, 200);
    assert_eq!(server.titles_of_list(), ["y", "b"]);
    assert_eq!(*fake.kept.lock().unwrap(), ["3 items", "4 items", "3 items", "2 items"]);
    let last = server.send(&insert, "{\"title\":\"full\"}").json();
    assert_eq!(last, json!({ "item": 5, "kept": false, "problem": "disk full" }));
}

#[test]
fn edits_that_cannot_be_are_refused_with_the_reason() {
    let server = Running::start(&Fake::new(Shard::Answers, true));
    let (insert, remove) = (format!("POST {LIST}:insert"), format!("POST {LIST}:remove"));
    for (line, body, status, detail) in [
        (insert.as_str(), "", 400, "body: EOF"),
        (&insert, "{\"titel\":\"x\"}", 400, "unknown field `titel`"),
        (
            &insert,
            "{\"title\":\"x\",\"after\":1,\"place\":0}",
            400,
            "one of before, after and place",
        ),
        (&insert, "{\"title\":\"../x\"}", 422, "no title's name"),
        (&insert, "{\"title\":\"missing\"}", 422, "title missing: no such file"),
        (&insert, "{\"title\":\"x\",\"at\":\"25:00\"}", 422, "not a time of day"),
        (&insert, "{\"title\":\"x\",\"at\":\"20:15\"}", 409, "begins at 20:15:00 already"),
        (&insert, "{\"title\":\"x\",\"place\":3}", 422, "behind the end"),
        (&insert, "{\"title\":\"x\",\"before\":9}", 404, "no item 9"),
        (&remove, "{\"item\":9}", 404, "no item 9"),
        (&remove, "{\"item\":-1}", 400, "body: "),
        (&format!("POST {LIST}:skip"), "", 409, "no title of the playlist plays"),
        (&format!("DELETE {LIST}/9"), "", 404, "no item 9"),
        (&format!("DELETE {LIST}/x"), "", 404, "nothing to delete"),
        ("DELETE /v1/paths/live/b", "", 404, "nothing to delete"),
        (&format!("POST {LIST}:clear"), "", 404, "no such verb"),
        ("GET /v1/paths/live/b/playlist", "", 409, "has no playlist"),
        ("POST /v1/paths/live/b/playlist:skip", "", 409, "has no playlist"),
        ("GET /v1/paths/none/playlist", "", 404, "no path `none`"),
        ("DELETE /v1/paths/none/playlist/1", "", 404, "no path `none`"),
    ] {
        let answer = server.send(line, body);
        let json = answer.json();
        let said = json["detail"].as_str().unwrap();
        assert!(answer.is_problem(status) && said.contains(detail), "{line} {body}: {json}");
    }
    assert_eq!(server.titles_of_list(), ["a", "b"]);
    // The name of a path may end so.
    let path = server.request("GET /v1/paths/live/playlist").json();
    assert_eq!(path["path"], "live/playlist");
}
