//! GET_PARAMETER and SET_PARAMETER (RFC 2326 s10.8, s10.9): signs of life, and some values.

use crate::base::time::Npt;
use crate::rtsp::headers::write_rate;
use crate::rtsp::range::NptText;
use crate::rtsp::reader::Method;
use crate::rtsp::response::Status;
use crate::session::command::{Command, Executed};
use crate::session::cx::Cx;
use crate::session::directory::SessionKey;
use crate::vod::methods::answer;
use crate::vod::playback::Session;
use crate::vod::table::Players;

impl Players {
    /// Answers either method. Without a body both are a keep-alive. GET_PARAMETER answers known
    /// parameters, and 451 for an unknown one; no parameter can be set yet.
    pub(crate) fn parameter(&self, cx: &Cx, command: &Command, key: SessionKey) -> Executed {
        let Some(session) = self.session(key) else {
            return command.refuse(Status::SessionNotFound);
        };
        let body = String::from_utf8_lossy(&command.request.body);
        let names = body.lines().map(str::trim).filter(|line| !line.is_empty());
        if command.request.method == Method::SetParameter {
            let unknown: Vec<&str> = names.collect();
            return if unknown.is_empty() {
                Executed::Reply(answer(command, session))
            } else {
                refuse_parameters(command, &unknown)
            };
        }
        let mut values = String::new();
        let mut unknown = Vec::new();
        for line in names {
            let name = line.split(':').next().unwrap_or(line).trim();
            match self.value(cx, session, name) {
                Some(value) => values.push_str(&format!("{name}: {value}\r\n")),
                None => unknown.push(name),
            }
        }
        if !unknown.is_empty() {
            return refuse_parameters(command, &unknown);
        }
        let response = answer(command, session);
        Executed::Reply(if values.is_empty() {
            response
        } else {
            response.body("text/parameters", values.into_bytes())
        })
    }

    /// A value of a session by its name; `None` for an unknown one.
    pub(crate) fn value(&self, cx: &Cx, session: &Session, name: &str) -> Option<String> {
        let seconds = |npt: Npt| NptText(npt).to_string();
        let report = || {
            session.streams.iter().find_map(|stream| {
                let report = stream.outgoing.report.as_ref()?;
                Some((f64::from(report.block.jitter), f64::from(stream.outgoing.clock_rate_hz)))
            })
        };
        match name.to_ascii_lowercase().as_str() {
            "position" => Some(seconds(session.npt_at(cx.now))),
            "duration" => Some(seconds(session.title.asset.duration)),
            "scale" => Some(write_rate(session.epoch.map_or(1.0, |epoch| epoch.scale))),
            "packets_sent" => Some(
                session.streams.iter().map(|s| s.outgoing.sent().packets).sum::<u64>().to_string(),
            ),
            "jitter" => {
                let (jitter, rate) = report().unwrap_or((0.0, 1.0));
                Some(format!("{:.4}", jitter / rate))
            }
            _ => None,
        }
    }
}

/// 451 with the names of the unknown parameters (RFC 2326 s11.3.4).
fn refuse_parameters(command: &Command, unknown: &[&str]) -> Executed {
    let body = unknown.iter().flat_map(|name| [name, "\r\n"]).collect::<String>();
    let response = command.response(Status::ParameterNotUnderstood);
    Executed::Reply(response.body("text/parameters", body.into_bytes()))
}
