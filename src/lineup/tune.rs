//! Changes what a session plays: from a live path or title to another one.
//!
//! ```text
//!  begin(title) --> Opening --> Windows -----.
//!  begin(path)  --> Subscribing --> Looking --+--ready--> old role: take_out, new role: put_in
//!                      `--refused, gone, too late--> TuneError, and the old feed stays
//! ```
//! The old feed plays until the new one has its first packets at hand. The client notices a change
//! of the picture: SSRCs, sequence numbers, RTP time and transports go on (`session::moving`).
//!
//! Invariants: a session has one change at a time; each change that has begun is reported once
//! (`take_done`), also when the session ends meanwhile; a change that fails changes nothing.
//! Bounds: one change for each session; `TUNINGS_A_TURN` looks a turn; `TUNE_WAIT_MAX`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::SessionId;
use crate::base::names::{LIBRARY_PATH, Name};
use crate::base::time::{Mono, Npt};
use crate::base::wheel::Timer;
use crate::library::title::Title;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::PathError;
use crate::live::core::paths::Wanted;
use crate::live::front::Live;
use crate::live::readers::Readers;
use crate::live::readers::moving::{Found, Looking, LookingStream};
use crate::live::sources::fallback::fit::{Fit, Unfit, fit};
use crate::media::window::{PacketWindow, WindowKey};
use crate::poll::task::{OpenFailure, Task, TaskClass, TaskOwner, WindowFailure, Work};
use crate::sdp::read::read_session;
use crate::sdp::session::SessionSdp;
use crate::sdp::{Description, describe};
use crate::session::action::{Action, TimerKey};
use crate::session::client::{Client, Told};
use crate::session::cx::Cx;
use crate::session::directory::SessionRef;
use crate::session::outgoing::Outgoing;
use crate::vod::exchange::{FeedError, NextFeed};
use crate::vod::service::Vod;

/// What a session is to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// A live path, from its newest group of pictures.
    Live {
        /// Name of the path.
        path: Arc<str>,
    },
    /// A title.
    Title {
        /// Name as in a URL: `vod/film.mp4`, or `demo`.
        name: Arc<str>,
        /// Position; `None` is the start.
        resume: Option<Npt>,
    },
}

/// A change that has been carried out or has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneDone {
    /// Session that was to change.
    pub session: SessionId,
    /// Outcome.
    pub result: Result<Tuned, TuneError>,
}

/// A change that has been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Position in the title that was left; `None` when it was a live path, or the title's end.
    pub left_at: Option<Npt>,
}

/// Why a session goes on with what it plays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The session is none of a line-up, or has been set up only, or waits for its first packets.
    #[error("the session does not play")]
    NotPlaying,
    /// A change is under way.
    #[error("another change of the session is under way")]
    Busy,
    /// The client was told of other encodings.
    #[error("the client was told {told}, the channel has {found}")]
    Unfit {
        /// Encodings of the SDP that the client has.
        told: String,
        /// Encodings of the channel.
        found: String,
    },
    /// No title opens by this name.
    #[error("no title {name}: {reason}")]
    NoTitle {
        /// Name as in a URL.
        name: Arc<str>,
        /// Why it does not open.
        reason: String,
    },
    /// The live path has no source, or no room.
    #[error("no packets of {path}: {reason}")]
    NoSource {
        /// Name of the path.
        path: Arc<str>,
        /// Why not.
        reason: String,
    },
    /// The first packets did not come in time.
    #[error("nothing of the channel came within {} s", TUNE_WAIT_MAX.as_secs())]
    TimedOut,
    /// The server is busy.
    #[error("the server has too many tasks")]
    TooManyTasks,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
}

/// The changes of a shard's sessions: see the module.
#[derive(Debug, Default)]
pub struct Tunings {
    /// By number; numbers are not used again.
    table: BTreeMap<u32, Tuning>,
    by_session: HashMap<SessionId, u32>,
    done: VecDeque<TuneDone>,
    last_number: u32,
    /// The newest number that was looked at in this round.
    looked_at: Option<u32>,
}

#[derive(Debug)]
struct Tuning {
    session: SessionId,
    stage: Stage,
    since: Mono,
    timer: Timer,
}

#[derive(Debug)]
enum Stage {
    /// A worker opens the title.
    Opening { name: Arc<str>, resume: Option<Npt> },
    /// Workers build the first windows; those that were asked for, by stream.
    Windows { name: Arc<str>, next: Box<NextFeed>, asked: Vec<Option<WindowKey>> },
    /// The owner of the path has been asked.
    Subscribing { path: Arc<str> },
    /// A reader of the path looks for first packets.
    Looking(Looking),
}

/// The roles of a shard's sessions.
#[derive(Debug)]
pub struct Roles<'a> {
    /// Players of titles.
    pub vod: &'a mut Vod,
    /// Readers of live paths.
    pub live: &'a mut Live,
}

impl Roles<'_> {
    fn client_mut(&mut self, session: SessionRef) -> Option<&mut Client> {
        match session {
            SessionRef::Title(key) => {
                self.vod.players.session_mut(key).map(|session| &mut session.client)
            }
            SessionRef::Reader(index) => {
                self.live.readers.table.get_mut(index as usize).map(|reader| &mut reader.client)
            }
            SessionRef::Publisher(_) => None,
        }
    }

    fn client(&self, session: SessionRef) -> Option<&Client> {
        match session {
            SessionRef::Title(key) => self.vod.players.session(key).map(|session| &session.client),
            SessionRef::Reader(index) => {
                self.live.readers.table.get(index as usize).map(|reader| &reader.client)
            }
            SessionRef::Publisher(_) => None,
        }
    }

    fn can_leave(&self, session: SessionRef) -> bool {
        match session {
            SessionRef::Title(key) => self.vod.players.can_leave(key),
            SessionRef::Reader(index) => self.live.readers.can_leave(index),
            SessionRef::Publisher(_) => false,
        }
    }

    /// Tracks of the session's streams in what feeds it now, in the order of the streams.
    fn tracks(&self, session: SessionRef) -> Vec<u8> {
        match session {
            SessionRef::Title(key) => {
                let streams = self.vod.players.session(key).map(|session| &session.streams);
                streams.into_iter().flatten().map(|stream| stream.track_index).collect()
            }
            SessionRef::Reader(index) => {
                let reader = self.live.readers.table.get(index as usize);
                let streams = reader.into_iter().flat_map(|reader| &reader.streams);
                streams.map(|stream| stream.track).collect()
            }
            SessionRef::Publisher(_) => Vec::new(),
        }
    }

    /// The description of what feeds the session now.
    fn described(&self, session: SessionRef) -> Option<SessionSdp> {
        match session {
            SessionRef::Title(key) => {
                self.vod.players.session(key).and_then(|session| sdp_of(&session.title))
            }
            SessionRef::Reader(index) => {
                let reader = self.live.readers.table.get(index as usize)?;
                let path = self.live.hub.paths.path(&reader.path)?;
                read_session(path.description().text(false).as_bytes()).ok()
            }
            SessionRef::Publisher(_) => None,
        }
    }
}

impl Tunings {
    /// Makes a session one whose feed may change, as long as it has its first one: its client is
    /// told what describes that. To be called when the session is set up.
    pub fn enter(cx: &Cx, roles: &mut Roles<'_>, session: SessionId) {
        let Some(found) = cx.directory.find(session) else { return };
        let Some(sdp) = roles.described(found) else { return };
        if let Some(client) = roles.client_mut(found) {
            client.told.get_or_insert_with(|| Box::new(Told { sdp, medias: Vec::new() }));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty() && self.done.is_empty()
    }

    /// Begins to change what a session plays. The old feed goes on until the new one is ready.
    ///
    /// # Errors
    /// The change does not begin. Otherwise `take_done` reports it later.
    pub fn begin(
        &mut self,
        cx: &mut Cx,
        roles: &mut Roles<'_>,
        session: SessionId,
        to: Channel,
    ) -> Result<(), TuneError> {
        if self.by_session.contains_key(&session) {
            return Err(TuneError::Busy);
        }
        let found = cx.directory.find(session).ok_or(TuneError::Ended)?;
        if !roles.can_leave(found) {
            return Err(TuneError::NotPlaying);
        }
        let tracks = roles.tracks(found);
        let told = roles.client_mut(found).and_then(|client| client.told.as_deref_mut());
        let told = told.ok_or(TuneError::NotPlaying)?;
        if told.medias.is_empty() {
            told.medias = tracks;
        }
        let number = self.last_number.wrapping_add(1);
        self.last_number = number;
        let stage = match to {
            Channel::Title { name, resume } => {
                let title = match Name::parse(&name) {
                    Name::Clip => None,
                    Name::Title(title) => Some(title.to_owned()),
                    Name::Root | Name::Library | Name::Live(_) | Name::Nothing => {
                        let reason = "no name of a title".to_owned();
                        return Err(TuneError::NoTitle { name, reason });
                    }
                };
                submit(cx, number, 0, Work::Open { name: title });
                Stage::Opening { name, resume }
            }
            Channel::Live { path } => {
                subscribe(cx, roles.live, &path, number)?;
                Stage::Subscribing { path }
            }
        };
        let timer = cx.wheel.insert(cx.now + LOOK_INTERVAL, TimerKey::Tuning(number));
        let tuning = Tuning { session, stage, since: cx.now, timer };
        self.table.insert(number, tuning);
        self.by_session.insert(session, number);
        self.look(cx, roles, number);
        Ok(())
    }

    /// Finished changes, in order.
    pub fn take_done(&mut self) -> Option<TuneDone> {
        self.done.pop_front()
    }

    /// Looks at some of the changes that wait for packets: to be called once a turn.
    pub fn go_on(&mut self, cx: &mut Cx, roles: &mut Roles<'_>) {
        for _ in 0..TUNINGS_A_TURN.min(self.table.len()) {
            let from = self.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.table.range((from, Bound::Unbounded)).next();
            let next = next.or_else(|| self.table.iter().next()).map(|(number, _)| *number);
            self.looked_at = next;
            let Some(number) = next else { return };
            self.look(cx, roles, number);
        }
    }

    /// A change's timer is due.
    pub fn handle_due(&mut self, cx: &mut Cx, roles: &mut Roles<'_>, number: u32) {
        self.look(cx, roles, number);
        if let Some(tuning) = self.table.get_mut(&number) {
            tuning.timer = cx.wheel.insert(cx.now + LOOK_INTERVAL, TimerKey::Tuning(number));
        }
    }

    fn look(&mut self, cx: &mut Cx, roles: &mut Roles<'_>, number: u32) {
        let Some(tuning) = self.table.get_mut(&number) else { return };
        let session = cx.directory.find(tuning.session);
        let Some(session) = session.filter(|session| roles.client(*session).is_some()) else {
            return self.finish(cx, roles, number, Err(TuneError::Ended));
        };
        let (now, since) = (cx.now, tuning.since);
        let looked = match &mut tuning.stage {
            Stage::Opening { .. } | Stage::Windows { .. } => Ok(false),
            Stage::Subscribing { path } => {
                let path = Arc::clone(path);
                match begin_looking(roles, session, &path) {
                    Ok(Some(looking)) => {
                        tuning.stage = Stage::Looking(looking);
                        return self.look(cx, roles, number);
                    }
                    Ok(None) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            Stage::Looking(looking) => {
                match roles.live.readers.is_found(cx, &mut roles.live.hub, looking) {
                    Found::Ready => Ok(true),
                    Found::Waiting => Ok(false),
                    Found::Gone => Err(TuneError::NoSource {
                        path: Arc::clone(looking.path()),
                        reason: "its source has gone".to_owned(),
                    }),
                }
            }
        };
        match looked {
            Ok(true) => self.carry_out(cx, roles, number),
            Ok(false) if now.since(since) >= TUNE_WAIT_MAX => {
                self.finish(cx, roles, number, Err(TuneError::TimedOut));
            }
            Ok(false) => {}
            Err(error) => self.finish(cx, roles, number, Err(error)),
        }
    }

    /// A worker has opened the title of a change, or has failed to.
    pub fn handle_opened(
        &mut self,
        cx: &mut Cx,
        roles: &mut Roles<'_>,
        number: u32,
        opened: Result<Arc<Title>, OpenFailure>,
    ) {
        let Some(tuning) = self.table.get_mut(&number) else { return };
        let Stage::Opening { name, resume } = &tuning.stage else { return };
        let (name, resume, session) = (Arc::clone(name), *resume, tuning.session);
        let prepared = opened
            .map_err(|failure| TuneError::NoTitle {
                name: Arc::clone(&name),
                reason: failure.to_string(),
            })
            .and_then(|title| {
                let session = cx.directory.find(session).ok_or(TuneError::Ended)?;
                prepare_title(roles, session, &title, &name, resume)
            });
        let next = match prepared {
            Ok(next) => Box::new(next),
            Err(error) => return self.finish(cx, roles, number, Err(error)),
        };
        let mut asked = Vec::new();
        for (stream, key) in (0_u8..).zip(next.first_windows()) {
            asked.push(key);
            if let Some(key) = key {
                submit(cx, number, stream, Work::Window { title: next.title(), key });
            }
        }
        tuning.stage = Stage::Windows { name, next, asked };
    }

    /// A worker has built the first window of a stream, or has failed to.
    pub fn handle_window(
        &mut self,
        cx: &mut Cx,
        roles: &mut Roles<'_>,
        (number, stream): (u32, u8),
        built: Result<Arc<PacketWindow>, WindowFailure>,
    ) {
        let Some(tuning) = self.table.get_mut(&number) else { return };
        let Stage::Windows { name, next, asked } = &mut tuning.stage else { return };
        let Some(key) = asked.get_mut(usize::from(stream)).and_then(Option::take) else { return };
        let failed = match built {
            Ok(window) => {
                next.handle_window(key, &window);
                match next.check_frames(cx.now) {
                    Ok(()) => return self.carry_out(cx, roles, number),
                    Err(FeedError::NotHere { .. }) if asked.iter().any(Option::is_some) => return,
                    Err(error) => error.to_string(),
                }
            }
            Err(failure) => failure.to_string(),
        };
        let error = TuneError::NoTitle { name: Arc::clone(name), reason: failed };
        self.finish(cx, roles, number, Err(error));
    }

    /// The workers' queue has no room for a task of a change.
    pub fn handle_task_refused(&mut self, cx: &mut Cx, roles: &mut Roles<'_>, number: u32) {
        self.finish(cx, roles, number, Err(TuneError::TooManyTasks));
    }

    /// The new feed is ready: the session moves.
    fn carry_out(&mut self, cx: &mut Cx, roles: &mut Roles<'_>, number: u32) {
        let Some(tuning) = self.table.get(&number) else { return };
        let session = cx.directory.find(tuning.session);
        let Some(session) = session.filter(|session| roles.can_leave(*session)) else {
            let error = if session.is_some() { TuneError::NotPlaying } else { TuneError::Ended };
            return self.finish(cx, roles, number, Err(error));
        };
        let Some(tuning) = self.table.remove(&number) else { return };
        self.by_session.remove(&tuning.session);
        cx.wheel.cancel(tuning.timer);
        let Live { readers, hub, .. } = &mut *roles.live;
        let moving = match session {
            SessionRef::Title(key) => roles.vod.players.take_out(cx, key),
            SessionRef::Reader(index) => readers.take_out(cx, hub, index),
            SessionRef::Publisher(_) => None,
        };
        let Some(moving) = moving else { return };
        let left_at = moving.left_at;
        match tuning.stage {
            Stage::Windows { next, .. } => {
                roles.vod.put_in(cx, moving, *next);
            }
            Stage::Looking(looking) => {
                readers.put_in(cx, hub, moving, looking);
            }
            // Only what is ready is carried out.
            Stage::Opening { .. } | Stage::Subscribing { .. } => return,
        }
        self.done.push_back(TuneDone { session: tuning.session, result: Ok(Tuned { left_at }) });
    }

    /// Ends a change without a move.
    fn finish(
        &mut self,
        cx: &mut Cx,
        roles: &mut Roles<'_>,
        number: u32,
        result: Result<Tuned, TuneError>,
    ) {
        let Some(tuning) = self.table.remove(&number) else { return };
        cx.wheel.cancel(tuning.timer);
        self.by_session.remove(&tuning.session);
        match &tuning.stage {
            Stage::Looking(looking) => Readers::drop_looking(&mut roles.live.hub, looking),
            Stage::Subscribing { path } => {
                roles.live.hub.paths.forget_waiter(path, waiter(number));
            }
            Stage::Opening { .. } | Stage::Windows { .. } => {}
        }
        self.done.push_back(TuneDone { session: tuning.session, result });
    }
}

fn submit(cx: &mut Cx, number: u32, stream: u8, work: Work) {
    let owner = TaskOwner::Tuning { number, stream };
    cx.out.push(Action::Submit(Task { shard: cx.shard, owner, class: TaskClass::Control, work }));
}

fn subscribe(cx: &Cx, live: &mut Live, path: &Arc<str>, number: u32) -> Result<(), TuneError> {
    let limits = cx.path_limits(path);
    match live.hub.paths.want(path, limits, waiter(number), cx.now) {
        Wanted::Here | Wanted::Requested => Ok(()),
        Wanted::Request => {
            let rules = cx.path_rules(path);
            live.hub.request(path, OwnerRequest::Subscribe { shard: cx.shard, rules });
            Ok(())
        }
        Wanted::TooMany => Err(TuneError::NoSource {
            path: Arc::clone(path),
            reason: "too many requests wait".to_owned(),
        }),
    }
}

/// A looking reader, when the path is here. `None`: its owner has not answered.
fn begin_looking(
    roles: &mut Roles<'_>,
    session: SessionRef,
    path: &Arc<str>,
) -> Result<Option<Looking>, TuneError> {
    let no_source = |reason: String| TuneError::NoSource { path: Arc::clone(path), reason };
    let Live { readers, hub, .. } = &mut *roles.live;
    let Some(found) = hub.paths.path(path) else {
        return match hub.paths.is_asked(path) {
            true => Ok(None),
            false => Err(no_source("it has no source".to_owned())),
        };
    };
    let sdp = read_session(found.description().text(false).as_bytes())
        .map_err(|error| no_source(error.to_string()))?;
    let outgoing: Vec<&Outgoing> = match session {
        SessionRef::Title(key) => {
            let streams = roles.vod.players.session(key).map(|session| &session.streams);
            streams.into_iter().flatten().map(|stream| &stream.outgoing).collect()
        }
        SessionRef::Reader(index) => {
            let reader = readers.table.get(index as usize);
            let streams = reader.into_iter().flat_map(|reader| &reader.streams);
            streams.map(|stream| &stream.outgoing).collect()
        }
        SessionRef::Publisher(_) => Vec::new(),
    };
    let told = match session {
        SessionRef::Title(key) => roles.vod.players.session(key).map(|session| &session.client),
        SessionRef::Reader(index) => readers.table.get(index as usize).map(|reader| &reader.client),
        SessionRef::Publisher(_) => None,
    };
    let told = told.and_then(|client| client.told.as_deref()).ok_or(TuneError::Ended)?;
    let fit = fit_of(told, &sdp)?;
    let streams = outgoing.iter().zip(&told.medias).map(|(outgoing, media)| {
        let track = track_of(&fit, *media);
        let own = track.and_then(|track| sdp.medias().get(usize::from(track)));
        let own = own.and_then(|media| media.payload_types().next());
        let payload_type = own.map(|own| (own, outgoing.payload_type));
        LookingStream { track, payload_type: payload_type.filter(|(own, told)| own != told) }
    });
    let streams = streams.collect();
    match readers.look(hub, path, &outgoing, streams) {
        Ok(looking) => Ok(Some(looking)),
        Err(error @ (PathError::TooManyReaders { .. } | PathError::NoTrack { .. })) => {
            Err(no_source(error.to_string()))
        }
        Err(PathError::NoReader) => Ok(None),
    }
}

fn prepare_title(
    roles: &Roles<'_>,
    session: SessionRef,
    title: &Arc<Title>,
    name: &Arc<str>,
    resume: Option<Npt>,
) -> Result<NextFeed, TuneError> {
    let told = roles.client(session).and_then(|client| client.told.as_deref());
    let told = told.ok_or(TuneError::Ended)?;
    let no_title = |reason: String| TuneError::NoTitle { name: Arc::clone(name), reason };
    let sdp = sdp_of(title).ok_or_else(|| no_title("it cannot be described".to_owned()))?;
    let fit = fit_of(told, &sdp)?;
    let tracks: Vec<_> = told.medias.iter().map(|media| track_of(&fit, *media)).collect();
    let resume = resume.filter(|at| *at < title.asset.duration).unwrap_or(Npt::ZERO);
    NextFeed::of_tracks(title, &tracks, resume, 1.0).map_err(|error| no_title(error.to_string()))
}

fn fit_of(told: &Told, sdp: &SessionSdp) -> Result<Fit, TuneError> {
    fit(&told.sdp, sdp)
        .map_err(|Unfit { path, source_has }| TuneError::Unfit { told: path, found: source_has })
}

/// The track that feeds a medium that the client was told of.
fn track_of(fit: &Fit, media: u8) -> Option<u8> {
    let feeds = |track: &Option<crate::live::sources::fallback::fit::FitTrack>| {
        track.as_ref().is_some_and(|track| track.to == media)
    };
    fit.tracks.iter().position(feeds).and_then(|track| u8::try_from(track).ok())
}

fn sdp_of(title: &Title) -> Option<SessionSdp> {
    read_session(described_text(title).as_bytes()).ok()
}

/// The description of a title.
pub(super) fn described_text(title: &Title) -> String {
    let description = Description {
        asset: &title.asset,
        name: title.name.strip_prefix(LIBRARY_PATH).unwrap_or(&title.name),
        session_id: title.identity.inode,
        version: 0,
        origin: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        rtx: None,
        calls_eac3_ac3: false,
    };
    describe(&description)
}

/// A waiter of a path for a change: no command waits.
fn waiter(number: u32) -> u64 {
    FIRST_WAITER | u64::from(number)
}

/// Above all numbers of held commands.
const FIRST_WAITER: u64 = 1 << 62;
/// Changes that are looked at in one turn.
const TUNINGS_A_TURN: usize = 64;
/// Time between two looks at a change for which nothing arrives.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A live channel sends a key frame within this time, or is not tuned to.
const TUNE_WAIT_MAX: Duration = Duration::from_secs(10);
