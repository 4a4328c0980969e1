//! Both ends of TLS beside each other: whatever way bytes are cut, and what ends a connection.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;
use crate::config::source::SourceTls;
use crate::metrics::cells::TLS_FAILURES;
use crate::pki::PkiError;
use crate::pki::camera::CameraRoots;
use crate::pki::serving::{SelfSigned, ServerIdentity};

const NOW_S: i64 = 1_800_000_000;

fn identity() -> ServerIdentity {
    let made = SelfSigned::make(["cam.lan"], NOW_S, Duration::from_secs(3_600)).unwrap();
    ServerIdentity::read(&made.certificate, &made.key).unwrap()
}

fn client(trust: SourceTls) -> TlsStream {
    let roots = CameraRoots::default();
    TlsStream::client(&CameraTls::new(trust, &roots).unwrap(), "cam.lan").unwrap()
}

/// Hands bytes over in pieces of `step` until neither side has any. What each has read.
fn exchange(
    client: &mut TlsStream,
    server: &mut TlsStream,
    step: usize,
) -> Result<(Vec<u8>, Vec<u8>), TlsFailure> {
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    for _ in 0..16 {
        hand_over(client, server, step, &mut to_server)?;
        hand_over(server, client, step, &mut to_client)?;
    }
    assert!(client.output().is_empty() && server.output().is_empty());
    Ok((to_client, to_server))
}

fn hand_over(
    from: &mut TlsStream,
    to: &mut TlsStream,
    step: usize,
    plain: &mut Vec<u8>,
) -> Result<(), TlsFailure> {
    let bytes = from.output().to_vec();
    from.consume_output(bytes.len());
    bytes.chunks(step).try_for_each(|piece| to.handle_bytes(piece, plain).map(|_| ()))
}

#[test]
fn bytes_go_both_ways_however_they_are_cut() {
    let identity = identity();
    for step in [1, 3, 5, 100, 100_000] {
        let mut server = TlsStream::server(&identity.tls).unwrap();
        let mut client = client(SourceTls::Off);
        exchange(&mut client, &mut server, step).unwrap();
        assert!(!client.is_handshaking() && !server.is_handshaking(), "{step}");
        client.seal(b"OPTIONS * RTSP/1.0\r\n\r\n");
        let long = vec![7; 3 * RECORD_BYTES_MAX + 5];
        server.seal(&long);
        let (to_client, to_server) = exchange(&mut client, &mut server, step).unwrap();
        assert_eq!(to_server, b"OPTIONS * RTSP/1.0\r\n\r\n");
        assert!(to_client == long, "{step}");
        server.close();
        let mut rest = Vec::new();
        let bytes = server.output().to_vec();
        assert!(client.handle_bytes(&bytes, &mut rest).unwrap().is_closed);
        assert_eq!(rest, b"");
    }
}

#[test]
fn what_is_sealed_at_once_is_one_record() {
    let identity = identity();
    let mut server = TlsStream::server(&identity.tls).unwrap();
    let mut client = client(SourceTls::Off);
    exchange(&mut client, &mut server, 1_000).unwrap();
    for bytes in [1, 1_400, RECORD_BYTES_MAX] {
        server.seal(&vec![1; bytes]);
        let output = server.output().to_vec();
        assert_eq!(record_length(&output, false), Ok(Some(output.len())), "{bytes}");
        assert!(output.len() <= bytes + RECORD_OVERHEAD_BYTES, "{bytes}");
        server.consume_output(output.len());
    }
    server.seal(b"");
    assert_eq!(server.output(), b"", "nothing is no record");
}

#[test]
fn request_without_tls_is_told_from_garbage_and_from_a_long_record() {
    let identity = identity();
    let fails = |bytes: &[u8]| {
        let mut server = TlsStream::server(&identity.tls).unwrap();
        let failure = server.handle_bytes(bytes, &mut Vec::new()).unwrap_err();
        assert!(server.has_failed());
        let after = server.handle_bytes(b"more", &mut Vec::new()).unwrap();
        assert!(after.is_closed, "nothing more is read");
        failure
    };
    assert_eq!(fails(b"OPTIONS rtsps://h/ RTSP/1.0\r\n"), TlsFailure::Plain);
    assert!(matches!(fails(b"\0\0\0"), TlsFailure::Protocol(_)));
    assert!(matches!(fails(&[22, 3, 1, 0xff, 0xff]), TlsFailure::Protocol(_)));
    assert!(matches!(fails(&[22, 3, 1, 0, 4, 9, 9, 9, 9]), TlsFailure::Protocol(_)));
    let indexes: Vec<&str> = [
        TlsFailure::Plain,
        TlsFailure::Alert(String::new()),
        TlsFailure::Certificate(String::new()),
        TlsFailure::Incompatible(String::new()),
        TlsFailure::Protocol(String::new()),
    ]
    .iter()
    .map(|failure| TLS_FAILURES[failure.index()])
    .collect();
    assert_eq!(indexes, ["plain", "alert", "certificate", "incompatible", "protocol"]);
    let others = [FAILED_BY_TIMEOUT, FAILED_BY_CLOSE, FAILED_BY_LIMIT].map(|at| TLS_FAILURES[at]);
    assert_eq!(others, ["timeout", "closed", "limit"]);
}

#[test]
fn record_that_was_changed_ends_the_connection() {
    let identity = identity();
    let mut server = TlsStream::server(&identity.tls).unwrap();
    let mut client = client(SourceTls::Off);
    exchange(&mut client, &mut server, 1_000).unwrap();
    client.seal(b"TEARDOWN");
    let mut bytes = client.output().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let failure = server.handle_bytes(&bytes, &mut Vec::new()).unwrap_err();
    assert!(matches!(failure, TlsFailure::Protocol(_)), "{failure}");
    assert!(!server.output().is_empty(), "an alert says so");
}

#[test]
fn camera_is_believed_by_its_pin_and_what_is_wrong_is_said() {
    let identity = identity();
    let shaken = |trust| {
        let mut server = TlsStream::server(&identity.tls).unwrap();
        exchange(&mut client(trust), &mut server, 1_000).map(|_| ())
    };
    let mut pin = [0; 32];
    for (byte, digits) in pin.iter_mut().zip(identity.fingerprint.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    assert_eq!(shaken(SourceTls::Pinned(pin)), Ok(()));
    assert_eq!(shaken(SourceTls::Off), Ok(()));
    pin[0] ^= 1;
    let other = shaken(SourceTls::Pinned(pin)).unwrap_err();
    let expected =
        format!("its certificate has the fingerprint sha256:{}, not that of", identity.fingerprint);
    assert!(other.to_string().starts_with(&expected), "{other}");
    // Without one CA there is nothing to verify by.
    let none = CameraTls::new(SourceTls::Verify, &CameraRoots::default()).unwrap_err();
    assert!(matches!(none, PkiError::Unusable(_)), "{none}");
    let own = SelfSigned::make(["other.lan"], NOW_S, Duration::from_secs(60)).unwrap();
    let roots = CameraRoots::new(CertificateDer::from_pem_slice(own.certificate.as_bytes()));
    let tls = CameraTls::new(SourceTls::Verify, &roots).unwrap();
    let mut unverified = TlsStream::client(&tls, "cam.lan").unwrap();
    let mut server = TlsStream::server(&identity.tls).unwrap();
    let failure = exchange(&mut unverified, &mut server, 1_000).unwrap_err().to_string();
    let pinned = format!("source_tls = \"sha256:{}\"", identity.fingerprint);
    assert!(failure.ends_with(&pinned), "{failure}");
}

#[test]
fn certificate_says_when_it_counts_and_whose_its_key_is() {
    let (made, identity) = (
        SelfSigned::make(["h.lan", "10.0.0.7", "::1"], NOW_S, Duration::from_secs(3_600)).unwrap(),
        identity(),
    );
    assert_eq!(identity.not_after_s, NOW_S + 3_600);
    assert!(identity.not_before_s <= NOW_S - 3_600, "clocks of clients may be late");
    assert_eq!(identity.complaint(NOW_S).as_deref(), Some("expires in 0 days"));
    let late = identity.complaint(NOW_S + 3 * 86_400).unwrap();
    assert_eq!(late, "has expired 2 days ago");
    assert!(identity.complaint(NOW_S - 30 * 86_400).unwrap().contains("is the clock right"));
    let other = SelfSigned::make(["h.lan"], NOW_S, Duration::from_secs(3_600)).unwrap();
    let read = |certificate: &str, key: &str| ServerIdentity::read(certificate, key).unwrap_err();
    assert_eq!(read(&made.certificate, &other.key), PkiError::OtherKey);
    assert_eq!(read("", &made.key), PkiError::NoCertificate);
    assert_eq!(read(&made.certificate, ""), PkiError::NoKey);
    let bad = SelfSigned::make(["a b"], NOW_S, Duration::from_secs(1)).unwrap_err();
    assert_eq!(bad, PkiError::BadName("a b".to_owned()));
}

#[test]
fn keys_for_the_kernel_go_on_with_the_next_record_of_each_direction() {
    let identity = identity();
    let keys_after = |records: usize| {
        let mut server = TlsStream::server(&identity.tls).unwrap();
        let mut client = client(SourceTls::Off);
        assert!(!server.is_at_rest(), "there are no keys yet");
        exchange(&mut client, &mut server, 1_000).unwrap();
        assert!(server.is_at_rest());
        for _ in 0..records {
            client.seal(b"OPTIONS");
            server.seal(b"200");
            assert!(!server.is_at_rest(), "a record waits");
            exchange(&mut client, &mut server, 1_000).unwrap();
        }
        client.seal(b"PLAY");
        let bytes = client.output().to_vec();
        server.handle_bytes(&bytes[..9], &mut Vec::new()).unwrap();
        assert!(!server.is_at_rest(), "half of a record is read");
        server.handle_bytes(&bytes[9..], &mut Vec::new()).unwrap();
        assert!(server.is_at_rest());
        server.into_keys().unwrap()
    };
    let number = |info: &crate::pki::kernel::CryptoInfo| {
        let bytes = info.as_bytes();
        // AES-128-GCM, which the server prefers.
        assert_eq!(bytes.len(), 40);
        u64::from_be_bytes(bytes[32..].try_into().unwrap())
    };
    for records in [0, 3] {
        let keys = keys_after(records);
        assert_eq!(number(&keys.send), records as u64);
        assert_eq!(number(&keys.receive), records as u64 + 1);
    }
}
