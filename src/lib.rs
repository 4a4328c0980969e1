//! headend: a streaming appliance for Linux.
//!
//! Layers, lowest first. A room may use any room of a lower layer, never one of its own layer or
//! above; `tests/house/layers.rs` has the same table and holds the code to it.
//!
//! ```text
//! 0  base                        time, ids, limits, the timer wheel
//! 1  mapped  metrics  takeover   files as memory for the kernel; counters; records for a process
//!                                that takes over
//! 2  rtsp  rtp  rtcp  media      wire formats and media formats
//! 3  sdp  library  config        a title in words; the folder of titles; what may be set
//! 4  access  sandbox             who may do what; what the process itself may do
//! 5  poll  router  live/core     PollTable, events, tasks; an event router; live paths without
//!                                RTSP
//! 6  session  dist  hls  whep    what RTSP sessions of all roles share; distribution, plain; HLS
//!                                and WHEP without HTTP
//! 7  vod  live  store  ledger  pki
//!                                players of titles; readers and sources of live paths; files of
//!                                contents; what the base keeps; certificates
//! 8  lineup                      sessions that tune among live paths and titles
//! 9  consumers  worker  agent    Listener, Connection, Receiver; the pool behind the TaskQueue;
//!                                a node's side of distribution
//! 10  shard  http  host          the ring and its turn; HTTP for operators; this machine
//! 11  cli                        command line, banner, probe, doctor
//! 12  appliance                  all of it put together
//! ```
//! `metrics` and `mapped` lie low because almost everyone writes or carries them: shards and
//! workers count in `metrics::cells`, and an opened `library::title::Title` has its map with it.
//! `poll` lies above `library` because the outcome of a task is a Title. One edge goes up:
//! `cli::serve` starts the appliance.
//!
//! `base`, all formats, `poll`, `access`, `router`, `session`, `vod`, `live`, `lineup` and
//! `consumers` are plain code: bytes and the time come in, actions go out. They own no descriptor,
//! clock or thread. Only `shard::ring` drives io_uring, only `worker` glommio, only `http` HTTP.
//!
//! # What comments cite
//!
//! "DESIGN section n" is a section of `src/DESIGN.md`: how the whole works, and why. "Client rule
//! Cn", or just Cn, is a rule of `src/rtsp/CLIENTS.md`: what a player does that a server must know.
//! "reference 001" and its neighbours are named at the top of DESIGN. "RFC 2326 s10.5" is section
//! 10.5 of that RFC.
//!
//! # Ways through the code
//!
//! A request: `shard::turn` reaps bytes -> `shard::dispatch` finds the PollTable row ->
//! `consumers::rtsp_connection` reads a request (`rtsp::reader`) -> [`consumers::sessions`] finds
//! whose it is: a title's ([`vod::service::Vod`]) or a path's ([`live::front::Live`]), with what
//! they share in [`session::cx`] -> `vod::methods`, one file for each method, or `live::readers`
//! and `live::sources` -> the answer leaves through `shard::send::tcp`.
//!
//! Bytes of RTSPS, in: `consumers::tls` has [`pki::stream`] decrypt them. Out: `shard::send::tls`
//! makes records of answers and frames, and reads what they have of files.
//!
//! SRTP: `consumers::rtsp_connection` tells keys in a description and reads those of SETUP
//! ([`rtp::srtp`]: `sdes`, `mikey`) -> [`session::srtp`] takes them to the stream -> the pump gives
//! its packets to a run that `shard::send::srtp` encrypts; reports and published packets are
//! decrypted where their stream is found.
//!
//! A tunnel over HTTP: the first bytes of a connection tell (`consumers::rtsp_connection`) -> its
//! cookie's shard knows it ([`consumers::tunnel`], `shard::tunnels`) -> what a POST brings is read
//! by the connection of the GET.
//!
//! A login: `consumers::rtsp_connection` asks [`access`] before it executes a request -> an answer
//! to Digest is checked there; the rest is a question in a [`poll::task::Task`] -> `worker` hands
//! it to the judge of `appliance`, which has threads of its own -> the answer is an outcome.
//!
//! A title: `consumers::describe` makes a [`poll::task::Task`] -> [`worker::TaskQueue`] ->
//! `worker::open` resolves the name in [`library`], parses with [`media::container`], maps the file
//! -> the outcome comes back through [`shard::inbox`].
//!
//! A packet: `vod::windows` asks a worker for windows ahead of the play head ->
//! [`media::packetize`] or [`media::hint`] makes descriptors ([`media::window`]) -> the wheel of
//! [`vod::table`] says who is due -> [`vod::pump`] hands header and mapped payload to a
//! [`base::sink`] -> `shard::send::sink` is that of [`shard::ring`], which sends.
//!
//! A published packet, in: `shard::arrivals` -> `live::sources::arrivals` finds the publisher's
//! track by [`live::core::demux`] or the interleaved channel -> [`live::core::source`] checks it
//! and makes a [`live::core::batch`] -> the path's owner, [`live::core::registry`], possibly on
//! another shard through [`shard::inbox`].
//!
//! A published packet, out: the registry sends the batch to each shard with readers ->
//! [`live::core::paths`], [`live::core::path`] and its [`live::core::ring`] ->
//! [`live::core::pump`] asks the path which reader is due and what it is sent
//! ([`live::core::reader`]) -> [`shard::ring`] sends.
//!
//! A reader that is late: [`live::core::reader`] skips to the newest key frame when its lag exceeds
//! the budget, [`live::core::rewrite`] rewrites sequence numbers and RTP time behind the break.
//!
//! A camera: `live::sources::fetch` starts what the configuration names -> `live::sources::pull`
//! is the RTSP client, plain code -> `shard::sockets::cameras` has its connection -> its packets go
//! the way of a publisher's.
//!
//! A path with fallbacks: `live::sources::fallback` listens to other paths of the server, chooses
//! one, rewrites its packets and publishes them on the path.
//!
//! A path that is fed by titles: `live::sources::titles` asks workers for windows with their bytes
//! (`worker::window_bytes`), puts one title behind another on a timeline and publishes the packets.
//!
//! A playlist: `live::sources::titles::schedule` decides what follows -> a feed plays it. An edit:
//! `http::admin` -> [`shard::inbox`] -> `live::sources::titles::playlists`; kept by `appliance`.
//!
//! A key of a viewer: SET_PARAMETER or `http::admin` -> `lineup::service` -> [`lineup::remote`], on
//! the event router ([`router`]) -> `lineup::tune` changes what the session plays, or the key acts
//! on what plays, through `lineup::room` -> the answer, when the key is consumed.
//!
//! A session that moves to another shard: [`shard::moves`] brings it to rest, by the steps of
//! [`session::handover`] -> [`consumers::parcel`] packs it (`vod::handover`,
//! `live::readers::handover`) -> a message -> the other shard unpacks it; its home tells events
//! where it is.
//!
//! A request of a client of a base: `http::jobs` -> [`ledger::clerk`] runs it on the book
//! ([`dist::book`]: `requests` checks it and acts on the parts) -> what it changed is committed ->
//! the answer, and orders to nodes ([`ledger::orders`]).
//!
//! A report of a node: `http::jobs` -> [`ledger::clerk`] -> [`dist::book`]: `reports` moves a
//! delivery, `parts` knows what follows for its job, `planner` who fetches from whom now -> rows
//! and events are committed -> orders to other nodes.
//!
//! An order of a base: `agent::control` reads it -> [`dist::agent`] journals it and has its content
//! fetched ([`dist::fetch`] chooses the source, `agent::links` reads it, [`store`] verifies and
//! keeps it) -> `agent::driver` publishes it in the media folder -> a signed receipt.
//!
//! A file of a provider: `cli::jobs` -> `http::ctp` makes a command of it and appends its bytes to
//! a content of [`store`]; [`dist`] says which nodes fetch it, and from whom.
//!
//! A live path of a job: [`dist::book`] plans who reflects it from whom -> [`dist::agent`] and
//! [`dist::reflect`] -> `agent::live` has it added to the table of paths (`appliance::reflect`,
//! [`config::added_paths`]) -> `live::sources::fallback` feeds it from its list.
//!
//! A client that is called back: [`dist::book`] notes an event for who asked for it, in one commit
//! with the event -> `appliance::base` asks who is due, reads the event from [`ledger`] and sends
//! it ([`dist::webhook`]) -> the book hears what became of it.
//!
//! A base that takes over: [`ledger::lease`] gets the lease of the database -> `appliance::base`
//! reads the rows into a book, starts a clerk and serves -> a commit is fenced by the epoch of the
//! lease -> [`dist::agent`] of each node takes orders of no lower one.
//!
//! A certificate of a node: `agent::control` asks for it with a hello -> `http::jobs` checks that
//! the node's own key has signed the request -> [`pki::authority`] signs it -> `agent::channel`
//! shows it to the base and to other nodes, whose `http::caller` compares it with the token or
//! capability.
//!
//! A viewer in a browser: `http::hls` -> a title: [`hls::title`] cuts it, and its file is read; a
//! live path: `appliance::hls` listens to it as a guest of the shards, and [`hls::live`] makes
//! parts of its batches.
//!
//! The same below a second: `http::hls` takes an offer of WHEP to `appliance::hls`, whose batches
//! [`whep`] gives to the connections of its viewers; `appliance::hls::datagrams` has their socket.
//!
//! A multicast group: `live::multicast::member` answers SETUP and keeps the members ->
//! `live::multicast::sender` is a reader of the path on its owner's shard ->
//! `shard::sockets::groups` has the sockets.

#![cfg_attr(not(test), deny(unsafe_code))]

pub mod access;
pub mod agent;
pub mod appliance;
pub mod base;
pub mod cli;
pub mod config;
pub mod consumers;
pub mod dist;
pub mod hls;
pub mod host;
pub mod http;
pub mod ledger;
pub mod library;
pub mod lineup;
pub mod live;
pub mod mapped;
pub mod media;
pub mod metrics;
pub mod pki;
pub mod poll;
pub mod router;
pub mod rtcp;
pub mod rtp;
pub mod rtsp;
pub mod sandbox;
pub mod sdp;
pub mod session;
pub mod shard;
pub mod store;
pub mod takeover;
pub mod vod;
pub mod whep;
pub mod worker;
