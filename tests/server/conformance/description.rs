//! What DESCRIBE says, and the URLs that are built from it (RFC 2326 s10.2, C.1; RFC 8866).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use crate::support;
use crate::support::http;
use crate::support::media::{Kind, TITLES, title};
use crate::support::publish::{Publisher, SOUND};
use crate::support::rtsp::Client;
use crate::support::server::Server;
use crate::support::session::{Lower, Session, describe, joined};
use crate::support::wait::PATIENCE;
use crate::support::{Served, folder_with};

const TCP: (&str, &str) = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");

#[test]
fn description_has_what_players_need_to_seek() {
    // Client rules C5, C14, C26: the end of the range makes FFmpeg, VLC and mpv offer seeking.
    let server = Server::with_demo();
    let (base, sdp) = describe(&mut Client::connect(server.rtsp), &server.demo_url());
    assert!((sdp.duration_s().expect("npt with an end") - 20.0).abs() < 0.1, "{}", sdp.text);
    // Client rule C4: the base ends with a slash, so that every way of glueing agrees.
    assert_eq!(base, format!("{}/", server.demo_url()));
    let kinds: Vec<_> = sdp.media.iter().map(|media| media.kind.as_str()).collect();
    assert_eq!(kinds, ["video", "audio"]);
    let video = &sdp.media[0];
    assert_eq!((video.encoding.as_str(), video.clock_rate_hz), ("H264", 90_000));
    assert_eq!(video.fmtp("packetization-mode"), Some("1"));
    assert_eq!(video.fmtp("profile-level-id").unwrap().len(), 6);
    assert_eq!(video.fmtp("sprop-parameter-sets").unwrap().split(',').count(), 2);
    let audio = &sdp.media[1];
    assert_eq!(
        (audio.encoding.to_lowercase().as_str(), audio.clock_rate_hz),
        ("mpeg4-generic", 48_000)
    );
    assert_eq!(audio.fmtp("mode").map(str::to_lowercase).as_deref(), Some("aac-hbr"));
    for (name, value) in [("sizelength", "13"), ("indexlength", "3"), ("indexdeltalength", "3")] {
        assert_eq!(audio.fmtp(name), Some(value), "{name}");
    }
}

#[test]
fn every_title_of_the_matrix_is_described_with_its_payload_formats() {
    let played: Vec<_> = TITLES.iter().filter(|title| !title.served.is_empty()).collect();
    let files: Vec<_> = played.iter().map(|title| title.file()).collect();
    let folder = folder_with(&files.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>());
    let server = Server::with_folder(folder.path());
    let mut client = Client::connect(server.rtsp);
    for (title, file) in played.iter().zip(&files) {
        let url = server.vod_url(file.file_name().unwrap().to_str().unwrap());
        let (_, sdp) = describe(&mut client, &url);
        let got: Vec<_> = sdp.media.iter().map(|m| m.encoding.to_ascii_uppercase()).collect();
        let wanted: Vec<_> = title.served.iter().map(|(_, kind)| encoding(*kind)).collect();
        assert_eq!(got, wanted, "{}", title.name);
        let mut types: Vec<_> = sdp.media.iter().map(|media| media.payload_type).collect();
        types.dedup();
        assert_eq!(types.len(), sdp.media.len(), "{}: payload types tell tracks apart", title.name);
        for (media, (_, kind)) in sdp.media.iter().zip(title.served) {
            assert_eq!(
                media.payload_type >= 96,
                !is_static(*kind, media.clock_rate_hz),
                "{}",
                title.name
            );
        }
    }
}

/// Encoding name as registered for RTP.
fn encoding(kind: Kind) -> &'static str {
    match kind {
        Kind::H264 => "H264",
        Kind::H265 => "H265",
        Kind::Mpeg4 => "MP4V-ES",
        Kind::Mjpeg => "JPEG",
        Kind::Vp8 => "VP8",
        Kind::Vp9 => "VP9",
        Kind::Av1 => "AV1",
        Kind::Aac => "MPEG4-GENERIC",
        Kind::Mp3 => "MPA",
        Kind::Opus => "OPUS",
        Kind::Pcmu => "PCMU",
        Kind::Pcma => "PCMA",
        Kind::L16 => "L16",
        Kind::L24 => "L24",
        Kind::Ac3 => "AC3",
        Kind::Eac3 => "EAC3",
    }
}

/// RFC 3551 s6 has a number for it.
fn is_static(kind: Kind, clock_rate_hz: u32) -> bool {
    match kind {
        Kind::Mjpeg | Kind::Mp3 => true,
        Kind::Pcmu | Kind::Pcma => clock_rate_hz == 8_000,
        Kind::L16 => clock_rate_hz == 44_100,
        _ => false,
    }
}

#[test]
fn control_urls_are_understood_however_a_player_glues_them() {
    // Client rule C4: behind a slash, behind a query, or in front of one.
    let served = Served::new(title("h264_aac_faststart_mp4"));
    let mut client = Client::connect(served.server.rtsp);
    let (_, sdp) = describe(&mut client, &served.url);
    let control = &sdp.media[0].control;
    let url = &served.url;
    for track in [
        format!("{url}/{control}"),
        format!("{url}//{control}"),
        format!("{url}?token=x/{control}"),
        format!("{url}/{control}?token=x"),
        format!("{url}/?token=x/{control}"),
    ] {
        let mut client = Client::connect(served.server.rtsp);
        let response = client.request("SETUP", &track, &[TCP]);
        assert_eq!(response.status, 200, "{track}: {response:?}");
    }
}

#[test]
fn query_in_the_url_survives_from_describe_to_play() {
    let served = Served::new(title("h264_aac_faststart_mp4"));
    let url = format!("{}?user=x&token=y", served.url);
    let mut session = Session::open(served.server.rtsp, &url, Lower::Tcp);
    let reply = session.play(&[]);
    // Client rule C6: RTP-Info has exactly the URLs of SETUP.
    let infos = reply.rtp_info();
    let urls: Vec<_> = infos.iter().map(|info| &info.url).collect();
    let wanted: Vec<_> = session.streams.iter().map(|stream| &stream.url).collect();
    assert_eq!(urls, wanted);
    session.receive_packets(5, PATIENCE);
}

#[test]
fn empty_segments_of_a_url_do_not_count() {
    let served = Served::new(title("h264_aac_faststart_mp4"));
    let server = &served.server;
    let path = served.url.rsplit_once("/vod/").unwrap().1;
    for path in [format!("/vod//{path}"), format!("//vod/{path}//"), "/demo//".to_owned()] {
        let mut session = Session::open(server.rtsp, &server.url(&path), Lower::Tcp);
        let reply = session.play(&[]);
        assert_eq!(reply.rtp_info()[0].url, session.streams[0].url, "{path}");
        session.receive_packets(3, PATIENCE);
    }
    let _publisher = Publisher::start(server, "/live//a", SOUND, Lower::Tcp);
    describe(&mut Client::connect(server.rtsp), &server.url("live/a"));
    describe(&mut Client::connect(server.rtsp), &server.url("live///a/"));
}

#[test]
fn password_in_a_url_is_repeated_nowhere() {
    let served = Served::new(title("h264_aac_faststart_mp4"));
    let server = &served.server;
    let with_password = served.url.replace("rtsp://", "rtsp://viewer:s3cret@");
    let mut session = Session::open(server.rtsp, &with_password, Lower::Tcp);
    assert_eq!(session.base, format!("{}/", served.url));
    // A client that takes no notice of Content-Base.
    let track = format!("{with_password}/trackID=1");
    let mut client = Client::connect(server.rtsp);
    let setup = client.request("SETUP", &track, &[TCP]).expect(200);
    let id = setup.session_id();
    let play = client.request("PLAY", &with_password, &[("Session", &id)]).expect(200);
    let missing = client.request("DESCRIBE", &format!("{with_password}x"), &[]).expect(404);
    let reply = session.play(&[]);
    for response in [setup, play, missing, reply] {
        assert!(!format!("{response:?}").contains("s3cret"), "{response:?}");
    }
    session.receive_packets(3, PATIENCE);
    let sessions = format!("{:?}", http::sessions(server.admin));
    assert!(!sessions.contains("s3cret"), "{sessions}");
    assert!(!server.log().contains("s3cret"), "{}", server.log());
}

#[test]
fn rtp_info_is_short_and_names_the_urls_of_setup() {
    // Client rules C6 and C12: FFmpeg's line buffer has 4,096 bytes, fields of it 1,024.
    let server = Server::with_demo();
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Tcp);
    let reply = session.play(&[]);
    assert!(reply.header("RTP-Info").unwrap().len() < 1_024);
    for (info, stream) in reply.rtp_info().iter().zip(&session.streams) {
        assert_eq!(info.url, stream.url);
        assert_eq!(info.url, joined(&session.base, &stream.media.control));
    }
    // The end is in SDP (client rule C14). Here it may be left out when it was not asked for:
    // GStreamer takes it for the end of its segment and drops what comes late by a frame.
    let (start, end) = reply.npt();
    assert!(start.abs() < 0.001 && end.is_none_or(|end| (end - 20.0).abs() < 0.1), "{reply:?}");
}

#[test]
fn names_with_spaces_unicode_and_folders_are_served() {
    let file = title("aac_m4a").file();
    let folder = tempfile::tempdir_in(support::scratch()).unwrap();
    let names = [
        "a b.m4a",
        "\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{4e2d}\u{6587} \u{1f3ac}.m4a",
        "one/two three/f\u{ef}lm.m4a",
        "100% & more #1?.m4a",
        "trackID=1/really.m4a",
        "semi;colon,comma=.m4a",
    ];
    for name in names {
        let to = folder.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&file, &to).unwrap();
    }
    let server = Server::with_folder(folder.path());
    for name in names {
        let url = server.vod_url(name);
        let mut session = Session::open(server.rtsp, &url, Lower::Tcp);
        let reply = session.play(&[]);
        assert_eq!(reply.rtp_info()[0].url, session.streams[0].url, "{name}");
        session.receive_packets(3, PATIENCE);
    }
}
