//! Contents over HTTP, by a client that knows nothing of the server.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::dist::ids::Digest;
use crate::dist::keys::{BaseKeys, EXPIRY_LEEWAY_S};
use crate::dist::units::{FrameReader, UNIT_LEN};
use crate::pki::tls;
use crate::pki::trust::Trust;
use crate::store::{Appended, StoreKey};

const ID: ContentId = ContentId(Uuid::from_u128(0x23));

/// A base that serves, and a node to fetch into.
struct Rig {
    dir: TempDir,
    keys: BaseKeys,
    store: Store,
    state: PeerState,
    sent: Arc<AtomicU64>,
    addr: SocketAddr,
    client: reqwest::Client,
}

impl Rig {
    fn new(children_max: usize, rate: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = BaseKeys::from_bytes(&[5; 32]);
        let (store, _) =
            Store::open(&dir.path().join("base"), StoreKey::Signs(keys.clone())).unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let state = PeerState::new(PeerOptions {
            store: store.clone(),
            children_max,
            fits_uplink: false,
            upload: Upload::new(rate),
            sent: Arc::new(move |_, bytes| {
                counter.fetch_add(bytes, Ordering::Relaxed);
            }),
            bearers: Bearers::Anyone,
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let routes = router(state.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { dir, keys, store, state, sent, addr, client: client() }
    }

    async fn upload(&self, id: ContentId, bytes: &Bytes) -> Arc<Content> {
        let content = self.store.create(id, Some(bytes.len() as u64)).unwrap();
        content.append(bytes.clone()).await.unwrap();
        content.finish().await.unwrap();
        content
    }

    fn capability(&self, content: ContentId, node: &str, expires_in_s: i64) -> String {
        let node = NodeName::new(node).unwrap();
        let expires_s = utc_s() + expires_in_s;
        self.keys.seal_capability(&Capability { content, node, expires_s, job: None })
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}/peer/v1/contents/{path}", self.addr))
    }

    async fn units(&self, node: &str, from: u64) -> reqwest::Response {
        let request = self.get(&format!("{ID}/units?from={from}"));
        request.bearer_auth(self.capability(ID, node, 60)).send().await.unwrap()
    }
}

/// reqwest wants settings of TLS also where there is none.
fn client() -> reqwest::Client {
    let nobody = tls::client(&Trust::Roots(Vec::new()), None).unwrap();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(nobody).build().unwrap()
}

fn bytes_of(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"peer").finalize_xof().fill(&mut bytes);
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_fetches_a_content_from_its_offset_and_every_byte_is_counted() {
    let rig = Rig::new(4, None);
    let bytes = bytes_of((1 << 20) + 5);
    rig.upload(ID, &bytes).await;
    let key = StoreKey::Verifies(rig.keys.verify_key());
    let (node, _) = Store::open(&rig.dir.path().join("node"), key).unwrap();
    let relay = node.create(ID, None).unwrap();
    let mut received = 0;
    // In two connections: the second goes on where the first was left.
    for is_last in [false, true] {
        let mut response = rig.units("a", relay.have()).await;
        assert_eq!(response.headers()["content-type"], UNITS_TYPE);
        let mut reader = FrameReader::new();
        'stream: while let Some(piece) = response.chunk().await.unwrap() {
            received += piece.len() as u64;
            reader.push(piece);
            while let Some(frame) = reader.next_frame().unwrap() {
                let appended = relay.append_frame(frame).await.unwrap();
                let half = bytes.len() as u64 / 2;
                if !is_last && matches!(appended, Appended::Unit { have } if have > half) {
                    break 'stream;
                }
            }
        }
    }
    assert_eq!(relay.end().unwrap().blake3, Digest(*blake3::hash(&bytes).as_bytes()));
    assert!(rig.sent.load(Ordering::Relaxed) >= received);
}

#[tokio::test]
async fn only_a_capability_of_this_base_for_this_content_opens_it() {
    let rig = Rig::new(4, None);
    rig.upload(ID, &bytes_of(10)).await;
    let other = ContentId(Uuid::from_u128(1));
    let foreign = BaseKeys::from_bytes(&[6; 32]).seal_capability(&Capability {
        content: ID,
        node: NodeName::new("a").unwrap(),
        expires_s: utc_s() + 60,
        job: None,
    });
    let refused = [
        (None, 401),
        (Some("x".to_owned()), 403),
        (Some(foreign), 403),
        (Some(rig.capability(other, "a", 60)), 403),
        (Some(rig.capability(ID, "a", -EXPIRY_LEEWAY_S - 60)), 403),
    ];
    for path in ["", "/state", "/units"] {
        for (token, status) in &refused {
            let request = rig.get(&format!("{ID}{path}"));
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), *status, "{path} {token:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
        let late = rig.capability(ID, "a", -EXPIRY_LEEWAY_S + 60);
        let response = rig.get(&format!("{ID}{path}")).bearer_auth(late).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let request = rig.get(&format!("{other}/state")).bearer_auth(rig.capability(other, "a", 60));
    assert_eq!(request.send().await.unwrap().status(), 404);
    rig.store.remove(ID).unwrap();
    assert_eq!(rig.units("a", 0).await.status(), 410);
    let request = rig.get("no-id/units").bearer_auth(rig.capability(ID, "a", 60));
    assert_eq!(request.send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn more_children_than_a_server_may_have_are_told_to_go_elsewhere() {
    let rig = Rig::new(1, None);
    let content = rig.store.create(ID, None).unwrap();
    content.append(bytes_of(UNIT_LEN)).await.unwrap();
    let mut first = rig.units("a", 0).await;
    assert!(first.chunk().await.unwrap().is_some());
    let refused = rig.units("b", 0).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // A newer stream of the same node has the place of the older, which ends.
    let mut second = rig.units("a", 0).await;
    assert!(second.chunk().await.unwrap().is_some());
    while let Ok(Some(_)) = first.chunk().await {}
    assert_eq!(rig.state.children(), 1);
    rig.state.set_children_max(2);
    assert_eq!(rig.units("b", 0).await.status(), 200);
}

#[tokio::test]
async fn state_of_a_content_tells_how_far_it_is_and_whom_it_comes_from() {
    let rig = Rig::new(1, None);
    let content = rig.upload(ID, &bytes_of(10)).await;
    content.set_via(vec![NodeName::new("x").unwrap()]);
    content.set_rate(7);
    let request = rig.get(&format!("{ID}/state")).bearer_auth(rig.capability(ID, "a", 60));
    let state: ContentState = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(state, content.peer_state());
    assert_eq!((state.have, state.rate, state.end), (10, 7, content.end()));
}

#[tokio::test]
async fn state_of_a_content_that_begins_meanwhile_is_waited_for() {
    let rig = Rig::new(1, None);
    let shown = format!("Bearer {}", rig.capability(ID, "a", 60));
    let headers = HeaderMap::from_iter([(header::AUTHORIZATION, shown.parse().unwrap())]);
    let ask = || {
        content_state(
            State(rig.state.clone()),
            Caller::default(),
            Path(ID.to_string()),
            headers.clone(),
        )
    };
    let mut answer = pin!(ask());
    let is_waiting = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(is_waiting, "the content is not there yet");
    let content = rig.store.create(ID, None).unwrap();
    assert_eq!(answer.await.unwrap().0, content.peer_state());
    rig.store.remove(ID).unwrap();
    assert_eq!(ask().await.unwrap_err().status(), StatusCode::GONE);
}

#[tokio::test]
async fn bytes_of_a_whole_content_come_in_ranges() {
    let rig = Rig::new(1, None);
    let bytes = bytes_of(3 * UNIT_LEN + 9);
    let growing = rig.store.create(ContentId(Uuid::from_u128(9)), None).unwrap();
    rig.upload(ID, &bytes).await;
    let token = rig.capability(ID, "a", 60);
    let get = |range: &'static str| {
        rig.get(&ID.to_string()).bearer_auth(&token).header("range", range).send()
    };
    let part = get("bytes=65530-131080").await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 65530-131080/{}", bytes.len()));
    assert_eq!(part.bytes().await.unwrap(), bytes.slice(65_530..131_081));
    let all = rig.get(&ID.to_string()).bearer_auth(&token).send().await.unwrap();
    assert_eq!(all.status(), 200);
    assert_eq!(all.bytes().await.unwrap(), bytes);
    assert_eq!(get("bytes=999999-").await.unwrap().status(), 416);
    let token = rig.capability(growing.id(), "a", 60);
    let early = rig.get(&growing.id().to_string()).bearer_auth(token).send().await.unwrap();
    assert_eq!(early.status(), 409);
    assert_eq!(rig.units("a", 1 << 40).await.status(), 416);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_together_keep_to_the_cap() {
    let rig = Rig::new(4, Some(8 << 20));
    rig.upload(ID, &bytes_of(1 << 20)).await;
    let start = std::time::Instant::now();
    let fetch = async |node: &str| rig.units(node, 0).await.bytes().await.unwrap().len() as u64;
    let (a, b) = tokio::join!(fetch("a"), fetch("b"));
    // 2 MiB at 8 MiB a second, less what was saved up.
    let least = Duration::from_millis(180);
    assert!(start.elapsed() >= least, "{:?} for {} bytes", start.elapsed(), a + b);
    assert_eq!(rig.sent.load(Ordering::Relaxed), a + b);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_ends_where_it_was_asked_to_and_is_given_only_when_all_of_it_is_there() {
    let rig = Rig::new(1, None);
    let bytes = bytes_of((1 << 20) + 5);
    let half = 8 * UNIT_LEN as u64;
    let content = rig.store.create(ID, Some(bytes.len() as u64)).unwrap();
    content.append(bytes.slice(..9 * UNIT_LEN + 7)).await.unwrap();
    // Whole units are signed by then.
    let _ = content.tail().await;
    let ask = |from: u64, to: u64, more: &str| {
        let request = rig.get(&format!("{ID}/units?from={from}&to={to}{more}"));
        request.bearer_auth(rig.capability(ID, "a", 60)).send()
    };
    let mut units = Vec::new();
    let mut response = ask(2 * UNIT_LEN as u64, half, "&spare=true").await.unwrap();
    let mut reader = FrameReader::new();
    while let Some(piece) = response.chunk().await.unwrap() {
        reader.push(piece);
        while let Some(frame) = reader.next_frame().unwrap() {
            if let crate::dist::units::Frame::Unit(unit) = frame {
                units.push(unit.number());
            }
        }
    }
    assert_eq!(units, [2, 3, 4, 5, 6, 7], "the connection is free behind the last");
    let behind = ask(half, 12 * UNIT_LEN as u64, "&spare=true").await.unwrap();
    assert_eq!(behind.status(), StatusCode::CONFLICT);
    let said: crate::dist::wire::peer::Behind = behind.json().await.unwrap();
    assert_eq!(said.have, 9 * UNIT_LEN as u64);
    // Who has nothing else waits for the rest. A part takes no place of a child.
    let waits = ask(half, 12 * UNIT_LEN as u64, "").await.unwrap();
    assert_eq!((waits.status(), rig.state.children()), (StatusCode::OK, 1));
    let other = rig.get(&format!("{ID}/units?from=0&to={half}&spare=true"));
    let other = other.bearer_auth(rig.capability(ID, "b", 60)).send().await.unwrap();
    assert_eq!((other.status(), rig.state.children()), (StatusCode::OK, 1));
}
