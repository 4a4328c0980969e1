//! Certificates and requests for them: of nodes, bases and files, as PEM.

use std::sync::LazyLock;
use std::time::Duration;

use headend::dist::ids::NodeName;
use headend::dist::keys::NodeKeys;
use headend::pki::authority::{Authority, NodeRequest, is_base_name};
use headend::pki::credentials::{node_credentials, node_request};
use headend::pki::trust::Trust;

use crate::input::text;

/// A text with a request or a certificate in it: a certificate is signed for the key of the request
/// alone, and a CA that is read from its own text is the same.
pub fn pem(data: &[u8]) {
    let text = text(data);
    let _ = is_base_name(&text);
    if let Ok(request) = NodeRequest::read(&text) {
        assert!(!request.key().is_empty());
        let node = NodeName::new("n1").expect("a name");
        let life = Duration::from_secs(3_600);
        if let Ok(certificate) = AUTHORITY.node_certificate(&node, &request, NOW_S, life) {
            let is_own = *text == *REQUEST;
            assert_eq!(node_credentials(&KEYS, &certificate).is_ok(), is_own, "of another key");
        }
    }
    if let Ok(trust) = Trust::from_pem(&text) {
        assert!(!trust.authorities().is_empty());
        assert!(trust.authorities().iter().all(|authority| trust.includes(authority)));
    }
    if let Ok(authority) = Authority::from_secret_pem(&text) {
        let again = Authority::from_secret_pem(&authority.to_secret_pem()).expect("a CA of ours");
        assert_eq!(again.fingerprint().0, authority.fingerprint().0);
    }
    let _ = node_credentials(&KEYS, &text);
}

static KEYS: LazyLock<NodeKeys> = LazyLock::new(|| NodeKeys::from_bytes(&[9; 32]));

static REQUEST: LazyLock<String> = LazyLock::new(|| node_request(&KEYS).expect("a request"));

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::generate(NOW_S).expect("a CA"));

const NOW_S: i64 = 1_800_000_000;
