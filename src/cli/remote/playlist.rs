//! `headend path playlist ls|insert|skip|remove`.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::super::args::{PlaylistInsertArgs, PlaylistVerb, RemoteArgs};
use super::super::{Exit, Failure, printable};
use super::client::{Answer, Client};
use super::{connect, path, table, write_json};

pub(super) fn run(
    verb: &PlaylistVerb,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    match verb {
        PlaylistVerb::Ls(args) => {
            let client = connect(&args.remote, env)?;
            let list = found(&client, &args.name, client.get(&url(&args.name))?)?;
            if args.remote.json { write_json(&list, out)? } else { write_list(&list, out)? }
        }
        PlaylistVerb::Insert(args) => {
            let client = connect(&args.remote, env)?;
            let target = format!("{}:insert", url(&args.name));
            let answer = client.post_json(&target, &[], &insertion(args))?;
            let edit = found(&client, &args.name, answer)?;
            write_edit("inserted", &args.remote, (&args.name, &edit), out)?;
        }
        PlaylistVerb::Skip(args) => {
            let client = connect(&args.remote, env)?;
            let answer = client.post(&format!("{}:skip", url(&args.name)))?;
            let edit = found(&client, &args.name, answer)?;
            write_edit("skipped", &args.remote, (&args.name, &edit), out)?;
        }
        PlaylistVerb::Remove(args) => {
            let client = connect(&args.remote, env)?;
            let answer = client.delete(&format!("{}/{}", url(&args.name), args.item))?;
            let edit = found(&client, &args.name, answer)?;
            write_edit("removed", &args.remote, (&args.name, &edit), out)?;
        }
    }
    Ok(Exit::Ok)
}

fn url(name: &str) -> String {
    format!("{}/playlist", path::url(name))
}

fn insertion(args: &PlaylistInsertArgs) -> Value {
    let mut body = Map::new();
    body.insert("title".to_owned(), json!(args.title));
    let words = [
        ("before", args.before.map(|item| json!(item))),
        ("after", args.after.map(|item| json!(item))),
        ("place", args.place.map(|place| json!(place))),
        ("at", args.at.as_ref().map(|at| json!(at))),
    ];
    let said = words.into_iter().filter_map(|(word, value)| Some((word.to_owned(), value?)));
    body.extend(said);
    Value::Object(body)
}

/// What is there; or a sentence with the paths that there are, or with the item that is not there.
fn found(client: &Client, name: &str, answer: Answer) -> Result<Value, Failure> {
    let missing = match answer {
        Answer::Found(found) => return Ok(found),
        Answer::Missing(why) => why,
    };
    path::found(client, name, client.get(&path::url(name))?)?;
    Err(Failure::runtime(missing))
}

fn write_edit(
    done: &str,
    args: &RemoteArgs,
    (path, edit): (&str, &Value),
    out: &mut impl Write,
) -> io::Result<()> {
    if args.json {
        return write_json(edit, out);
    }
    let (path, item) = (printable(path), table::count(&edit["item"]));
    writeln!(out, "{path}: item {item} {done}")?;
    match edit["problem"].as_str() {
        Some(problem) => {
            writeln!(out, "[warn] it is not kept for the next start: {}", printable(problem))
        }
        None => Ok(()),
    }
}

fn write_list(list: &Value, out: &mut impl Write) -> io::Result<()> {
    let playing = &list["playing"];
    let word = |key: &str| table::text(&list[key]);
    let order = if list["loop"] == true { "loops" } else { "plays once" };
    let edited = if list["edited"] == true { "   edited" } else { "" };
    writeln!(
        out,
        "{}   {order}, times are {}, slate {}{edited}",
        word("path"),
        word("clock"),
        word("slate")
    )?;
    if !playing.is_null() {
        let (title, since) = (table::text(&playing["title"]), table::text(&playing["since"]));
        let kind = if playing["item"].is_null() { " (not an item)" } else { "" };
        let until = table::text(&playing["until"]);
        writeln!(out, "plays   {title}{kind}   since {since}   until {until}")?;
    }
    let items = list["items"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = items.map(row).collect();
    if rows.is_empty() {
        return writeln!(out, "no items");
    }
    table::write(&["ITEM", "TITLE", "AT", "STATE", "BEGINS", "REASON"], &rows, out)
}

fn row(item: &Value) -> Vec<String> {
    vec![
        table::count(&item["item"]).to_string(),
        table::text(&item["title"]),
        table::text(&item["at"]),
        table::text(&item["state"]),
        table::text(&item["begins"]),
        table::text(&item["reason"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn list_has_a_line_for_each_item() {
        let list = json!({
            "path": "linear", "loop": true, "clock": "local", "slate": null, "edited": true,
            "playing": {
                "item": 1, "title": "a.mp4", "since": "2026-01-02T03:04:05Z",
                "until": "2026-01-02T03:05:05Z",
            },
            "items": [
                { "item": 1, "title": "a.mp4", "at": null, "state": "playing", "begins": null,
                  "reason": null },
                { "item": 5, "title": "b\u{1b}.mp4", "at": "20:15:00", "state": "skipped",
                  "begins": "2026-01-02T19:15:00Z", "reason": "no such title" },
            ],
        });
        insta::assert_snapshot!(written(|out| write_list(&list, out)), @r#"
        linear   loops, times are local, slate -   edited
        plays   a.mp4   since 2026-01-02T03:04:05Z   until 2026-01-02T03:05:05Z
        ITEM  TITLE   AT        STATE    BEGINS                REASON
        1     a.mp4   -         playing  -                     -
        5     b?.mp4  20:15:00  skipped  2026-01-02T19:15:00Z  no such title
        "#);
        let empty =
            json!({ "path": "p", "loop": false, "clock": "utc", "slate": "s", "items": [] });
        let told = written(|out| write_list(&empty, out));
        assert_eq!(told, "p   plays once, times are utc, slate s\nno items\n");
    }

    #[test]
    fn edit_is_told_with_the_item_and_whether_it_is_kept() {
        let tell = |edit: &Value| {
            written(|out| write_edit("removed", &RemoteArgs::default(), ("p\u{1b}", edit), out))
        };
        assert_eq!(tell(&json!({ "item": 3, "kept": true })), "p?: item 3 removed\n");
        let told = tell(&json!({ "item": 3, "kept": false, "problem": "disk full" }));
        assert_eq!(
            told,
            "p?: item 3 removed\n[warn] it is not kept for the next start: disk full\n"
        );
    }

    #[test]
    fn insertion_says_what_was_said_and_nothing_else() {
        let mut args = PlaylistInsertArgs {
            name: "p".to_owned(),
            title: "a.mp4".to_owned(),
            before: None,
            after: Some(3),
            place: None,
            at: None,
            remote: RemoteArgs::default(),
        };
        assert_eq!(insertion(&args), json!({ "title": "a.mp4", "after": 3 }));
        (args.after, args.at) = (None, Some("20:15".to_owned()));
        assert_eq!(insertion(&args), json!({ "title": "a.mp4", "at": "20:15" }));
    }
}
