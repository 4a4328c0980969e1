//! `headend [serve] [DIR]`: configuration in, appliance running.

use std::path::Path;
use std::process::Command;

use super::args::{ServeArgs, ServerArgs, TakeoverMode};
use super::{Exit, Failure, log};
use crate::appliance::{
    self, EarlyHangup, GivesWay, ReadAgain, Starter, TakeoverAsk, start_in_background,
};
use crate::config::{Config, Origin};

/// Runs until the appliance stops.
pub(super) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    if args.background {
        return run_in_background();
    }
    let early = EarlyHangup::watch()?;
    let loaded = args.load(std::env::vars_os())?;
    // A second server on one machine serves pages all the same, elsewhere.
    let is_default = |key| loaded.origin(key) == Origin::Default;
    let (hls, webrtc) = (is_default("hls.listen"), is_default("webrtc.listen"));
    let gives_way = GivesWay { hls, webrtc, ..GivesWay::default() };
    let config = loaded.config;
    if let Some(root) = &config.media_root {
        check_root(root)?;
    }
    let _flush = log::init(config.log, &config.limits)?;
    let read_again = read_again(&args.server, args.dir.as_deref());
    run_appliance((config, gives_way), read_again, early, takeover_ask(args)?)
}

/// Reads the configuration again, where there is a file to read.
pub(super) fn read_again(server: &ServerArgs, root: Option<&Path>) -> Option<ReadAgain> {
    server.config.as_ref()?;
    let (server, root) = (server.clone(), root.map(Path::to_owned));
    Some(Box::new(move || {
        let loaded = server.load(root.as_deref(), std::env::vars_os());
        loaded.map(|loaded| loaded.config).map_err(|failure| failure.message)
    }))
}

/// A wrong folder is most often a verb with a typing error, or a file that was to be probed.
pub(super) fn check_root(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!(
            "{shown} is not a folder; serve the folder it is in, or look into it with: \
             headend probe {shown}"
        ))),
        Err(error) => Err(Failure::usage(format!(
            "{shown}: {error}; DIR is a folder of media files; verbs are \
             serve, node, probe, doctor, config, path and session"
        ))),
    }
}

/// The one place where the command line meets the appliance.
fn run_appliance(
    (config, gives_way): (Config, GivesWay),
    read_again: Option<ReadAgain>,
    early: EarlyHangup,
    ask: Option<TakeoverAsk>,
) -> Result<Exit, Failure> {
    match appliance::run(config, gives_way, read_again, early, ask) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) if error.is_usage() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::runtime(error.to_string())),
    }
}

/// What `--takeover` and what belongs to it ask for.
fn takeover_ask(args: &ServeArgs) -> Result<Option<TakeoverAsk>, Failure> {
    let Some(mode) = args.takeover else { return Ok(None) };
    let starter = args.tells_starter.then(Starter::from_stdin).transpose()?;
    let (may_end, at) = (mode == TakeoverMode::Drop, args.takeover_at.clone());
    Ok(Some(TakeoverAsk { may_end, at, starter }))
}

/// Starts the same program again, and ends when that one serves or has ended.
fn run_in_background() -> Result<Exit, Failure> {
    let words = std::env::args_os().skip(1).filter(|word| word != "--background");
    let mut command = Command::new("/proc/self/exe");
    command.args(words).arg("--tells-starter");
    // What went wrong it has said itself.
    Ok(match start_in_background(&mut command)? {
        None => Exit::Ok,
        Some(code) if code == Exit::Usage as i32 => Exit::Usage,
        Some(_) => Exit::Runtime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_that_is_missing_or_a_file_is_a_usage_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.mp4");
        std::fs::write(&file, b"x").unwrap();
        assert_eq!(check_root(dir.path()), Ok(()));
        let failure = check_root(&file).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("headend probe "), "{failure}");
        assert_eq!(check_root(&dir.path().join("none")).unwrap_err().exit, Exit::Usage);
    }
}
