//! A whole content gets its name in the media folder.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::intake::blocking;
use super::{Content, FileKind, Files, Place, Published, Synced};
use crate::dist::units::EndFrame;
use crate::dist::wire::job::Attributes;
use crate::store::beneath::{self, MediaFolder, Spot};
use crate::store::{PublishError, StoreError, disk};

impl Content {
    /// Gives the content its name: attributes are set, everything is synced, and a rename puts it
    /// into `media_dir`, on the same file system, at once and whole. A file of that name is
    /// replaced; folders on the way are made. Once this returns, all of it is durable. The content
    /// goes on being served from there. Again for the same path: no effect.
    ///
    /// Publications that run at once share the commits of the file system.
    ///
    /// # Errors
    /// See [`PublishError`]; the content keeps its file in the store then, and may be published
    /// again.
    pub async fn publish(
        self: &Arc<Self>,
        media_dir: &Path,
        path: &str,
        attrs: &Attributes,
    ) -> Result<(), PublishError> {
        let _intake = self.intake.lock().await;
        let end = {
            let state = self.lock();
            state.check()?;
            if let Place::Media(published) = &state.place
                && published.path == path
                && published.root == media_dir
            {
                return Ok(());
            }
            state.end.clone().ok_or(PublishError::NotWhole)?
        };
        if self.is_published() {
            let what = "the content has another name already";
            return Err(PublishError::Conflict { path: path.to_owned(), what });
        }
        self.flush().await?;
        let open = self.lock().files.clone();
        let files = match open {
            Some(files) => files,
            None if self.lock().is_recovered => self.reopen_files().await?,
            None => self.files().await?,
        };
        let (root, path, attrs) = (media_dir.to_owned(), path.to_owned(), attrs.clone());
        let job = Publication { content: Arc::clone(self), files: files.clone(), end };
        let prepared = blocking(move || Ok::<_, io::Error>(job.prepare(&root, path, &attrs)));
        let (published, then) = prepared.await.map_err(StoreError::from)??;
        let path = published.path.clone();
        let committed = self.depot.commits().commit(files.data, then).await;
        committed.map_err(|source| beneath::io_error(&path, source))?;
        let mut state = self.lock();
        state.place = Place::Media(published);
        state.synced = Synced { verified: state.have, accepted: state.have };
        if state.files.take().is_some_and(|files| files.journal.is_some()) {
            state.forget_log();
        }
        Ok(())
    }

    /// Files of a whole content that a restart found.
    async fn reopen_files(self: &Arc<Self>) -> Result<Files, StoreError> {
        let (depot, id) = (Arc::clone(&self.depot), self.id);
        blocking(move || {
            let data = Arc::new(depot.reopen(id, FileKind::Data)?);
            Ok(Files { data, journal: Some(Arc::new(depot.reopen(id, FileKind::Units)?)) })
        })
        .await
    }
}

/// What follows the sync of the bytes.
type Then = crate::store::commit::Then;

struct Publication {
    content: Arc<Content>,
    files: Files,
    end: EndFrame,
}

impl Publication {
    /// Makes folders and sets attributes; gives what is to be done once they are synced.
    fn prepare(
        self,
        root: &Path,
        path: String,
        attrs: &Attributes,
    ) -> Result<(Published, Then), PublishError> {
        let Spot { folder, name, mut changed } = MediaFolder::open(root)
            .map_err(|source| beneath::io_error(&root.display().to_string(), source))?
            .spot(&path, true)?;
        beneath::set_attributes(&self.files.data, attrs)?;
        let found = self.files.data.metadata();
        let found = found.map_err(|source| beneath::io_error(&path, source))?;
        let size = self.end.end().size;
        if found.len() != size {
            let text = format!("its file has {} bytes instead of {size}", found.len());
            return Err(beneath::io_error(&path, io::Error::other(text)));
        }
        let published = Published {
            root: root.to_owned(),
            path,
            device: found.dev(),
            inode: found.ino(),
            size,
        };
        let place = serde_json::to_vec(&published)
            .map_err(|error| beneath::io_error(&published.path, error.into()))?;
        changed.push(Arc::clone(&folder));
        let then: Then = Box::new(move || {
            let content = &self.content;
            let mut synced: Vec<Arc<File>> = changed;
            if let Some(journal) = &self.files.journal {
                disk::append(journal, self.end.encoded())?;
                // Before the rename: a restart in between finds the file by its inode.
                content.depot.replace(content.id, FileKind::Place, &place)?;
                synced.push(Arc::clone(journal));
            }
            let data = FileKind::Data.name(content.id);
            rustix::fs::renameat(content.depot.folder(), &data, &folder, &name)?;
            Ok(synced)
        });
        Ok((published, then))
    }
}
