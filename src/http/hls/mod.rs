//! HLS for viewers: playlists, segments and a page with a player, on a thread of its own.
//!
//! ```text
//! request -> drained? -> leave (`access` rules) -> resource --title--> plan, ranges of its file
//!                                         |------live---> snapshot, waited for where it is to come
//!                                         |------page---> page.html, player.js, player.css
//!                                         `------offer--> answer, a session (WHEP)
//! ```
//! | file | what is there |
//! |---|---|
//! | `view` | what is asked of the appliance |
//! | `leave` | whether a client may: the rules, Basic, tokens |
//! | `titles` | playlists and segments of titles |
//! | `live` | playlists, parts and segments of live paths; what waits for them |
//! | `whep` | offers of WebRTC, and the end of sessions |
//! | `watchers` | how many viewers there are |
//! | `bytes` | bodies, ranges, headers for caches and other origins |
//!
//! Shards are asked for nothing but batches of paths that somebody watches (`appliance::hls`), so
//! viewers cost players no time. Invariant: a viewer that leaves takes its waiting with it.
//! Bounds: connections in `server`; `READS_MAX` reads of files at once, one piece each;
//! `WAIT_MAX` for what is to come; `PLANS_BYTES_MAX` of plans.

mod bytes;
mod leave;
mod live;
mod page;
mod titles;
mod view;
mod watchers;
mod whep;

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::origin;
use super::problem::Problem;
use super::server::{self, Intake, Remote};
use crate::access::shown::Shown;
use crate::base::names::{Name, without_empty_segments};
use crate::config::hls::HlsConfig;
use crate::hls::resource::Resource;
use crate::metrics::cells::HLS;
use crate::session::draining::ViewerAway;
use leave::{Leave, Leaves};
use titles::Titles;
pub use view::{HlsView, LiveRefusal, OfferAsked, Reached, WhepRefusal};
pub use watchers::Watchers;
use whep::Target;

/// What requests are answered with.
struct Hls {
    view: Arc<dyn HlsView>,
    config: HlsConfig,
    leaves: Leaves,
    titles: Titles,
}

/// One request, read.
struct Asked<'a> {
    /// Name of the path.
    path: &'a str,
    resource: Resource,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    /// The body is not wanted.
    is_head: bool,
    /// Goes behind URIs of playlists.
    suffix: String,
}

/// Starts the thread, which runs `beside` too: what brings batches of live paths. It ends when
/// `shutdown` becomes true or its sender is gone; requests in progress then get one more second.
///
/// # Errors
/// When the runtime or the thread cannot be made.
pub fn spawn(
    listeners: Vec<TcpListener>,
    view: Arc<dyn HlsView>,
    (config, intake): (HlsConfig, Intake),
    shutdown: watch::Receiver<bool>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READS_MAX)
        .thread_name("hls-io")
        .build()?;
    let hls = Arc::new(Hls { view, config, leaves: Leaves::default(), titles: Titles::default() });
    let router = Router::new().fallback(answer).with_state(hls);
    Builder::new().name("hls".into()).spawn(move || {
        // Of this thread and those that it starts. A refusal costs nothing but the order.
        let _refused = rustix::process::setpriority_process(None, NICE);
        runtime.block_on(async move {
            tokio::spawn(beside);
            let serve = |listener| {
                server::serve(listener, None, router.clone(), intake.clone(), shutdown.clone())
            };
            for served in futures_util::future::join_all(listeners.into_iter().map(serve)).await {
                if let Err(error) = served {
                    tracing::error!(code = "HE-E406", %error, "an HLS listener failed");
                }
            }
        });
        // A read of a file that hangs (a network file system) must not hold up the end.
        runtime.shutdown_background();
    })
}

async fn answer(
    State(hls): State<Arc<Hls>>,
    ConnectInfo(remote): ConnectInfo<Remote>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    HLS.requests.add(1);
    let decoded = percent_decode_str(uri.path()).decode_utf8().ok();
    let target = decoded.and_then(|decoded| Target::read(&decoded));
    let mut response = if method == Method::OPTIONS {
        target.as_ref().map_or_else(bytes::preflight, Target::preflight)
    } else {
        let answered = match &target {
            Some(target) => {
                let (remote, method, uri, headers) = (&remote, &method, &uri, &headers);
                let request = whep::Request { remote, method, uri, headers, body };
                whep::answer(&hls, target, request).await
            }
            None => hls.answer(&remote, &method, &uri, &headers).await,
        };
        match answered {
            Ok(response) => response,
            Err(problem) => {
                let mut response = problem.into_response();
                let headers = response.headers_mut();
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                response
            }
        }
    };
    bytes::allow_origin(&hls.config, &headers, response.headers_mut());
    response
}

impl Hls {
    async fn answer(
        &self,
        remote: &Remote,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        if ![Method::GET, Method::HEAD].contains(method) {
            return Err(Problem::method_not_allowed());
        }
        check_host(&self.config, uri, headers)?;
        let decoded = percent_decode_str(uri.path()).decode_utf8();
        let decoded = decoded.map_err(|_| Problem::bad_request("the path is not UTF-8"))?;
        let (folder, name) = decoded.rsplit_once('/').unwrap_or(("", &decoded));
        let path = without_empty_segments(folder);
        let Some(resource) = Resource::parse(name).filter(|_| !path.is_empty()) else {
            return redirect(uri, &without_empty_segments(&decoded));
        };
        let query = uri.query();
        let suffix = suffix_of(query)?;
        if let Some(answer) = self.turn_away(&resource, uri)? {
            return Ok(answer);
        }
        let is_head = method == Method::HEAD;
        let mut asked = Asked { path: &path, resource, query, headers, is_head, suffix };
        let leave = self.leaves.ask(&*self.view, &asked, remote.addr.ip()).await?.leave;
        if leave == Leave::Public {
            // Nobody looks at it.
            asked.suffix.clear();
        }
        match asked.resource {
            Resource::Script => return Ok(page::script()),
            Resource::Style => return Ok(page::style()),
            _ => {}
        }
        let answer = match Name::parse(&path) {
            Name::Clip => titles::answer(self, None, &asked, leave).await,
            Name::Title(title) => titles::answer(self, Some(title), &asked, leave).await,
            Name::Live(path) => live::answer(self, path, &asked, leave).await,
            Name::Root | Name::Library | Name::Nothing => Err(no_path(&path)),
        };
        if answer.is_ok() && !begins(&asked.resource) {
            let now = self.view.now();
            HLS.seen_ns.set(now.0);
            self.view.watchers().note(&path, (remote.addr.ip(), headers), now);
        }
        answer
    }

    /// The answer to a viewer who is not taken because the server is drained: as of RTSP, before
    /// anybody asks who it is.
    fn turn_away(&self, resource: &Resource, uri: &Uri) -> Result<Option<Response>, Problem> {
        let Some(drain) = self.view.drain() else { return Ok(None) };
        let asked = uri.path_and_query().map_or("/", |asked| asked.as_str());
        let away = drain.turn_viewer_away(asked, begins(resource), self.view.now());
        let Some(away) = away else { return Ok(None) };
        HLS.turned_away.add(1);
        match away {
            ViewerAway::To(location) => moved(&location).map(Some),
            ViewerAway::Later(wait) => Err(Problem::unavailable_for(
                "the server is drained for maintenance, and takes no new viewers",
                wait,
            )),
        }
    }
}

/// What goes behind URIs for a token in a query.
fn suffix_of(query: Option<&str>) -> Result<String, Problem> {
    let token = Shown::token_in(query);
    if token.as_ref().is_some_and(|token| token.expose().len() > TOKEN_BYTES_MAX) {
        return Err(Problem::bad_request("the token is too long"));
    }
    Ok(token.map_or_else(String::new, |token| bytes::token_suffix(&token)))
}

/// Whether viewers begin with this.
fn begins(resource: &Resource) -> bool {
    matches!(resource, Resource::Page | Resource::Multivariant)
}

fn moved(location: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(location)
        .map_err(|_| Problem::bad_request("the path cannot be a header"))?;
    let no_store = HeaderValue::from_static("no-store");
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, no_store)];
    Ok((StatusCode::FOUND, headers).into_response())
}

/// The page of a path is below it, so that relative names are those of the path.
fn redirect(uri: &Uri, path: &str) -> Result<Response, Problem> {
    if !matches!(Name::parse(path), Name::Clip | Name::Title(_) | Name::Live(_)) {
        return Err(no_path(path));
    }
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    // One slash in front: two would name another host.
    let location = format!("/{}/{query}", uri.path().trim_matches('/'));
    let location = HeaderValue::from_str(&location)
        .map_err(|_| Problem::bad_request("the path cannot be a header"))?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
}

/// A page whose own name is led to this address (DNS rebinding) sends its own name as `Host`.
fn check_host(config: &HlsConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let name = named.map(|host| host.rsplit_once(':').map_or(host, |(name, _port)| name));
    let is_known = |name: &str| {
        config.hosts.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(name))
    };
    if name.is_some_and(is_known) {
        return Ok(());
    }
    origin::check_host(uri, headers).map_err(|_| {
        Problem::forbidden(
            "Host must be an IP address, localhost, a name without a dot, the name of this \
             machine, or one of hls.hosts",
        )
    })
}

fn no_path(path: &str) -> Problem {
    Problem::not_found(format!(
        "nothing is at `{path}`; titles are at /vod/NAME/ and live paths at /NAME/"
    ))
}

/// Behind shards and workers where CPUs are short: players come before viewers, who have buffers.
const NICE: i32 = 5;
/// As long as headers may be that carry one: it stands behind every URI of a playlist.
const TOKEN_BYTES_MAX: usize = 2_048;
/// Threads that read files.
const READS_MAX: usize = 8;
