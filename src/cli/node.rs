//! `headend node --base URL --join TOKEN --media DIR`: a server that contents are delivered to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::args::{NodeArgs, NodeStartArgs, schedule};
use super::{Exit, Failure, log, serve};
use crate::agent::{Facts, NodeOptions, Security};
use crate::appliance::node::{self, NodeSetup};
use crate::appliance::{EarlyHangup, GivesWay};
use crate::base::rate::Rate;
use crate::config::{Loaded, Origin};
use crate::dist::token::split_token;
use crate::pki::trust::Trust;

/// Runs until the node stops.
pub(super) fn run(
    args: &NodeArgs,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Exit, Failure> {
    let early = EarlyHangup::watch()?;
    let start = &args.start;
    let env: Vec<_> = env.into_iter().collect();
    let loaded = start.server.load(start.media.as_deref(), env.iter().cloned())?;
    let media = loaded
        .config
        .media_root
        .clone()
        .ok_or_else(|| Failure::usage("a node has a media folder: give it with --media DIR"))?;
    let setup = NodeSetup {
        options: options(start, media, &env)?,
        gives_way: gives_way(&loaded),
        peer_listen: start.peer_listen,
    };
    make_folder(&setup.options.media)?;
    let _flush = log::init(loaded.config.log, &loaded.config.limits)?;
    let read_again = serve::read_again(&start.server, start.media.as_deref());
    match node::run(loaded.config, setup, read_again, early) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) if error.is_usage() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::runtime(error.to_string())),
    }
}

fn options(
    start: &NodeStartArgs,
    media: PathBuf,
    env: &[(OsString, OsString)],
) -> Result<NodeOptions, Failure> {
    let base = start.base.clone();
    let base = base.ok_or_else(|| Failure::usage("a node has a base: give it with --base URL"))?;
    let from_env = || env.iter().find(|(name, _)| name == JOIN_VARIABLE);
    let join = match &start.join {
        Some(join) => Some(join.clone()),
        None => from_env().and_then(|(_, value)| value.clone().into_string().ok()),
    };
    let labels: BTreeMap<String, String> = start.label.iter().cloned().collect();
    let facts = Facts {
        // The node's socket for peers has the last word.
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        rtsp: None,
        labels,
        up_rate: schedule(start.up_rate, &start.up_window),
        down_rate: start.down_rate.map(Rate::bytes_per_s),
    };
    let join = join.map(|join| join_token(&join)).transpose()?;
    let (join, fingerprint) = match &join {
        Some(token) => {
            let (secret, fingerprint) = split_token(token);
            (Some(secret.to_owned()), fingerprint)
        }
        None => (None, None),
    };
    let security = match (&start.ca, fingerprint) {
        _ if start.insecure => Security::Insecure,
        (Some(file), _) => Security::Tls(ca_file(file)?),
        (None, Some(fingerprint)) => Security::Tls(Trust::pin(fingerprint)),
        (None, None) => Security::Kept,
    };
    Ok(NodeOptions { base, join, security, media, name: start.name.clone(), facts })
}

/// Makes the media folder, and those above it, where it is missing.
fn make_folder(media: &Path) -> Result<(), Failure> {
    if !media.exists() {
        std::fs::create_dir_all(media).map_err(|error| {
            let shown = media.display();
            Failure::usage(format!("cannot make the media folder {shown}: {error}"))
        })?;
    }
    serve::check_root(media)
}

/// The CAs of a file.
pub(super) fn ca_file(file: &Path) -> Result<Trust, Failure> {
    let failed = |why: String| Failure::usage(format!("--ca {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    Trust::from_pem(&text).map_err(|error| failed(error.to_string()))
}

/// A token as it is, or the file that holds it.
fn join_token(text: &str) -> Result<String, Failure> {
    if text.starts_with(JOIN_PREFIX) {
        return Ok(text.to_owned());
    }
    let read = std::fs::read_to_string(Path::new(text)).map_err(|error| {
        Failure::usage(format!(
            "--join: neither a join token ({JOIN_PREFIX}...) nor a file that can be read: {error}"
        ))
    })?;
    let token = read.trim();
    if token.starts_with(JOIN_PREFIX) {
        Ok(token.to_owned())
    } else {
        Err(Failure::usage(format!("--join: {text} holds no join token ({JOIN_PREFIX}...)")))
    }
}

/// Several nodes on one machine: ports that nobody has set become free ones where they are taken.
/// The port for RTSP stays, as players have to know it.
fn gives_way(loaded: &Loaded) -> GivesWay {
    let is_default = |key| loaded.origin(key) == Origin::Default;
    GivesWay {
        admin: is_default("admin.listen"),
        rtp: is_default("rtsp.udp.rtp"),
        hls: is_default("hls.listen"),
        webrtc: is_default("webrtc.listen"),
    }
}

/// Beginning of a join token.
const JOIN_PREFIX: &str = "hdj_";
/// Where the join token is, when it is not on the command line for all users to see.
const JOIN_VARIABLE: &str = "HEADEND_JOIN_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_token_is_itself_or_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hdj_abc\n").unwrap();
        assert_eq!(join_token("hdj_abc").unwrap(), "hdj_abc");
        assert_eq!(join_token(file.to_str().unwrap()).unwrap(), "hdj_abc");
        std::fs::write(&file, "hdp_abc\n").unwrap();
        for bad in ["hdp_abc", "/nonexistent", file.to_str().unwrap()] {
            let failure = join_token(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn node_needs_a_base_and_a_media_folder() {
        let run = |start: NodeStartArgs| run(&NodeArgs { verb: None, start }, []).unwrap_err();
        let failure = run(NodeStartArgs::default());
        assert!(failure.message.contains("--media"), "{failure}");
        let dir = tempfile::tempdir().unwrap();
        let media = Some(dir.path().to_owned());
        let failure = run(NodeStartArgs { media, ..NodeStartArgs::default() });
        assert!(failure.message.contains("--base"), "{failure}");
    }

    #[test]
    fn media_folder_that_is_missing_is_made_with_those_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let media = dir.path().join("new/films");
        assert_eq!(make_folder(&media), Ok(()));
        assert!(media.is_dir());
        assert_eq!(make_folder(&media), Ok(()));
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (wrong, why) in [(&file, "is not a folder"), (&file.join("films"), "cannot make")] {
            let failure = make_folder(wrong).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            let names_it = failure.message.contains(wrong.to_str().unwrap());
            assert!(names_it && failure.message.contains(why), "{failure}");
        }
    }
}
