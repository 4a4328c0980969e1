//! The table of states and keys, `table.txt`: what each key does in each state.

use std::fmt::Write;

use super::*;

/// A remote control that has done as it was told; the outcomes are its caller's.
fn after(playing: Channel, keys: &[Input]) -> Remote<u32> {
    let mut viewer = Viewer::new(playing);
    for key in keys {
        viewer.press(*key);
    }
    viewer.remote
}

/// One that waits for the outcome of a key.
fn during(playing: Channel, key: Input) -> Remote<u32> {
    let mut remote = Remote::new(playing);
    assert!(remote.route(key, 0));
    assert!(remote.poll(NOW, rules(&lineup())).is_some());
    remote
}

fn states() -> [(&'static str, Remote<u32>); 9] {
    [
        ("live", after(LIVE, &[])),
        ("live, 2 0", after(LIVE, &[Input::Digit(2), Input::Digit(0)])),
        ("live, tuning to 201", during(LIVE, Input::Channel(201))),
        ("live, paused", after(LIVE, &[Input::Pause])),
        ("title", after(TITLE, &[])),
        ("title, 2 0", after(TITLE, &[Input::Digit(2), Input::Digit(0)])),
        ("title, seeking", during(TITLE, Input::Seek(Npt(9)))),
        ("title, 8x", after(TITLE, &[Input::Forward, Input::Forward])),
        (
            "title, after 20",
            after(Channel { number: 20, ..TITLE }, &[Input::Down, Input::Channel(300)]),
        ),
    ]
}

const KEYS: [Input; 14] = [
    Input::Digit(1),
    Input::Channel(201),
    Input::Channel(300),
    Input::Channel(5),
    Input::Up,
    Input::Down,
    Input::Last,
    Input::Play,
    Input::Pause,
    Input::Seek(Npt(90_000_000_000)),
    Input::Forward,
    Input::Rewind,
    Input::PlayRequest,
    Input::PauseRequest,
];

/// What a remote control asks for and answers, until something is to be told to it.
fn follows(remote: &mut Remote<u32>) -> String {
    let mut text = Vec::new();
    while let Some(action) = remote.poll(NOW, rules(&lineup())) {
        text.push(match action {
            Action::Perform(operation, _) => format!("-> {operation:?}"),
            Action::Tune { number, resume: None } => format!("-> tune to {number}"),
            Action::Tune { number, resume: Some(_) } => format!("-> tune back to {number}"),
            Action::Answer(_, outcome) => outcome.to_string(),
        });
    }
    if text.is_empty() { "waits".to_owned() } else { text.join(", ") }
}

#[test]
fn each_key_in_each_state_is_as_in_the_table() {
    let mut table = String::new();
    for (state, remote) in states() {
        writeln!(table, "{state}").unwrap();
        for key in KEYS {
            let mut after = remote.clone();
            assert!(after.route(key, 1));
            writeln!(table, "  {:<14}{}", key.to_string(), follows(&mut after)).unwrap();
        }
        let mut after = remote.clone();
        after.handle_due(LATER);
        writeln!(table, "  {:<14}{}", "1.5 s", follows(&mut after)).unwrap();
    }
    assert_eq!(table, include_str!("../table.txt"), "\n{table}");
}
