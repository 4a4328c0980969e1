//! SDP: descriptions of publishers and cameras, and what readers are told of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use headend::base::limits::TRACKS_MAX;
use headend::rtsp::source_url::control_url;
use headend::rtsp::uri::parse_target;
use headend::sdp::live::{LiveDescription, LiveMedia, RtxOffer, describe_live};
use headend::sdp::publish::{check_announced, media_of_setup};
use headend::sdp::read::{FORMATS_MAX, MEDIA_LINES_MAX, read_session};
use headend::sdp::session::{MediaSdp, SessionSdp};

use crate::input::Input;

/// A description: within its bounds, each media found by its own control URL, and described to
/// readers in lines that read back as the same media.
pub fn read(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let bytes = input.rest();
    let Ok(mut sdp) = read_session(bytes) else { return };
    assert!((1..=TRACKS_MAX).contains(&sdp.medias().len()));
    let _ = (sdp.name(), sdp.attribute("tool"), check_announced(&sdp, true));
    for media in sdp.medias() {
        ask(&sdp, media);
    }
    check_controls(&sdp);
    describe(&sdp, flags, bytes.len());
    let kept = usize::from(flags & 3);
    sdp.keep_medias(kept, |media| media.kind == "video");
    assert!(sdp.medias().len() <= kept);
}

/// All that is asked of a media.
fn ask(sdp: &SessionSdp, media: &MediaSdp) {
    assert!((1..=FORMATS_MAX).contains(&media.formats.len()));
    assert!(media.attributes("fmtp").count() <= MEDIA_LINES_MAX);
    let _ = (sdp.destination(media), sdp.sources(media), sdp.bandwidth_kbit(media));
    assert_eq!(media.attribute("rtpmap"), media.attributes("rtpmap").next());
    for number in media.payload_types() {
        if let Some(encoding) = media.encoding(number) {
            assert!(encoding.clock_rate_hz > 0, "{encoding:?}");
        }
        let _ = (media.fmtp(number), media.fmtp_parameter(number, "config"));
        let _ = (media.has_feedback(number, "nack"), media.has_feedback(number, "nack pli"));
        if let Some(rtx) = media.rtx_of(number) {
            assert!(media.is_rtx(rtx), "{rtx}");
        }
    }
    assert!(media.fid_groups().count() <= MEDIA_LINES_MAX);
}

/// A SETUP of the control URL of a media means that media, or an earlier one with the same URL.
fn check_controls(sdp: &SessionSdp) {
    let announced = "rtsp://h/live/a";
    let base = control_url(announced, sdp.control());
    for (index, media) in sdp.medias().iter().enumerate() {
        let url = control_url(&base, media.control());
        if media.control().is_some() && parse_target(&url).is_ok() {
            let found = media_of_setup(sdp, announced, &url);
            assert!(found.is_some_and(|found| found <= index), "{url}: {found:?}, not {index}");
        }
    }
}

/// What readers are told: `flags` says whether retransmission is offered, and by which address.
fn describe(sdp: &SessionSdp, flags: u8, bytes: usize) {
    let is_served = |media: &MediaSdp| {
        media.payload_types().any(|number| !media.is_rtx(number))
            && media.formats.iter().all(|format| format.parse::<u8>().is_ok())
    };
    let indexes = sdp.medias().iter().enumerate().filter(|(_, media)| is_served(media));
    let medias: Vec<LiveMedia> = indexes
        .enumerate()
        .map(|(track, (source_index, media))| LiveMedia {
            source_index,
            control: format!("trackID={track}"),
            fmtp: Vec::new(),
            rtx: (flags & 4 != 0 && !media.payload_types().any(|number| number == 127))
                .then_some(RtxOffer { payload_type: 127, time_ms: 2_000, takes_pli: true }),
        })
        .collect();
    let origin: IpAddr = match flags & 8 {
        0 => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    let description = LiveDescription {
        source: sdp,
        name: "live/a",
        session_id: 1,
        version: 2,
        origin,
        medias: &medias,
    };
    let told = describe_live(&description);
    // Bytes that are no text become three bytes each.
    assert!(told.len() <= 3 * bytes + 400 * (medias.len() + 1), "{} of {bytes}", told.len());
    assert!(told.ends_with("\r\n"));
    for line in told.split_terminator("\r\n") {
        let mut chars = line.chars();
        assert!(chars.next().is_some_and(|c| c.is_ascii_lowercase()), "{line:?}");
        assert_eq!(chars.next(), Some('='), "{line:?}");
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    if medias.is_empty() {
        return;
    }
    let Ok(read) = read_session(told.as_bytes()) else {
        // What was just within the bounds of a description is beyond them with our lines.
        assert!(told.len() > 48 << 10 || told.lines().count() > 400, "not read back:\n{told}");
        return;
    };
    assert_eq!(read.medias().len(), medias.len(), "{told}");
    for (live, media) in medias.iter().zip(read.medias()) {
        let source = &sdp.medias()[live.source_index];
        assert_eq!((&media.kind, media.port), (&source.kind, 0), "{told}");
        assert_eq!(media.control(), Some(live.control.as_str()), "{told}");
        for number in source.payload_types().filter(|number| !source.is_rtx(*number)) {
            assert!(media.payload_types().any(|known| known == number), "{number}: {told}");
            assert_eq!(media.encoding(number), source.encoding(number), "{number}: {told}");
        }
    }
}
