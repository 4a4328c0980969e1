//! Where a path of WebDAV leads: to the list of jobs, to a job, or into one.

use dav_server::davpath::DavPath;

use crate::dist::ids::JobId;

/// A place: `/`, `/JOB`, `/JOB/a/b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The folder of all jobs of a client.
    Jobs,
    /// A folder within a job: the path is empty for the job's own. Or a file; without slashes at
    /// either end.
    Within(JobId, String),
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    /// The percent-encoding is broken, it is no UTF-8, or `..` leads out.
    #[error("the path is not UTF-8 in percent-encoding, or leads out of its folder")]
    Path,
    /// The first part is no id.
    #[error("the first part of the path is not the id of a job")]
    Job,
}

impl Place {
    /// Of a path without its prefix, as WebDAV has decoded it.
    pub(super) fn of(path: &DavPath) -> Result<Self, PlaceError> {
        let path = std::str::from_utf8(path.as_bytes()).map_err(|_| PlaceError::Path)?;
        let path = path.trim_matches('/');
        let (job, rest) = path.split_once('/').unwrap_or((path, ""));
        if job.is_empty() {
            return Ok(Self::Jobs);
        }
        let job = job.parse().map_err(|_| PlaceError::Job)?;
        Ok(Self::Within(job, rest.to_owned()))
    }

    /// Of a path of a URL that begins with `prefix`.
    pub(super) fn of_url(path: &str, prefix: &str) -> Result<(DavPath, Self), PlaceError> {
        let mut path = DavPath::new(path).map_err(|_| PlaceError::Path)?;
        path.set_prefix(prefix).map_err(|_| PlaceError::Path)?;
        if !path.as_bytes().starts_with(b"/") {
            return Err(PlaceError::Path);
        }
        let place = Self::of(&path)?;
        Ok((path, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_leads_to_jobs_to_a_job_or_into_one() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let job: JobId = id.parse().unwrap();
        let place = |path: &str| Place::of_url(path, "/ctp").map(|(_, place)| place);
        assert_eq!(place("/ctp"), Ok(Place::Jobs));
        assert_eq!(place("/ctp/"), Ok(Place::Jobs));
        let within = |path: &str| Ok(Place::Within(job, path.to_owned()));
        assert_eq!(place(&format!("/ctp/{id}")), within(""));
        assert_eq!(place(&format!("/ctp/{id}/a%20b//c/")), within("a b/c"));
        assert_eq!(place(&format!("/ctp/{id}/a/../b")), within("b"));
        assert_eq!(place("/ctp/movies/a"), Err(PlaceError::Job));
        for bad in [&format!("/ctp/{id}/%ff"), "/ctp/../v1/jobs", "/ctpx", "/ctp/a%2fb/%00"] {
            assert_eq!(place(bad), Err(PlaceError::Path), "{bad}");
        }
    }
}
