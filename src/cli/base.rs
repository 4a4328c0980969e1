//! `headend base --listen IP:PORT --data DIR`: the base of a distribution.

use std::time::Duration;

use super::args::{BaseArgs, schedule};
use super::{Exit, Failure, log};
use crate::appliance::base::{self, BaseConfig};
use crate::config::LogFormat;
use crate::config::limits::LimitsConfig;
use crate::dist::quota::Quota;
use crate::dist::webhook::target::AllowedNetworks;
use crate::ledger::Database;

/// Runs until a signal comes.
pub(super) fn run(args: &BaseArgs) -> Result<Exit, Failure> {
    let _flush = log::init(log_format(args.log.as_deref())?, &LimitsConfig::default())?;
    let config = BaseConfig {
        listen: args.listen,
        advertise: args.advertise,
        data: args.data.clone(),
        ledger: args.ledger.as_deref().map(database).transpose()?,
        provider_token_file: args.provider_token_file.clone(),
        join_token_file: args.join_token_file.clone(),
        up_rate: schedule(args.up_rate, &args.up_window),
        token_ttl: args.token_ttl,
        keep: args.keep,
        host_names: args.host_name.clone(),
        is_insecure: args.insecure,
        certificate_life: args.certificate_life,
        quota: Quota {
            jobs: args.quota_jobs,
            bytes: args.quota_bytes,
            targets: args.quota_targets,
        },
        webhook_allow: AllowedNetworks(args.webhook_allow.clone()),
        webhook_retry: args.webhook_retry,
        relay_from: args.relay_from,
        repair_hook: args.repair_hook.clone(),
        keep_events: Duration::from_secs(u64::from(args.keep_events) * 24 * 3_600),
        archive_every: args.archive_every,
        confinement: args.confinement(),
    };
    match base::run(&config) {
        Ok(()) => Ok(Exit::Ok),
        Err(error) if error.is_usage() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::runtime(error.to_string())),
    }
}

/// The password is not on the command line, for all users to see.
fn database(url: &str) -> Result<Database, Failure> {
    let password = std::env::var("PGPASSWORD").ok();
    let database = Database::new(url, password.as_deref());
    database.map_err(|error| Failure::usage(error.to_string()))
}

fn log_format(text: Option<&str>) -> Result<LogFormat, Failure> {
    match text {
        None => Ok(LogFormat::Auto),
        Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(text) => Err(Failure::usage(format!("--log: `{text}` is not text or json"))),
    }
}
