//! Uploads: what comes of the bytes of a content at the base.
//!
//! ```text
//! declared --grew--> begun --end--> whole
//!     |                |       `-- another hash or size than was said, over the quota --> refused
//!     `-- idle for a day, given up by the client, command withdrawn --> abandoned
//! ```
//! A content is planned when it has begun, so that nodes fetch while the client still uploads.
//! Invariant: the command of a content that was refused or abandoned has no open delivery.

use serde_json::json;

use crate::dist::book::Refusal;
use crate::dist::book::effects::About;
use crate::dist::book::measure::{egress_permille, from_permille};
use crate::dist::book::parts::Parts;
use crate::dist::book::reports::Reporter;
use crate::dist::ids::{CommandKey, ContentId};
use crate::dist::rows::Change;
use crate::dist::wire::job::{DeliveryState, Reason};
use crate::dist::wire::peer::ContentEnd;

/// The upload of a content, and all that it has to do with.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    parts: &'a mut Parts,
    id: ContentId,
    /// Its command.
    key: CommandKey,
}

impl<'a> Upload<'a> {
    /// `None` for a content that is not known.
    pub(super) fn of(parts: &'a mut Parts, id: ContentId) -> Option<Self> {
        let key = parts.contents.row(id)?.key;
        Some(Self { parts, id, key })
    }

    /// The base has `have` bytes.
    pub(super) fn grew(&mut self, have: u64) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(content) = self.parts.contents.get_mut(self.id) else { return };
        if !content.grow(have, now_ns) {
            return;
        }
        match self.charge(have) {
            Ok(()) => {
                self.touch(have > 0);
                self.begin();
            }
            Err(refusal) => self.refuse(&refusal, Reason::Quota),
        }
    }

    /// This is the whole content.
    ///
    /// # Errors
    /// As [`super::Book::upload_ended`].
    pub(super) fn end(&mut self, end: &ContentEnd) -> Result<(), Refusal> {
        let now = self.parts.fx.now;
        let Some(content) = self.parts.contents.get_mut(self.id) else { return Ok(()) };
        if content.has_ended() {
            return if content.is_end(end) { Ok(()) } else { Err(Refusal::UploadEnded(self.id)) };
        }
        if let Err(refusal) = content.check_end(end) {
            self.refuse(&refusal, Reason::BadHash);
            return Err(refusal);
        }
        if let Err(refusal) = self.charge(end.size) {
            self.refuse(&refusal, Reason::Quota);
            return Err(refusal);
        }
        let Some(content) = self.parts.contents.get_mut(self.id) else { return Ok(()) };
        content.finish(end, now.utc_ns);
        self.parts.fx.keep(Change::Content(content.row.clone()));
        self.touch(true);
        if let Some(job) = self.parts.jobs.get_mut(self.key.job) {
            job.content_bytes = job.content_bytes.saturating_add(end.size);
        }
        let detail = json!({"size": end.size, "blake3": end.blake3});
        self.parts.fx.event("upload.complete", About::command(self.key), detail);
        self.begin();
        self.count_early_receipts();
        Ok(())
    }

    /// `bytes` left the base for nodes.
    pub(super) fn sent(&mut self, bytes: u64) {
        let Some(job) = self.parts.jobs.get_mut(self.key.job) else { return };
        let Some(measure) = job.measure.as_mut().filter(|_| bytes > 0) else { return };
        measure.base_sent = measure.base_sent.saturating_add(bytes);
        if job.row.base_egress_ratio.is_some() {
            job.row.base_egress_ratio = egress_permille(job).map(from_permille);
            self.parts.fx.keep(Change::Job(job.row.clone()));
        }
    }

    /// The client does not go on: no effect on an upload that has ended.
    pub(super) fn abandon(&mut self) {
        let Some(content) = self.parts.contents.get(self.id) else { return };
        if content.has_ended() {
            return;
        }
        let have = content.have;
        let about = About::command(self.key);
        self.parts.fx.event("upload.abandoned", about, json!({"have": have}));
        self.fail(Reason::UploadAbandoned, &format!("the client did not go on behind byte {have}"));
    }

    /// Nothing more comes of an upload that has not ended: its bytes may go.
    pub(super) fn close(&mut self) {
        let now_ns = self.parts.fx.now.utc_ns;
        let Some(content) = self.parts.contents.get_mut(self.id) else { return };
        if content.close(now_ns) {
            self.parts.fx.keep(Change::Content(content.row.clone()));
            self.parts.flows.end(self.id);
            self.parts.fx.expire(self.id);
        }
    }

    /// The content has so many bytes.
    ///
    /// # Errors
    /// They are more than were announced, and more than the base keeps for the client.
    fn charge(&mut self, bytes: u64) -> Result<(), Refusal> {
        let Some(job) = self.parts.jobs.get(self.key.job) else { return Ok(()) };
        let client = &job.row.client;
        let is_more = self.parts.tenants.charge(client, self.id, bytes);
        let used = self.parts.tenants.bytes(client);
        match self.parts.options.quotas.of(client).bytes.filter(|max| is_more && used > *max) {
            Some(max) => Err(Refusal::QuotaBytes { client: client.clone(), used, max }),
            None => Ok(()),
        }
    }

    fn refuse(&mut self, refusal: &Refusal, reason: Reason) {
        let detail = json!({"reason": refusal.reason(), "text": refusal.to_string()});
        self.parts.fx.event("upload.refused", About::command(self.key), detail);
        self.fail(reason, &refusal.to_string());
    }

    /// The command fails wherever it is open.
    fn fail(&mut self, reason: Reason, text: &str) {
        self.close();
        self.parts.end_deliveries(self.key, Some(reason), text);
        self.parts.jobs.undo(self.key);
        self.parts.settle(self.key.job);
    }

    fn begin(&mut self) {
        let Some(content) = self.parts.contents.get_mut(self.id) else { return };
        if !std::mem::replace(&mut content.is_begun, true) {
            let detail = json!({"size": content.row.size});
            self.parts.fx.event("upload.begun", About::command(self.key), detail);
            self.parts.planner().begin(self.id, None);
        }
    }

    /// Something happens in the job.
    fn touch(&mut self, has_bytes: bool) {
        let now_ns = self.parts.fx.now.mono_ns;
        let Some(job) = self.parts.jobs.get_mut(self.key.job) else { return };
        job.touched_ns = now_ns;
        if let Some(measure) = job.measure.as_mut().filter(|_| has_bytes) {
            measure.first_byte_ns.get_or_insert(now_ns);
        }
    }

    /// Receipts that nodes gave before the base had the end of the upload.
    fn count_early_receipts(&mut self) {
        let Some(job) = self.parts.jobs.get(self.key.job) else { return };
        let Some(command) = job.command(self.key.command) else { return };
        let deliveries = job.targets.iter().zip(&command.deliveries);
        let early = deliveries.filter_map(|(node, delivery)| {
            let receipt = delivery.receipt.as_deref()?;
            (delivery.state == DeliveryState::Applying).then(|| (*node, receipt.clone()))
        });
        let early: Vec<_> = early.collect();
        debug_assert!(self.parts.contents.row(self.id).is_some_and(|row| row.blake3.is_some()));
        for (node, receipt) in early {
            Reporter { parts: &mut *self.parts, node }.take_receipt(receipt);
        }
        self.parts.settle(self.key.job);
    }
}
