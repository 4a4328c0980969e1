//! `headend job live`: a job whose content is a live path, until somebody ends it.

use std::io::Write;

use serde_json::json;

use super::super::args::job::{JobArgs, LiveArgs};
use super::super::{Exit, Failure, printable};
use super::base::{Base, job_id, job_path, key, word};
use super::push::{nodes, targets};
use super::{follow, write_json};
use crate::dist::reflect::check_live;
use crate::dist::wire::job::{
    CommandAccepted, CommandRequest, JobRequest, JobState, JobView, Op, Policy,
};

/// `headend job live`.
pub(super) fn run(args: &LiveArgs, base: &Base, out: &mut impl Write) -> Result<Exit, Failure> {
    let path = args.name_at_nodes.as_deref().unwrap_or(&args.path).to_owned();
    // Said before there is a job that would lack its command.
    check_live(&path, &args.from).map_err(|error| Failure::usage(error.to_string()))?;
    let job: JobView = match &args.job {
        Some(id) => base.get(&job_path(job_id(id)?))?,
        None => {
            let request = JobRequest {
                client_ref: args.name.clone(),
                targets: targets(&args.to)?,
                policy: Policy::default(),
                deadline_s: args.deadline,
                notify: Vec::new(),
            };
            base.post("/v1/jobs", &key(), &request)?
        }
    };
    if job.state != JobState::Open {
        let (id, state) = (job.job_id, word(job.state));
        return Err(Failure::runtime(format!("job {id} takes no more commands: it is {state}")));
    }
    let op = Op::Live { path: path.clone(), from: args.from.clone() };
    let request = CommandRequest { op, size: None, blake3: None };
    let commands = format!("{}/commands", job_path(job.job_id));
    let key = key();
    let accepted: CommandAccepted = base.persist(|base| base.post(&commands, &key, &request))?;
    if args.base.json {
        if !args.watch {
            write_json(&json!({ "job": job, "command_id": accepted.command_id }), out)?;
        }
    } else {
        let (id, nodes) = (job.job_id, nodes(job.servers.len()));
        let (path, from) = (printable(&path), printable(&args.from));
        writeln!(out, "job {id}   {path} from {from}, to {nodes}")?;
        writeln!(out, "it goes on until `headend job end {id}`")?;
    }
    out.flush()?;
    if !args.watch {
        return Ok(Exit::Ok);
    }
    let args = JobArgs { job: job.job_id.to_string(), base: args.base.clone() };
    follow::run(&args, base, out)
}
