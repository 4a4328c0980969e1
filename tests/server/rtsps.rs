//! RTSP over TLS from outside: what clients get, what strangers cannot do, and certificates that
//! change while the server runs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]

use std::io::Write;
use std::net::TcpStream;

use crate::support::http::{get, metric};
use crate::support::rtsp::Client;
use crate::support::secure::{SecureClient, certify, fingerprint, start, url};
use crate::support::server::{Options, Server};
use crate::support::wait::until;

const TCP: (&str, &str) = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");

/// Value of a metric with these labels.
fn labelled(server: &Server, name: &str, labels: &str) -> Option<f64> {
    let (_, text) = get(server.admin, "/metrics");
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(labels))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn failed(server: &Server, reason: &str) -> f64 {
    let labels = format!("reason=\"{reason}\"");
    labelled(server, "headend_rtsp_tls_handshakes_failed_total", &labels).unwrap_or_default()
}

fn play(client: &mut SecureClient, server: &Server) -> String {
    let base = url(server, "demo");
    let (status, text) = client.request("DESCRIBE", &base, &[("Accept", "application/sdp")]);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(&format!("Content-Base: {base}/")), "{text}");
    let (status, text) = client.request("SETUP", &format!("{base}/trackID=0"), &[TCP]);
    assert_eq!(status, 200, "{text}");
    let session = text.lines().find_map(|line| line.strip_prefix("Session: ")).unwrap();
    let session = session.split(';').next().unwrap().to_owned();
    let (status, text) = client.request("PLAY", &base, &[("Session", &session)]);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(&format!("url={base}/trackID=0")), "{text}");
    session
}

#[test]
fn title_plays_interleaved_with_urls_that_say_rtsps() {
    let (server, _files) = start("", &Options::default());
    assert!(server.banner.contains(&format!("rtsps   rtsps://{}/", server.rtsps())));
    let mut client = SecureClient::connect(server.rtsps());
    let session = play(&mut client, &server);
    for _ in 0..50 {
        let (channel, packet) = client.frame();
        assert!(channel < 2);
        assert_eq!(packet[0] >> 6, 2, "RTP or RTCP");
    }
    let (status, _) = client.request("TEARDOWN", &url(&server, "demo"), &[("Session", &session)]);
    assert_eq!(status, 200);
    assert_eq!(metric(server.admin, "headend_rtsp_tls_handshakes_total"), Some(1.0));
    let encrypted = metric(server.admin, "headend_rtsp_tls_encrypted_bytes_total").unwrap();
    assert!(encrypted > 10_000.0, "{encrypted}");
    let by_user = || labelled(&server, "headend_rtsp_tls_connections", "way=\"user\"").unwrap();
    let by_kernel = || labelled(&server, "headend_rtsp_tls_connections", "way=\"kernel\"").unwrap();
    assert!((by_user() + by_kernel() - 1.0).abs() < 0.1);
    drop(client);
    until("it is gone", || by_user() + by_kernel() < 0.5);
}

#[test]
fn bytes_may_be_cut_anywhere_in_the_handshake_and_behind_it() {
    let (server, _files) = start("", &Options::default());
    for step in [1, 2, 7] {
        let mut client = SecureClient::begin(server.rtsps());
        client.flush(step);
        client.finish_handshake(step);
        let options = format!("OPTIONS {} RTSP/1.0\r\nCSeq: 9\r\n\r\n", url(&server, "demo"));
        client.send(options.as_bytes(), step);
        assert_eq!(client.answer().0, 200);
        // A request in records of one byte.
        for byte in options.as_bytes() {
            client.send(&[*byte], usize::MAX);
        }
        assert_eq!(client.answer().0, 200);
    }
}

#[test]
fn media_beside_tls_is_refused_unless_the_operator_allows_it() {
    let udp = ("Transport", "RTP/AVP;unicast;client_port=40000-40001");
    let both = (
        "Transport",
        "RTP/AVP;unicast;client_port=40000-40001,RTP/AVP/TCP;unicast;interleaved=0-1",
    );
    let setup = |config: &str, transport| {
        let (server, _files) = start(config, &Options::default());
        let mut client = SecureClient::connect(server.rtsps());
        client.request("SETUP", &url(&server, "demo/trackID=0"), &[transport])
    };
    assert_eq!(setup("", udp).0, 461);
    let (status, text) = setup("", both);
    assert!(status == 200 && text.contains("interleaved="), "{text}");
    let (status, text) = setup("plain_media = true\n", udp);
    assert!(status == 200 && text.contains("server_port="), "{text}");
}

#[test]
fn plain_client_and_garbage_on_the_port_end_alone_and_the_log_says_so() {
    let (server, _files) = start("", &Options::default());
    let mut good = SecureClient::connect(server.rtsps());
    let mut plain = Client::connect(server.rtsps());
    plain.send_raw("OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    plain.assert_closed();
    server.assert_logs("speaks RTSP without TLS");
    for garbage in [&[0_u8; 64][..], &[22, 3, 1, 0xff, 0xff], &[22, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let mut client = SecureClient::begin(server.rtsps());
        client.send_raw(garbage);
        client.assert_closed();
    }
    until("all are counted", || failed(&server, "plain") + failed(&server, "protocol") > 3.5);
    assert_eq!(good.request("OPTIONS", &url(&server, "demo"), &[]).0, 200);
    // A record that nobody has sealed.
    good.send_raw(&[23, 3, 3, 0, 32]);
    good.send_raw(&[7; 32]);
    good.assert_closed();
    until("none is left", || metric(server.admin, "headend_rtsp_tls_handshakes_open") == Some(0.0));
}

#[test]
fn tls_on_the_plain_port_is_closed_and_the_log_says_why() {
    let (server, _files) = start("", &Options::default());
    let mut client = SecureClient::begin(server.rtsp);
    client.flush(usize::MAX);
    client.assert_closed();
    server.assert_logs("TLS on a port without");
}

#[test]
fn client_that_stops_in_the_handshake_is_closed_and_others_are_served() {
    let config = "[rtsp]\nsession_timeout = \"1s\"\n";
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let config = certify(folder.path(), &[]) + config;
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let mut silent: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(server.rtsps()).unwrap()).collect();
    let mut half = SecureClient::begin(server.rtsps());
    half.send_raw(&[22, 3, 1]);
    silent.iter_mut().take(10).for_each(|stream| stream.write_all(&[22, 3]).unwrap());
    let mut client = SecureClient::connect(server.rtsps());
    assert_eq!(client.request("OPTIONS", &url(&server, "demo"), &[]).0, 200);
    half.assert_closed();
    until("they are counted", || failed(&server, "timeout") > 20.5);
}

#[test]
fn certificate_is_read_again_when_its_files_change_and_a_wrong_one_is_not_taken() {
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let config = certify(folder.path(), &["--days", "300"]);
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let left = || metric(server.admin, "headend_rtsp_tls_certificate_seconds_left").unwrap();
    assert!(left() > 299.0 * 86_400.0);
    let mut before = SecureClient::connect(server.rtsps());
    let second = certify(folder.path(), &["--days", "100", "--force"]);
    server.assert_logs(&fingerprint(&second)["sha256:".len()..]);
    until("it counts for less", || left() < 101.0 * 86_400.0);
    std::fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    server.assert_logs("HE-W406");
    assert_eq!(before.request("OPTIONS", &url(&server, "demo"), &[]).0, 200, "it goes on");
    let mut after = SecureClient::connect(server.rtsps());
    assert_eq!(after.request("OPTIONS", &url(&server, "demo"), &[]).0, 200);
    let third = certify(folder.path(), &["--days", "200", "--force"]);
    server.signal_hup();
    server.assert_logs(&fingerprint(&third)["sha256:".len()..]);
}

#[test]
fn certificate_that_expires_soon_is_told_of_and_one_that_is_missing_ends_the_start() {
    let folder = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let config = certify(folder.path(), &["--days", "3"]);
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    assert!(server.banner.contains("HE-W116"), "{}", server.banner);
    drop(server);
    std::fs::remove_file(folder.path().join("cert.pem")).unwrap();
    let files = tempfile::tempdir_in(crate::support::scratch()).unwrap();
    let options = Options { config: Some(&config), ..Options::default() };
    let mut command = crate::support::server::command(&options, files.path());
    let patience = crate::support::wait::PATIENCE;
    let ended = crate::support::process::run_command(&mut command, patience);
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr.contains("cert.pem: No such file"), "{ended:?}");
}

#[test]
fn player_is_served_by_the_kernel_s_tls_or_by_the_shard_where_there_is_none() {
    let (server, _files) = start("kernel = \"auto\"\n", &Options::default());
    let has_kernel = !server.banner.contains("HE-W117");
    let mut client = SecureClient::connect(server.rtsps());
    play(&mut client, &server);
    for _ in 0..50 {
        assert!(client.frame().0 < 2);
    }
    let by = |way: &str| {
        let labels = format!("way=\"{way}\"");
        labelled(&server, "headend_rtsp_tls_connections", &labels).unwrap()
    };
    let (used, other) = if has_kernel { ("kernel", "user") } else { ("user", "kernel") };
    println!("encrypted by: {used}");
    assert!(by(used) > 0.5 && by(other) < 0.5);
}
