//! Uploads: what of a content is at the base.
//!
//! ```text
//! declared --upload_grew--> begun --upload_ended--> whole
//!     |                       |         `--another hash or size than the client said--> refused
//!     `-- idle for a day, upload_abandoned, command withdrawn --> abandoned
//! ```
//! A content is planned when it has begun, so that nodes fetch while the client still uploads.
//! Invariant: a content that has ended stays as it is; the command of one that was refused or
//! abandoned has no open delivery.

use serde_json::json;

use crate::dist::book::advance::{egress_permille, from_permille};
use crate::dist::book::effects::About;
use crate::dist::book::records::Content;
use crate::dist::book::{Book, Refusal};
use crate::dist::ids::{CommandKey, ContentId, Stamp};
use crate::dist::rows::{Change, ContentRow};
use crate::dist::wire::job::{DeliveryState, Reason};
use crate::dist::wire::peer::ContentEnd;

impl Book {
    /// The content of this id.
    #[must_use]
    pub fn content(&self, id: ContentId) -> Option<&ContentRow> {
        self.contents.get(&id).map(|content| &content.row)
    }

    /// Contents whose upload has not ended.
    #[must_use]
    pub fn open_uploads(&self) -> Vec<ContentId> {
        let open = self.contents.values().filter(|content| content.row.ended_at_ns.is_none());
        open.map(|content| content.row.id).collect()
    }

    /// The base has `have` bytes of the content. The first call, with 0 as well, begins it.
    pub fn upload_grew(&mut self, id: ContentId, have: u64, at: Stamp) {
        self.fx.now = at;
        let Some(content) = self.contents.get_mut(&id) else { return };
        if content.row.ended_at_ns.is_some() {
            return;
        }
        content.have = content.have.max(have);
        content.grew_ns = at.mono_ns;
        let key = content.row.key;
        self.touch(key, have > 0);
        self.begin(id);
    }

    /// The upload has ended: this is the whole content. The same end again has no effect.
    ///
    /// # Errors
    /// The client said another size or hash: then the command fails at all nodes. Or the content is
    /// unknown, has ended otherwise, or its command has.
    pub fn upload_ended(
        &mut self,
        id: ContentId,
        end: ContentEnd,
        at: Stamp,
    ) -> Result<(), Refusal> {
        self.fx.now = at;
        let content = self.contents.get(&id).ok_or(Refusal::UnknownContent(id))?;
        let (key, row) = (content.row.key, &content.row);
        if row.ended_at_ns.is_some() {
            let is_same = row.blake3 == Some(end.blake3) && row.size == Some(end.size);
            return if is_same { Ok(()) } else { Err(Refusal::UploadEnded(id)) };
        }
        let refusal = match (row.size, row.expected) {
            (Some(expected), _) if expected != end.size => {
                Some(Refusal::WrongSize { expected, found: end.size })
            }
            (_, Some(expected)) if expected != end.blake3 => {
                Some(Refusal::BadHash { expected, found: end.blake3 })
            }
            (None | Some(_), None | Some(_)) => None,
        };
        if let Some(refusal) = refusal {
            self.refuse_upload(id, key, &refusal);
            return Err(refusal);
        }
        let Some(content) = self.contents.get_mut(&id) else { return Ok(()) };
        content.row.size = Some(end.size);
        content.row.blake3 = Some(end.blake3);
        content.row.ended_at_ns = Some(at.utc_ns);
        content.have = end.size;
        self.fx.keep(Change::Content(content.row.clone()));
        self.touch(key, true);
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.content_bytes = job.content_bytes.saturating_add(end.size);
        }
        let detail = json!({"size": end.size, "blake3": end.blake3});
        self.fx.event("upload.complete", About::command(key), detail);
        self.begin(id);
        self.count_early_receipts(id, key);
        Ok(())
    }

    /// The client does not go on with an upload: its command fails where it is open. No effect on
    /// an upload that has ended.
    pub fn upload_abandoned(&mut self, id: ContentId, at: Stamp) {
        self.fx.now = at;
        self.abandon(id);
    }

    /// `bytes` of the content left the base for nodes. What is said of a job that has just ended
    /// still counts.
    pub fn base_sent(&mut self, id: ContentId, bytes: u64) {
        self.base_rate.add(bytes, self.fx.now.mono_ns);
        let Some(key) = self.contents.get(&id).map(|content| content.row.key) else { return };
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        let Some(measure) = job.measure.as_mut().filter(|_| bytes > 0) else { return };
        measure.base_sent = measure.base_sent.saturating_add(bytes);
        if job.row.base_egress_ratio.is_some() {
            job.row.base_egress_ratio = egress_permille(job).map(from_permille);
            self.fx.keep(Change::Job(job.row.clone()));
        }
    }

    pub(super) fn abandon(&mut self, id: ContentId) {
        let Some(content) = self.contents.get(&id) else { return };
        if content.row.ended_at_ns.is_some() {
            return;
        }
        let (key, have) = (content.row.key, content.have);
        self.fx.event("upload.abandoned", About::command(key), json!({"have": have}));
        self.close_upload(id);
        let text = format!("the client did not go on behind byte {have}");
        self.end_deliveries(key, Some(Reason::UploadAbandoned), &text);
        self.count_undone(key.job, key.command);
        self.settle(key.job);
    }

    /// Nothing more comes of an upload that has not ended: its bytes may go.
    pub(super) fn close_upload(&mut self, id: ContentId) {
        let now_ns = self.fx.now.utc_ns;
        let Some(content) = self.contents.get_mut(&id) else { return };
        if content.row.ended_at_ns.is_none() {
            content.row.ended_at_ns = Some(now_ns);
            content.row.is_abandoned = true;
            self.fx.keep(Change::Content(content.row.clone()));
            self.end_flow(id);
            self.fx.expire(id);
        }
    }

    fn refuse_upload(&mut self, id: ContentId, key: CommandKey, refusal: &Refusal) {
        let detail = json!({"reason": refusal.reason(), "text": refusal.to_string()});
        self.fx.event("upload.refused", About::command(key), detail);
        self.close_upload(id);
        self.end_deliveries(key, Some(Reason::BadHash), &refusal.to_string());
        self.count_undone(key.job, key.command);
        self.settle(key.job);
    }

    fn begin(&mut self, id: ContentId) {
        let Some(content) = self.contents.get_mut(&id) else { return };
        if !std::mem::replace(&mut content.is_begun, true) {
            let Content { row, .. } = content;
            let (key, size) = (row.key, row.size);
            self.fx.event("upload.begun", About::command(key), json!({"size": size}));
            self.begin_flow(id, None);
        }
    }

    /// Something happens in a job.
    fn touch(&mut self, key: CommandKey, has_bytes: bool) {
        let now_ns = self.fx.now.mono_ns;
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        job.touched_ns = now_ns;
        if let Some(measure) = job.measure.as_mut().filter(|_| has_bytes) {
            measure.first_byte_ns.get_or_insert(now_ns);
        }
    }

    /// Receipts that nodes gave before the base had the end of the upload.
    fn count_early_receipts(&mut self, id: ContentId, key: CommandKey) {
        let Some(job) = self.jobs.get(&key.job) else { return };
        let Some(command) = job.command(key.command) else { return };
        let deliveries = job.targets.iter().zip(&command.deliveries);
        let early = deliveries.filter_map(|(node, delivery)| {
            let receipt = delivery.receipt.as_deref()?;
            (delivery.state == DeliveryState::Applying).then(|| (*node, receipt.clone()))
        });
        let early: Vec<_> = early.collect();
        debug_assert!(self.contents.get(&id).is_some_and(|c| c.row.blake3.is_some()));
        for (node, receipt) in early {
            self.take_receipt(node, receipt);
        }
        self.settle(key.job);
    }
}
