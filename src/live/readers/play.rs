//! PLAY and PAUSE of a live path (RFC 2326 s10.5, s10.6).
//!
//! PLAY is answered when the first packet of each stream is known, so that `RTP-Info` is exact. At
//! the latest after `START_WAIT_MAX` the answer leaves out unknown values. DESIGN section 5.4.

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Mono;
use crate::live::config::start_policy;
use crate::live::core::limits::START_WAIT_MAX;
use crate::live::core::message::OwnerRequest;
use crate::live::core::path::LivePath;
use crate::live::core::source::ArrivalTime;
use crate::live::core::start::StreamStart;
use crate::live::hub::Hub;
use crate::live::multicast::member::Delivery;
use crate::live::readers::Readers;
use crate::live::readers::log::note_reader_joined;
use crate::live::readers::reader::{LiveReader, ReaderState};
use crate::rtsp::headers::{RtpInfo, write_rtp_info};
use crate::rtsp::range::Range;
use crate::rtsp::response::{Response, Status};
use crate::session::action::Action;
use crate::session::action::TimerKey;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;

impl Readers {
    pub(crate) fn play_live(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        command: &Command,
        index: u32,
    ) -> Executed {
        let now = cx.now;
        let Some(reader) = self.table.get(index as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        if command.target.path.trim_end_matches('/') != &*reader.path {
            return command.refuse(Status::NotFound);
        }
        if command.target.track.is_some() && reader.streams.len() > 1 {
            return command.refuse(Status::OnlyAggregateOperationAllowed);
        }
        let (path, key) = (Arc::clone(&reader.path), reader.key);
        match reader.state {
            // There is nothing to seek to: the reader goes on.
            ReaderState::Playing => {
                return Executed::Reply(
                    cx.answer(command).header("Range", Range::FROM_NOW.to_string()),
                );
            }
            ReaderState::Priming { .. } => {
                return command.refuse(Status::MethodNotValidInThisState);
            }
            ReaderState::Ready | ReaderState::Paused
                if reader.delivery == Delivery::MulticastMember =>
            {
                return Executed::Reply(self.play_member(cx, hub, command, index));
            }
            ReaderState::Ready | ReaderState::Paused => {}
        }
        let policy = start_policy(cx.path_config(&path));
        let Some(found) = hub.paths.path_mut(&path) else {
            return command.refuse(Status::NotFound);
        };
        found.prepare(key, policy);
        let (reply_to, cseq) = (command.reply_to, command.request.cseq);
        self.set_reader_state(cx, index, ReaderState::Priming { reply_to, cseq, since: now });
        if !self.try_answer_play(cx, hub, index) {
            self.backlog.wait_for_start(&path, index);
            if hub.paths.path(&path).is_some_and(LivePath::lacks_sync) {
                hub.request(&path, OwnerRequest::WantSync);
            }
            self.wake_reader(cx, index, now + START_WAIT_MAX);
        }
        Executed::Later
    }

    /// Answers a PLAY when everything in the answer is known, or the wait is over. False while the
    /// PLAY waits.
    pub(crate) fn try_answer_play(&mut self, cx: &mut Cx, hub: &mut Hub, index: u32) -> bool {
        self.answer_play(cx, hub, index, START_WAIT_MAX)
    }

    /// The same; the wait is over after `patience`.
    pub(crate) fn answer_play(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        patience: Duration,
    ) -> bool {
        let now = cx.now;
        let Some(reader) = self.table.get_mut(index as usize) else { return true };
        let is_first = reader.streams.iter().all(|stream| stream.outgoing.ssrc().is_none());
        let ReaderState::Priming { reply_to, cseq, since } = reader.state else { return true };
        let name = Arc::clone(&reader.path);
        let path = hub.paths.path_of(reader.key);
        // A reader that is leaving is paused: it is ended when its turn comes.
        let Some(path) = path.filter(|path| path.is_primed(reader.key)) else { return true };
        let starts = path.starts(reader.key);
        if starts.iter().any(Option::is_none) && now.since(since) < patience {
            return false;
        }
        path.play(reader.key, now);
        if reader.client.told.is_some() {
            path.stay_behind(reader.key, ArrivalTime { now, utc_ns: cx.utc_ns });
        }
        // With the first packets, so that sound and video are synchronised from the start.
        reader.report_due = now;
        let urls = reader.streams.iter().map(|stream| &stream.outgoing.control_url);
        let entries: Vec<String> =
            urls.zip(&starts).map(|(url, start)| rtp_info(url, start.as_ref())).collect();
        let response = Response::new(Status::Ok, cseq)
            .header("Session", reader.client.id.to_string())
            .header("Range", Range::FROM_NOW.to_string())
            .header("RTP-Info", entries.join(","));
        cx.out.push(Action::Respond { reply_to, response });
        self.set_reader_state(cx, index, ReaderState::Playing);
        self.backlog.forget_start(&name, index);
        if let Some(reader) = self.table.get(index as usize).filter(|_| is_first) {
            note_reader_joined(reader);
        }
        hub.is_ready = true;
        self.wake_reader(cx, index, now);
        true
    }

    pub(crate) fn pause_live(
        &mut self,
        cx: &Cx,
        hub: &mut Hub,
        command: &Command,
        index: u32,
    ) -> Executed {
        let Some(reader) = self.table.get(index as usize) else {
            return command.refuse(Status::SessionNotFound);
        };
        match reader.state {
            ReaderState::Ready | ReaderState::Priming { .. } => {
                command.refuse(Status::MethodNotValidInThisState)
            }
            ReaderState::Playing | ReaderState::Paused => {
                if let Some(path) = hub.paths.path_mut(&reader.path) {
                    path.pause(reader.key);
                }
                self.set_reader_state(cx, index, ReaderState::Paused);
                Executed::Reply(cx.answer(command))
            }
        }
    }

    /// Looks at a reader again at `due`.
    pub fn wake_reader(&mut self, cx: &mut Cx, index: u32, due: Mono) {
        let Some(reader) = self.table.get_mut(index as usize) else { return };
        if reader.wakes.is_none_or(|wakes| due < wakes) {
            reader.wakes = Some(due);
            let serial = reader.serial;
            let key = TimerKey::LiveReader { index, serial };
            cx.wheel.replace(&mut reader.timer, due, key);
        }
    }

    /// A reader's timer on the wheel is due.
    pub(crate) fn handle_reader_due(
        &mut self,
        cx: &mut Cx,
        hub: &mut Hub,
        index: u32,
        serial: u32,
    ) {
        let now = cx.now;
        let is_due = |reader: &&mut LiveReader| {
            reader.serial == serial && reader.wakes.is_some_and(|wakes| wakes <= now)
        };
        let Some(reader) = self.table.get_mut(index as usize).filter(is_due) else {
            return;
        };
        reader.wakes = None;
        match reader.state {
            ReaderState::Priming { .. } => {
                self.try_answer_play(cx, hub, index);
            }
            ReaderState::Playing => {
                let (key, is_report_due) = (reader.key, reader.report_due <= now);
                hub.paths.queue(key);
                if is_report_due {
                    self.send_live_reports(cx, hub, index);
                }
            }
            ReaderState::Ready | ReaderState::Paused => {}
        }
    }
}

/// One entry of `RTP-Info`; for a stream without a known first packet its URL alone.
fn rtp_info(url: &str, start: Option<&StreamStart>) -> String {
    match start {
        Some(start) => {
            let (seq, rtptime) = (start.seq.0, start.rtptime.0);
            write_rtp_info(&[RtpInfo { url: url.to_owned(), seq, rtptime }])
        }
        None => format!("url={url}"),
    }
}
