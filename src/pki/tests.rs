//! Handshakes in memory: who believes whom.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection};

use super::authority::{Authority, NodeRequest, is_base_name};
use super::certificate::NodeCertificate;
use super::credentials::{Credentials, node_credentials, node_request};
use super::fault::TlsFault;
use super::tls::{self, Callers};
use super::trust::Trust;
use super::*;
use crate::dist::keys::NodeKeys;

const DAY: Duration = Duration::from_secs(86_400);

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn name() -> NodeName {
    NodeName::new("edge-1").unwrap()
}

fn keys() -> NodeKeys {
    NodeKeys::from_bytes(&[7; 32])
}

fn authority() -> Authority {
    Authority::generate(now_s()).unwrap()
}

/// A certificate that a node was given at `now_s`.
fn node_of(authority: &Authority, now_s: i64) -> CertifiedKey {
    let request = NodeRequest::read(&node_request(&keys()).unwrap()).unwrap();
    let given = authority.node_certificate(&name(), &request, now_s, DAY).unwrap();
    node_credentials(&keys(), &given).unwrap()
}

fn shown(key: CertifiedKey) -> Arc<Credentials> {
    let credentials = Arc::<Credentials>::default();
    credentials.replace(key);
    credentials
}

/// The base of `authority`, at localhost.
fn base(authority: &Authority, now_s: i64, callers: Callers) -> Arc<ServerConfig> {
    let key = authority.base_certificate(["localhost", "127.0.0.1"], now_s, DAY).unwrap();
    tls::server(shown(key), authority.certificate(), callers).unwrap()
}

fn roots(authority: &Authority) -> Trust {
    Trust::from_pem(authority.certificate_pem()).unwrap()
}

fn client(trust: &Trust, shows: Option<CertifiedKey>) -> ClientConfig {
    tls::client(trust, shows.map(shown)).unwrap()
}

/// What each side says when nothing more is to be sent; the node that the server sees.
fn shake(
    client: ClientConfig,
    server: Arc<ServerConfig>,
    host: &str,
) -> (Result<(), TlsFault>, Result<Option<NodeName>, TlsFault>) {
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), host).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    // A handshake has fewer flights.
    for _ in 0..10 {
        let (up, down) = (carry(&mut client, &mut server), carry(&mut server, &mut client));
        (at_server, at_client) = (at_server.and(up), at_client.and(down));
    }
    let certificate = server.peer_certificates().and_then(|chain| NodeCertificate::read(&chain[0]));
    (at_client, at_server.map(|()| certificate.map(|found| found.node)))
}

fn carry<A, B>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), TlsFault> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets().map_err(|error| TlsFault::of(&error))?;
    }
    Ok(())
}

#[test]
fn node_is_known_by_its_certificate_and_strangers_are_refused_where_one_is_needed() {
    let authority = authority();
    let node = || Some(node_of(&authority, now_s()));
    for callers in [Callers::Anyone, Callers::Certified] {
        let server = base(&authority, now_s(), callers);
        let found = shake(client(&roots(&authority), node()), server.clone(), "localhost");
        assert_eq!(found, (Ok(()), Ok(Some(name()))));
        let stranger = shake(client(&roots(&authority), None), server, "localhost");
        match callers {
            Callers::Anyone => assert_eq!(stranger, (Ok(()), Ok(None))),
            Callers::Certified => {
                assert!(stranger.1.is_err());
                assert_eq!(stranger.0, Err(TlsFault::Refused("it wants one")));
            }
        }
    }
}

#[test]
fn certificate_of_another_ca_is_refused_on_both_sides() {
    let (authority, other) = (authority(), authority());
    let foreign = node_of(&other, now_s());
    let server = base(&authority, now_s(), Callers::Anyone);
    let (at_client, at_server) =
        shake(client(&roots(&authority), Some(foreign)), server.clone(), "localhost");
    assert_eq!(at_server, Err(TlsFault::OtherAuthority));
    assert!(matches!(at_client, Err(TlsFault::Refused(_))), "{at_client:?}");
    let (at_client, _) = shake(client(&roots(&other), None), server, "localhost");
    assert_eq!(at_client, Err(TlsFault::OtherAuthority));
}

#[test]
fn fingerprint_finds_the_base_of_its_ca_and_no_other() {
    let (authority, other) = (authority(), authority());
    let trust = Trust::pin(authority.fingerprint());
    assert_eq!(trust.authorities(), []);
    let server = base(&authority, now_s(), Callers::Anyone);
    assert_eq!(shake(client(&trust, None), server.clone(), "127.0.0.1").0, Ok(()));
    assert_eq!(trust.authorities(), [authority.certificate().clone()]);
    let wrong = Trust::pin(other.fingerprint());
    assert_eq!(shake(client(&wrong, None), server, "localhost").0, Err(TlsFault::OtherAuthority));
    assert_eq!(wrong.authorities(), []);
}

#[test]
fn certificate_of_another_name_or_time_is_refused_however_the_ca_is_known() {
    let authority = authority();
    for trust in [roots(&authority), Trust::pin(authority.fingerprint())] {
        let server = base(&authority, now_s(), Callers::Anyone);
        let (at_client, _) = shake(client(&trust, None), server, "base.example");
        let Err(TlsFault::OtherName { expected, presented }) = at_client else {
            panic!("{at_client:?}")
        };
        assert_eq!(
            (expected.as_str(), presented.as_str()),
            ("base.example", "localhost, 127.0.0.1")
        );
        let old = base(&authority, now_s() - 2 * 86_400, Callers::Anyone);
        assert_eq!(shake(client(&trust, None), old, "localhost").0, Err(TlsFault::Expired));
        let early = base(&authority, now_s() + 2 * 86_400, Callers::Anyone);
        assert_eq!(shake(client(&trust, None), early, "localhost").0, Err(TlsFault::NotYet));
        // A clock that is hours behind is no reason.
        let skewed = base(&authority, now_s() + 3_600, Callers::Anyone);
        assert_eq!(shake(client(&trust, None), skewed, "localhost").0, Ok(()));
    }
}

#[test]
fn certificate_of_a_node_that_has_expired_is_refused() {
    let authority = authority();
    let server = base(&authority, now_s(), Callers::Anyone);
    let old = node_of(&authority, now_s() - 2 * 86_400);
    let (at_client, at_server) = shake(client(&roots(&authority), Some(old)), server, "localhost");
    assert_eq!(at_server, Err(TlsFault::Expired));
    assert_eq!(at_client, Err(TlsFault::Refused("it has expired")));
}

#[test]
fn node_cannot_be_taken_for_the_base_or_another_node() {
    let authority = authority();
    let key = node_of(&authority, now_s());
    let server = tls::server(shown(key), authority.certificate(), Callers::Certified).unwrap();
    let trust = roots(&authority);
    let connect = |host: &str| {
        shake(client(&trust, Some(node_of(&authority, now_s()))), server.clone(), host).0
    };
    assert_eq!(connect(&host_of(&name())), Ok(()));
    let other = host_of(&NodeName::new("edge-2").unwrap());
    for host in ["localhost", "127.0.0.1", "edge-1", other.as_str()] {
        assert!(matches!(connect(host), Err(TlsFault::OtherName { .. })), "{host}");
    }
    assert!(is_base_name("base.example") && is_base_name("::1"));
    for bad in [host_of(&name()).as_str(), "", "a b", "a:1", "-a", &"a".repeat(300)] {
        assert!(!is_base_name(bad), "{bad}");
    }
}

#[test]
fn ca_is_the_same_after_it_was_kept() {
    let authority = authority();
    let again = Authority::from_secret_pem(&authority.to_secret_pem()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    assert_eq!(roots(&again).authorities(), roots(&authority).authorities());
    let server = base(&again, now_s(), Callers::Anyone);
    assert_eq!(shake(client(&roots(&authority), None), server, "localhost").0, Ok(()));
    let refused = |text: &str| Authority::from_secret_pem(text).unwrap_err();
    assert_eq!(refused("half"), PkiError::NoCertificate);
    assert_eq!(refused(authority.certificate_pem()), PkiError::NoKey);
    let other = Authority::generate(now_s()).unwrap();
    let mixed = other.to_secret_pem().replace(other.certificate_pem(), authority.certificate_pem());
    assert_eq!(refused(&mixed), PkiError::OtherKey);
    assert_eq!(Trust::from_pem("none").unwrap_err(), PkiError::NoCertificate);
}

#[test]
fn request_is_for_the_key_that_signs_it() {
    let authority = authority();
    let text = node_request(&keys()).unwrap();
    let request = NodeRequest::read(&text).unwrap();
    assert_eq!(request.key(), keys().verify_key().as_bytes());
    let given = authority.node_certificate(&name(), &request, now_s(), DAY).unwrap();
    let other = NodeKeys::from_bytes(&[8; 32]);
    assert_eq!(node_credentials(&other, &given).unwrap_err(), PkiError::OtherKey);
    // Each line of the text is changed in one place.
    let lines: Vec<&str> = text.lines().collect();
    for at in 1..lines.len() - 1 {
        let mut changed: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let first = if changed[at].starts_with('A') { "B" } else { "A" };
        changed[at].replace_range(..1, first);
        let refused = NodeRequest::read(&changed.join("\n"));
        assert_eq!(refused.unwrap_err(), PkiError::BadRequest, "line {at}");
    }
    assert_eq!(NodeRequest::read("").unwrap_err(), PkiError::BadRequest);
}
